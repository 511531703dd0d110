"""Cycles of three that the prompts confirm, with a correction for how many there could be."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nashward.errors import NashwardError

from ..shapes import Float
from .pair_tests import MIN_PROMPTS, pair_p_values


@dataclass(frozen=True)
class Cycle:
    """A cycle of three: i beats j, j beats k, k beats i.

    Attributes:
        players: (i, j, k).
        p_value: the largest of its three pairs, times the number of pairs of players: the probability, at most, that
            players without any cycle seem to have one as clear.
        floor: the least p-value that the draws of the signs can give; 0: there were none.

    Example:
        >>> Cycle((0, 1, 2), p_value=0.003).players
        (0, 1, 2)
    """

    players: tuple[int, int, int]
    p_value: float
    floor: float = 0.0


def significant_cycles(tables: np.ndarray, level: float = 0.05, draws: int = 20_000, seed: int = 0) -> list[Cycle]:
    """The cycles of three in a mean table that are no chance of the prompts, the clearest first.

    A cycle is there if all three of its pairs have a mean margin above 0, so its p-value is the largest of the three
    one-sided ones (an intersection-union test), by Bonferroni times the n (n - 1) / 2 pairs: of tables without a cycle
    at most ``level`` show one. A cycle in the mean alone says nothing: three equal players form one in a quarter of all
    cases. Pairs are tested as ``pair_p_values`` does; with fewer than 10 prompts nothing is significant.

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
    return cycles_below(pair_p_values(tables, draws, seed), level, draws)


def cycles_below(p: Float[np.ndarray, "n n"], level: float, draws: int | None = None) -> list[Cycle]:
    """The cycles of three whose three pairs all have p-values up to the level, the clearest first.

    Args:
        p: [n, n], of "i beats j", which are corrected here for how many pairs there are (Bonferroni).
        level: the largest.
        draws: of the signs that they are of; None: of another test.

    Source: Berger 1982 (intersection-union); Kendall & Babington Smith 1940 (cycles of three).

    Example:
        >>> p = np.array([[1.0, 0.002, 1.0], [1.0, 1.0, 0.005], [0.01, 1.0, 1.0]])
        >>> cycles_below(p, 0.05)
        [Cycle(players=(0, 1, 2), p_value=0.03, floor=0.0)]
    """
    pairs = len(p) * (len(p) - 1) / 2
    p = np.minimum(p * pairs, 1.0)
    floor = 0.0 if draws is None else pairs / (draws + 1)
    beats = p <= level
    cycles = []
    for i, j in np.argwhere(beats):
        if i < j:  # of a cycle's three beginnings the least player
            for k in np.flatnonzero(beats[j] & beats[:, i]):
                if k > i:
                    largest = float(max(p[i, j], p[j, k], p[k, i]))
                    cycles.append(Cycle((int(i), int(j), int(k)), largest, floor))
    return sorted(cycles, key=lambda cycle: cycle.p_value)
