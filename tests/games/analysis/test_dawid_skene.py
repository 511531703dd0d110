"""Dawid and Skene: accuracies without labels, a planted bad judge, the standard error, what cannot be told apart."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit, logsumexp

from nashward.errors import NashwardError
from nashward.games.analysis.dawid_skene import PRIOR, dawid_skene

SIGNS = ((1, 1), (1, -1), (-1, 1), (-1, -1))
ACCURACIES = np.array([0.85, 0.75, 0.8, 0.5])


def _verdicts(seed: int, pairs: int, accuracies: np.ndarray = ACCURACIES) -> np.ndarray:
    random = np.random.default_rng(seed)
    first = random.random(pairs) < 0.5
    right = random.random((len(accuracies), pairs)) < accuracies[:, None]
    return np.where(right, first, ~first).astype(float)


def _side(verdicts: np.ndarray) -> np.ndarray:
    return np.sign(np.nan_to_num(verdicts, nan=0.5) - 0.5)


def _loss(weights: np.ndarray, verdicts: np.ndarray) -> float:
    """Less the log-likelihood, as it is defined."""
    side, right, wrong = _side(verdicts), np.log(expit(weights)), np.log(expit(-weights))
    first = (right @ (side > 0)) + (wrong @ (side < 0))
    second = (wrong @ (side > 0)) + (right @ (side < 0))
    return -float(logsumexp([first, second], axis=0).sum() + PRIOR * (right + wrong).sum())


def test_it_is_the_maximum_of_the_likelihood() -> None:
    verdicts = _verdicts(1, 60)
    verdicts[0, :5], verdicts[1, 3:9] = 0.5, np.nan
    fit = dawid_skene(verdicts)
    best = minimize(_loss, np.ones(4), verdicts, method="BFGS", options={"gtol": 1e-8})
    assert fit.weights == pytest.approx(best.x, abs=1e-4)
    # the standard error against the curvature of the same likelihood
    step = 1e-3
    curvature = np.array(
        [
            [
                sum(
                    a * b * _loss(best.x + step * (a * np.eye(4)[i] + b * np.eye(4)[j]), verdicts)
                    for a in (1, -1)
                    for b in (1, -1)
                )
                for j in range(4)
            ]
            for i in range(4)
        ]
    ) / (4 * step**2)
    assert fit.standard_error == pytest.approx(np.sqrt(np.diag(np.linalg.inv(curvature))), rel=1e-3)
    assert fit.correct + fit.tie + fit.wrong == pytest.approx(1.0)
    assert fit.tie[0] == pytest.approx(5 / (60 + 2 * PRIOR))
    assert fit.log_odds == pytest.approx(fit.weights @ _side(verdicts))


def test_a_planted_bad_judge_is_found_and_no_good_one_is_accused() -> None:
    fits = [dawid_skene(_verdicts(seed, 200)) for seed in range(40)]
    assert sum(bool(fit.suspect[3]) for fit in fits) >= 36
    assert sum(bool(fit.suspect[:3].any()) for fit in fits) == 0
    inside = np.mean([(fit.interval[0] < ACCURACIES) & (fit.interval[1] > ACCURACIES) for fit in fits])
    assert inside > 0.9


@pytest.mark.parametrize("judge", range(4))
def test_at_an_intervals_end_the_profile_has_fallen_by_half_of_1_96_squared(judge: int) -> None:
    verdicts = _verdicts(1, 60)
    verdicts[0, :5], verdicts[1, 3:9] = 0.5, np.nan
    fit = dawid_skene(verdicts)
    for ends, sign in zip(fit.interval, (-1, 1), strict=True):
        end = float(np.log(ends[judge] / (1 - ends[judge])))
        assert sign * (end - fit.weights[judge]) > 0
        held = minimize(
            lambda others, end=end: _loss(np.insert(others, judge, end), verdicts),
            np.delete(fit.weights, judge),
            method="BFGS",
        )
        assert held.fun - _loss(fit.weights, verdicts) == pytest.approx(1.96**2 / 2, abs=5e-3)


@pytest.mark.parametrize("accuracies", [[0.65, 0.65, 0.65], [0.6, 0.6, 0.9]])
def test_intervals_hold_their_accuracies(accuracies: list[float]) -> None:
    """In 95% of sets of verdicts: of each judge at most 3 standard errors less of 100."""
    true = np.array(accuracies)
    ends = np.array([dawid_skene(_verdicts(seed, 200, true)).interval for seed in range(100)])
    assert ((ends[:, 0] < true) & (true < ends[:, 1])).mean(0).min() > 0.88


def test_the_orders_are_symmetric() -> None:
    verdicts = _verdicts(3, 80)
    flipped = verdicts.copy()
    flipped[:, ::3] = 1 - flipped[:, ::3]  # the same pairs with their texts exchanged
    fit, other = dawid_skene(verdicts), dawid_skene(flipped)
    assert other.weights == pytest.approx(fit.weights, abs=1e-9)
    assert other.log_odds[::3] == pytest.approx(-fit.log_odds[::3], abs=1e-9)


def test_what_cannot_be_told_apart_is_refused() -> None:
    with pytest.raises(NashwardError, match="at least 3 judges"):
        dawid_skene(np.ones((2, 5)))
    with pytest.raises(NashwardError, match="from 0 to 1"):
        dawid_skene(np.full((3, 5), 2.0))
    alone = np.ones((3, 5))
    alone[1] = 0.5
    with pytest.raises(NashwardError, match="judge 2"):
        dawid_skene(alone)
