"""The sampling error of the length-controlled win rate over prompts, the fit included."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from nashward.games.shapes import Float

from .logistic import fit

SINGULAR = 1e-5  # of the scaled curvature: below it the linear expansion says nothing, and prompts are drawn again
DRAWS = 200
FAR = 3.0  # standard deviations by which the penalty holds a coefficient at 0, where it stays in other samples


@dataclass(frozen=True)
class Fitted:
    """A length-controlled fit, with what the error of its prediction depends on.

    Attributes:
        coefficients: [k], w, of tanh first and of the model last.
        features: [N, k], x of the judged prompts, tanh first; the last column is 1.
        labels: [N], y in [0, 1].
        length_difference: [N], baseline less output, which tanh was made of.
        gamed: [M, k], the rows of the gamed baseline, which are the same for every model: given, not sampled.
        gamed_weight: the weight of each.
        gamed_moments: [k], the sum of weight, label and feature over these rows.
        penalty: 1 / C.
    """

    coefficients: Float[np.ndarray, " k"]
    features: Float[np.ndarray, "N k"]
    labels: Float[np.ndarray, " N"]
    length_difference: Float[np.ndarray, " N"]
    gamed: Float[np.ndarray, "M k"]
    gamed_weight: float
    gamed_moments: Float[np.ndarray, " k"]
    penalty: float


def standard_error(fitted: Fitted) -> float:
    """The standard error of ``mean_i sigma(w_m + w_d d_i)`` when prompts are drawn anew, with their judgements.

    .. math::
        \\psi_i = q_i - \\bar q + N \\bar g^\\top H^{-1} (s_i - \\bar s) - \\bar g^\\top H^{-1} D \\, \\zeta_i,
        \\qquad \\text{error}^2 = \\frac{1}{N (N - 1)} \\sum_i \\psi_i^2

    with the predictions q and their mean gradient g, the scores ``s_i = x_i (y_i - p_i) / (1 - h_i)`` where h is the
    leverage, the curvature H of the fit
    (the gamed rows included, whose labels are given), and for the unit of the length differences, which is estimated
    too, its influence zeta and the derivative D of the scores. Where H is nearly singular the prompts are drawn again
    instead, 200 times; NaN where most of these have no fit either.

    Args:
        fitted: the fit.

    Source: Huber 1967, White 1982 (sandwich); MacKinnon & White 1985 (its leverages, HC3); Efron 1979 (bootstrap).

    Example:
        >>> x, y = np.array([[0.0, 1.0]] * 100), np.array([0.0, 1.0] * 50)
        >>> none = np.zeros((0, 2))
        >>> fitted = Fitted(np.zeros(2), x, y, np.zeros(100), none, 0.1, np.zeros(2), 0.15)
        >>> round(standard_error(fitted), 3)  # as that of the mean of y
        0.051
    """
    w, x = fitted.coefficients, fitted.features
    N = len(x)
    p = expit(x @ w)
    scores = x * (fitted.labels - p)[:, None]
    curvature = (x * (p * (1 - p))[:, None]).T @ x
    gradient = scores.sum(0) + fitted.gamed_moments
    if len(fitted.gamed):
        other = expit(fitted.gamed @ w)
        curvature += fitted.gamed_weight * (fitted.gamed * (other * (1 - other))[:, None]).T @ fitted.gamed
        gradient = gradient - fitted.gamed_weight * other @ fitted.gamed
    held = (w == 0) & (fitted.penalty - np.abs(gradient) > FAR * np.sqrt((scores**2).sum(0)))
    free = np.flatnonzero(~held & (np.diag(curvature) > 0))
    unit = 1 / np.sqrt(np.diag(curvature)[free])
    values = np.linalg.eigvalsh(curvature[np.ix_(free, free)] * np.outer(unit, unit)) if len(free) else np.ones(1)
    if values[0] < SINGULAR:
        return _drawn_again(fitted)

    at_baseline = x.copy()
    at_baseline[:, 0] = 0.0  # the prediction is at equal lengths
    q = expit(at_baseline @ w)
    slope = (q * (1 - q)) @ at_baseline / N
    influence = q - q.mean()
    if len(free):
        inverse = np.linalg.inv(curvature[np.ix_(free, free)])
        reach = inverse @ slope[free]
        leverage = p * (1 - p) * np.einsum("ij,jk,ik->i", x[:, free], inverse, x[:, free])
        left_out = scores[:, free] / np.maximum(1 - leverage, 0.1)[:, None]  # as if row i had not drawn the fit to it
        influence = influence + N * (left_out - left_out.mean(0)) @ reach
        influence = influence - (reach @ _by_unit(fitted, p)[free]) * _of_unit(fitted.length_difference)
    return float(np.sqrt((influence**2).sum() / (N * (N - 1))))


def _of_unit(difference: Float[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
    """The influence of each prompt on the standard deviation of the length differences."""
    spread = difference.std(ddof=1)
    if not spread > 0:
        return np.zeros(len(difference))
    return ((difference - difference.mean()) ** 2 - spread**2) / (2 * spread)


def _by_unit(fitted: Fitted, p: Float[np.ndarray, " N"]) -> Float[np.ndarray, " k"]:
    """The derivative of ``sum_i x_i (p_i - y_i)`` by the standard deviation of the length differences."""
    spread = fitted.length_difference.std(ddof=1)
    if not spread > 0:
        return np.zeros(len(fitted.coefficients))
    moves = -(1 - fitted.features[:, 0] ** 2) * fitted.length_difference / spread**2
    through = (p * (1 - p) * fitted.coefficients[0] * moves) @ fitted.features
    through[0] += moves @ (p - fitted.labels)
    return through


def _drawn_again(fitted: Fitted) -> float:
    """The standard deviation over prompts drawn with replacement, each time fitted again with the same penalty."""
    random, N, found = np.random.default_rng(0), len(fitted.labels), []
    for _ in range(DRAWS):
        rows = random.integers(0, N, N)
        difference, x = fitted.length_difference[rows], fitted.features[rows].copy()
        spread = difference.std(ddof=1)
        x[:, 0] = np.tanh(difference / spread) if spread > 0 else 0.0
        try:
            w = fit(
                np.concatenate([fitted.gamed, x]),
                np.concatenate([np.full(len(fitted.gamed), fitted.gamed_weight), np.ones(N)]),
                fitted.labels[rows] @ x + fitted.gamed_moments,
                fitted.penalty,
            )
        except RuntimeError:  # two features that are one, but for rounding: this draw has no rate at equal lengths
            continue
        x[:, 0] = 0.0
        found.append(expit(x @ w).mean())
    return float(np.std(found, ddof=1)) if len(found) > DRAWS / 2 else float("nan")
