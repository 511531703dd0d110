"""Layout by itself: a judge on the same responses with their marks and without, beside what goes with the marks."""

from __future__ import annotations

import logging
import re
from dataclasses import replace

import numpy as np
import pytest

from nashward.errors import BudgetError
from nashward.games.analysis.style import STYLE, style_counts, style_differences, without_marks
from nashward.llm.oracles import Function
from nashward.llm.oracles.diagnosis.diagnose import Diagnosis, diagnose
from nashward.llm.oracles.diagnosis.finding import Finding
from nashward.llm.oracles.diagnosis.probe import Pair, probe_pairs

LISTS = 0.155  # log-odds that a response has from its bullets
MERIT = {"ann": 1.0, "bob": 0.0, "cy": -0.3}


def _pairs(shares: dict[str, float], prompts: int = 60) -> list[Pair]:
    """Responses of three authors, each of whom writes so many of them as lists."""
    random = np.random.default_rng(0)
    answers: dict[str, list[str]] = {name: [] for name in shares}
    for k in range(prompts):
        for name, share in shares.items():
            is_list = random.random() < share
            items = ("\n- item" if is_list else "\n. item") * 4
            answers[name].append(f"{name} {k} " + "word " * int(random.integers(10, 40)) + items)
    return probe_pairs((), [f"p{k}" for k in range(prompts)], answers)


def _judge(lists: float, items: float = 0.0) -> Function:
    """Likes an author, bullets, and what stands in a list, whose dots are here in place of the bullets of others."""

    def log_odds(text: str) -> float:
        return 2 * MERIT[text.split()[0]] + lists * ("\n- " in text) - items * ("\n. " in text)

    return Function(lambda p, a, b: 1 / (1 + np.exp(log_odds(b) - log_odds(a))), symmetric=True, name="simulated")


def _lists(diagnosis: Diagnosis) -> Finding:
    (found,) = (one for one in diagnosis.findings if one.kind == "lists")
    return found


def _deviation(pairs: list[Pair]) -> float:
    """What the whole of a list is in standard deviations of the feature, on average over lists."""
    x = style_differences([pair.a for pair in pairs], [pair.b for pair in pairs])[:, 2]
    lists = list(dict.fromkeys(pair.a for pair in pairs if "- item" in pair.a))
    own = style_differences(lists, [without_marks(text, "lists") for text in lists])[:, 2]
    return float(own.mean() / np.sqrt((x**2).mean()))


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("shares", [(0.8, 0.2, 0.1), (1.0, 0.0, 0.0)])
def test_what_goes_with_lists_is_not_their_effect(shares: tuple[float, ...], known: bool) -> None:
    """Neither an author who writes lists, named or not, nor what else a list's text has."""
    pairs = _pairs(dict(zip(MERIT, shares, strict=True)))
    if not known:
        pairs = [Pair(pair.prompt, pair.a, pair.b) for pair in pairs]
    for items in (0.0, 0.8):
        lists = _lists(diagnose(_judge(LISTS, items), pairs))
        assert lists.estimate * _deviation(pairs) == pytest.approx(LISTS, rel=0.1)
        assert "prefers lists" in lists.text
        assert "with its marks and without" in lists.text
    innocent = _lists(diagnose(_judge(0.0, 0.8), pairs))
    assert innocent.estimate == pytest.approx(0, abs=1e-9)
    assert not innocent.named


def test_what_is_compared_with_labels_is_said() -> None:
    """Its own effect is of the same responses, that of the labels of whole ones: both stand beside their difference."""
    random, fair = np.random.default_rng(1), _judge(0.0)
    pairs = [
        replace(pair, wins=float(random.random() < (fair.function(pair.prompt, pair.a, pair.b) or 0.0)), n=1.0)
        for pair in _pairs(dict.fromkeys(MERIT, 0.5), 240)
    ]
    lists = _lists(diagnose(_judge(1.0), pairs))
    own, labels = (float(re.search(pattern, lists.note)[1]) for pattern in (  # type: ignore[index]
        r"its own is (\S+) ±", r"that of the labels, across whole responses, is (\S+) ±",
    ))  # fmt: skip
    assert own - labels == pytest.approx(lists.estimate, abs=0.011)
    assert own > 0.2
    assert "the less, the more else decides them" in lists.note
    assert "in the same responses with its marks and without" in lists.text


def test_a_judge_of_lists_is_named_where_who_wrote_a_response_decides_them() -> None:
    pairs = _pairs(dict(zip(MERIT, (1.0, 0.0, 0.0), strict=True)))
    assert "lists" in [one.kind for one in diagnose(_judge(1.0), pairs).named]


def test_a_judge_that_knows_its_texts_alone_is_seen_across_responses(caplog: pytest.LogCaptureFixture) -> None:
    pairs = _pairs(dict(zip(MERIT, (0.8, 0.2, 0.1), strict=True)))
    scores = {text: 1.0 * ("- item" in text) for pair in pairs for text in (pair.a, pair.b)}
    table = Function(lambda p, a, b: 1 / (1 + np.exp(scores[b] - scores[a])), symmetric=True, name="table")
    with caplog.at_level(logging.WARNING):
        lists = _lists(diagnose(table, pairs))
    assert "table" in caplog.text
    assert lists.named
    assert "within authors" in lists.text


def test_authors_of_some_pairs_are_enough() -> None:
    """The style is then fitted to theirs: with the others the author's merit would be the length's."""
    random, pairs = np.random.default_rng(0), []
    for k in range(200):
        words = [int(random.integers(5, 15)) * (4 if name == "ann" else 1) for name in ("ann", "bob")]
        a, b = (f"{name} {k} " + "word " * n for name, n in zip(("ann", "bob"), words, strict=True))
        named = ("ann", "bob") if k % 2 else (None, None)
        pairs.append(Pair(f"p{k}", a, b, *named))
    diagnosis = diagnose(_judge(0.0), pairs)
    (length,) = (one for one in diagnosis.findings if one.kind == "length")
    assert abs(length.estimate) < 0.01
    unknown = diagnose(_judge(0.0), [Pair(pair.prompt, pair.a, pair.b) for pair in pairs])
    (length,) = (one for one in unknown.findings if one.kind == "length")
    assert length.estimate > 0.5
    assert "not known" in length.note


def test_a_text_without_its_marks_is_as_long_and_has_the_others() -> None:
    text = "# Rivers\n- The **Rhine-Main** 3.\n1. __Po__\n```\n- code\n```\n* Ebro"
    for k, kind in enumerate(STYLE[1:], 1):
        plain = without_marks(text, kind)
        counts, before = style_counts(plain), style_counts(text)
        assert len(plain) == len(text)
        assert counts[k] == 0 < before[k]
        assert np.delete(counts, k).tolist() == np.delete(before, k).tolist()
        assert "- code" in plain
        assert all(word in plain for word in ("Rivers", "Rhine-Main", "3.", "Po", "Ebro"))


RING = {("ann", "bob"), ("bob", "cy"), ("cy", "ann")}


def _in_a_ring(judge: bool, labels: bool | None) -> Diagnosis:
    """A judge, and labels, that go in a circle of three authors or by the alphabet."""
    pairs = []
    for k in range(40):
        for one, other in RING:
            won = one if labels else min(one, other)
            pairs.append(
                Pair(f"p{k}", f"{one} {k}", f"{other} {k}", one, other, float(won == one), float(labels is not None))
            )

    def beats(p: str, a: str, b: str) -> float:
        one, other = a.split()[0], b.split()[0]
        return 0.9 if ((one, other) in RING if judge else one < other) else 0.1

    return diagnose(Function(beats, symmetric=True), pairs)


@pytest.mark.parametrize(
    ("judge", "labels", "named", "said"),
    [
        (True, None, True, ""),
        (True, True, False, "it does too"),
        (True, False, True, "no cycle"),
        (False, True, False, "does not hold"),
        (False, False, False, "no cycle"),
    ],
)
def test_a_judges_cycle_is_held_against_that_of_the_labels(
    judge: bool, labels: bool | None, named: bool, said: str
) -> None:
    diagnosis = _in_a_ring(judge, labels)
    (cycles,) = (one for one in diagnosis.findings if one.kind == "cycles")
    assert cycles.estimate == judge
    assert cycles.named == named
    assert said in cycles.note
    assert ("ann beats bob beats cy beats ann" in cycles.note) == (labels is True)


def test_a_spent_budget_is_no_property_of_the_judge(caplog: pytest.LogCaptureFixture) -> None:
    """It ends the diagnosis, where an oracle that does not know the texts is examined without their marks."""

    def judge(error: Exception) -> Function:
        def known(prompt: str, a: str, b: str) -> float:
            if a.split()[:2] == b.split()[:2]:  # a response beside itself without its marks
                raise error
            return 0.6 if a < b else 0.4

        return Function(known, symmetric=True, name="paid")

    pairs = _pairs(dict.fromkeys(MERIT, 0.5))
    with pytest.raises(BudgetError, match="the budget is spent"):
        diagnose(judge(BudgetError("the budget is spent")), pairs)
    assert "does not judge responses without their marks" not in caplog.text
    diagnose(judge(KeyError("unknown")), pairs)
    assert "does not judge responses without their marks" in caplog.text
