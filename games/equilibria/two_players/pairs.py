"""Exact equilibria of n x m games: by the simplex method, else from the symmetric game, refined in the payoffs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import torch

from ...compiled.accelerator import ACCELERATED
from ...forms.symmetrize import margins
from ...shapes import Float
from ..pivoting import pivot_limit
from ..polish import GOOD
from .simplex import solve_pair, solve_pairs

SIMPLEX_ENTRIES = 1_500_000  # up to so many entries of a table the simplex method comes first

Policies: TypeAlias = tuple[Float[np.ndarray, " n"], Float[np.ndarray, " m"]]
Solve: TypeAlias = Callable[[Float[np.ndarray, "n n"], float], tuple[Float[np.ndarray, " n"], float, float]]
# The equilibrium policies of one game, the row player's payoff, the duality gap and the payoffs' span. A plain tuple:
# a NamedTuple takes a tenth of the time of a small game.
Pair: TypeAlias = tuple[Policies, float, float, float]


def exact_pair(U: Float[np.ndarray, "n m"], solve: Solve) -> Pair | None:
    """An equilibrium of one game; None where neither method finds one.

    Args:
        U: what the row player wins, contiguous.
        solve: solves the symmetric game where the simplex method gives up or is not compiled.
    """
    n, m = U.shape
    best, least = None, np.inf
    if ACCELERATED and n * m <= SIMPLEX_ENTRIES:
        row, column = np.empty(n), np.empty(m)
        value, gap, span = solve_pair(U, pivot_limit(n + m), GOOD, row, column)
        if gap <= GOOD * span:
            return (row, column), value, gap, span
        if gap == gap:
            best = _polished(U, row, column)
            least = best[2]
            if least <= GOOD * span:
                return best
    x = solve(margins(U), 0.0)[0]
    sides, masses = (x[:n], x[n:-1]), (x[:n].sum(), x[n:-1].sum())
    if min(masses) <= 0:
        return best
    other = _polished(U, *(side / mass for side, mass in zip(sides, masses, strict=True)))
    return other if best is None or other[2] < least else best


def exact_pairs(U: Float[np.ndarray, "games n m"], solve: Solve) -> list[Pair | None]:
    """``exact_pair`` of each game of a batch."""
    games, n, m = U.shape
    if not (ACCELERATED and n * m <= SIMPLEX_ENTRIES):
        return [exact_pair(one, solve) for one in U]
    row, column = np.empty((games, n)), np.empty((games, m))
    value, gap, span = np.empty(games), np.empty(games), np.empty(games)
    solve_pairs(U, pivot_limit(n + m), GOOD, row, column, value, gap, span)
    found = zip(zip(row, column, strict=True), value.tolist(), gap.tolist(), span.tolist(), strict=True)
    return [pair if pair[2] <= GOOD * pair[3] else exact_pair(one, solve) for pair, one in zip(found, U, strict=True)]


def _polished(U: Float[np.ndarray, "n m"], row: Float[np.ndarray, " n"], column: Float[np.ndarray, " m"]) -> Pair:
    span, gap = float(U.max() - U.min()), gap_of_pair(U, row, column)
    if gap > GOOD * span:
        row, column = polish_pair(U, row, column)
        gap = gap_of_pair(U, row, column)
    return (row, column), float(row @ U @ column), gap, span


def polish_pair(U: Float[np.ndarray, "n m"], row: Float[np.ndarray, " n"], column: Float[np.ndarray, " m"]) -> Policies:
    """The pair of policies on these supports against which all played actions pay the same, refined in U itself.

    A symmetric game of n + m + 1 actions divides the digits of the payoffs by its scale. Where the
    supports are of one size, the equations ``U_IJ q = v, 1'q = 1`` and those of the transposed table have one LU, and
    two corrections leave only rounding. Returns the given pair where that is no better.
    """
    rows, columns = np.flatnonzero(row > 0), np.flatnonzero(column > 0)
    if len(rows) != len(columns):
        return row, column
    k = len(rows)
    shift = float(U.min() + U.max()) / 2  # payoffs around 0 keep their digits
    system = np.ones((k + 1, k + 1))
    system[:k, :k], system[:k, k], system[k, k] = U[np.ix_(rows, columns)] - shift, -1.0, 0.0
    turned = system.copy()
    turned[:k, :k] = system[:k, :k].T
    found = []
    for matrix, size, support in ((turned, len(U), rows), (system, U.shape[1], columns)):
        lu, pivots, failed = torch.linalg.lu_factor_ex(torch.from_numpy(matrix))
        if int(failed):
            return row, column
        z, right = np.zeros(k + 1), np.zeros(k + 1)
        right[k] = 1.0
        for _ in range(3):
            residual = torch.from_numpy(right - matrix @ z)[:, None]
            z = z + torch.linalg.lu_solve(lu, pivots, residual)[:, 0].numpy()
        if not np.isfinite(z).all() or z[:k].min() < 0:
            return row, column
        policy = np.zeros(size)
        policy[support] = z[:k] / z[:k].sum()
        found.append(policy)
    better = gap_of_pair(U, *found) < gap_of_pair(U, row, column)
    return (found[0], found[1]) if better else (row, column)


def gap_of_pair(U: Float[np.ndarray, "n m"], row: Float[np.ndarray, " n"], column: Float[np.ndarray, " m"]) -> float:
    return float((U @ column).max() - (row @ U).min())
