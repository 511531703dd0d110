"""Double oracle: solve the game restricted to a few actions and add best responses, until none is left."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Indices = NDArray[np.intp]
ANSWERS = 24  # best responses added per round


class Restricted(NamedTuple):
    """An equilibrium of the game restricted to some actions, with the margins [n] of all actions against it."""

    actions: Indices
    weights: Array
    margins: Array
    least: float
    settled: bool  # no action is better against it by more than the tolerance


def double_oracle(
    margins: Callable[[Indices, Array], Array],
    rows: Callable[[Indices, Indices], Array],
    solve: Callable[[Array], tuple[Array, float]],
    *,
    tolerance: float,
    most: int,
    dense: bool = False,
) -> Restricted:
    """An equilibrium of a skew game, reading only parts of its table.

    The game is symmetric, so one set of actions serves both players.

    Args:
        margins: ``(A[:, I] @ w)`` [n] for actions I with weights w: the payoff against a policy, minus one half.
        rows: ``A[I][:, J]``.
        solve: ``x`` and the least basic variable for a small skew game.
        tolerance: stop when no action wins by more against the policy.
        most: stop when the set has grown beyond this size.
        dense: also stop when a quarter of a set of 96 or more actions is played: most of the game is needed then.

    Source: McMahan, Gordon & Blum 2003.
    """
    actions = np.zeros(1, dtype=np.intp)
    weights, least = np.ones(1), np.inf
    table = np.zeros((1, 1))
    while True:
        played = weights > 0
        y = margins(actions[played], weights[played])
        new = np.flatnonzero(y > tolerance)
        new = np.setdiff1d(new, actions)
        if not len(new):
            outside = np.ones(len(y), dtype=bool)
            outside[actions] = False
            least = min(least, float(-y[outside].max(initial=-np.inf)))
            return Restricted(actions, weights, y, least, bool(y.max() <= tolerance))
        if len(actions) > most or (dense and len(actions) >= 96 and played.sum() > len(actions) / 4):
            return Restricted(actions, weights, y, -np.inf, False)
        new = new[np.argsort(-y[new], kind="stable")[:ANSWERS]]
        across = rows(new, actions)
        table = np.block([[table, -across.T], [across, rows(new, new)]])
        actions = np.r_[actions, new]
        weights, least = solve(table)
