"""Principal pivoting on the skew matrix of a symmetric game: a vertex, for a batch of small games at once."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..shapes import Bool, Float, Int

INFEASIBLE, COVERED, PIVOT = 1e-13, 1e-12, 1e-11  # absolute: the margins are scaled to 1/2 first


def pivot_limit(n: int) -> int:
    """The largest number of pivots for a game of n actions; random games and tournaments take about 3 n."""
    return 20 * n + 50


@cache
def cover(n: int) -> NDArray[np.float64]:
    """A positive covering vector without ties, the same on every machine; not to be written to."""
    return 1 + 0.37 * np.modf(np.sqrt(np.arange(2.0, n + 2.0)) * np.pi)[0]


def pivot(A: Float[Tensor, "games n n"], pivots: int) -> tuple[Float[Tensor, "games n"], Float[Tensor, " games"]]:
    """A vertex of the equilibria of each skew game.

    .. math::  x \\ge 0, \\quad s = t 1 - A x \\ge 0, \\quad x^\\top s = 0, \\quad 1^\\top x = 1

    is the linear complementarity problem ``w = K z + q`` with ``K = [[-A, -1], [1', 0]]``, ``z = (x, -t)`` and
    ``q = (0, -1)``, which ``solve_complementarity`` solves from the action with the largest sum of margins.

    Args:
        A: [games, n, n], skew, scaled to entries of size at most about 1/2.
        pivots: give up on a game after so many (see ``pivot_limit``).

    Returns:
        ``x`` [games, n], and [games] the least basic variable: above 0 where the vertex is the only equilibrium,
        NaN where the method gave up on the game (no admissible pivot, or too many of them) and ``x`` means nothing.
    """
    n = A.shape[-1]
    K = torch.nn.functional.pad(-A, (0, 1, 0, 1))
    K[:, :n, n], K[:, n, :n] = -1.0, 1.0
    q = torch.zeros_like(K[..., :1])
    q[:, n] = -1.0
    first = A.sum(-1).argmax(-1)
    basic = torch.zeros_like(K[..., 0], dtype=torch.bool)
    q, basic = _exchange(K, q, basic, first, torch.full_like(first, n))
    z, least = solve_complementarity(
        K, q[..., 0], basic, n, pivots
    )  # the multiplier of 1'x = 1 is free: its pair stays
    return z[:, :n] / z[:, :n].sum(-1, keepdim=True), least


def solve_complementarity(
    K: Float[Tensor, "problems m m"],
    q: Float[Tensor, "problems m"],
    basic: Bool[Tensor, "problems m"],
    pairs: int,
    pivots: int,
) -> tuple[Float[Tensor, "problems m"], Float[Tensor, " problems"]]:
    """Solve ``w = K z + q, w >= 0, z >= 0, w'z = 0`` for skew K by a parametric complementary pivoting method.

    K stays skew, so pivots come in pairs: one rank-2 update exchanges two complementary pairs of variables. ``q`` is
    replaced by ``q + lambda d`` with ``d > 0``, and each pivot lowers lambda, until it is 0.

    Args:
        K: [problems, m, m], overwritten. q: [problems, m]. basic: [problems, m], whether z is the basic one of a pair.
        pairs: only the first so many pairs may pivot and must be feasible.
        pivots: give up on a problem after so many.

    Returns:
        ``z`` [problems, m], and [problems] the least basic variable, NaN where the method gave up.

    Source: Lemke 1965; Cottle & Dantzig 1968; Dantzig 1963 (self-dual parametric method); Cottle, Pang & Stone 1992.
    """
    solution, least = torch.zeros_like(q), torch.full_like(q[:, 0], torch.nan)
    which, open_ = torch.arange(len(q), device=q.device), torch.ones(len(q), dtype=torch.bool, device=q.device)
    d = torch.nn.functional.pad(torch.from_numpy(cover(pairs)).to(q), (0, q.shape[-1] - pairs)).expand_as(q)
    v = torch.stack([q, d], -1)
    for _ in range(pivots + 1):
        q, d = v.unbind(-1)
        height = torch.where((q < -INFEASIBLE) & (d > COVERED), -q / d, -1.0)
        lam, i = height[:, :pairs].max(-1)
        row = K[torch.arange(len(K), device=K.device), i]
        ratio = torch.where(row > PIVOT, (q + lam[:, None] * d).clamp_min(0) / row, torch.inf)
        theta, j = ratio[:, :pairs].min(-1)
        done, ray = open_ & (lam < 0), theta.isinf()
        if bool((done | ray).any()):
            solution[which[done]] = torch.where(basic, q, 0.0).clamp_min(0)[done]
            least[which[done]] = q[done, :pairs].amin(-1)
            open_ = open_ & ~(done | ray)
            if not bool(open_.any()):
                break
            if int(open_.sum()) < 0.9 * len(open_):  # finished problems pivot on without effect until they are dropped
                which, K, v, basic, i, j = (each[open_] for each in (which, K, v, basic, i, j))
                open_ = open_[open_]
        v, basic = _exchange(K, v, basic, i, j)
    return solution, least


def _exchange(
    K: Float[Tensor, "problems m m"],
    v: Float[Tensor, "problems m k"],
    basic: Bool[Tensor, "problems m"],
    i: Int[Tensor, " problems"],
    j: Int[Tensor, " problems"],
) -> tuple[Float[Tensor, "problems m k"], Bool[Tensor, "problems m"]]:
    """Exchange the pairs i and j of each problem: K in place; the new columns ``v`` [problems, m, .] and ``basic``."""
    at = torch.arange(len(K), device=K.device)
    a, b = K[at, i].neg(), K[at, j].neg()  # columns, by skewness
    p = b[at, i, None]
    vi, vj = v[at, i], v[at, j]
    a_p, b_p = a / p, b / p
    v = torch.baddbmm(v, torch.stack([a_p, -b_p], -1), torch.stack([vj, vi], 1))
    v[at, i], v[at, j] = vj / p, -vi / p
    K.baddbmm_(torch.stack([b, -a], -1), torch.stack([a_p, b_p], 1))
    K[at, :, i], K[at, i] = b_p, -b_p
    K[at, :, j], K[at, j] = -a_p, a_p
    K[at, i, j], K[at, j, i] = -1 / p[:, 0], 1 / p[:, 0]
    K[at, i, i], K[at, j, j] = 0.0, 0.0
    basic = basic.clone()
    basic[at, i] ^= True
    basic[at, j] ^= True
    return v, basic
