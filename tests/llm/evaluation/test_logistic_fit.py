"""The fit of the length-controlled win rate: the least of its objective, by any other route, and the chosen penalty."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit

from nashward.llm.evaluation import length_controlled_win_rate
from nashward.llm.evaluation.win_rates.cross_validation import PENALTIES, chosen_penalty
from nashward.llm.evaluation.win_rates.logistic import fit

from .length_rows import gamed, random_rows


def test_the_weights_minimise_the_objective_written_out() -> None:
    """Cross-entropy, a tenth of it for each row of the gamed baseline, which has no w_m, and 1 / C of the sizes."""
    rows = random_rows(3)
    apart = rows["baseline"] - rows["length"]
    own, other = np.tanh(apart / np.std(apart, ddof=1)), rows["gamed_tanh_length"]

    def entropy(y: np.ndarray, z: np.ndarray) -> float:
        return float(np.log1p(np.exp(z)).sum() - y @ z)

    def objective(w: np.ndarray) -> float:
        baseline = w[0] * other + w[1] * np.tile(rows["d"], 2)
        model = w[0] * own + w[1] * rows["d"] + w[2]
        known = entropy(rows["y"], model) + 0.1 * entropy(rows["gamed_preference"], baseline)
        return known + 0.5 * float(np.abs(w).sum())

    found = length_controlled_win_rate(rows["y"], rows["length"], rows["baseline"], rows["d"], gamed(rows), 0.5)
    theirs = minimize(objective, np.zeros(3), method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-12})
    np.testing.assert_allclose(found.weights, theirs.x, atol=1e-5)
    assert found.value == pytest.approx(100 * expit(theirs.x[2] + theirs.x[1] * rows["d"]).mean(), abs=1e-3)


@pytest.mark.parametrize("seed", range(6))
def test_no_general_optimiser_finds_less(seed: int) -> None:
    random = np.random.default_rng(seed)
    k = 1 + seed % 4
    x, a, y = random.normal(size=(80, k)), random.uniform(0, 2, 80), random.uniform(size=80)
    penalty = 10.0 ** (seed - 3)

    def objective(w: np.ndarray) -> float:
        p = expit(x @ w)
        return float(-a @ (y * np.log(p) + (1 - y) * np.log(1 - p)) + penalty * np.abs(w).sum())

    w = fit(x, a, (a * y) @ x, penalty)
    theirs = minimize(objective, w + random.normal(0, 0.1, k), method="Nelder-Mead", options={"xatol": 1e-10})
    assert objective(w) <= theirs.fun + 1e-12
    np.testing.assert_allclose(theirs.x, w, atol=1e-3)
    np.testing.assert_allclose(fit(x, a, (a * y) @ x, penalty, start=np.full(k, 3.0)), w, atol=1e-7)


def test_a_large_penalty_leaves_nothing_and_equal_features_share() -> None:
    rows = random_rows(3)
    x = np.stack([rows["d"], rows["d"], np.zeros(300)], 1)
    assert not fit(x, np.ones(300), rows["y"] @ x, 1e6).any()
    w, alone = fit(x, np.ones(300), rows["y"] @ x, 0.1), fit(x[:, :1], np.ones(300), rows["y"] @ x[:, :1], 0.1)
    assert w[0] + w[1] == pytest.approx(alone[0], abs=1e-8)
    assert w[2] == 0


def test_features_that_are_nearly_the_same_are_told_apart() -> None:
    """A model that always says the same against short responses: its length features are 1 but for their last digits,
    and along their difference the objective hardly changes."""
    random = np.random.default_rng(0)
    x = np.stack([-1 + 1e-4 * random.uniform(size=40) ** 4, np.ones(40)], 1)
    y, penalty = np.full(40, 0.1), 0.15
    w = fit(x, np.ones(40), y @ x, penalty)

    def objective(v: np.ndarray) -> float:
        return float(np.logaddexp(0, x @ v).sum() - y @ x @ v + penalty * np.abs(v).sum())

    parts = minimize(  # positive and negative parts: smooth within bounds
        lambda v: objective(v[:2] - v[2:]) + penalty * (v.sum() - np.abs(v[:2] - v[2:]).sum()), np.ones(4),
        bounds=[(0, None)] * 4, method="L-BFGS-B", options={"ftol": 1e-15, "gtol": 1e-10, "maxiter": 10_000},
    )  # fmt: skip
    assert objective(w) <= parts.fun + 1e-10
    assert w[0] == 0  # of two that do the same the larger one is taken


def test_cross_validation_takes_the_penalty_with_the_least_loss_left_out() -> None:
    random = np.random.default_rng(0)
    x, a = random.normal(size=(60, 3)), random.uniform(0.1, 1, 60)
    y = expit(x @ [1.0, -0.7, 0.0] + random.normal(size=60))
    losses = []
    for penalty in PENALTIES:
        folds = []
        for k in range(5):
            out = (59 - np.arange(60)) % 5 == k
            w = fit(x[~out], a[~out], (a * y)[~out] @ x[~out], penalty)
            z = x[out] @ w
            folds.append(np.mean(a[out] * -(y[out] * np.log(expit(z)) + (1 - y[out]) * np.log(expit(-z)))))
        losses.append(np.mean(folds))
    assert chosen_penalty(x, a, y) == PENALTIES[np.argmin(losses)]
    assert 0 < np.argmin(losses) < 9  # neither end
