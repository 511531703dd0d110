"""One objective after the other: among the equilibria of the first, the Nash of the second, and so on."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import linprog

from ..equilibria.face import slacks
from ..equilibria.linear_program import PRECISE
from ..equilibria.nash import face
from ..forms.game import PreferenceGame
from ..shapes import Float
from .compromise import Compromise
from .multi_objective import MultiObjectiveGame


class _Polytope(NamedTuple):
    """The policies ``interior + directions @ u`` for which some w has ``moves @ u + others @ w + room >= 0``."""

    interior: Float[np.ndarray, " n"]
    directions: Float[np.ndarray, "n d"]
    moves: Float[np.ndarray, "rows d"]
    others: Float[np.ndarray, "rows e"]
    room: Float[np.ndarray, " rows"]


def lexicographic(game: MultiObjectiveGame) -> Compromise:
    """The Nash equilibrium of the second objective on the face of the first one's equilibria, and so on.

    .. math::
        F_1 = \\{x : A_1 x \\le 0\\}, \\qquad
        F_m = \\{x \\in F_{m-1} : y^\\top A_m x \\le 0 \\; \\forall y \\in F_{m-1}\\}

    Later objectives decide nothing where an earlier one has a single equilibrium. The face of the first objective is
    exact (``games.face``); on it, with A_m restricted to its directions, the symmetric game over a polytope is a linear
    program by duality of the opponent's constraints, and its optimal set is the polytope of the next objective.

    Args:
        game: the objectives, in order of priority.

    Returns:
        A policy of the last set. ``bound - value`` is twice the most that a policy of the previous set gains against it
        under the next objective, the largest over the objectives, by a second linear program; the multiplier of an
        objective is 1 if it had a choice to make, else 0.

    Raises:
        ArithmeticError: HiGHS found no solution, or the face of the first objective is too badly conditioned.

    Source: derived; lexicographic preferences, Fishburn 1974; the face, Gale, Kuhn & Tucker 1950.

    Example:
        >>> from nashward import games
        >>> even, ladder = [[0.5, 0.5], [0.5, 0.5]], [[0.5, 0.9], [0.1, 0.5]]
        >>> lexicographic(games.MultiObjectiveGame([even, ladder])).policy
        tensor([1., 0.], dtype=torch.float64)
    """
    first = face(PreferenceGame(game.P[0]))
    start, moves = slacks(first)
    polytope = _Polytope(first.interior, first.directions, moves, np.zeros((len(start), 0)), start)
    x = first.interior
    chose = [1.0] + [0.0] * (len(game.names) - 1)
    passed: list[tuple[_Polytope, Float[np.ndarray, "n n"]]] = []
    for m in range(1, len(game.names)):
        if not polytope.directions.shape[1]:
            break
        A = game.P[m].numpy() - 0.5
        passed.append((polytope, A))
        x, polytope = _equilibria(polytope, A)
        chose[m] = 1.0
    gains = [float((((game.P[0].numpy()) - 0.5) @ x).max()), *(_best_gain(within, A, x) for within, A in passed)]
    gain = max(gains)
    return Compromise(torch.from_numpy(x), 0.5 - gain, 0.5 + gain, 0.0, dict(zip(game.names, chose, strict=True)))


def _equilibria(K: _Polytope, A: Float[np.ndarray, "n n"]) -> tuple[Float[np.ndarray, " n"], _Polytope]:
    """An equilibrium of the skew game A over a polytope, and the polytope of all its equilibria.

    With x = x0 + Z u and g = Z' A x0, H = Z' A Z the payoff is g u - g v + u' H v. By duality the least over v is
    the largest ``-room y`` over y >= 0 with ``moves' y = H' u - g`` and ``others' y = 0``.
    """
    g, H = K.directions.T @ A @ K.interior, K.directions.T @ A @ K.directions
    d, e, rows = len(g), K.others.shape[1], len(K.room)
    objective = np.r_[g, np.zeros(e), -K.room]
    equal = np.block([[-H.T, np.zeros((d, e)), K.moves.T], [np.zeros((e, d)), np.zeros((e, e)), K.others.T]])
    right = np.r_[-g, np.zeros(e)]
    inside = np.c_[K.moves, K.others, np.zeros((rows, rows))]
    result = linprog(
        -objective, A_ub=-inside, b_ub=K.room, A_eq=equal, b_eq=right, method="highs", options=PRECISE,
        bounds=[(None, None)] * (d + e) + [(0, None)] * rows,
    )  # fmt: skip
    if result.x is None:
        raise ArithmeticError(f"HiGHS found no equilibrium on the face: {result.message}")
    multipliers = np.c_[np.zeros((rows, d + e)), np.eye(rows)]
    G = np.r_[inside, multipliers, equal, -equal, objective[None]]
    h = np.r_[K.room, np.zeros(rows), -right, right, 0.0]
    x = (K.interior + K.directions @ result.x[:d]).clip(0)
    return x / x.sum(), K._replace(moves=G[:, :d], others=G[:, d:], room=h)


def _best_gain(K: _Polytope, A: Float[np.ndarray, "n n"], x: Float[np.ndarray, " n"]) -> float:
    """The most that a policy of the polytope gains against x."""
    d, e = K.directions.shape[1], K.others.shape[1]
    result = linprog(
        np.r_[-(K.directions.T @ A @ x), np.zeros(e)], A_ub=-np.c_[K.moves, K.others], b_ub=K.room, method="highs",
        options=PRECISE, bounds=[(None, None)] * (d + e),
    )  # fmt: skip
    if result.x is None:
        raise ArithmeticError(f"HiGHS found no best response on the face: {result.message}")
    return float(K.interior @ A @ x - result.fun)
