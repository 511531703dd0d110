"""Games of one, two and three actions: a weak winner, or a cycle whose equilibrium is known."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..compiled.accelerator import compiled
from ..shapes import Float


def closed_form(A: Float[Tensor, "games n n"]) -> tuple[Float[Tensor, "games n"], Float[Tensor, " games"]]:
    """An equilibrium of each skew game of at most three actions.

    Either an action loses to none and is played alone, or the three beat each other in a cycle; then with margins e
    ``x_a : x_b : x_c = e_bc : e_ca : e_ab``.

    Args:
        A: [games, n, n], n <= 3.

    Returns:
        ``x`` [games, n], and [games] the least of the played probabilities and the others' losses: above 0
        where there is no other equilibrium.
    """
    n = A.shape[-1]
    margin, winner = A.amin(-1).max(-1)
    x = torch.nn.functional.one_hot(winner, n).to(A.dtype)
    others = A[torch.arange(len(A), device=A.device), winner].masked_fill(x > 0, torch.inf)
    least = torch.where(margin < 0, -1.0, others.amin(-1).clamp_max(1.0))
    if n == 3:
        e = torch.stack([A[:, 1, 2], A[:, 2, 0], A[:, 0, 1]], -1)
        cycle = margin < 0
        y = e / torch.where(cycle, e.sum(-1), 1.0)[:, None]
        x, least = torch.where(cycle[:, None], y, x), torch.where(cycle, y.amin(-1), least)
    return x, least


@compiled
def closed_form_one(P: NDArray[np.float64], half: float, x: NDArray[np.float64]) -> float:
    """``closed_form`` for one game with P - half skew: fills ``x``, given as zeros, and returns the least."""
    n = len(x)
    for i in range(n):
        least = 1.0
        for j in range(n):
            if j != i:
                least = min(least, P[i, j] - half)
        if least >= 0.0:
            x[i] = 1.0
            return least
    x[0], x[1], x[2] = P[1, 2] - half, P[2, 0] - half, P[0, 1] - half
    total = x[0] + x[1] + x[2]
    for i in range(n):
        x[i] /= total
    return min(x[0], x[1], x[2])
