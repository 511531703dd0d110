"""scipy's HiGHS: the fallback, and the second route to the same number in the tests."""

from __future__ import annotations

import numpy as np
from scipy.optimize import OptimizeResult, linprog

from ..shapes import Float
from .polish import gap, normalise_support, polish

PRECISE = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}  # HiGHS stops at 1e-7


def linear_program(A: Float[np.ndarray, "n n"]) -> Float[np.ndarray, " n"]:
    """An equilibrium of a skew game by the linear program ``min t, A x <= t 1, 1'x = 1, x >= 0``, refined.

    The equations that hold on the support are solved in float64; where ties spoil that, the program is solved again
    for the scaled residual.

    Raises:
        ArithmeticError: HiGHS found no solution; its message is given.

    Source: Gleixner, Steffy & Wolter 2016 (iterative refinement).
    """
    n = len(A)
    result = _solved(A, np.zeros(n), 1.0, np.zeros(n), np.r_[np.zeros(n), 1.0])
    if result.x is None:
        raise ArithmeticError(f"HiGHS found no equilibrium of the {n} x {n} game: {result.message}")
    x = result.x[:n]
    best = normalise_support(x)
    for threshold in (1e-9, 1e-7, 1e-5):
        best = min(best, polish(A, best, x > threshold), key=lambda y: gap(A, y))
    scale = 1e-7
    if gap(A, best) > 1e-13:  # iterative refinement: the residual, scaled up
        room = (gap(A, best) / 2 - A @ best) / scale
        fine = _solved(A, room, 0.0, -best / scale, np.r_[np.zeros(n), 1.0])
        if fine.x is not None:
            best = min(best, normalise_support(best + scale * fine.x[:n]), key=lambda y: gap(A, y))
    return best


def extent(A: Float[np.ndarray, "n n"], x: Float[np.ndarray, " n"]) -> float:
    """How far the equilibria reach along a generic direction, given one of them."""
    n = len(A)
    direction = np.modf(np.sqrt(np.arange(2.0, 2.0 + n)) * np.pi)[0] - 0.5  # the same on every machine
    ends = []
    for sign in (1.0, -1.0):
        room = np.full(n, max(gap(A, x) / 2, 0.0))
        result = _solved(A, room, 1.0, np.zeros(n), np.r_[sign * direction, 0.0], bound=0.0)
        ends.append(direction @ (x if result.x is None else result.x[:n]))
    return float(ends[1] - ends[0])


def ranges(
    A: Float[np.ndarray, "n n"], x: Float[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Each action's least and largest probability over the equilibria of a skew game, given one of them.

    Example:
        >>> least, most = ranges(np.zeros((2, 2)), np.array([1.0, 0.0]))
        >>> least.tolist(), most.tolist()
        ([0.0, 0.0], [1.0, 1.0])
    """
    n, room = len(A), np.full(len(A), max(gap(A, x) / 2, 0.0))
    ends = []
    for sign in (1.0, -1.0):
        found = [_solved(A, room, 1.0, np.zeros(n), np.r_[sign * np.eye(n)[i], 0.0], bound=0.0).x for i in range(n)]
        ends.append(np.array([x[i] if end is None else end[i] for i, end in enumerate(found)]))
    return np.minimum(ends[0], x).clip(0, 1), np.maximum(ends[1], x).clip(0, 1)


def _solved(
    A: Float[np.ndarray, "n n"],
    room: Float[np.ndarray, " n"],
    mass: float,
    least: Float[np.ndarray, " n"],
    cost: Float[np.ndarray, " n+1"],
    bound: float | None = None,
) -> OptimizeResult:
    """``min cost'(x, t)`` with ``A x - t 1 <= room``, ``1'x = mass``, ``x >= least``; t is free, or ``bound``."""
    n = len(A)
    return linprog(
        c=cost,
        A_ub=np.c_[A, -np.ones(n)],
        b_ub=room,
        A_eq=np.r_[np.ones(n), 0.0][None],
        b_eq=[mass],
        bounds=[*((low, None) for low in least), (bound, bound)],
        method="highs",
        options=PRECISE,
    )
