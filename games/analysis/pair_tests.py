"""Which pairs of players the prompts tell apart, and whether one of the players beats all others beyond noise."""

from __future__ import annotations

import numpy as np
from scipy.special import stdtr

from ..shapes import Float

MIN_PROMPTS = 10  # of each pair: fewer signs cannot be significant among ten players
FEW = 50  # judged prompts of a pair, up to which its signs are drawn; beyond, Student's t agrees with them
CHUNK = 1000  # draws at once


def winner_p_value(tables: Float[np.ndarray, "N n n"], winner: int, draws: int = 20_000, seed: int = 0) -> float:
    """How likely, at most, a player seems to beat every other one as clearly where none of the players does.

    The winner has to beat each of the others, so the p-value is the largest of its n - 1 (an intersection-union test),
    by Bonferroni times the n players of which any could have seemed the winner.

    Args:
        tables: [prompts, n, n] win probabilities, NaN where a pair was not judged.
        winner: the player, as the Condorcet winner of the mean table.
        draws: of the signs, see ``pair_p_values``.
        seed: of the draws.

    Returns:
        the p-value, at most 1; 1 with fewer than ten prompts.

    Source: Berger 1982 (intersection-union tests).

    Example:
        >>> better = np.array([[0.5, 0.8], [0.2, 0.5]])
        >>> winner_p_value(np.stack([better] * 12), 0) < 0.01, winner_p_value(np.stack([better] * 5), 0)
        (True, 1.0)
    """
    n = tables.shape[1]
    others = np.delete(pair_p_values(tables, draws, seed)[winner], winner)
    return float(min(1.0, n * others.max())) if n > 1 else 1.0


def pair_p_values(tables: Float[np.ndarray, "N n n"], draws: int = 20_000, seed: int = 0) -> Float[np.ndarray, "n n"]:
    """One-sided p-values of "i beats j on average", [n, n]; 1 on the diagonal and where too few prompts were judged.

    A pair with up to 50 judged prompts is tested by flipping the signs of its margins, which is exact if the margins of
    equal players are as likely positive as negative; beyond that by Student's t. Ten prompts are the least.

    Args:
        tables: [prompts, n, n] win probabilities, NaN where a pair was not judged.
        draws: of the signs.
        seed: of the draws.

    Source: Fisher 1935 (randomisation of signs); Student 1908.

    Example:
        >>> better = np.array([[0.5, 0.8], [0.2, 0.5]])
        >>> pair_p_values(np.stack([better] * 12)).round(3).tolist()
        [[1.0, 0.0], [1.0, 1.0]]
    """
    margins = tables - 0.5
    n = margins.shape[1]
    judged = (~np.isnan(margins)).sum(0)
    filled = np.nan_to_num(margins)
    sums, p = filled.sum(0), np.ones((n, n))
    upper, lower = np.triu_indices(n, 1)
    enough = judged[upper, lower] >= MIN_PROMPTS
    few = enough & (judged[upper, lower] <= FEW)
    for i, j in zip(upper[enough & ~few], lower[enough & ~few], strict=True):
        own = margins[:, i, j][~np.isnan(margins[:, i, j])]
        error = own.std(ddof=1) / len(own) ** 0.5
        if error > 0:
            p[i, j] = stdtr(len(own) - 1, -own.mean() / error)
        else:  # all margins are the same
            p[i, j] = 0.0 if own[0] > 0 else 1.0 if own[0] < 0 else 0.5
        p[j, i] = 1 - p[i, j]
    if few.any():
        i, j = upper[few], lower[few]
        values, observed = filled[:, i, j], np.abs(sums[i, j])
        random, beyond = np.random.default_rng(seed), np.zeros(len(i))
        for begin in range(0, draws, CHUNK):
            signs = random.integers(0, 2, (min(CHUNK, draws - begin), len(values))) * 2.0 - 1
            # one-sided: the flipped sums are symmetric, so those of both signs are counted, and halved
            beyond += (np.abs(signs @ values) >= observed - 1e-9).sum(0) / 2
        tail = (beyond + 1) / (draws + 1)
        ahead = sums[i, j] > 0
        p[i, j], p[j, i] = np.where(ahead, tail, 1.0), np.where(ahead, 1.0, tail)
    return p
