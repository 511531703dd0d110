"""Cycles of three that the prompts confirm, with a correction for how many there could be."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.special import stdtr

from nashward.errors import NashwardError

from ..shapes import Float

MIN_PROMPTS = 10  # of each pair: fewer signs cannot be significant among ten players
FEW = 50  # judged prompts of a pair, up to which its signs are drawn; beyond, Student's t agrees with them
CHUNK = 1000  # draws at once


@dataclass(frozen=True)
class Cycle:
    """A cycle of three: i beats j, j beats k, k beats i.

    Attributes:
        players: (i, j, k).
        p_value: the largest of its three pairs, times the number of pairs of players: the probability, at most, that
            players without any cycle seem to have one as clear.

    Example:
        >>> Cycle((0, 1, 2), p_value=0.003).players
        (0, 1, 2)
    """

    players: tuple[int, int, int]
    p_value: float


def significant_cycles(tables: np.ndarray, level: float = 0.05, draws: int = 20_000, seed: int = 0) -> list[Cycle]:
    """The cycles of three in a mean table that are no chance of the prompts, the clearest first.

    A cycle is there if all three of its pairs have a mean margin above 0, so its p-value is the largest of the three
    one-sided ones (an intersection-union test), by Bonferroni times the n (n - 1) / 2 pairs: of tables without a cycle
    at most ``level`` show one. A cycle in the mean alone says nothing: three equal players form one in a quarter of all
    cases. A pair with up to 50 judged prompts is tested by flipping the signs of its margins, which is exact if the
    margins of equal players are as likely positive as negative; beyond that by Student's t. With fewer than 10 prompts
    nothing is significant.

    Args:
        tables: [prompts, n, n] win probabilities, NaN where a pair was not judged.
        level: how many of the tables without a cycle may seem to have one.
        draws: of the signs, at least; more where there are many players.
        seed: of the draws.

    Raises:
        ValueError: tables of another shape, a level out of (0, 1), no draws.

    Source: Fisher 1935 (randomisation of signs); Berger 1982 (intersection-union); Kendall & Babington Smith 1940
        (cycles of three).

    Example:
        >>> ring = np.array([[0.5, 0.9, 0.1], [0.1, 0.5, 0.9], [0.9, 0.1, 0.5]])
        >>> [cycle.players for cycle in significant_cycles(np.stack([ring] * 12))]
        [(0, 1, 2)]
        >>> significant_cycles(np.stack([ring] * 5))
        []
    """
    if tables.ndim != 3 or tables.shape[1] != tables.shape[2] or not len(tables):
        raise NashwardError(f"tables have shape {tables.shape}; expected [prompts, n, n]")
    if not 0 < level < 1 or draws < 1:
        raise NashwardError(f"level must be in (0, 1) and draws at least 1, got {level} and {draws}")
    n = tables.shape[1]
    draws = max(draws, int(n * (n - 1) / level))  # so that a pair can be significant among so many
    if len(tables) < MIN_PROMPTS:
        return []
    p = np.minimum(_beats(tables - 0.5, draws, seed) * (n * (n - 1) / 2), 1.0)
    cycles = []
    for i, j, k in combinations(range(n), 3):
        for a, b, c in ((i, j, k), (i, k, j)):
            largest = float(max(p[a, b], p[b, c], p[c, a]))
            if largest <= level:
                cycles.append(Cycle((a, b, c), largest))
    return sorted(cycles, key=lambda cycle: cycle.p_value)


def _beats(margins: Float[np.ndarray, "N n n"], draws: int, seed: int) -> Float[np.ndarray, "n n"]:
    """One-sided p-values of "the mean margin of i over j is above 0"; 1 where too few prompts were judged."""
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
