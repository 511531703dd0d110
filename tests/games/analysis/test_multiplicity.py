"""Battles that are counted, repeated, apart from others or without a prompt weigh what each of them would."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas
import pytest

from nashward.errors import NashwardError
from nashward.games.analysis.battles import Battles, InCategory, by_category
from nashward.games.analysis.leaderboard import from_battles
from nashward.games.analysis.pair_tests import MIN_PROMPTS


def _row(winner: str = "x", **more: Any) -> dict[str, Any]:
    return {"model_a": "x", "model_b": "y", "winner": winner, **more}


def _counts(wins_a: int, wins_b: int, **more: Any) -> dict[str, Any]:
    return {"model_a": "x", "model_b": "y", "wins_a": wins_a, "wins_b": wins_b, **more}


@pytest.mark.parametrize("prompts", [[None], list(range(6))])
def test_a_row_of_counts_has_the_errors_of_its_battles(prompts: list[int | None]) -> None:
    """Without prompts two rows were taken for all there is, and on prompts each count for a prompt of its own."""
    won = {prompt: 8 if k % 2 else 3 for k, prompt in enumerate(prompts)}
    counts = from_battles([_counts(n, 10 - n, prompt=prompt) for prompt, n in won.items()]).scores(prior=True)
    each = [_row(winner, prompt=prompt) for prompt, n in won.items() for winner in [*["x"] * n, *["y"] * (10 - n)]]
    fit = from_battles(each).scores(prior=True)
    assert counts.score_errors == pytest.approx(fit.score_errors, rel=1e-9)
    assert counts.clusters == fit.clusters


def test_models_in_groups_that_never_met_are_not_accused_of_cycles() -> None:
    """Two circles of three leave two pairs to spare; with one degree of freedom 15% were accused at 5%."""
    one = np.array([[0.0, 24.0, 17.0], [16.0, 0.0, 23.0], [23.0, 17.0, 0.0]])
    two = np.block([[one, np.zeros((3, 3))], [np.zeros((3, 3)), one]])
    alone = Battles.of_tables(tuple("abc"), one[None])
    both = Battles.of_tables(tuple("abcdef"), two[None])
    from scipy.stats import chi2

    assert both.misfit_p_value == pytest.approx(chi2.sf(2 * chi2.isf(alone.misfit_p_value, 1), 2), rel=0.15)


def test_battles_of_a_prompt_are_no_further_evidence_in_a_category() -> None:
    once = [_row("x" if k < 4 else "y", prompt=k, category="maths") for k in range(6)]
    rest = [_row("x" if k % 2 else "y", prompt=f"other {k}") for k in range(40)]
    lottery, overall = np.array([0.0, 1.0]), np.full(2, 1500.0)
    (found,) = by_category(from_battles(once * 50 + rest), lottery, overall)
    assert found.rate_error[0] > 0.15  # as of 6 battles; of 300 it is 0.03
    assert not found.beats_most(1)[1]


def test_who_beats_the_lottery_in_a_category_wins_against_it() -> None:
    """The sure loser's lower end is above that of the one who wins within noise."""
    rates, errors = np.array([0.47, 0.55, 0.3]), np.array([0.02, 0.2, 0.1])
    found = InCategory("one", 60, np.full(3, 1500.0), np.full(3, 9.0), rates, errors)
    assert found.beats_most(1) == (1, False)


def test_a_lottery_of_one_model_does_not_beat_itself_in_a_category() -> None:
    rows = [_row("x" if k < 40 else "y", prompt=k, category="maths") for k in range(90)]
    rows += [_row("x", prompt=f"other {k}") for k in range(60)]
    (found,) = by_category(from_battles(rows), np.array([1.0, 0.0]), np.full(2, 1500.0))
    assert found.rate[1] > 0.5
    assert found.beats_most(1) == (1, False)  # y wins 50 of 90
    (found,) = by_category(from_battles(rows), np.array([0.0, 1.0]), np.full(2, 1500.0))
    assert found.beats_most(1) == (None, False)


def test_the_battles_of_a_category_are_counted_and_not_its_rows() -> None:
    battles = from_battles([_counts(30, 10, category="maths"), _counts(9, 9)])
    (found,) = by_category(battles, np.array([1.0, 0.0]), np.full(2, 1500.0))
    assert found.battles == 40


def test_rows_without_a_prompt_beside_others_are_no_single_prompt(caplog: pytest.LogCaptureFixture) -> None:
    battles = from_battles([*[_row()] * 2 * MIN_PROMPTS, _row(prompt="one"), _row(prompt="one")])
    assert battles.compared.tolist() == [[0, 2 * MIN_PROMPTS + 1], [2 * MIN_PROMPTS + 1, 0]]
    assert battles.winner_p_value(0) < 1e-5
    assert f"{2 * MIN_PROMPTS} rows" in caplog.text


def test_winners_may_be_numbers_of_a_frame_with_missing_cells() -> None:
    frame = pandas.DataFrame({"model_a": [1, 1, 2], "model_b": [2, 2, 1], "winner": [1, None, 2]})
    assert from_battles(frame).total.tolist() == [[0, 1], [1, 0]]
    assert from_battles([{"model_a": 1, "model_b": 2, "winner": np.int64(2)}]).total.tolist() == [[0, 0], [1, 0]]


def test_no_count_of_a_row_is_dropped() -> None:
    assert from_battles([_counts(1, 0, ties=None, draws=4)]).total.tolist() == [[0, 3], [2, 0]]
    with pytest.raises(NashwardError, match="winner and counts"):
        from_battles([_row() | _counts(1, 5)])


def test_a_prompt_is_found_beside_an_empty_column() -> None:
    rows = [_row(prompt=None, instruction="one"), _row(prompt="", instruction="two")]
    assert from_battles(rows).by_prompt


def test_wins_without_an_upset_are_explained_by_scores_far_apart() -> None:
    """A penalty that kept the scores finite left a misfit, of which 46% of such boards were accused."""
    wins = np.triu(np.full((4, 4), 20.0), 1)
    assert Battles.of_tables(tuple("abcd"), wins[None]).misfit_p_value == 1.0
    rows = [_row("x" if k < 19 else "y") for k in range(20)]
    assert np.isnan(from_battles(rows).misfit_p_value)  # two models have no pair beyond those that scores need
    wins[:3, :3] = [[0, 30, 10], [10, 0, 30], [30, 10, 0]]  # a circle, whom d never beats
    assert Battles.of_tables(tuple("abcd"), wins[None]).misfit_p_value < 1e-3


def test_style_that_no_response_has_changes_no_p_value() -> None:
    """Four features took four degrees of freedom: a quarter of the boards that scores explain were accused."""
    metadata: dict[str, Any] = {f"sum_assistant_{side}_tokens": 100 for side in "ab"}
    metadata |= {f"{kind}_count_{side}": {} for kind in ("header", "list", "bold") for side in "ab"}
    random = np.random.default_rng(0)
    rows = []
    for _ in range(300):
        a, b = random.choice(6, 2, replace=False)
        rows.append(_row(random.choice(["model_a", "model_b"]), model_a=str(a), model_b=str(b)))
        rows[-1] |= {"winner": random.choice(["model_a", "model_b"]), "conv_metadata": metadata}
    battles = from_battles(rows, style=True)
    assert battles.fit_p_value(style=True) == pytest.approx(battles.misfit_p_value, rel=1e-6)


def test_ties_make_the_bands_of_ratings_narrower() -> None:
    width = {}
    for ties in (0, 9):  # of ten battles, the others won in turn
        rows = [_row("tie" if k % 10 < ties else "x" if k // 10 % 2 else "y") for k in range(400)]
        bands = from_battles(rows).bands(seed=0)
        width[ties] = float((bands.elo_high - bands.elo_low)[0])
    assert width[9] == pytest.approx(width[0] * 0.1**0.5, rel=0.2)
