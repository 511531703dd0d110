"""Games of one, two and three actions: a weak winner, or a cycle whose equilibrium is known."""

from __future__ import annotations

import torch
from torch import Tensor


def closed_form(A: Tensor) -> tuple[Tensor, Tensor]:
    """An equilibrium of each skew game of at most three actions.

    Either an action loses to none and is played alone, or the three beat each other in a cycle and with margins e
    ``x_a : x_b : x_c = e_bc : e_ca : e_ab``.

    Args:
        A: [games, n, n], n <= 3.

    Returns:
        ``x`` [games, n], and [games] the least of the played probabilities and of what the others lose by: above 0
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
