"""Bradley-Terry scores with features of each comparison beside them: what style, length or order adds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import expit

from nashward.errors import NashwardError

from ..shapes import Float, Int

RIDGE = 1e-6  # on scores and coefficients, relative to the comparisons: decides what the data leave open
ITERATIONS = 100


@dataclass(frozen=True)
class ContextualBradleyTerry:
    """Scores of players and coefficients of features.

    Attributes:
        scores: [n], in nats, mean 0.
        coefficients: [d], log-odds a standard deviation of the feature; 0 for a feature that is 0 everywhere.
        standard_error: [d], of the coefficients, over clusters.
        scale: [d], the root mean squares by which the features were divided.
        clusters: how many there are.

    Example:
        >>> fit = ContextualBradleyTerry(np.zeros(2), np.array([0.3]), np.array([0.1]), np.array([2.0]), 50)
        >>> fit.slopes.tolist(), fit.slope_errors.tolist()
        ([0.15], [0.05])
    """

    scores: Float[np.ndarray, " n"]
    coefficients: Float[np.ndarray, " d"]
    standard_error: Float[np.ndarray, " d"]
    scale: Float[np.ndarray, " d"]
    clusters: int

    @property
    def slopes(self) -> Float[np.ndarray, " d"]:
        """[d], log-odds a unit of each feature."""
        return self.coefficients / self.scale

    @property
    def slope_errors(self) -> Float[np.ndarray, " d"]:
        """[d], the standard errors of the slopes."""
        return self.standard_error / self.scale


def contextual_bradley_terry(
    outcomes: Float[np.ndarray, " N"],
    features: Float[np.ndarray, "N d"],
    first: Int[np.ndarray, " N"] | None = None,
    second: Int[np.ndarray, " N"] | None = None,
    clusters: Int[np.ndarray, " N"] | None = None,
    scale: Literal["wins", "log-odds"] = "wins",
) -> ContextualBradleyTerry:
    r"""Bradley-Terry scores r and coefficients g of features x that are opposite where the players are exchanged.

    .. math::  \text{logit } P(i \text{ beats } j) = r_i - r_j + \sum_k g_k x_k / s_k

    with s_k the root mean square of feature k (no mean is subtracted: the model stays odd). Wins are fitted by maximum
    likelihood, log-odds by least squares: a judge's log-odds vary beyond r and x, and a likelihood of its
    probabilities would draw g to 0. Standard errors are the sandwich's over clusters, as of one prompt.

    Args:
        outcomes: [N], the share of wins of the first player, in [0, 1]; or log-odds that it is better, finite.
        features: x, [N, d].
        first, second: [N], the players; None: there are none, as in comparisons of single texts.
        clusters: [N], comparisons that are not independent of each other have one number; None: all are.
        scale: what the outcomes are.

    Raises:
        ValueError: no comparison, shapes that do not fit, an outcome out of its range.

    Source: Bradley & Terry 1952 with covariates, as the style control of Chatbot Arena (2024) and of Arena-Hard v2 has
        it; Liang & Zeger 1986 (the sandwich).

    Example:
        >>> lead = np.array([1.0, -1.0, 2.0, -2.0])
        >>> contextual_bradley_terry(0.5 * lead, lead[:, None], scale="log-odds").coefficients.round(3)  # a deviation
        array([0.791])
    """
    y, x = np.asarray(outcomes, dtype=np.float64), np.asarray(features, dtype=np.float64)
    if y.ndim != 1 or not len(y) or x.ndim != 2 or len(x) != len(y):
        raise NashwardError(f"outcomes {y.shape} and features {x.shape}; expected [N] and [N, d] with N above 0")
    if not np.isfinite(x).all() or not np.isfinite(y).all() or (scale == "wins" and ((y < 0) | (y > 1)).any()):
        raise NashwardError("outcomes and features are finite numbers, and shares of wins are from 0 to 1")
    rms = np.sqrt((x**2).mean(0))
    known = rms > 1e-12
    players = 0 if first is None or second is None else int(max(first.max(), second.max())) + 1
    design = np.zeros((len(y), players + int(known.sum())))
    if players:
        rows = np.arange(len(y))
        design[rows, first] += 1.0
        design[rows, second] -= 1.0
    design[:, players:] = x[:, known] / rms[known]
    ridge = RIDGE * len(y) * np.eye(design.shape[1])
    if scale == "wins":
        ridge[range(players), range(players)] = 0.1  # so that a player who won every comparison has a finite score
    beta = np.zeros(design.shape[1])
    for _ in range(ITERATIONS):
        fitted = design @ beta
        mean = expit(fitted) if scale == "wins" else fitted
        weight = mean * (1 - mean) if scale == "wins" else np.ones(len(y))
        information = design.T @ (weight[:, None] * design) + ridge
        step = np.linalg.lstsq(information, design.T @ (y - mean) - ridge @ beta, rcond=None)[0]
        beta = beta + step / max(1.0, np.abs(step).max(initial=0.0) / 2)
        if np.abs(step).max(initial=0.0) < 1e-10:
            break
    numbers = np.arange(len(y)) if clusters is None else np.unique(clusters, return_inverse=True)[1]
    count = int(numbers.max()) + 1
    sums = np.zeros((count, design.shape[1]))
    np.add.at(sums, numbers, design * (y - mean)[:, None])
    inverse = np.linalg.pinv(information, hermitian=True)
    spread = inverse @ (sums.T @ sums) @ inverse * (count / max(count - 1, 1))
    coefficients, errors = np.zeros(x.shape[1]), np.full(x.shape[1], np.nan)
    coefficients[known], errors[known] = beta[players:], np.sqrt(np.diag(spread))[players:]
    scores = beta[:players] - (beta[:players].mean() if players else 0.0)
    return ContextualBradleyTerry(scores, coefficients, errors, np.where(known, rms, 1.0), count)
