"""Cycles of three that the bootstrap over prompts confirms."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np

from nashward.errors import NashwardError


@dataclass(frozen=True)
class Cycle:
    """A cycle of three: i beats j, j beats k, k beats i.

    Attributes:
        players: (i, j, k).
        share: of the bootstrap draws, those in which all three hold.

    Example:
        >>> Cycle((0, 1, 2), share=0.97).players
        (0, 1, 2)
    """

    players: tuple[int, int, int]
    share: float


def significant_cycles(tables: np.ndarray, share: float = 0.95, draws: int = 1000, seed: int = 0) -> list[Cycle]:
    """The cycles of three in a mean table that the bootstrap over prompts confirms, the most frequent first.

    A cycle in the mean alone is not significant: three equal players form one in a quarter of all cases.

    Args:
        tables: [prompts, n, n] win probabilities, NaN where a pair was not judged.
        share: of the draws, those in which the same cycle must occur.
        draws: of the prompts, with replacement.
        seed: of the draws.

    Raises:
        ValueError: tables of another shape, a share out of (0, 1], no draws.

    Source: Efron 1979 for the bootstrap; Kendall & Babington Smith 1940 for cycles of three.

    Example:
        >>> ring = np.array([[0.5, 0.9, 0.1], [0.1, 0.5, 0.9], [0.9, 0.1, 0.5]])
        >>> significant_cycles(np.stack([ring] * 5))
        [Cycle(players=(0, 1, 2), share=1.0)]
    """
    if tables.ndim != 3 or tables.shape[1] != tables.shape[2] or not len(tables):
        raise NashwardError(f"tables have shape {tables.shape}; expected [prompts, n, n]")
    if not 0 < share <= 1 or draws < 1:
        raise NashwardError(f"share must be in (0, 1] and draws at least 1, got {share} and {draws}")
    counts = np.random.default_rng(seed).multinomial(len(tables), np.full(len(tables), 1 / len(tables)), size=draws)
    # the sum of the margins has the sign of their mean; a pair without a judgement in a draw counts as a tie
    margins = np.nan_to_num(tables - 0.5).reshape(len(tables), -1)
    beats = (counts @ margins > 1e-12).reshape(draws, *tables.shape[1:])
    cycles = []
    for i, j, k in combinations(range(tables.shape[1]), 3):
        for players in ((i, j, k), (i, k, j)):
            a, b, c = players
            frequency = float((beats[:, a, b] & beats[:, b, c] & beats[:, c, a]).mean())
            if frequency >= share:
                cycles.append(Cycle(players, frequency))
    return sorted(cycles, key=lambda cycle: -cycle.share)
