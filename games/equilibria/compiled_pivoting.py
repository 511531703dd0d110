"""Pivoting as in ``pivoting.py`` for small games, one or many of any sizes; compiled (needs the accelerator)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..compiled.accelerator import compiled
from .closed_form import closed_form_one
from .pivoting import COVERED, INFEASIBLE, PIVOT
from .polish import DUST

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]


@compiled
def exchange(K: Array, q: Array, d: Array, basic: Flags, columns: Array, i: int, j: int) -> None:
    """Exchange the pairs i and j; ``columns`` is scratch space for two columns."""
    m, a, b = len(q), columns[0], columns[1]
    p = K[i, j]
    for k in range(m):
        a[k], b[k] = -K[i, k], -K[j, k]
    qi, qj, di, dj = q[i] / p, q[j] / p, d[i] / p, d[j] / p
    for k in range(m):
        q[k] += a[k] * qj - b[k] * qi
        d[k] += a[k] * dj - b[k] * di
    q[i], q[j], d[i], d[j] = qj, -qi, dj, -di
    for k in range(m):
        ak, bk = a[k] / p, b[k] / p
        if ak != 0.0 or bk != 0.0:
            for h in range(m):
                K[k, h] += bk * a[h] - ak * b[h]
        K[k, i], K[k, j] = bk, -ak
    for k in range(m):
        K[i, k], K[j, k] = -b[k] / p, a[k] / p
    K[i, i], K[j, j], K[i, j], K[j, i] = 0.0, 0.0, -1.0 / p, 1.0 / p
    basic[i], basic[j] = not basic[i], not basic[j]


@compiled
def solve_complementarity_one(
    K: Array, q: Array, d: Array, basic: Flags, columns: Array, pairs: int, pivots: int, z: Array
) -> float:
    """``solve_complementarity`` for one problem with the cover ``d``: fills ``z``.

    Returns:
        The least basic variable; NaN where the method gave up.
    """
    for _ in range(pivots + 1):
        lam, i = -1.0, -1
        for k in range(pairs):
            if q[k] < -INFEASIBLE and d[k] > COVERED and -q[k] > lam * d[k]:
                lam, i = -q[k] / d[k], k
        if i < 0:
            least = np.inf
            for k in range(pairs):
                z[k] = q[k] if basic[k] and q[k] > 0 else 0.0
                least = min(least, q[k])
            return least
        theta, j = np.inf, -1
        for k in range(pairs):
            if K[i, k] > PIVOT:
                ratio = max(q[k] + lam * d[k], 0.0) / K[i, k]
                if ratio < theta:
                    theta, j = ratio, k
        if j < 0:
            break
        exchange(K, q, d, basic, columns, i, j)
    return np.nan


@compiled
def pivot_one(P: Array, half: float, pivots: int, x: Array) -> float:
    """``pivot`` for one game of any scale with P - half skew: fills ``x``, not normalised; returns the least or NaN."""
    n = len(x)
    room, basic = np.empty((n + 5, n + 1)), np.zeros(n + 1, dtype=np.bool_)
    K, q, d, columns = room[: n + 1], room[n + 1], room[n + 2], room[n + 3 :]
    scale, best, first = 0.0, -np.inf, 0
    for k in range(n):
        total = 0.0
        for h in range(n):
            total += P[k, h] - half
            scale = max(scale, abs(P[k, h] - half))
        if total > best:
            best, first = total, k
    scale = -0.5 / scale if scale > 0 else 0.0
    for k in range(n):
        for h in range(n):
            K[k, h] = scale * (P[k, h] - half)
        K[k, n], K[n, k] = -1.0, 1.0
        q[k] = d[k] = 0.0
    K[n, n], q[n], d[n] = 0.0, -1.0, 0.0
    exchange(K, q, d, basic, columns, first, n)
    for k in range(n):
        d[k] = 1 + 0.37 * (np.sqrt(k + 2.0) * np.pi % 1.0)  # as in ``cover``
    d[n] = 0.0
    return solve_complementarity_one(K, q, d, basic, columns, n, pivots, x)


@compiled
def solve_game(P: Array, half: float, pivots: int, x: Array) -> tuple[float, float]:
    """One game with P - half skew, in closed form or by pivoting: fills ``x``; returns the least and the gap."""
    n = len(x)
    x[:] = 0.0
    least = closed_form_one(P, half, x) if n <= 3 else pivot_one(P, half, pivots, x)
    largest, total, gap = np.max(x), 0.0, -np.inf
    for k in range(n):
        if x[k] <= DUST * largest:
            x[k] = 0.0
        total += x[k]
    if total > 0:
        for k in range(n):
            x[k] /= total
    for k in range(n):
        payoff = 0.0
        for h in range(n):
            payoff += (P[k, h] - half) * x[h]
        gap = max(gap, payoff)
    return least, 2 * gap


@compiled
def solve_games(
    P: Array, half: float, sizes: NDArray[np.int64], pivots: int, x: Array, least: Array, gap: Array
) -> None:
    """``solve_game`` for the upper left corners of ``P`` [games, n, n]."""
    for game in range(len(P)):
        n = sizes[game]
        least[game], gap[game] = solve_game(P[game], half, pivots, x[game, :n])
