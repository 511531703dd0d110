"""Agreement: Krippendorff's own example, by hand, and what the votes of people are turned into."""

from __future__ import annotations

import numpy as np
import pytest

from nashward.llm.people.agreement import agreement, by_annotator, krippendorff_alpha
from nashward.llm.people.formats import read_cast_votes
from nashward.llm.people.records import CastVote


def test_alpha_is_that_of_the_published_example() -> None:
    rows = ("1 2 3 3 2 1 4 1 2 . . .", "1 2 3 3 2 2 4 1 2 5 . 3", ". 3 3 3 2 3 4 2 2 5 1 .", "1 2 3 3 2 4 4 1 2 5 1 .")
    units = [[value for value in unit if value != "."] for unit in zip(*(row.split() for row in rows), strict=True)]
    assert krippendorff_alpha(units) == pytest.approx(0.743, abs=5e-4)


def test_alpha_of_chance_is_near_0_and_of_one_answer_undefined() -> None:
    random = np.random.default_rng(0)
    units = [list(random.choice(["a", "b", "tie"], 3)) for _ in range(2000)]
    assert krippendorff_alpha(units) == pytest.approx(0.0, abs=0.03)
    assert krippendorff_alpha([["a", "a"], ["b", "b"]]) == 1.0
    assert krippendorff_alpha([["a", "b"], ["b", "a"]]) < 0  # type: ignore[operator]
    assert krippendorff_alpha([["a", "a"], ["a", "a"]]) is None
    assert krippendorff_alpha([["a"], []]) is None


def cast(winner: str, name: str, prompt: str = "p", swapped: bool = False) -> CastVote:
    a, b = ("y", "x") if swapped else ("x", "y")
    return CastVote(prompt, a, b, winner, name, 2.0, "a")


def test_the_order_in_a_file_is_no_disagreement() -> None:
    found = agreement([cast("a", "ann"), cast("b", "bob", swapped=True), cast("tie", "ann", "q"),
                       cast("both_bad", "bob", "q", swapped=True)])  # fmt: skip
    assert (found.pairs, found.raw, found.alpha) == (2, 1.0, 1.0)


def test_the_first_vote_of_each_counts_and_the_second_is_consistency() -> None:
    found = agreement([cast("a", "ann"), cast("b", "bob"), cast("b", "ann"), cast("b", "bob"), cast("skip", "cy")])
    assert (found.pairs, found.raw) == (1, 0.0)
    assert (found.repeated, found.consistency) == (2, 0.5)


def test_the_interval_holds_the_value_and_narrows() -> None:
    random = np.random.default_rng(1)

    def votes(count: int) -> list[CastVote]:
        return [
            cast(str(random.choice(["a", "b"], p=[0.8, 0.2] if k % 2 else [0.2, 0.8])), name, f"p{k}")
            for k in range(count)
            for name in ("ann", "bob", "cy")
        ]

    widths = []
    for count in (20, 300):
        found = agreement(votes(count))
        assert found.low is not None
        assert found.high is not None
        assert found.alpha is not None
        assert found.low < found.alpha < found.high
        widths.append(found.high - found.low)
    assert widths[1] < widths[0] / 2


def test_nobody_agrees_with_nobody() -> None:
    found = agreement([cast("a", "ann")])
    assert (found.pairs, found.raw, found.alpha, found.low, found.consistency) == (0, None, None, None, None)


def test_what_is_told_of_each_person() -> None:
    told = by_annotator([cast("a", "ann"), cast("b", "ann", "q"), cast("tie", "ann", "r"), cast("skip", "bob")])
    assert told["ann"] == {"votes": 3, "seconds": 2.0, "consistency": None, "repeated": 0, "shown_first": 0.5}
    assert told["bob"]["votes"] == 0


def test_nothing_is_said_of_sides_that_are_not_known() -> None:
    rows = [{"prompt": f"p{k}", "chosen": "x", "rejected": "y", "annotator": "ann"} for k in range(4)]
    assert by_annotator(read_cast_votes(rows))["ann"]["shown_first"] is None
    (shown,) = read_cast_votes([{"prompt": "p", "a": "x", "b": "y", "winner": "a", "voter": "ann", "shown_first": "b"}])
    assert by_annotator([*read_cast_votes(rows), shown])["ann"]["shown_first"] == 0
