"""Confidence from few prompts: tables of Student's t, and coverage for wins and for probabilities."""

from __future__ import annotations

import numpy as np
import pytest

from nashward.games.analysis.confidence import (
    least_error,
    standard_errors,
    win_rate_at_least,
    win_rate_error,
    win_rate_interval,
    win_rate_p_value,
)


def test_student_by_its_table() -> None:
    """One-sided 95% and two-sided 95%, from the printed tables."""
    for n, one, two in ((2, 6.314, 12.706), (6, 2.015, 2.571), (20, 1.729, 2.093), (10_001, 1.645, 1.960)):
        assert standard_errors(1.6448536, n) == pytest.approx(one, abs=1e-3)
        assert standard_errors(1.9599640, n) == pytest.approx(two, abs=1e-3)
    assert np.isnan(standard_errors(1.645, 1))


def test_no_number_of_wins_is_certainty() -> None:
    for n in (2, 5, 19, 20, 200):
        exact = 0.05 ** (1 / n)  # Clopper and Pearson, n of n
        assert win_rate_at_least(1.0, 0.0, n) <= exact + 0.01
        assert win_rate_at_least(0.0, 0.0, n) == 0
    assert win_rate_at_least(1.0, float("nan"), 1) == 0
    assert win_rate_at_least(0.7, 0.01, 1000) == pytest.approx(0.7 - 1.645 * 0.01, abs=1e-3)


def test_the_p_value_is_that_of_the_interval() -> None:
    for value, error, n in ((0.7, 0.1, 20), (0.6, 0.02, 5), (1.0, 0.0, 7), (0.52, 0.01, 400)):
        p = win_rate_p_value(value, error, n)
        assert win_rate_at_least(value, error, n, 1 - p) == pytest.approx(0.5)
    assert win_rate_p_value(0.0, 0.0, 9) == 1
    assert win_rate_p_value(1.0, float("nan"), 1) >= 0.5


def test_the_error_of_weighted_prompts_is_the_spread_of_their_mean() -> None:
    random, weights = np.random.default_rng(0), np.repeat([1.0, 2.0], 30)
    drawn = random.beta(2, 2, (4000, 60))
    errors = [win_rate_error(values, weights) for values in drawn]
    assert np.sqrt(np.mean(np.square(errors))) == pytest.approx((drawn @ weights / weights.sum()).std(), rel=0.03)
    assert np.isnan(win_rate_error([0.5, 0.9], [1.0, 0.0]))


def _wins(random: np.random.Generator, p: float, shape: tuple[int, int]) -> np.ndarray:
    return (random.uniform(size=shape) < p).astype(float)


def _close(random: np.random.Generator, p: float, shape: tuple[int, int]) -> np.ndarray:
    return random.beta(8 * p, 8 * (1 - p), size=shape)


def _nearly_wins(random: np.random.Generator, p: float, shape: tuple[int, int]) -> np.ndarray:
    return random.beta(0.6 * p, 0.6 * (1 - p), size=shape)


def _rarely_lost(random: np.random.Generator, p: float, shape: tuple[int, int]) -> np.ndarray:
    return np.where(random.uniform(size=shape) < 0.9, p / 0.9, 0.0) if p <= 0.9 else _wins(random, p, shape)


@pytest.mark.parametrize("kind", [_wins, _close, _nearly_wins, _rarely_lost])
def test_the_true_rate_is_above_the_bound_in_95_percent(kind) -> None:
    random = np.random.default_rng(0)
    for n in (2, 3, 5, 10, 19, 50):
        for p in (0.5, 0.6, 0.8, 0.95):
            values = kind(random, p, (1500, n))
            errors = values.std(1, ddof=1) / n**0.5
            held = [
                win_rate_at_least(value, error, n) <= p for value, error in zip(values.mean(1), errors, strict=True)
            ]
            assert np.mean(held) >= 0.94, (n, p)  # 0.95 less two errors of 1500 draws


@pytest.mark.parametrize(("n", "mean"), [(20, 0.5), (50, 0.6), (200, 0.9)])
def test_the_interval_of_a_win_rate_holds_it_in_95_of_100_cases(n: int, mean: float) -> None:
    random, held, times = np.random.default_rng(n), 0, 1000
    for _ in range(times):
        values = random.beta(2 * mean, 2 * (1 - mean), n)
        low, high = win_rate_interval(values.mean(), values.std(ddof=1) / n**0.5, n)
        held += low <= mean <= high
    assert held >= (0.95 - 3 * (0.95 * 0.05 / times) ** 0.5) * times
    assert 0 <= low < high <= 1


@pytest.mark.parametrize("n", [2, 4, 7, 20, 100])
def test_prompts_that_are_alike_have_an_error(n: int) -> None:
    """Laplace's posterior of a share that n of n have: its spread is no more than the error, which verdicts ignore."""
    assert least_error(1.0, n) >= (((n + 1) / (n + 2)) * (1 / (n + 2)) / (n + 3)) ** 0.5
    assert least_error(0.0, n) == least_error(1.0, n)
    assert least_error(0.5, n) == pytest.approx(least_error(1.0, n) / 2)
    for value in (0.0, 0.9, 1.0):
        alike = win_rate_interval(value, 0.0, n)
        low, high = win_rate_interval(value, float(least_error(value, n)), n)
        assert low <= alike[0] + 1e-12
        assert high >= alike[1] - 1e-12
        if value != 0.9:
            assert (low, high) == pytest.approx(alike)  # all won or all lost: nothing else fits
