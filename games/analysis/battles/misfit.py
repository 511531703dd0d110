"""Whether battles are further from what is fitted to them than noise: cycles, and whatever else a fit leaves out."""

from __future__ import annotations

import math

import numpy as np

from ...shapes import Float, Int
from ..ratings import pearson_p_value

ENOUGH = 5  # battles of a pair, in the harmonic mean: of fewer the chi-squared of a few pairs accuses too often
MANY = 10  # pairs to spare, whose sum is near the chi-squared also where each pair met once or twice
DUST = 1e-12  # of a variance or a dispersion that is 0 but for rounding


def misfit_p_value(
    won: Float[np.ndarray, " battles"],
    met: Float[np.ndarray, " battles"],
    p: Float[np.ndarray, " battles"],
    pair: Int[np.ndarray, " battles"],
    record: Int[np.ndarray, " battles"] | None,
    fitted: int,
) -> float:
    """How likely the pairs' wins are so far from what is fitted to them, by Pearson's chi-squared: ``pearson_p_value``.

    Its degrees of freedom are the pairs that met less ``fitted``. Battles of one record are one battle here, since they
    repeat each other. The variance of an outcome is that of these battles, which is less than p (1 - p) where there are
    ties: p (1 - p) times one factor, their dispersion.

    Args:
        won, met: [battles], the wins of a pair's first player, and of how many.
        p: [battles], its fitted win probability.
        pair: [battles], a number of each pair.
        record: [battles], a number of each record; None: counts of battles, of which nothing else is known.
        fitted: numbers of the fit: for n models n - 1, less one for each further group of models that never met the
            others, and one for each feature of style.

    Returns:
        the p-value; NaN (not tested) without pairs to spare, or with fewer than 10 of them where pairs have less than
        5 battles in the harmonic mean.

    Source: Pearson 1900, see ``pearson_p_value``.

    Example:
        >>> pair = np.repeat([0, 1, 2], 40)  # of three players, who win 3 of 4 in a circle
        >>> won, one = np.tile([1.0, 1.0, 1.0, 0.0], 30), np.ones(120)
        >>> misfit_p_value(won, one, one / 2, pair, np.arange(120), fitted=2) < 1e-6
        True
    """
    pair = np.unique(pair, return_inverse=True)[1].reshape(-1)
    known = record is not None
    if record is None:
        record, share = np.arange(len(won)), np.ones(len(won))
    else:
        record = np.unique(record, return_inverse=True)[1].reshape(-1)
        share = 1 / np.bincount(record, met)[record]
    misfit = np.bincount(record, share * (won - met * p))
    # few battles may be fitted exactly, which leaves them no variance
    variance = np.maximum(np.bincount(record, share * met * p * (1 - p)), DUST)
    spare = len(misfit) - fitted
    dispersion = float((misfit**2 / variance).sum()) / spare if known and spare > 0 else 1.0
    if dispersion < DUST:  # ties alone
        return 1.0
    at = np.empty(len(misfit), dtype=np.int64)
    at[record] = pair
    games = np.bincount(at, np.bincount(record, share * met))
    spread = dispersion * np.bincount(at, variance)
    to_spare = len(games) - fitted
    if to_spare < MANY and ENOUGH * (1 / games).mean() > 1 + 1e-9:
        return math.nan
    return pearson_p_value(np.bincount(at, misfit), spread, games, to_spare)
