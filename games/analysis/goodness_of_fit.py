"""Whether scores explain a table of wins: Pearson's chi-squared, held against tables that they do explain."""

from __future__ import annotations

import math

import numpy as np

from ..shapes import Float, Int

DUST = 1e-12  # of a variance that is 0 but for rounding
OUTCOMES = 5_000_000  # of pairs, drawn for one p-value
FEWEST, MOST = 1000, 10_000  # tables drawn
COUNTED = 10  # drawn tables that are further off, from which on their share is the p-value


def pearson_p_value(
    misfit: Float[np.ndarray, " pairs"], p: Float[np.ndarray, " pairs"], met: Float[np.ndarray, " pairs"],
    players: Int[np.ndarray, "pairs 2"], *, design: float = 1.0, seed: int = 0,
) -> float:  # fmt: skip
    """How likely the pairs' wins are so far from those of fitted Bradley-Terry scores: Pearson's chi-squared.

    .. math::  X^2 = \\sum_k \\frac{(w_k - n_k p_k)^2}{d \\, n_k p_k (1 - p_k)}

    Its distribution is that of drawn tables, w_k binomial of n_k and p_k, to which the scores are fitted again by one
    step of Fisher's scoring. Of large counts it is the chi-squared with as many degrees of freedom as pairs beyond the
    fitted scores; where pairs met rarely, or one of two nearly always wins, it is not. Where fewer than ten of the
    drawn tables are further off, the tail is that of the scaled chi-squared with their mean and variance, or of the
    chi-squared where that is larger.

    Args:
        misfit: [pairs], wins minus expected wins.
        p: [pairs], the fitted win probability of the first player.
        met: [pairs], the number of games.
        players: [pairs, 2], who met.
        design: d, by how much the wins vary more than binomial ones (less, where there are ties).
        seed: of the drawn tables.

    Returns:
        the p-value; NaN without pairs beyond those that the scores need.

    Source: Pearson 1900; Rao & Scott 1984 (the design effect); Davison & Hinkley 1997, section 4.2 (drawn tables);
    Satterthwaite 1946 (the scaled chi-squared).

    Example:
        >>> circle = np.array([[0, 1], [1, 2], [2, 0]])
        >>> round(pearson_p_value(np.full(3, 5.0), np.full(3, 0.5), np.full(3, 40.0), circle), 2)
        0.01
    """
    from scipy.stats import chi2

    variance = met * p * (1 - p)
    open_ = variance > DUST  # a pair that is certain says nothing, and needs no scores
    misfit, p, met, players, variance = misfit[open_], p[open_], met[open_], players[open_], variance[open_]
    incidence, spare = standardised_incidence(players, variance)
    if spare <= 0:
        return math.nan
    statistic = float((misfit**2 / variance).sum()) / design
    games = np.maximum(np.rint(met), 1)
    random, root = np.random.default_rng(seed), np.sqrt(games * p * (1 - p))
    draws = int(np.clip(OUTCOMES // len(p), FEWEST, MOST))
    drawn = np.empty(draws)
    for start in range(0, draws, FEWEST):
        some = drawn[start : start + FEWEST]
        z = (random.binomial(games.astype(np.int64), p, (len(some), len(p))) - games * p) / root
        some[:] = (z**2).sum(1) - ((z @ incidence) ** 2).sum(1)
    further = int((drawn >= statistic * (1 - 1e-9)).sum())
    if further >= COUNTED:
        return (1 + further) / (1 + draws)
    factor = float(drawn.var() / (2 * drawn.mean()))
    tail = max(float(chi2.sf(statistic / factor, drawn.mean() / factor)), float(chi2.sf(statistic, spare)))
    return min(tail, (1 + COUNTED) / (1 + draws))


def standardised_incidence(
    players: Int[np.ndarray, "pairs 2"], variance: Float[np.ndarray, " pairs"]
) -> tuple[Float[np.ndarray, "pairs rank"], int]:
    """An orthonormal basis of what scores can fit of residuals divided by their standard deviations.

    Args:
        players: [pairs, 2], who met.
        variance: [pairs], of the wins.

    Returns:
        [pairs, rank], and how many pairs there are beyond the rank.
    """
    if not len(players):
        return np.zeros((0, 0)), 0
    index = np.unique(players, return_inverse=True)[1].reshape(players.shape)
    root, n = np.sqrt(variance), int(index.max()) + 1
    incidence = np.zeros((len(root), n))
    incidence[np.arange(len(root)), index[:, 0]] = root
    incidence[np.arange(len(root)), index[:, 1]] = -root
    values, vectors = np.linalg.eigh(incidence.T @ incidence)
    fitted = values > 1e-10 * values[-1]
    return incidence @ (vectors[:, fitted] / np.sqrt(values[fitted])), len(root) - int(fitted.sum())
