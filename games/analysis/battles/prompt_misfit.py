"""Whether battles are further from their fit than noise where several pairs met on the same prompts."""

from __future__ import annotations

import math

import numpy as np
from scipy.sparse import csr_matrix, hstack
from scipy.stats import chi2

from ...shapes import Float, Int
from ..pair_tests import MIN_PROMPTS
from ..ratings import DUST, standardised_incidence

LARGEST = 2000  # prompts whose products are one table


def prompt_misfit_p_value(
    won: Float[np.ndarray, " battles"],
    met: Float[np.ndarray, " battles"],
    p: Float[np.ndarray, " battles"],
    players: Int[np.ndarray, "battles 2"],
    prompt: Int[np.ndarray, " battles"],
    features: Float[np.ndarray, "battles d"],
) -> float:
    """How likely the pairs' wins are so far from what is fitted to them where a prompt has battles of several pairs.

    These battles depend on each other: a judge who likes the short response of three likes it twice. The statistic is
    Pearson's, and its distribution that over signs of whole prompts,

    .. math::  X^2 = \\Big| \\sum_g z_g \\Big|^2, \\quad z_g = V^{-1/2} (u_g - C I^{-1} s_g), \\qquad
        E X^2 = \\sum_g |z_g|^2, \\quad \\operatorname{Var} X^2 = 2 \\sum_{g \\ne h} (z_g \\cdot z_h)^2

    with u_g the residuals of prompt g by pair and V their binomial variance. The fit follows the slopes s_g of a
    prompt's log-likelihood (their sum is 0) with their information I, and the residuals follow the fit by C. In the
    mean and variance a residual is divided by sqrt(1 - leverage), since the fit was drawn to it. The p-value is that of
    the scaled chi-squared with this mean and variance; for many independent battles they are those of as many degrees
    of freedom as there are pairs less parameters. Ties, tastes and battles of a pair that a prompt repeats (they are
    one here) are in the z_g, so that no dispersion is estimated.

    Of fewer than ten prompts the signs are too few. One factor for all pairs (Rao & Scott's first order) would accuse
    too many where the prompts move few directions, as circles that all go one way.

    Args:
        won, met: [battles], the wins of a pair's first player, and of how many.
        p: [battles], its win probability, fitted by maximum likelihood.
        players: [battles, 2], the pair, the smaller number first.
        prompt: [battles], a number of each prompt.
        features: [battles, d], what was fitted beside the scores, as the first player's less the second's.

    Returns:
        the p-value; NaN (not tested) of fewer than 10 prompts, or without pairs beyond those that scores need.

    Source: Pearson 1900; Rao & Scott 1984 (dependent counts); Satterthwaite 1946; Cameron, Gelbach & Miller 2008 (signs
    of clusters); MacKinnon & White 1985 (leverages, HC2).

    Example:
        >>> circle, prompt = np.tile([[0, 1], [1, 2], [0, 2]], (40, 1)), np.repeat(np.arange(40), 3)
        >>> won, one = np.where((prompt < 30) == (circle[:, 1] - circle[:, 0] == 1), 1.0, 0.0), np.ones(120)
        >>> prompt_misfit_p_value(won, one, one / 2, circle, prompt, np.zeros((120, 0))) < 0.01  # 30 go the same way
        True
    """
    (i, j), n = players.T, int(players.max()) + 1
    pairs, pair = np.unique(i * n + j, return_inverse=True)
    pair, prompt = pair.reshape(-1), np.unique(prompt, return_inverse=True)[1].reshape(-1)
    record = np.unique(prompt * len(pairs) + pair, return_inverse=True)[1].reshape(-1)
    misfit, variance, share = won - met * p, met * p * (1 - p), 1 / np.bincount(record, met)[record]
    of_pair = np.maximum(np.bincount(pair, share * variance), DUST)
    prompts, spare = int(prompt.max()) + 1, standardised_incidence(np.stack([pairs // n, pairs % n], 1), of_pair)[1]
    if prompts < MIN_PROMPTS or spare <= 0:
        return math.nan
    battles, one = np.arange(len(pair)), np.ones(len(pair))
    scores = csr_matrix((np.r_[one, -one], (np.r_[battles, battles], np.r_[i, j])), (len(pair), n))
    design = csr_matrix(hstack([scores, csr_matrix(features)]))  # the derivatives of the log-odds
    inverse = _inverse((design.multiply(variance[:, None]).T @ design).toarray())
    unit = share / np.sqrt(of_pair)[pair]
    by_fit = (csr_matrix((unit * variance, (pair, battles)), (len(pairs), len(pair))) @ design) @ inverse
    statistic = float((np.bincount(pair, unit * misfit) ** 2).sum())

    of_scores, across, of_features = np.diag(inverse), inverse[:, n:], inverse[n:, n:]
    leverage = variance * (
        of_scores[i] + of_scores[j] - 2 * inverse[i, j]
        + (features * (2 * (across[i] - across[j]) + features @ of_features)).sum(1)
    )  # fmt: skip
    apart = misfit / np.sqrt(np.maximum(1 - leverage, 0.1))
    u = csr_matrix((unit * apart, (prompt, pair)), (prompts, len(pairs)))
    s = csr_matrix((apart, (prompt, battles)), (prompts, len(pair))) @ design
    mean, squares = _products(u, s, by_fit)
    if mean < DUST or squares < DUST * mean**2:  # ties alone, or prompts of nothing in common
        return 1.0
    factor = squares / mean  # factor * chi2(mean / factor) has this mean, and twice the squares as its variance
    return float(chi2.sf(statistic / factor, mean / factor))


def _inverse(information: Float[np.ndarray, "p p"]) -> Float[np.ndarray, "p p"]:
    """The pseudo-inverse, up to what no battle moves: the mean of the scores in each group, features of no response."""
    root = np.sqrt(np.maximum(np.diag(information), DUST))
    values, vectors = np.linalg.eigh(information / np.outer(root, root))  # on one scale
    free = values > 1e-10 * values[-1]
    return (vectors[:, free] / values[free]) @ vectors[:, free].T / np.outer(root, root)


def _products(u: csr_matrix, s: csr_matrix, by_fit: Float[np.ndarray, "pairs p"]) -> tuple[float, float]:
    """The sum of the squares |z|^2 of ``z = u - s @ by_fit.T``, and that of the squared products of two different rows.

    z is not made: its products are those of u, which is sparse, and others of low rank.
    """
    square = by_fit.T @ by_fit
    some = [(u[k : k + LARGEST], s[k : k + LARGEST]) for k in range(0, u.shape[0], LARGEST)]
    own = np.concatenate([
        np.asarray(a.multiply(a).sum(1) + b.multiply(b @ square - 2 * (a @ by_fit)).sum(1)).reshape(-1) for a, b in some
    ])  # fmt: skip
    if len(own) <= LARGEST:
        across = s @ (u @ by_fit).T
        total = (((u @ u.T).toarray() - across - across.T + s @ (s @ square).T) ** 2).sum()
        return float(own.sum()), float(total - (own**2).sum())
    between, slopes, p = (u.T @ u).tocsr(), (s.T @ s).toarray(), by_fit.shape[1]
    low = np.c_[by_fit, (u.T @ s).toarray()]
    form = np.block([[slopes, -np.eye(p)], [-np.eye(p), np.zeros((p, p))]])
    moved = (low.T @ low) @ form
    total = between.multiply(between).sum() + 2 * np.trace((low.T @ (between @ low)) @ form) + np.trace(moved @ moved)
    return float(own.sum()), float(total - (own**2).sum())
