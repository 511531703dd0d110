"""The standard error of the length-controlled win rate covers what it says."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from scipy.special import expit

from nashward.games.analysis.confidence import least_error
from nashward.llm.evaluation import NotComparable, length_controlled_win_rate

from .length_rows import gamed, random_rows

controlled: Any = length_controlled_win_rate  # called with columns that nobody checks


def drawn(random: np.random.Generator, n: int, binary: bool, difficulties: bool, w: Any) -> dict[str, Any]:
    """The columns of n prompts whose judgements follow the model with weights w."""
    d, apart = random.normal(0, 1.48, n), random.normal(-300, 900, n)
    p = expit(w[0] * np.tanh(apart / 900) + (w[1] * d if difficulties else 0) + w[2])
    y = (random.uniform(size=n) < p).astype(float) if binary else random.beta(1.5 * p + 1e-6, 1.5 * (1 - p) + 1e-6)
    columns = {"preference": y, "output_length": 30_000 - apart, "baseline_length": np.full(n, 30_000.0)}
    return {**columns, "difficulty": d} if difficulties else columns


def covered(n: int, binary: bool, difficulties: bool, times: int, w: Any = (-1.2, 0.9, -0.8)) -> tuple[float, float]:
    """How often the true rate lies within 1.96 standard errors, by ours and by AlpacaEval's."""
    everyone = np.random.default_rng(12345).normal(0, 1.48, 1_000_000)
    truth = 100 * expit(w[2] + (w[1] * everyone if difficulties else np.zeros(1))).mean()
    random, ours, theirs = np.random.default_rng([n, binary, difficulties]), 0, 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotComparable)
        for _ in range(times):
            found = controlled(**drawn(random, n, binary, difficulties, w))
            ours += abs(found.value - truth) <= 1.96 * found.standard_error
            theirs += abs(found.value - truth) <= 1.96 * found.alpaca_eval_standard_error
    return ours / times, theirs / times


@pytest.mark.parametrize("difficulties", [False, True])
def test_the_standard_error_covers_the_true_rate(difficulties: bool) -> None:
    ours, theirs = covered(200, True, difficulties, 400)
    assert 0.92 <= ours <= 0.98
    assert theirs <= 0.75 if difficulties else theirs == 0


@pytest.mark.slow
@pytest.mark.parametrize("n", [200, 805])
@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("difficulties", [False, True])
def test_the_standard_error_covers_the_true_rate_in_93_to_97_percent(n: int, binary: bool, difficulties: bool) -> None:
    assert 0.93 <= covered(n, binary, difficulties, 2000)[0] <= 0.97


@pytest.mark.parametrize("gamed_rows", [False, True])
def test_the_standard_error_is_that_of_prompts_drawn_again(gamed_rows: bool) -> None:
    rows = random_rows(8)
    more = {**gamed(rows), "gamed_difficulty": np.tile(rows["d"], 2)} if gamed_rows else None
    columns = [rows[name] for name in ("y", "length", "baseline", "d")]
    random = np.random.default_rng(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotComparable)
        found = controlled(*columns, gamed=more)
        again = []
        for _ in range(300):
            pick = random.integers(0, 300, 300)
            again.append(controlled(*(own[pick] for own in columns), gamed=more).value)
    assert found.standard_error == pytest.approx(np.std(again, ddof=1), rel=0.15)
    assert found.standard_error > 1.2 * found.alpaca_eval_standard_error


def test_half_won_and_all_alike_have_an_error_too() -> None:
    """Weights of exactly 0 are estimates as others are; where the fit is singular, prompts are drawn again."""
    with pytest.warns(NotComparable):
        half = controlled([0.0, 1.0] * 50, [5] * 100, [5] * 100)
    assert half.value == 50
    assert half.standard_error == pytest.approx(5, abs=0.1)
    random = np.random.default_rng(0)
    columns = (random.uniform(size=60) < 0.3).astype(float), random.integers(100, 900, 60), np.full(60, 500)
    with pytest.warns(NotComparable):
        without = controlled(*columns)
    with pytest.warns(NotComparable):
        alike = controlled(*columns, np.ones(60))  # a prompt as difficult as the other: w_d and w_m are one
    assert alike.standard_error == pytest.approx(without.standard_error, rel=0.3)


def test_few_prompts_that_are_all_won_are_no_certainty() -> None:
    with pytest.warns(NotComparable):
        found = length_controlled_win_rate([1.0] * 10, [5, 4, 3, 2, 1, 6, 7, 8, 9, 10], [5] * 10)
    assert found.standard_error == pytest.approx(100 * least_error(found.value / 100, 10))
    with pytest.warns(NotComparable):
        assert length_controlled_win_rate([0.5] * 10, [5] * 10, [5] * 10).standard_error == 0  # the baseline itself
