"""Scores fitted to wins: Bradley-Terry by maximum likelihood, Elo's scale, and whether scores explain the wins."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from nashward.errors import NashwardError

from ..forms.payoff_numbers import as_floats
from ..shapes import Float, Int
from ..solvers.schedule import check_whole

ELO = 400 / math.log(10)  # Elo points per nat
MOVED = 1e-7  # nats, in the last step of Newton's method
DUST = 1e-12  # of a variance that is 0 but for rounding
OUTCOMES = 5_000_000  # of pairs, drawn for one p-value
FEWEST, MOST = 1000, 10_000  # tables drawn
COUNTED = 10  # drawn tables that are further off, from which on their share is the p-value


def elo(scores: Any) -> Any:
    """Scores in nats on Elo's scale, 400 points per factor of 10 in the odds, with mean 1500.

    Args:
        scores: Bradley-Terry scores with mean 0; an array or a tensor.

    Example:
        >>> elo(np.array([0.0, 1.0])).round(1).tolist()
        [1500.0, 1673.7]
    """
    return 1500 + ELO * scores


@dataclass(frozen=True)
class Ratings:
    """Scores r with P(i beats j) = sigmoid(r_i - r_j), and the residual.

    Attributes:
        scores: [n], in nats, with mean 0 (of battles: over the models that fought enough).
        P: [n, n], the fitted probabilities.
        residual: [n, n], the share of wins minus P; 0 where a pair has not met.
        met: [n, n], the number of games of each pair, smoothing included.

    Source: Bradley & Terry 1952; Elo's scale, 400 points per factor of 10.

    Example:
        >>> fit = bradley_terry([[0, 10], [1, 0]])
        >>> fit.elo.round(decimals=1).tolist(), round(float(fit.P[0, 1]), 4)
        ([1700.0, 1300.0], 0.9091)
    """

    scores: Float[Tensor, " n"]
    P: Float[Tensor, "n n"]
    residual: Float[Tensor, "n n"]
    met: Float[Tensor, "n n"]

    @classmethod
    def of(cls, scores: Float[Tensor, " n"], wins: Float[Tensor, "n n"]) -> Ratings:
        """Of scores, beside the wins that they explain.

        Args:
            scores: [n], with mean 0.
            wins: [n, n], how often i beat j.

        Example:
            >>> wins = torch.tensor([[0.0, 3.0], [1.0, 0.0]], dtype=torch.float64)
            >>> Ratings.of(torch.zeros(2, dtype=torch.float64), wins).residual.tolist()
            [[0.0, 0.25], [-0.25, 0.0]]
        """
        met, p = wins + wins.T, torch.sigmoid(scores[:, None] - scores)
        share = wins / torch.where(met > 0, met, 1.0)
        return cls(scores, p, torch.where(met > 0, share - p, 0.0), met)

    @property
    def misfit_p_value(self) -> float:
        """How likely shares so far from P are if scores explain all: ``pearson_p_value``; NaN without spare pairs."""
        upper = torch.triu(self.met > 0, 1)
        met, p = self.met[upper].numpy(), self.P[upper].numpy()
        return pearson_p_value(met * self.residual[upper].numpy(), p, met, upper.nonzero().numpy())

    @property
    def elo(self) -> Float[Tensor, " n"]:
        """The scores on Elo's scale."""
        return elo(self.scores)


def bradley_terry(wins: Any, smoothing: float = 0.0, iterations: int = 200) -> Ratings:
    """The maximum-likelihood scores for a table of wins.

    .. math::  \\max_r \\sum_{ij} w_{ij} \\log \\sigma(r_i - r_j), \\qquad \\sum_i r_i = 0

    by Newton's method. Elo ratings are these scores on another scale (``Ratings.elo``), but independent of the order of
    games.

    Args:
        wins: [n, n], how often i beat j, ties as halves; a table of win probabilities counts as one game per pair.
        smoothing: games added to every pair (half wins, half losses), so that scores stay finite.
        iterations: the most iterations of Newton's method.

    Raises:
        ValueError: a count or a smoothing that is negative or not finite, or counts whose likelihood has no maximum:
            some players have never lost to (or never met) the others; smoothing above 0 helps. Iterations below 1.
        ArithmeticError: the scores still move after so many iterations.

    Source: Bradley & Terry 1952; Ford 1957 for when the maximum exists.

    Example:
        >>> fit = bradley_terry([[0, 3], [1, 0]])
        >>> round(float(fit.scores[0] - fit.scores[1]), 6), round(math.log(3), 6)
        (1.098612, 1.098612)
    """
    w = as_floats(wins).to(torch.float64, copy=True)
    if w.ndim != 2 or w.shape[0] != w.shape[1]:
        raise NashwardError(f"wins must be a table [n, n], got shape {[*w.shape]}")
    if not w.isfinite().all() or (w < 0).any():
        wrong = w[~(w.isfinite() & (w >= 0))][0]
        raise NashwardError(f"wins must be finite counts >= 0, got {float(wrong):g} among them")
    if not 0 <= smoothing < math.inf:
        raise NashwardError(f"smoothing is {smoothing!r:.40}; expected a number of games >= 0 to add to every pair")
    n = len(w)
    w.fill_diagonal_(0.0)
    w = w + smoothing / 2 * (1 - torch.eye(n, dtype=torch.float64))
    check_whole("iterations", iterations)
    if not has_maximum(w):
        raise NashwardError(
            "these wins have no Bradley-Terry scores: some players never lost to the others; give smoothing > 0"
        )
    r, moved = _newton(w, iterations, None)
    if not moved <= MOVED:
        raise ArithmeticError(
            f"Bradley-Terry scores still moved by {moved:.1e} nats in the last of {iterations} iterations; give more, "
            "or smoothing > 0"
        )
    return Ratings.of(r, w)


def scores(
    wins: Float[Tensor, "*batch n n"], iterations: int = 200, start: Float[Tensor, " n"] | None = None
) -> Float[Tensor, "*batch n"]:
    """Bradley-Terry scores [..., n] with mean 0 for tables of wins [..., n, n] whose likelihood has a maximum.

    Args:
        wins: [..., n, n], how often i beat j, ties as halves.
        iterations: the most iterations of Newton's method.
        start: [n], scores to start from; None: equal scores.

    Source: Bradley & Terry 1952.

    Example:
        >>> scores(torch.tensor([[0.0, 3.0], [1.0, 0.0]], dtype=torch.float64)).round(decimals=4)
        tensor([ 0.5493, -0.5493], dtype=torch.float64)
    """
    return _newton(wins, iterations, start)[0]


def _newton(
    wins: Float[Tensor, "*batch n n"], iterations: int, start: Float[Tensor, " n"] | None
) -> tuple[Float[Tensor, "*batch n"], float]:
    """Scores, and the largest move of one in the last step; after a small one the error is about its square."""
    n, met = wins.shape[-1], wins + wins.mT
    r = torch.zeros(wins.shape[:-1], dtype=torch.float64)
    if start is not None:
        r = r + start
    moved = math.inf
    for _ in range(iterations):
        p = torch.sigmoid(r.unsqueeze(-1) - r.unsqueeze(-2))
        slope = (wins - met * p).sum(-1)
        weight = met * p * (1 - p)
        step = torch.linalg.solve(torch.diag_embed(weight.sum(-1)) - weight + 1.0 / n, slope)
        step = step / step.abs().amax(-1, keepdim=True).clamp_min(1.0)
        r, moved = r + step, float(step.abs().max())
        if moved <= MOVED:
            break
    return r - r.mean(-1, keepdim=True), moved


def has_maximum(wins: Any, groups: bool = False) -> bool:
    """Whether the likelihood of a table of wins has a maximum: each player beat each other, directly or in a chain.

    Args:
        wins: [n, n], how often i beat j.
        groups: whether players may be in groups that never met, each of which has a maximum.

    Source: Ford 1957.

    Example:
        >>> has_maximum([[0, 3], [1, 0]]), has_maximum([[0, 3], [0, 0]])
        (True, False)
    """
    beats = np.asarray(wins) > 0
    met = int(connected_components(beats, directed=False)[0]) if groups else 1
    return int(connected_components(beats, directed=True, connection="strong")[0]) == met


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
    uncertain = variance > DUST  # a certain pair says nothing, and needs no scores
    misfit, p, met, players, variance = (each[uncertain] for each in (misfit, p, met, players, variance))
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

    Example:
        >>> basis, spare = standardised_incidence(np.array([[0, 1], [1, 2], [0, 2]]), np.ones(3))
        >>> basis.shape, spare  # of three pairs among three players two are fitted
        ((3, 2), 1)
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
