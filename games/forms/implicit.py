"""Preference games given by a function: win rates against a policy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from nashward.errors import NashwardError
from nashward.python_object import first_line

from ..shapes import Float, Int
from .game import Players, _policy


class ImplicitGame:
    """A symmetric constant-sum game given by the function of its win rates against a policy.

    Args:
        win_rate: ``mu -> P mu``, float64 [n] to [n], with P + P^T = 1; [..., n] to [..., n] for ``solve`` on batches.
        n: the number of actions.
        device: the device of policies.

    Raises:
        ValueError: the win rates against the first action are no tensor [n], not finite, or not 1/2 for that action
            itself.

    Example:
        >>> strength = torch.linspace(-2, 2, 100_000, dtype=torch.float64)
        >>> game = ImplicitGame(lambda mu: 0.5 + (strength - strength @ mu) / 8, n=100_000)
        >>> from nashward import games
        >>> int(games.nash(game).policy.argmax())
        99999
    """

    total = 1.0
    precision = 8 * torch.finfo(torch.float64).eps

    def __init__(self, win_rate: Callable[[Tensor], Tensor], n: int, device: torch.device | str = "cpu"):
        if n < 1:
            raise NashwardError(f"a game needs at least one action, got n = {n}")
        self._win_rate, self.n, self.device = win_rate, n, torch.device(device)
        try:
            wins: Any = win_rate(self._pure(0))
        except TypeError as error:
            raise NashwardError(
                f"win_rate is called with one policy, a float64 tensor [{n}], and gives P(y beats it) for every action "
                f"y; it raised TypeError: {first_line(error)}"
            ) from error
        if not isinstance(wins, Tensor):
            raise NashwardError(f"win_rate must give a tensor [{n}]; it gave {type(wins).__name__}")
        if wins.shape != (n,) or not wins.isfinite().all() or abs(float(wins[0]) - 0.5) > 1e-9:
            itself = f", {float(wins.flatten()[0]):g} against itself" if wins.numel() else ""
            result = f"shape {[*wins.shape]}{itself}"
            raise NashwardError(
                f"win_rate must give [{n}] finite numbers, 1/2 for an action against itself; it gave {result}"
            )

    @property
    def sizes(self) -> tuple[int, ...]:
        return (self.n,)

    @property
    def batch_shape(self) -> torch.Size:
        return torch.Size()

    def win_rate(self, policy: Any) -> Float[Tensor, "... n"]:
        """P(y beats mu) for every action y."""
        return self._win_rate(torch.as_tensor(policy, dtype=torch.float64, device=self.device))

    def payoffs(self, opponents: Players) -> Players:
        return (self.win_rate(opponents[0]),)

    def players(self, policy: Any) -> Players:
        return (_policy(policy, self.n, self.device, "policy"),)

    def profile(self, players: Players) -> Float[Tensor, "... n"]:
        return players[0]

    def margins(self, actions: Int[Tensor, " k"], weights: Float[Tensor, " k"]) -> Float[Tensor, " n"]:
        """``P[:, actions] @ weights - 1/2`` for weights that sum to 1: one call of ``win_rate``."""
        policy = torch.zeros(self.n, dtype=torch.float64, device=self.device)
        policy[actions] = weights
        return self.win_rate(policy) - 0.5

    def rows(self, actions: Int[Tensor, " k"], columns: Int[Tensor, " l"]) -> Float[Tensor, "k l"]:
        """``P[actions][:, columns] - 1/2``: one call per action."""
        return torch.stack([0.5 - self._against(int(action))[columns] for action in actions])

    def _against(self, action: int) -> Float[Tensor, "..."]:
        return self.win_rate(self._pure(action))

    def _pure(self, action: int) -> Float[Tensor, " n"]:
        policy = torch.zeros(self.n, dtype=torch.float64, device=self.device)
        policy[action] = 1.0
        return policy

    def __repr__(self) -> str:
        return f"ImplicitGame({self.n} actions)"
