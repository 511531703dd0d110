"""Logistic regression with an L1 penalty for a handful of features: proximal Newton, to the last digits."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from nashward.games.shapes import Float

SWEEPS, STEPS = 50, 200
ROUNDING = 1e-13  # of the objective: by so much it may seem to rise at the minimum
EXACT = 1e-10  # of the total weight: how far the optimality conditions may be from met


def fit(
    features: Float[np.ndarray, "N k"],
    weights: Float[np.ndarray, " N"],
    moments: Float[np.ndarray, " k"],
    penalty: float,
    start: Float[np.ndarray, " k"] | None = None,
) -> Float[np.ndarray, " k"]:
    """The coefficients of a weighted logistic regression with soft labels, without intercept.

    .. math::  \\min_w \\sum_i a_i \\log(1 + e^{x_i w}) - m w + \\lambda |w|_1, \\qquad m = \\sum_i a_i y_i x_i

    which is the sum of the cross-entropies of labels y_i in [0, 1]: these enter through the moments m alone. Each step
    minimises the quadratic model with the penalty (coordinate descent), and is halved until the objective falls.

    Args:
        features: x, ``[N, k]``, k of a few.
        weights: a >= 0, ``[N]``.
        moments: m, ``[k]``.
        penalty: lambda > 0, liblinear's 1 / C.
        start: where to begin, ``[k]``; None: 0. The objective is convex: it changes the time, not the result.

    Raises:
        RuntimeError: no minimum is found: labels and moments are not of the same rows.

    Source: Lee, Sun & Saunders 2014 (proximal Newton).

    Example:
        >>> from scipy.special import expit
        >>> x, a, y = np.array([[1.0], [1.0]]), np.ones(2), np.array([1.0, 0.5])
        >>> w = fit(x, a, (a * y) @ x, penalty=0.1)
        >>> round(float(2 * expit(w[0])), 9)  # the sum of the labels less the penalty
        1.4
    """
    x = np.ascontiguousarray(features.T)
    w = np.zeros(len(x)) if start is None else start
    value, p = _at(x, weights, moments, penalty, w)
    for _ in range(STEPS):
        share = weights * p
        slope = x @ share - moments
        if _unmet(slope, w, penalty) <= EXACT * weights.sum():
            return w
        step = _quadratic((x * (share * (1 - p))) @ x.T, slope, w, penalty) - w
        expected = slope @ step + penalty * (np.abs(w + step).sum() - np.abs(w).sum())
        size = 1.0
        while True:
            there, p = _at(x, weights, moments, penalty, w + size * step)
            if there <= value + 1e-4 * size * expected + ROUNDING * abs(value):
                break
            size /= 2
        w, value = w + size * step, there
    raise RuntimeError(f"the logistic regression found no minimum in {STEPS} steps (coefficients {w})")


def _at(
    x: Float[np.ndarray, "k N"],
    weights: Float[np.ndarray, " N"],
    moments: Float[np.ndarray, " k"],
    penalty: float,
    w: Float[np.ndarray, " k"],
) -> tuple[Any, Float[np.ndarray, " N"]]:
    """The objective, and the probabilities ``[N]``."""
    z = w @ x
    small = np.exp(-np.abs(z))
    objective = weights @ (np.maximum(z, 0) + np.log1p(small)) - moments @ w + penalty * np.abs(w).sum()
    return objective, np.where(z >= 0, 1.0, small) / (1 + small)


def _unmet(slope: Float[np.ndarray, " k"], w: Float[np.ndarray, " k"], penalty: float) -> float:
    """How far 0 is from the subdifferential, over the coefficients."""
    at_zero = np.maximum(np.abs(slope) - penalty, 0)
    return float(np.where(w == 0, at_zero, np.abs(slope + penalty * np.sign(w))).max())


def _quadratic(
    curvature: Float[np.ndarray, "k k"], slope: Float[np.ndarray, " k"], w: Float[np.ndarray, " k"], penalty: float
) -> Float[np.ndarray, " k"]:
    """argmin_v  slope (v - w) + (v - w)' curvature (v - w) / 2 + penalty |v|_1.

    With its signs known the minimum is that of a linear system. Coordinate descent finds them; where features are
    nearly the same it creeps, and all signs are tried.
    """
    v = w.copy()
    for _ in range(SWEEPS):
        for j in range(len(v)):
            if curvature[j, j] > 0:  # 0: a feature that is 0 everywhere
                pull = curvature[j, j] * v[j] - slope[j] - curvature[j] @ (v - w)
                v[j] = np.sign(pull) * max(abs(pull) - penalty, 0.0) / curvature[j, j]
        signs = np.sign(v)
        exact = _signed(curvature, slope, w, penalty, signs)
        left = np.abs(slope + curvature @ (exact - w))[signs == 0]
        if (np.sign(exact) == signs).all() and (left <= penalty).all():
            return exact
    tried = [
        _signed(curvature, slope, w, penalty, np.array(signs)) for signs in itertools.product((-1, 0, 1), repeat=len(v))
    ]
    return min(
        [v, *tried], key=lambda u: slope @ (u - w) + (u - w) @ curvature @ (u - w) / 2 + penalty * np.abs(u).sum()
    )


def _signed(curvature: np.ndarray, slope: np.ndarray, w: np.ndarray, penalty: float, signs: np.ndarray) -> np.ndarray:
    """The minimum among those whose coefficients have these signs, where it has them."""
    on, exact = signs != 0, np.zeros(len(w))
    right = curvature[on] @ w - slope[on] - penalty * signs[on]
    exact[on] = np.linalg.lstsq(curvature[np.ix_(on, on)], right, rcond=None)[0]
    return exact
