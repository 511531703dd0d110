"""L1-regularised logistic regression with a few features, by proximal Newton steps to machine precision."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from nashward.games.shapes import Float

MAX_SWEEPS, MAX_STEPS = 50, 200
ROUNDING = 1e-13  # relative: the objective may rise by as much through rounding at the minimum
TOLERANCE = 1e-10  # of the optimality conditions, relative to the total weight


def fit(
    features: Float[np.ndarray, "N k"],
    weights: Float[np.ndarray, " N"],
    moments: Float[np.ndarray, " k"],
    penalty: float,
    start: Float[np.ndarray, " k"] | None = None,
) -> Float[np.ndarray, " k"]:
    """The coefficients of a weighted logistic regression with soft labels, without intercept.

    .. math::  \\min_w \\sum_i a_i \\log(1 + e^{x_i w}) - m w + \\lambda |w|_1, \\qquad m = \\sum_i a_i y_i x_i

    which is the weighted cross-entropy of labels y_i in [0, 1]; the labels enter only through the moments m. Each step
    minimises the quadratic model with the penalty (coordinate descent), and is halved until the objective decreases.

    Args:
        features: x, ``[N, k]`` with small k.
        weights: a >= 0, ``[N]``.
        moments: m, ``[k]``.
        penalty: lambda > 0, liblinear's 1 / C.
        start: the initial coefficients, ``[k]``; None: 0. The objective is convex: the start changes the number of
            steps, not the result.

    Returns:
        w, ``[k]``.

    Raises:
        RuntimeError: the steps do not converge, as where features and moments are of different rows.

    Source: Lee, Sun & Saunders 2014 (proximal Newton).

    Example:
        >>> from scipy.special import expit
        >>> x, a, y = np.array([[1.0], [1.0]]), np.ones(2), np.array([1.0, 0.5])
        >>> w = fit(x, a, (a * y) @ x, penalty=0.1)
        >>> round(float(2 * expit(w[0])), 9)  # the sum of the labels minus the penalty
        1.4
    """
    x = np.ascontiguousarray(features.T)
    w = np.zeros(len(x)) if start is None else start
    value, p = _objective(x, weights, moments, penalty, w)
    for _ in range(MAX_STEPS):
        share = weights * p
        gradient = x @ share - moments
        if _optimality_violation(gradient, w, penalty) <= TOLERANCE * weights.sum():
            return w
        step = _quadratic_minimum((x * (share * (1 - p))) @ x.T, gradient, w, penalty) - w
        expected = gradient @ step + penalty * (np.abs(w + step).sum() - np.abs(w).sum())
        size = 1.0
        while True:
            trial, p = _objective(x, weights, moments, penalty, w + size * step)
            if trial <= value + 1e-4 * size * expected + ROUNDING * abs(value):
                break
            size /= 2
        w, value = w + size * step, trial
    raise RuntimeError(f"the logistic regression found no minimum in {MAX_STEPS} steps (coefficients {w})")


def _objective(
    x: Float[np.ndarray, "k N"],
    weights: Float[np.ndarray, " N"],
    moments: Float[np.ndarray, " k"],
    penalty: float,
    w: Float[np.ndarray, " k"],
) -> tuple[Any, Float[np.ndarray, " N"]]:
    """The objective at w, and the probabilities sigma(x w) ``[N]``."""
    z = w @ x
    small = np.exp(-np.abs(z))
    objective = weights @ (np.maximum(z, 0) + np.log1p(small)) - moments @ w + penalty * np.abs(w).sum()
    return objective, np.where(z >= 0, 1.0, small) / (1 + small)


def _optimality_violation(gradient: Float[np.ndarray, " k"], w: Float[np.ndarray, " k"], penalty: float) -> float:
    """The distance of 0 from the subdifferential of the objective, the largest over coefficients."""
    at_zero = np.maximum(np.abs(gradient) - penalty, 0)
    return float(np.where(w == 0, at_zero, np.abs(gradient + penalty * np.sign(w))).max())


def _quadratic_minimum(
    hessian: Float[np.ndarray, "k k"], gradient: Float[np.ndarray, " k"], w: Float[np.ndarray, " k"], penalty: float
) -> Float[np.ndarray, " k"]:
    """argmin_v  gradient (v - w) + (v - w)' hessian (v - w) / 2 + penalty |v|_1.

    Once the signs of the coefficients are known, the minimum solves a linear system. Coordinate descent finds the
    signs; where features are nearly collinear it converges slowly, and all sign patterns are tried.
    """
    v = w.copy()
    for _ in range(MAX_SWEEPS):
        for j in range(len(v)):
            if hessian[j, j] > 0:  # 0: a feature that is 0 in all rows
                unpenalised = hessian[j, j] * v[j] - gradient[j] - hessian[j] @ (v - w)
                v[j] = np.sign(unpenalised) * max(abs(unpenalised) - penalty, 0.0) / hessian[j, j]
        signs = np.sign(v)
        exact = _minimum_with_signs(hessian, gradient, w, penalty, signs)
        inactive = np.abs(gradient + hessian @ (exact - w))[signs == 0]
        if (np.sign(exact) == signs).all() and (inactive <= penalty).all():
            return exact
    candidates = [
        _minimum_with_signs(hessian, gradient, w, penalty, np.array(signs))
        for signs in itertools.product((-1, 0, 1), repeat=len(v))
    ]
    return min(
        [v, *candidates], key=lambda u: gradient @ (u - w) + (u - w) @ hessian @ (u - w) / 2 + penalty * np.abs(u).sum()
    )


def _minimum_with_signs(
    hessian: np.ndarray, gradient: np.ndarray, w: np.ndarray, penalty: float, signs: np.ndarray
) -> np.ndarray:
    """The stationary point of the objective with the penalty linear by these signs; 0 where the sign is 0."""
    active, exact = signs != 0, np.zeros(len(w))
    right = hessian[active] @ w - gradient[active] - penalty * signs[active]
    exact[active] = np.linalg.lstsq(hessian[np.ix_(active, active)], right, rcond=None)[0]
    return exact
