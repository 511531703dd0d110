"""The skew matrix of any game with a table."""

from __future__ import annotations

import torch
from torch import Tensor

from ..shapes import Float
from .contextual import ContextualGame
from .game import ConstantSumGame, PreferenceGame


def skew(
    game: PreferenceGame | ConstantSumGame | ContextualGame,
) -> tuple[Float[Tensor, "*batch n n"], Float[Tensor, "players n"]]:
    """The skew matrix over the actions of all players, and each player's actions as a mask, [players, n]."""
    if isinstance(game, ConstantSumGame):
        n, m = game.sizes
        U = game.payoff.to(torch.float64) - game.total / 2
        A = U.new_zeros(*game.batch_shape, n + m, n + m)
        A[..., :n, n:], A[..., n:, :n] = U, -U.mT
        owner = torch.arange(n + m, device=U.device) >= n
        return A, torch.stack([~owner, owner]).to(U)
    P = (game.game if isinstance(game, ContextualGame) else game).P.to(torch.float64)
    return P - 0.5, P.new_ones(1, P.shape[-1])
