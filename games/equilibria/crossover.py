"""Crossover from an interior point to a vertex: pivot on the few actions that are still in doubt."""

from __future__ import annotations

import numpy as np
import torch

from ..compiled.accelerator import ACCELERATED
from ..shapes import Float
from .compiled_pivoting import solve_complementarity_one
from .pivoting import cover, pivot_limit, solve_complementarity

DOUBT, ROUNDS, WRONG = 100.0, 4, -1e-12


def in_doubt(x: Float[np.ndarray, " n"], s: Float[np.ndarray, " n"]) -> int:
    """How many actions are neither clearly played (x >> s) nor clearly not (s >> x)."""
    return int(np.count_nonzero(np.abs(np.log(x / s)) < np.log(DOUBT)))


def crossover(
    A: Float[np.ndarray, "n n"], x: Float[np.ndarray, " n"], s: Float[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, " n"], float] | None:
    """A vertex near an interior point (x, s) of a skew game; None where none is near enough.

    One elimination makes the clearly played actions basic; what is left is a skew complementarity problem of the
    actions in doubt. Actions that this shows to be wrong are put in doubt too.

    Returns:
        ``x`` [n], not normalised, and the least basic variable: above 0 where there is no other equilibrium.
    """
    n = len(x)
    certainty = x / s
    played, doubt = certainty > DOUBT, np.abs(np.log(certainty)) < np.log(DOUBT)
    for _ in range(ROUNDS):
        if played.sum() % 2 == 0:  # a bordered skew system is regular only for an odd number of actions
            if not played.any():
                return None
            weakest = np.flatnonzero(played)[np.argmin(certainty[played])]
            played[weakest], doubt[weakest] = False, True
        B, U = np.flatnonzero(played), np.flatnonzero(doubt)
        if len(U) > max(n // 2, 64):
            return None
        system = np.ones((len(B) + 1, len(B) + 1))
        system[:-1, :-1], system[:-1, -1], system[-1, -1] = -A[np.ix_(B, B)], -1.0, 0.0
        sides = np.zeros((len(B) + 1, len(U) + 1))
        sides[:-1, :-1], sides[-1, :-1], sides[-1, -1] = -A[np.ix_(B, U)], 1.0, -1.0
        solved, singular = torch.linalg.solve_ex(torch.from_numpy(system), torch.from_numpy(sides))
        if int(singular):
            return None
        W = solved.numpy()
        across = np.c_[-A[np.ix_(U, B)], -np.ones(len(U))]
        reduced = -A[np.ix_(U, U)] - across @ W[:, :-1]
        z, least = _complementary((reduced - reduced.T) / 2, -across @ W[:, -1])
        if np.isnan(least):
            return None
        basic = -(W[:, :-1] @ z + W[:, -1])
        y = np.zeros(n)
        y[B], y[U] = basic[:-1], z
        slack = -A @ y - basic[-1]
        wrong = np.where(played, y, np.where(doubt, 0.0, slack)) < WRONG
        if not wrong.any():
            idle = slack[~played & ~doubt].min(initial=np.inf)
            return y.clip(0), min(least, float(y[B].min()), float(idle))
        played, doubt = played & ~wrong, doubt | wrong
    return None


def _complementary(K: Float[np.ndarray, "n n"], q: Float[np.ndarray, " n"]) -> tuple[Float[np.ndarray, " n"], float]:
    m = len(q)
    K, q = np.ascontiguousarray(K), np.ascontiguousarray(q)
    if not m:
        return np.zeros(0), np.inf
    if ACCELERATED:
        z = np.zeros(m)
        flags = np.zeros(m, dtype=np.bool_)
        return z, solve_complementarity_one(K, q, cover(m).copy(), flags, np.empty((2, m)), m, pivot_limit(m), z)
    state = torch.zeros(1, m, dtype=torch.bool)
    solution, least = solve_complementarity(
        torch.from_numpy(K)[None], torch.from_numpy(q)[None], state, m, pivot_limit(m)
    )
    return solution[0].numpy(), float(least)
