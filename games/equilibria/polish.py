"""Refine an equilibrium to full precision: solve the equations that hold on its support."""

from __future__ import annotations

import numpy as np
import torch

from ..shapes import Bool, Float

DUST = 1e-13  # smaller probabilities are rounding
GAP = 1e-12  # guaranteed, in units of the largest payoff
GOOD = 1e-13  # each method must reach this, so that later rounding does not exceed GAP


def gap(A: Float[np.ndarray, "n n"], x: Float[np.ndarray, " n"]) -> float:
    """``2 max(A x)``, the duality gap of a symmetric game with margins A = P - 1/2."""
    return 2 * float((A @ x).max())


def normalise_support(x: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """``x`` without entries that are only rounding, normalised to sum to 1."""
    y = np.where(x > DUST * x.max(initial=0.0), x, 0.0)
    return y / y.sum()


def polish(
    A: Float[np.ndarray, "n n"], x: Float[np.ndarray, " n"], support: Bool[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    """The point nearest to ``x`` at which the actions of ``support`` all pay the same; ``x`` if that has a larger gap.

    Solves ``A_SS y + c 1 = 0, 1'y = 1`` for a correction of x_S, twice: by LU where the system is regular (only for
    an odd number of actions), else with least norm.
    """
    S = np.flatnonzero(support)
    x = normalise_support(x)
    system = np.ones((len(S) + 1, len(S) + 1))
    system[:-1, :-1], system[-1, -1] = A[np.ix_(S, S)], 0.0
    y = np.where(support, x, 0.0)
    for _ in range(2):
        residual = np.r_[-A[S] @ y, 1 - y.sum()]
        move, singular = torch.linalg.solve_ex(torch.from_numpy(system), torch.from_numpy(residual))
        move = move.numpy()
        if int(singular) or not np.isfinite(move).all() or np.abs(move).max() > 1:
            move = np.linalg.lstsq(system, residual, rcond=1e-12)[0]
        y[S] += move[:-1]
    if not np.isfinite(y).all() or y.min() < -1e-9 or y.max() <= 0:
        return x
    y = normalise_support(y)
    return y if gap(A, y) < gap(A, x) else x
