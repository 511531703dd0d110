"""Preference games of low rank: two thin factors; the table is never materialised."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from nashward.errors import NashwardError

from ..shapes import Float, Int
from .game import Players, _policy
from .payoff_numbers import as_floats


class LowRankGame:
    """A symmetric constant-sum game given by two factors of rank r, or a batch of them.

    .. math::  P = 1/2 + L R^\\top - R L^\\top

    P + P^T = 1 by construction, and a payoff costs O(n r). Whether the entries of P lie in [0, 1] is not checked:
    that would cost n^2 r, and no result on the equilibrium needs it.

    Args:
        left, right: [..., n, r], numpy or torch; float32 is kept, anything else is held as float64. They are copied,
            and gradients flow to tensors that require them.

    Raises:
        ValueError: shapes that differ (both are named), an entry that is not finite.

    Example:
        >>> angle = torch.arange(3, dtype=torch.float64) * 2 * torch.pi / 3
        >>> game = LowRankGame(angle.cos()[:, None], angle.sin()[:, None] / 2)  # rock-paper-scissors, turned
        >>> game.win_rate([1.0, 0.0, 0.0])
        tensor([0.5000, 0.0670, 0.9330], dtype=torch.float64)
    """

    total = 1.0

    def __init__(self, left: Any, right: Any):
        self.left, self.right = _factor(left, "left"), _factor(right, "right")
        if self.left.shape != self.right.shape:
            shapes = f"{[*self.left.shape]} and {[*self.right.shape]}"
            raise NashwardError(f"left and right must have the same shape [..., n, r], got {shapes}")
        self.right = self.right.to(self.left)

    @property
    def sizes(self) -> tuple[int, ...]:
        return (self.left.shape[-2],)

    @property
    def batch_shape(self) -> torch.Size:
        return self.left.shape[:-2]

    @property
    def device(self) -> torch.device:
        return self.left.device

    def win_rate(self, policy: Any) -> Float[Tensor, "... n"]:
        """P(y beats mu) for every action y, [..., n], in O(n r)."""
        mu = as_floats(policy).to(self.left)[..., None]
        return (mu.sum(-2) / 2) + (self.left @ (self.right.mT @ mu) - self.right @ (self.left.mT @ mu))[..., 0]

    def payoffs(self, opponents: Players) -> Players:
        return (self.win_rate(opponents[0]),)

    def players(self, policy: Any) -> Players:
        return (_policy(policy, self.sizes[0], self.device, "policy"),)

    def profile(self, players: Players) -> Float[Tensor, "... n"]:
        return players[0]

    def margins(self, actions: Int[Tensor, " k"], weights: Float[Tensor, " k"]) -> Float[Tensor, " n"]:
        """``P[:, actions] @ weights - 1/2`` for weights that sum to 1, [n]; for a single game."""
        left, right = self.left.to(torch.float64), self.right.to(torch.float64)
        return left @ (right[actions].T @ weights) - right @ (left[actions].T @ weights)

    def rows(self, actions: Int[Tensor, " k"], columns: Int[Tensor, " l"]) -> Float[Tensor, "k l"]:
        """``P[actions][:, columns] - 1/2``; for a single game."""
        left, right = self.left.to(torch.float64), self.right.to(torch.float64)
        return left[actions] @ right[columns].T - right[actions] @ left[columns].T

    @property
    def precision(self) -> float:
        """The duality gap below which float64 payoffs are rounding only."""
        sizes = self.left.norm(dim=-1).amax() * self.right.norm(dim=-1).amax()
        return float(8 * torch.finfo(torch.float64).eps * max(1.0, 4 * float(sizes)))

    def __repr__(self) -> str:
        return f"LowRankGame({self.sizes[0]} actions, rank {2 * self.left.shape[-1]})"


def _factor(values: Any, side: str) -> Float[Tensor, "... n r"]:
    factor = values if isinstance(values, Tensor) else torch.as_tensor(np.asarray(values))
    factor = factor if factor.dtype == torch.float32 else factor.to(torch.float64)
    if factor.ndim < 2 or 0 in factor.shape:
        raise NashwardError(f"{side} must have shape [..., n, r] with n, r >= 1, got {[*factor.shape]}")
    if not factor.isfinite().all():
        where = (~factor.isfinite()).nonzero()[0].tolist()
        raise NashwardError(f"entry {where} of {side} is not a finite number")
    return factor.clone()  # what the caller fills again is another game
