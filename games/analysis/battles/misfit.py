"""Whether battles are further from what is fitted to them than noise: cycles, and whatever else a fit leaves out."""

from __future__ import annotations

import math

import numpy as np

from ...shapes import Float, Int
from ..ratings import DUST, pearson_p_value, standardised_incidence
from .prompt_misfit import prompt_misfit_p_value

ENOUGH = 5  # battles of a pair, in the harmonic mean: of fewer the chi-squared of a few pairs accuses too often
MANY = 10  # pairs to spare, whose sum is near the chi-squared also where each pair met once or twice


def misfit_p_value(
    won: Float[np.ndarray, " battles"],
    met: Float[np.ndarray, " battles"],
    p: Float[np.ndarray, " battles"],
    players: Int[np.ndarray, "battles 2"],
    prompt: Int[np.ndarray, " battles"] | None,
    features: Float[np.ndarray, "battles d"],
) -> float:
    """How likely the pairs' wins are so far from what is fitted to them, by Pearson's chi-squared: ``pearson_p_value``.

    Battles of a pair on one prompt are one battle here, since they repeat each other. The variance of the outcomes is
    that of these battles, which is less than p (1 - p) where there are ties: p (1 - p) times one factor, their
    dispersion. Without prompts each battle is on its own, and a record of several is of battles that went alike.
    Battles of different pairs on one prompt depend on each other, which no factor has for all: where there are any,
    the test is ``prompt_misfit_p_value``.

    Args:
        won, met: [battles], the wins of a pair's first player, and of how many.
        p: [battles], its fitted win probability.
        players: [battles, 2], the pair, the smaller number first.
        prompt: [battles], a number of each prompt; None: each battle is on its own.
        features: [battles, d], what was fitted beside the scores, as the first player's less the second's.

    Returns:
        the p-value; NaN (not tested) without pairs beyond those that scores need, or with fewer than 10 of them where
        pairs have less than 5 battles in the harmonic mean; of battles that share fewer than 10 prompts.

    Source: Pearson 1900, see ``pearson_p_value``.

    Example:
        >>> pairs = np.repeat([[0, 1], [1, 2], [0, 2]], 40, axis=0)  # of three players, who win 3 of 4 in a circle
        >>> won, one = np.r_[np.tile([1.0, 1.0, 1.0, 0.0], 20), np.tile([0.0, 0.0, 0.0, 1.0], 10)], np.ones(120)
        >>> misfit_p_value(won, one, one / 2, pairs, np.arange(120), np.zeros((120, 0))) < 1e-6
        True
    """
    n = int(players.max()) + 1
    keys, pair = np.unique(players[:, 0] * n + players[:, 1], return_inverse=True)
    pairs, pair = np.stack([keys // n, keys % n], 1), pair.reshape(-1)
    if prompt is None:
        record, share = np.arange(len(won)), np.ones(len(won))
    else:
        known, group = np.unique(prompt, return_inverse=True)
        record = np.unique(group.reshape(-1) * len(keys) + pair, return_inverse=True)[1].reshape(-1)
        if record.max() >= len(known):  # several pairs met on one
            return prompt_misfit_p_value(won, met, p, players, prompt, features)
        share = 1 / np.bincount(record, met)[record]
    misfit = np.bincount(record, share * (won - met * p))
    # few battles may be fitted exactly, which leaves them no variance
    variance = np.maximum(np.bincount(record, share * met * p * (1 - p)), DUST)
    at = np.empty(len(misfit), dtype=np.int64)
    at[record] = pair
    games, of_pair = np.bincount(at, np.bincount(record, share * met)), np.bincount(at, variance)
    incidence, spare = standardised_incidence(pairs, of_pair)
    if spare <= 0 or (spare < MANY and ENOUGH * (1 / games).mean() > 1 + 1e-9):
        return math.nan
    design = 1.0
    if prompt is not None or ((won > 0) & (won < met)).any():  # wins and losses alone have the binomial variance
        left = (met.sum() if prompt is None else len(misfit)) - incidence.shape[1]  # battles beyond the fitted scores
        if left <= 0:
            return math.nan
        design = float((misfit**2 / variance).sum()) / left
    if design < DUST:  # ties alone
        return 1.0
    # with style p differs between the battles of a pair: the probability with their mean variance
    lead = np.sqrt(0.25 - np.clip(of_pair / games, 0, 0.25))
    ahead = np.bincount(pair, met * (p - 0.5)) >= 0
    return pearson_p_value(np.bincount(at, misfit), 0.5 + np.where(ahead, lead, -lead), games, pairs, design=design)
