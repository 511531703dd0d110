"""Bradley-Terry scores with features of each comparison: what style, length or order adds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy.sparse import csr_matrix, hstack
from scipy.special import expit

from nashward.errors import NashwardError

from ..shapes import Float, Int

RIDGE = 1e-6  # on scores and coefficients, relative to the comparisons: decides what the data leave undetermined
ITERATIONS = 100
WITHIN = 0.05  # the least share of a feature's differences within players that tells its effect from theirs


@dataclass(frozen=True)
class ContextualBradleyTerry:
    """Scores of players and coefficients of features.

    Attributes:
        scores: [n], in nats, mean 0.
        coefficients: [d], log-odds per root mean square of the feature; 0 for a feature that is 0 everywhere.
        score_errors: [n], standard errors of the scores (their mean is 0), over clusters.
        standard_error: [d], standard errors of the coefficients, over clusters.
        scale: [d], the root mean squares by which the features were divided.
        clusters: the number of clusters.
        influence: [N, d], what each comparison adds to the slopes' error; ``slope_errors`` sum it over clusters.

    Example:
        >>> each = np.array([0.3]), np.array([0.1]), np.array([2.0])
        >>> fit = ContextualBradleyTerry(np.zeros(2), np.ones(2), *each, clusters=50, influence=np.zeros((50, 1)))
        >>> fit.slopes.tolist(), fit.slope_errors.tolist()
        ([0.15], [0.05])
    """

    scores: Float[np.ndarray, " n"]
    score_errors: Float[np.ndarray, " n"]
    coefficients: Float[np.ndarray, " d"]
    standard_error: Float[np.ndarray, " d"]
    scale: Float[np.ndarray, " d"]
    clusters: int
    influence: Float[np.ndarray, "N d"]

    @property
    def slopes(self) -> Float[np.ndarray, " d"]:
        """[d], log-odds per unit of each feature."""
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
    ridge: float = 0.1,
    weights: Float[np.ndarray, " N"] | None = None,
    smoothing: float = 0.0,
) -> ContextualBradleyTerry:
    r"""Bradley-Terry scores r and coefficients g of features x that change sign when the players are exchanged.

    .. math::  \text{logit } P(i \text{ beats } j) = r_i - r_j + \sum_k g_k x_k / s_k

    with s_k the root mean square of feature k (no mean is subtracted: the model stays odd). Wins are fitted by maximum
    likelihood, log-odds by least squares: a judge's log-odds vary beyond r and x, and a likelihood of its
    probabilities would pull g to 0. Standard errors are sandwich errors over clusters, for example prompts.

    Args:
        outcomes: [N], the share of wins of the first player, in [0, 1]; or log-odds that it is better, finite.
        features: x, [N, d].
        first, second: [N], the players; None: no players, as in comparisons of single texts.
        clusters: [N], equal numbers for comparisons that depend on each other; None: all are independent. With a single
            number errors are NaN.
        scale: what the outcomes are.
        ridge: on the scores of wins, so that a player who won every comparison has a finite one; 0 is plain maximum
            likelihood.
        weights: [N], how many comparisons with this outcome each one stands for; None: one.
        smoothing: of wins, comparisons with features of 0 that every two players are given in addition, half of them
            won, as ``bradley_terry`` has it. The errors count these as they do the others.

    Time is linear in N: nothing of size N n is made, except for clusters a sparse table of their members.

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
    times = np.ones(len(y)) if weights is None else np.asarray(weights, dtype=np.float64)
    design = _Design(x[:, known] / rms[known], first, second)
    n, size = design.players, design.players + int(known.sum())
    penalty = np.full(size, RIDGE * len(y))
    if scale == "wins":
        penalty[:n] = ridge
    beta, fixed = np.zeros(size), np.diag(penalty)
    fixed[:n, :n] += len(y) / max(n, 1) ** 2  # no comparison moves the players' mean: it stays 0
    given = smoothing * (1 - np.eye(n))
    for _ in range(ITERATIONS):
        fitted = design.fitted(beta)
        mean = expit(fitted) if scale == "wins" else fitted
        even = expit(beta[:n, None] - beta[:n])
        information = design.squares(times * mean * (1 - mean) if scale == "wins" else times) + fixed
        information[:n, :n] += laplacian(given * even * (1 - even))
        slope = design.sums(times * (y - mean)) - penalty * beta
        slope[:n] += (given * (0.5 - even)).sum(1)
        try:
            step = np.linalg.solve(information, slope)
        except np.linalg.LinAlgError:
            step = np.linalg.lstsq(information, slope, rcond=None)[0]
        beta = beta + step / max(1.0, np.abs(step).max(initial=0.0) / 2)
        if np.abs(step).max(initial=0.0) < 1e-10:
            break
    residual = y - mean
    if clusters is None:
        count, squares = round(float(times.sum())), design.squares(times * residual**2)
    else:
        numbers = np.unique(clusters, return_inverse=True)[1].reshape(-1)
        count = int(numbers.max()) + 1
        sums = design.cluster_sums(times * residual, numbers, count)
        squares = (sums.T @ sums).toarray()
    squares[:n, :n] += laplacian(given * ((1 - even) ** 2 + even**2) / 2)
    inverse = np.linalg.pinv(information, hermitian=True)
    # one cluster shows no spread: its residuals always sum to 0
    spread = inverse @ squares @ inverse * (count / (count - 1) if count > 1 else np.nan)
    coefficients, errors = np.zeros(x.shape[1]), np.full(x.shape[1], np.nan)
    coefficients[known], errors[known] = beta[n:], np.sqrt(np.diag(spread)[n:].clip(0))
    influence = np.zeros(x.shape)
    influence[:, known] = (times * residual)[:, None] * design.fitted(inverse[:, n:]) / rms[known]
    scores = beta[:n] - (beta[:n].mean() if n else 0.0)
    centred = np.eye(n) - 1 / max(n, 1)
    score_errors = np.sqrt(np.diag(centred @ spread[:n, :n] @ centred).clip(0))
    scales = np.where(known, rms, 1.0)
    return ContextualBradleyTerry(scores, score_errors, coefficients, errors, scales, count, influence)


class _Design:
    """The design matrix: 1 for the first player, -1 for the second, then the features; it is never made."""

    def __init__(self, x: Float[np.ndarray, "N d"], first: Any, second: Any):
        self.x = x
        self.players = 0 if first is None or second is None else int(max(first.max(), second.max())) + 1
        self.first, self.second = first, second

    def fitted(self, beta: Float[np.ndarray, "p ..."]) -> Float[np.ndarray, "N ..."]:
        n, of_features = self.players, self.x @ beta[self.players :]
        return beta[:n][self.first] - beta[:n][self.second] + of_features if n else of_features

    def sums(self, values: Float[np.ndarray, " N"]) -> Float[np.ndarray, " p"]:
        return np.r_[self._by_player(values), values @ self.x]

    def squares(self, weights: Float[np.ndarray, " N"]) -> Float[np.ndarray, "p p"]:
        """The weighted sum of the rows' outer products."""
        weighted = weights[:, None] * self.x
        features = self.x.T @ weighted
        if not self.players:
            return features
        n = self.players
        pairs = np.bincount(self.first * n + self.second, weights, n * n).reshape(n, n)
        pairs = pairs + pairs.T
        across = np.stack([self._by_player(column) for column in weighted.T], axis=1) if self.x.shape[1] else None
        players = laplacian(pairs)
        return players if across is None else np.block([[players, across], [across.T, features]])

    def cluster_sums(self, values: Float[np.ndarray, " N"], numbers: Int[np.ndarray, " N"], count: int) -> csr_matrix:
        """[clusters, p], the sums of rows times values over each cluster."""
        features = np.stack([np.bincount(numbers, column * values, count) for column in self.x.T], axis=1) \
            if self.x.shape[1] else np.zeros((count, 0))  # fmt: skip
        if not self.players:
            return csr_matrix(features)
        at = np.r_[numbers, numbers], np.r_[self.first, self.second]
        return hstack([csr_matrix((np.r_[values, -values], at), (count, self.players)), features], format="csr")

    def _by_player(self, values: Float[np.ndarray, " N"]) -> Float[np.ndarray, " n"]:
        if not self.players:
            return np.zeros(0)
        gained = np.bincount(self.first, values, self.players)
        return gained - np.bincount(self.second, values, self.players)


def laplacian(weights: Float[np.ndarray, "n n"]) -> Float[np.ndarray, "n n"]:
    """[n, n], the sums of the weights on the diagonal, less the weights.

    Args:
        weights: [n, n], of pairs, symmetric.

    Example:
        >>> laplacian(np.array([[0.0, 2.0], [2.0, 0.0]])).tolist()
        [[2.0, -2.0], [-2.0, 2.0]]
    """
    return np.diag(weights.sum(1)) - weights


def share_within(
    differences: Float[np.ndarray, "N d"], first: Int[np.ndarray, " N"], second: Int[np.ndarray, " N"]
) -> Float[np.ndarray, " d"]:
    """[d], the share of each feature's squared differences that no number per player explains; 1 without differences.

    Args:
        differences: [N, d], the differences of the sides' features.
        first, second: [N], the players.

    Example:
        >>> first, second, own = np.array([0, 1, 2] * 9), np.array([1, 2, 0] * 9), np.array([3.0, 1.0, -2.0])
        >>> noise = np.random.default_rng(0).normal(size=27)
        >>> share_within(np.c_[own[first] - own[second], noise], first, second).round(1).tolist()
        [0.0, 1.0]
    """
    none = np.zeros((len(differences), 0))
    freedom = max(len(differences) - int(max(first.max(), second.max())), 1) / len(differences)
    shares = np.ones(differences.shape[1])
    for k, column in enumerate(differences.T):
        total = float((column**2).sum())
        if total > 0:
            fit = contextual_bradley_terry(column, none, first, second, scale="log-odds")
            left = column - fit.scores[first] + fit.scores[second]
            shares[k] = min(float((left**2).sum()) / freedom / total, 1.0)
    return shares
