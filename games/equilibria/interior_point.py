"""A self-dual interior point for symmetric games: one factorisation per iteration, to the middle of all equilibria."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ..shapes import Float

ITERATIONS = 60
TINY = 1e-300


def central_path(
    A: Float[Tensor, "games n n"], *, single: bool = False
) -> Iterator[tuple[Float[Tensor, "games n"], Float[Tensor, "games n"]]]:
    """Iterates (x, s) towards the centre of the equilibria of each skew game.

    .. math::  s = t 1 - A x, \\quad 1^\\top x = 1, \\quad x^\\top s = t, \\quad x, s > 0

    Since ``x' A x = 0``, the bound t on ``max(A x)``, the complementarity ``x's`` and the objective are one number, and
    the primal and the dual iterate are one vector: each step factorises the n x n matrix ``diag(s / x) - A``, which a
    positive diagonal makes regular, and solves a predictor and a corrector with it. In the limit either x_i or s_i is
    positive for every action i, whatever ties there are: ``x > s`` tells which actions some equilibrium plays.

    Args:
        A: [games, n, n], skew, scaled to entries of size at most about 1/2.
        single: factorise in float32, with one round of refinement. About 1.5 times as fast; stalls near ``t = 1e-7``.

    Yields:
        x, s: [games, n]. Games whose t has fallen below 1e-16 stand still.

    Source: Mehrotra 1992 (predictor and corrector); Ye, Todd & Mizuno 1994 (self-dual); Goldman & Tucker 1956.
    """
    games, n = A.shape[:2]
    x = A.new_full((games, n), 1 / n)
    y = _times(A, x)
    t = y.amax(-1, keepdim=True).clamp_min(0) + y.abs().mean(-1, keepdim=True) + 1e-3
    s = t - y
    ones = torch.ones_like(x)
    minus_A = -A.to(torch.float32) if single else -A
    for _ in range(ITERATIONS):
        mu = (x * s).sum(-1, keepdim=True) / n
        diagonal = s / x
        matrix = minus_A.clone()
        matrix.diagonal(dim1=-2, dim2=-1).copy_(diagonal)  # A is skew: its diagonal is 0
        lu, pivots, _ = torch.linalg.lu_factor_ex(matrix)  # where it overflowed, the game stands still

        def solve(
            *sides: Tensor, lu: Tensor = lu, pivots: Tensor = pivots, diagonal: Tensor = diagonal
        ) -> tuple[Tensor, Tensor]:
            """Solutions z for the right-hand sides, and A z, which the equations give without another pass over A."""
            b, D = torch.stack(sides, -1), diagonal[..., None]
            z = torch.linalg.lu_solve(lu, pivots, b.to(lu.dtype)).to(b.dtype)
            if not single:
                return z, D * z - b
            Az = A @ z
            residual = b - D * z + Az
            move = torch.linalg.lu_solve(lu, pivots, residual.to(lu.dtype)).to(b.dtype)
            return z + move, Az + D * move - residual

        (z, g), (Az, Ag) = (each.unbind(-1) for each in solve(-s, ones))
        dt = z.sum(-1, keepdim=True) / g.sum(-1, keepdim=True)
        dx = z - dt * g
        ds = dt - (Az - dt * Ag if single else _times(A, dx))  # the difference has fewer digits
        alpha = torch.minimum(_blocking(x, dx), _blocking(s, ds)).clamp_max(1.0)
        sigma = (((x + alpha * dx) * (s + alpha * ds)).sum(-1, keepdim=True) / n / mu) ** 3
        z, Az = (each[..., 0] for each in solve((sigma * mu - x * s - dx * ds) / x))
        dt = z.sum(-1, keepdim=True) / g.sum(-1, keepdim=True)
        dx = z - dt * g
        ds = dt - (Az - dt * Ag if single else _times(A, dx))
        eta = (1 - n * mu).clamp(0.9, 0.9995)
        alpha = (eta * torch.minimum(_blocking(x, dx), _blocking(s, ds))).clamp_max(1.0)
        alpha = torch.where((n * mu > 1e-16) & alpha.isfinite() & dx.isfinite().all(-1, keepdim=True), alpha, 0.0)
        x = (x + alpha * dx.nan_to_num()).clamp_min(TINY)
        t = t + alpha * dt.nan_to_num()
        x = x / x.sum(-1, keepdim=True)
        exact = t - _times(A, x)  # removes the drift of the updates
        s = torch.where(exact > 0, exact, (s + alpha * ds.nan_to_num()).clamp_min(TINY))
        yield x, s


def _times(A: Float[Tensor, "games n n"], x: Float[Tensor, "games n"]) -> Float[Tensor, "games n"]:
    return (A @ x[..., None])[..., 0]


def _blocking(x: Float[Tensor, "games n"], dx: Float[Tensor, "games n"]) -> Float[Tensor, "games 1"]:
    """The longest step that keeps x + step dx >= 0, [games, 1]; infinite where no entry falls."""
    return torch.where(dx < 0, -x / dx, torch.inf).amin(-1, keepdim=True)
