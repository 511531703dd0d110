"""``nash``: an exact equilibrium of a table, by linear programming and a polish of its support."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linprog
from torch import Tensor

from .game import Game, PreferenceGame, Profile
from .measures import duality_gap

Array = NDArray[np.float64]
GAP = 1e-12  # what nash promises
_HIGHS = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}


@dataclass(frozen=True)
class Equilibrium:
    """A Nash equilibrium (of a symmetric game: the maximal lottery, or von Neumann winner).

    Attributes:
        policy: [..., n] probabilities; a ``Profile`` (row, column) for an ``n x m`` game.
        value: [...], the row player's payoff at equilibrium; 1/2 in a preference game.
        gap: [...], the duality gap, recomputed from ``policy``.
        support: bool, shaped as ``policy``: the actions that are played.
        unique: bool [...], whether there is no other equilibrium.
    """

    policy: Any
    value: Tensor
    gap: Tensor
    support: Any
    unique: Tensor


def nash(game: Game) -> Equilibrium:
    """An equilibrium with a duality gap of at most 1e-12.

    .. math::  \\max_{v, x} v \\quad \\text{s.t.} \\quad x^\\top U \\ge v, \\; \\sum_i x_i = 1, \\; x \\ge 0

    solved for each player by HiGHS; then the equalities that hold on the support are solved in float64, and where
    ties spoil that, the linear program is solved again for the scaled residual.

    Args:
        game: a game, or a batch of games (solved one after another).

    Raises:
        ArithmeticError: the gap stayed above 1e-12; the message gives it.

    Source: von Neumann's minimax theorem; refinement as in Gleixner, Steffy & Wolter 2016.

    Example:
        >>> from nashward import games
        >>> equilibrium = games.nash(games.zoo.comal_cycle())
        >>> equilibrium.policy * 11, equilibrium.unique
        (tensor([4.0000, 3.0000, 4.0000], dtype=torch.float64), tensor(True))
    """
    symmetric = isinstance(game, PreferenceGame)
    table = game.P - 0.5 if isinstance(game, PreferenceGame) else game.payoff
    flat = table.detach().cpu().numpy().reshape(-1, *table.shape[-2:])
    sides: list[tuple[list[Array], list[bool]]] = []
    for payoffs in (flat, -flat.swapaxes(-1, -2)) if not symmetric else (flat,):
        solved = [_maximin(payoff) for payoff in payoffs]
        sides.append(([x for x, _ in solved], [unique for _, unique in solved]))
    players = [torch.from_numpy(np.stack(xs)).reshape(*game.batch_shape, -1).to(game.device) for xs, _ in sides]
    profile: Any = players[0] if symmetric else Profile(*players)
    gap = duality_gap(game, profile)
    if (gap > GAP).any():
        raise ArithmeticError(f"nash reached a duality gap of {gap.max():.2e} only, {GAP:.0e} was asked for")
    unique = torch.tensor(np.all([flags for _, flags in sides], axis=0)).reshape(game.batch_shape)
    value = (game.players(profile)[0] * game.payoffs(game.players(profile) if not symmetric else (profile,))[0]).sum(-1)
    support = players[0] > 0 if symmetric else Profile(*(p > 0 for p in players))
    return Equilibrium(profile, value, gap, support, unique)


def _maximin(U: Array) -> tuple[Array, bool]:
    """A policy of the row player that maximises the worst payoff, and whether it is the only one."""
    scale = max(float(np.abs(U).max()), 1e-300)
    A = U / scale
    x, v = _linear_program(A)
    best = _cleaned(x)
    for threshold in (1e-9, 1e-7, 1e-5):
        best = max(best, _polished(A, x, v, threshold), key=lambda y: _worst(A, y))
    if _upper(A, v) - _worst(A, best) > GAP / 8:
        best = max(best, _refined(A, best), key=lambda y: _worst(A, y))
    return best, _only(A, best)


def _worst(A: Array, x: Array) -> float:
    return float((x @ A).min())


def _upper(A: Array, v: float) -> float:
    """An upper bound of the value: 0 where A is skew, else the linear program's own."""
    return 0.0 if A.shape[0] == A.shape[1] and np.array_equal(A, -A.T) else v


def _cleaned(x: Array) -> Array:
    y = np.clip(x, 0.0, None)
    return y / y.sum()


def _linear_program(A: Array) -> tuple[Array, float]:
    n, m = A.shape
    result = linprog(
        c=np.r_[np.zeros(n), -1.0],
        A_ub=np.c_[-A.T, np.ones(m)],
        b_ub=np.zeros(m),
        A_eq=np.r_[np.ones(n), 0.0][None],
        b_eq=[1.0],
        bounds=[(0, None)] * n + [(None, None)],
        method="highs",
        options=_HIGHS,
    )
    if result.x is None:
        raise ArithmeticError(f"HiGHS found no equilibrium: {result.message}")
    return result.x[:n], float(result.x[n])


def _polished(A: Array, x: Array, v: float, threshold: float) -> Array:
    """The policy on x's support under which every tight column pays the same: a linear system, solved directly."""
    played = np.flatnonzero(x > threshold)
    tight = np.flatnonzero(x @ A - v < threshold)
    system = np.block([[A[np.ix_(played, tight)].T, -np.ones((len(tight), 1))], [np.ones((1, len(played))), 0.0]])
    solution = np.linalg.lstsq(system, np.r_[np.zeros(len(tight)), 1.0], rcond=None)[0][:-1]
    y = np.zeros_like(x)
    y[played] = solution
    return _cleaned(y) if solution.min(initial=0.0) > -threshold and solution.sum() > 0.5 else _cleaned(x)


def _refined(A: Array, x: Array, scale: float = 1e-7) -> Array:
    """x plus ``scale`` times the solution of the linear program for the residual, seen through a magnifying glass."""
    n, m = A.shape
    slack = (x @ A - _worst(A, x)) / scale
    result = linprog(
        c=np.r_[np.zeros(n), -1.0],
        A_ub=np.c_[-A.T, np.ones(m)],
        b_ub=slack,
        A_eq=np.r_[np.ones(n), 0.0][None],
        b_eq=[0.0],
        bounds=[(-p / scale, None) for p in x] + [(None, None)],
        method="highs",
        options=_HIGHS,
    )
    return x if result.x is None else _cleaned(x + scale * result.x[:n])


def _only(A: Array, x: Array, extent: float = 1e-6) -> bool:
    """Whether the face of optimal policies is a point: its extent along a generic direction is nil."""
    n = len(x)
    direction = np.modf(np.sqrt(np.arange(2.0, 2.0 + n)) * np.pi)[0] - 0.5  # generic, and the same on every machine
    ends = []
    for sign in (1.0, -1.0):
        result = linprog(
            c=sign * direction,
            A_ub=-A.T,
            b_ub=np.full(A.shape[1], -_worst(A, x)),
            A_eq=np.ones((1, n)),
            b_eq=[1.0],
            bounds=[(0, None)] * n,
            method="highs",
            options=_HIGHS,
        )
        ends.append(direction @ x if result.x is None else direction @ result.x)
    return bool(ends[1] - ends[0] < extent)
