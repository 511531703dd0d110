"""Contextual games: one preference game of any size per prompt, under a distribution over prompts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from nashward.errors import NashwardError

from ..shapes import Float, Int
from .game import Players, PreferenceGame
from .payoff_numbers import as_floats


class ContextualGame:
    """Two players see the same prompt, drawn with the given weights, and each answers with one of its responses.

    .. math::  J(\\pi, \\pi') = \\sum_x w_x \\, \\pi(\\cdot | x)^\\top P_x \\, \\pi'(\\cdot | x)

    A policy gives a distribution for each prompt, so each prompt's equilibrium is that of its own game, and the gap is
    the weighted sum of the prompts' gaps (``expected``). This form also holds a *ragged batch*: games of different
    sizes, padded to the largest with actions that lose to every real one, which no equilibrium plays.

    Args:
        tables: one [n_x, n_x] table of win probabilities per prompt.
        weights: the distribution over prompts; uniform when not given.

    Attributes:
        game: the padded batch, a PreferenceGame [prompts, n, n].
        real: bool [prompts, n], False for padding.

    Raises:
        ValueError: no tables, weights that are not a distribution, a table that is not a preference game (the prompts
            are named).

    Example:
        >>> from nashward import games
        >>> game = ContextualGame([games.zoo.rock_paper_scissors().P, [[0.5, 0.8], [0.2, 0.5]]], weights=[0.5, 0.5])
        >>> game.split(games.nash(game).policy)
        [tensor([0.3333, 0.3333, 0.3333], dtype=torch.float64), tensor([1., 0.], dtype=torch.float64)]
        >>> float(game.expected(games.duality_gap(game, game.uniform())))
        0.15000000000000002
    """

    total = 1.0

    def __init__(self, tables: Sequence[Any], weights: Any = None):
        if not len(tables):
            raise NashwardError("a contextual game needs at least one table, got none")
        tensors = [torch.as_tensor(table, dtype=torch.float64) for table in tables]
        for prompt, table in enumerate(tensors):
            if table.ndim != 2 or table.shape[0] != table.shape[1] or not len(table):
                raise NashwardError(f"the table of prompt {prompt} must be square, got shape {[*table.shape]}")
        sizes = torch.tensor([len(table) for table in tensors])
        n = int(sizes.max())
        P = torch.full((len(tensors), n, n), 0.5, dtype=torch.float64)
        for m in sizes.unique().tolist():
            members = (sizes == m).nonzero()[:, 0]
            stack = torch.stack([tensors[prompt] for prompt in members.tolist()])
            try:
                P[members, :m, :m] = PreferenceGame(stack).P
            except ValueError as error:
                raise NashwardError(f"prompts {_few(members)}, with {m} responses: {error}") from None
            P[members, :m, m:], P[members, m:, :m] = 1.0, 0.0
        self.game, self.responses = PreferenceGame(P), sizes
        self.real = torch.arange(n) < sizes[:, None]
        self.weights = as_floats([1 / len(tensors)] * len(tensors) if weights is None else weights).to(
            torch.float64, copy=True
        )
        if (
            self.weights.shape != sizes.shape
            or not (self.weights >= 0).all()
            or abs(float(self.weights.sum()) - 1) > 1e-6
        ):
            raise NashwardError(f"weights must be {len(tensors)} probabilities that sum to 1, got {weights}")

    @property
    def sizes(self) -> tuple[int, ...]:
        return self.game.sizes

    @property
    def batch_shape(self) -> torch.Size:
        return self.game.batch_shape

    @property
    def device(self) -> torch.device:
        return self.game.device

    def payoffs(self, opponents: Players) -> Players:
        return self.game.payoffs(opponents)

    def players(self, policy: Any) -> Players:
        """``policy``: [prompts, n] with zeros at the padding, or one distribution per prompt."""
        if isinstance(policy, list | tuple):
            rows = [torch.as_tensor(row, dtype=torch.float64) for row in policy]
            if any(row.ndim == 0 or row.shape[-1] > self.sizes[0] for row in rows):
                raise NashwardError(f"a list of policies has one distribution per prompt, at most {self.sizes[0]} long")
            policy = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
            policy = torch.nn.functional.pad(policy, (0, self.sizes[0] - policy.shape[-1]))
        players = self.game.players(policy)
        if (players[0].expand(*players[0].shape[:-2], *self.real.shape)[..., ~self.real] > 0).any():
            raise NashwardError("the policy gives mass to padding: a prompt's responses come first, zeros behind them")
        return players

    def profile(self, players: Players) -> Float[Tensor, "... n"]:
        return players[0]

    def uniform(self) -> Float[Tensor, "prompts n"]:
        """The uniform policy over each prompt's responses, [prompts, n]: zero at the padding."""
        return self.real / self.responses[:, None].to(torch.float64)

    def expected(self, values: Float[Tensor, "*batch prompts"]) -> Float[Tensor, "*batch"]:
        """The weighted mean over prompts, [..., prompts] to [...]."""
        return (self.weights * values).sum(-1)

    def split(self, policy: Float[Tensor, "prompts n"]) -> list[Float[Tensor, " _"]]:
        """One distribution per prompt, without the padding."""
        return [row[:m] for row, m in zip(policy, self.responses.tolist(), strict=True)]

    def __repr__(self) -> str:
        return (
            f"ContextualGame({len(self.responses)} prompts, {int(self.responses.min())} to {self.sizes[0]} responses)"
        )


def _few(members: Int[Tensor, " k"]) -> str:
    names = [str(member) for member in members[:3].tolist()]
    return ", ".join(names) + (", ..." if len(members) > 3 else "")
