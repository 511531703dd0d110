"""Games of mixed kinds and sizes, degenerate ones included, each from one seed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
SIZES = (1, 2, 3, 4, 5, 6, 8, 11, 16, 25, 40)


def _skew(upper: Array) -> Array:
    upper = np.triu(upper, 1)
    return upper - upper.T


def _scaled(A: Array) -> Array:
    return A / max(2 * np.abs(A).max(), 1e-12)


def uniform(rng: np.random.Generator, n: int) -> Array:
    return _skew(rng.uniform(-0.5, 0.5, size=(n, n)))


def tournament_with_ties(rng: np.random.Generator, n: int) -> Array:
    return _skew(rng.integers(-1, 2, size=(n, n)) / 2)


def integers(rng: np.random.Generator, n: int) -> Array:
    return _skew(rng.integers(-5, 6, size=(n, n)) / 10)


def all_ties(rng: np.random.Generator, n: int) -> Array:
    return np.zeros((n, n))


def duplicated_actions(rng: np.random.Generator, n: int) -> Array:
    who = rng.integers(0, n, size=n)
    return uniform(rng, n)[np.ix_(who, who)]


def condorcet_winner_with_ties(rng: np.random.Generator, n: int) -> Array:
    A = uniform(rng, n)
    A[0] = np.abs(A[0]) * rng.integers(0, 2, size=n)
    A[:, 0] = -A[0]
    return A


def rank_four(rng: np.random.Generator, n: int) -> Array:
    left, right = rng.normal(size=(2, n, 2))
    return _scaled(left @ right.T - right @ left.T)


def tiny_margins(rng: np.random.Generator, n: int) -> Array:
    return uniform(rng, n) * 1e-6


def nearly_duplicated_actions(rng: np.random.Generator, n: int) -> Array:
    who = rng.integers(0, max(1, n // 2), size=n)
    return _scaled(uniform(rng, n)[np.ix_(who, who)] + _skew(rng.normal(size=(n, n)) * 1e-8))


def strengths_and_cycles(rng: np.random.Generator, n: int) -> Array:
    strength, (left, right) = rng.normal(size=n), rng.normal(size=(2, n, 3))
    cycles = (left @ right.T - right @ left.T) / np.sqrt(3)
    return 1 / (1 + np.exp(strength[None] - strength[:, None] - cycles)) - 0.5


KINDS: tuple[Callable[[np.random.Generator, int], Array], ...] = (
    uniform,
    tournament_with_ties,
    integers,
    all_ties,
    duplicated_actions,
    condorcet_winner_with_ties,
    rank_four,
    tiny_margins,
    nearly_duplicated_actions,
    strengths_and_cycles,
)


def margins(seed: int) -> Array:
    """The margins P - 1/2 of the game with this number; kinds and sizes alternate."""
    rng = np.random.default_rng(seed)
    return KINDS[seed % len(KINDS)](rng, int(rng.choice(SIZES)))
