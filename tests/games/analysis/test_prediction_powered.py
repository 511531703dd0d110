"""Prediction-powered win rates: coverage, width, the formulas, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from nashward.errors import NashwardError
from nashward.games.analysis.prediction_powered import PredictionPowered, prediction_powered


def _cases(seed: int, rate: float, worth: float, n: int = 100, others: int = 900):
    """Labels at a true rate, and a biased judge that knows them as well as ``worth`` says."""
    random = np.random.default_rng(seed)
    y = (random.random(n + others) < rate).astype(float)
    f = expit(worth * (2 * y - 1) + 1.0 + random.normal(size=n + others))
    return y[:n], f[:n], f[n:]


def _share(found: PredictionPowered) -> float:
    """The interval's width as a share of that of the labels alone."""
    return (found.interval[1] - found.interval[0]) / (found.labels_interval[1] - found.labels_interval[0])


@pytest.mark.parametrize("worth", [0.0, 1.5])
@pytest.mark.parametrize("rate", [0.3, 0.5, 0.7])
def test_the_intervals_cover_the_true_rate(rate: float, worth: float) -> None:
    found = [prediction_powered(*_cases(seed, rate, worth)) for seed in range(1000)]
    covered = np.mean([one.interval[0] <= rate <= one.interval[1] for one in found])
    assert 0.93 <= covered <= 0.97
    assert max(_share(one) for one in found) <= 1.02
    assert np.mean([one.value for one in found]) == pytest.approx(rate, abs=0.01)
    if worth:
        assert np.mean([one.judge_alone for one in found]) > rate + 0.01  # the judge's own mean is biased
        assert np.mean([_share(one) for one in found]) < 0.75


@pytest.mark.parametrize("rate", [0.02, 0.1, 0.95])
def test_near_the_ends_they_cover_too(rate: float) -> None:
    found = [prediction_powered(*_cases(seed, rate, 1.5)) for seed in range(500)]
    assert 0.92 <= np.mean([one.interval[0] <= rate <= one.interval[1] for one in found]) <= 0.98
    assert all(0 <= one.interval[0] < one.interval[1] <= 1 for one in found)


@pytest.mark.parametrize("n", [10, 20, 40])
@pytest.mark.parametrize("rate", [0.5, 0.8])
def test_few_labels_that_show_few_of_the_judges_errors(n: int, rate: float) -> None:
    """A judge whose hard verdicts are right in 95%: 10 labels often show none of its errors."""
    random, covered = np.random.default_rng(0), []
    for _ in range(1000):
        y = (random.random(n + 1000) < rate).astype(float)
        f = np.where(random.random(n + 1000) < 0.95, y, 1 - y)
        low, high = prediction_powered(y[:n], f[:n], f[n:]).interval
        covered.append(low <= rate <= high)
    assert np.mean(covered) >= 0.94


def test_the_formulas_by_hand() -> None:
    y, f, rest = _cases(1, 0.5, 0.5, n=40, others=200)
    found = prediction_powered(y, f, rest)
    everything = np.concatenate([f, rest])
    weight = np.cov(y, f)[0, 1] / ((1 + 40 / 200) * everything.var(ddof=1))
    assert found.weight == pytest.approx(weight)
    assert found.value == pytest.approx(y.mean() + weight * (rest.mean() - f.mean()))

    # the weight is where the variance is least
    def variance(w: float) -> float:
        return (y - w * f).var(ddof=1) / 40 + w**2 * f.var(ddof=1) / 200

    least = min(np.linspace(0, 1, 1001), key=variance)
    assert np.cov(y, f)[0, 1] / ((1 + 40 / 200) * f.var(ddof=1)) == pytest.approx(least, abs=1e-3)


def test_a_judge_that_is_worth_nothing_gets_no_weight() -> None:
    y, f, rest = _cases(2, 0.5, 2.0)
    wrong = prediction_powered(y, 1 - f, 1 - rest)
    assert wrong.weight == 0.0
    assert wrong.interval == wrong.labels_interval
    constant = prediction_powered(y, np.full(100, 0.7), np.full(900, 0.7))
    assert constant.interval == constant.labels_interval
    all_won = prediction_powered(np.ones(20), np.full(20, 0.9), np.full(50, 0.9))
    assert all_won.interval[1] == pytest.approx(1.0)
    assert all_won.interval[0] == pytest.approx(20 / (20 + 1.959964**2), abs=1e-6)  # Wilson's


def test_what_is_refused() -> None:
    y, f, rest = _cases(0, 0.5, 1.0)
    for wrong in ((y[:9], f[:9], rest), (y * 2, f, rest), (y, f, rest - 1.0)):
        with pytest.raises(NashwardError):
            prediction_powered(*wrong)
    with pytest.raises(NashwardError, match="level"):
        prediction_powered(y, f, rest, level=1.0)
