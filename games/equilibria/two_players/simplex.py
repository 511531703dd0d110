"""The simplex method for one n x m game, both players at once on one table, compiled (needs the accelerator).

.. math::  \\max 1^\\top y: V y \\le 1, y \\ge 0, \\qquad \\min 1^\\top x: V^\\top x \\ge 1, x \\ge 0

with V the payoffs, shifted and scaled to [1/4, 1/2]: x and y over their sums are equilibrium policies, and both sums
are one over the value. ``w = 1 - V y`` and ``r = V'x - 1`` are kept as ``w = b - T y`` and ``r = c + T'x``, so that one
T [n, m] serves both programs: where ``b >= 0`` and ``c >= 0`` both are solved. It starts at y = 0, where b = 1.

Source: Dantzig 1951; Tucker 1956 (the condensed table of both programs); Goldfarb & Reid 1977 (steepest edge); Dantzig,
Orden & Wolfe 1955 (ties of the ratios are broken as if b had been moved by an infinitesimal vector).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...compiled.accelerator import compiled
from ..pivoting import INFEASIBLE, PIVOT
from ..polish import DUST

Array = NDArray[np.float64]
Indices = NDArray[np.int64]

TIE = 1e-13  # ratios of b that differ by less are ties
NARROWEST = 1e-290  # payoffs that are closer together cannot be scaled up
ROUNDS = 3  # rounds of refinement


@compiled
def scaled(U: Array, low: float, span: float, flipped: bool, V: Array) -> None:
    """Fill V with the payoffs, scaled to [1/4, 1/2]; if flipped, the column player's actions become the rows."""
    factor = 0.25 / span
    n, m = V.shape
    for i in range(n):
        for j in range(m):
            V[i, j] = 0.5 - factor * (U[j, i] - low) if flipped else 0.25 + factor * (U[i, j] - low)


@compiled
def subtract_product(T: Array, left: Array, right: Array, squares: Array) -> None:
    """Subtract ``left right'`` from T; ``squares`` becomes 1 plus the sum of the squares of each column."""
    n, m = T.shape
    for h in range(m):
        squares[h] = 1.0
    k = 0
    while k + 4 <= n:  # four rows in one pass; numba does not vectorise a ``range`` loop here
        a, b, c, d = T[k], T[k + 1], T[k + 2], T[k + 3]
        p, q, r, s = left[k], left[k + 1], left[k + 2], left[k + 3]
        for h in range(m):
            v = right[h]
            a_, b_, c_, d_ = a[h] - p * v, b[h] - q * v, c[h] - r * v, d[h] - s * v
            a[h], b[h], c[h], d[h] = a_, b_, c_, d_
            squares[h] += (a_ * a_ + b_ * b_) + (c_ * c_ + d_ * d_)
        k += 4
    while k < n:
        a, p = T[k], left[k]
        for h in range(m):
            a_ = a[h] - p * right[h]
            a[h] = a_
            squares[h] += a_ * a_
        k += 1


@compiled
def pivot_table(T: Array, pivots: int, b: Array, c: Array, rows: Indices, columns: Indices, room: Array) -> bool:
    """Pivot T, given as V, until b and c are feasible; False on a ray or at the limit.

    ``rows`` and ``columns`` say whose variable stands where: k < n is that of row k, n + k that of column k. ``room``
    is scratch space, [2, n + m].
    """
    n, m = T.shape
    left, right, moved, squares = room[0, :n], room[0, n:], room[1, :n], room[1, n:]
    squares[:] = 1.0
    for k in range(n):
        b[k], rows[k] = 1.0, k
        turns = np.sqrt(k + 2.0) * np.pi
        moved[k] = 1 + 0.37 * (turns - np.floor(turns))  # as ``cover`` in pivoting.py
        for h in range(m):
            squares[h] += T[k, h] * T[k, h]
    for h in range(m):
        c[h], columns[h] = -1.0, n + h
    for _ in range(pivots + 1):
        j, steepest = -1, 0.0
        for h in range(m):
            if c[h] < -INFEASIBLE and c[h] * c[h] > steepest * squares[h]:
                j, steepest = h, c[h] * c[h] / squares[h]
        if j < 0:
            return True
        i, ratio, second = -1, np.inf, np.inf
        for k in range(n):
            left[k] = T[k, j]
            if left[k] > PIVOT:
                here = max(b[k], 0.0) / left[k]
                if here <= ratio + TIE:
                    then = moved[k] / left[k]
                    if here < ratio - TIE or then < second:
                        i, ratio, second = k, here, then
        if i < 0:
            return False
        p = left[i]
        for h in range(m):
            right[h] = T[i, h] / p
        right[j], left[i] = 1.0 / p, 0.0
        bi, moved_i, cj = b[i] / p, moved[i] / p, c[j]
        for k in range(n):
            b[k] -= left[k] * bi
            moved[k] -= left[k] * moved_i
            T[k, j] = 0.0
        for h in range(m):
            c[h] -= right[h] * cj
            T[i, h] = right[h]
        b[i], moved[i], c[j] = bi, moved_i, -cj / p
        subtract_product(T, left, right, squares)
        rows[i], columns[j] = columns[j], rows[i]
    return False


@compiled
def refine(V: Array, T: Array, rows: Indices, columns: Indices, x: Array, y: Array) -> None:
    """Correct x and y by their residuals in V: T holds the inverse of the equations on the supports."""
    n, m = V.shape
    by_row, by_column = np.ones(n), np.ones(m)
    for i in range(n):
        for j in range(m):
            by_row[i] -= V[i, j] * y[j]
            by_column[j] -= V[i, j] * x[i]
    for k in range(n):
        if rows[k] >= n:  # the y of a played column
            for h in range(m):
                if columns[h] < n:
                    y[rows[k] - n] += T[k, h] * by_row[columns[h]]
                    x[columns[h]] += T[k, h] * by_column[rows[k] - n]


@compiled
def normalised(weights: Array, policy: Array) -> None:
    """Fill ``policy`` with the weights above rounding, divided by their sum."""
    total, largest = 0.0, np.max(weights)
    for k in range(len(weights)):
        policy[k] = weights[k] if weights[k] > DUST * largest else 0.0
        total += policy[k]
    for k in range(len(weights)):
        policy[k] /= total


@compiled
def value_and_gap(U: Array, row: Array, column: Array, paid: Array) -> tuple[float, float]:
    """The row player's payoff and the duality gap of a pair, computed from differences to the first payoff.

    ``paid`` [m] is scratch space for what the row policy earns against each column.
    """
    n, m = U.shape
    origin, best, value = U[0, 0], -np.inf, 0.0
    paid[:] = 0.0
    for i in range(n):
        payoffs, earned, p = U[i], 0.0, row[i]
        for j in range(m):
            earned += (payoffs[j] - origin) * column[j]
        best, value = max(best, earned), value + p * earned
        if p > 0:
            for j in range(m):
                paid[j] += p * (payoffs[j] - origin)
    return origin + value, best - np.min(paid)


@compiled
def solve_pair(U: Array, pivots: int, good: float, row: Array, column: Array) -> tuple[float, float, float]:
    """An equilibrium of one game: fills ``row`` and ``column``.

    Args:
        U: [n, m], what the row player wins.
        pivots: give up after so many.
        good: a gap of at most this share of the span needs no refinement.

    Returns:
        The value, the duality gap of the pair, and the span of the payoffs; NaN for the first two where it gave up.
    """
    flipped = U.shape[0] > U.shape[1]  # the loops run over the longer side
    n, m = (U.shape[1], U.shape[0]) if flipped else U.shape
    low, high = U[0, 0], U[0, 0]
    for i in range(U.shape[0]):
        for j in range(U.shape[1]):
            low, high = min(low, U[i, j]), max(high, U[i, j])
    span = high - low
    if span <= NARROWEST and span > 0:
        return np.nan, np.nan, span
    scale = span if span > 0 else 1.0
    # Few arrays: in a small game, making one takes as long as a pivot.
    T, room, whose = np.empty((n, m)), np.empty((3, n + m)), np.empty(n + m, dtype=np.int64)
    rows, columns, b, c = whose[:n], whose[n:], room[2, :n], room[2, n:]
    scaled(U, low, scale, flipped, T)
    if not pivot_table(T, pivots, b, c, rows, columns, room):
        return np.nan, np.nan, span
    x, y, paid = room[0, :n], room[0, n:], room[1, : U.shape[1]]
    x[:], y[:] = 0.0, 0.0
    for k in range(n):
        if rows[k] >= n:
            y[rows[k] - n] = b[k]
    for h in range(m):
        if columns[h] < n:
            x[columns[h]] = c[h]
    first, second = (column, row) if flipped else (row, column)
    normalised(x, first)
    normalised(y, second)
    value, gap = value_and_gap(U, row, column, paid)
    if not gap > good * span:
        return value, gap, span
    V, better_row, better_column = np.empty((n, m)), np.empty_like(row), np.empty_like(column)
    scaled(U, low, scale, flipped, V)
    first, second = (better_column, better_row) if flipped else (better_row, better_column)
    for _ in range(ROUNDS):
        refine(V, T, rows, columns, x, y)
        normalised(x, first)
        normalised(y, second)
        better, less = value_and_gap(U, better_row, better_column, paid)
        if not less < gap:
            break
        value, gap, row[:], column[:] = better, less, better_row, better_column
    return value, gap, span


@compiled
def solve_pairs(
    U: Array, pivots: int, good: float, row: Array, column: Array, value: Array, gap: Array, span: Array
) -> None:
    """``solve_pair`` for each game of ``U`` [games, n, m]."""
    for game in range(len(U)):
        value[game], gap[game], span[game] = solve_pair(U[game], pivots, good, row[game], column[game])
