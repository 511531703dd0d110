"""The table executor: exact mirror steps on rows of log-probabilities, for a batch of games at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from .game import Game, Players
from .policy import Blend, Policy
from .step import Step

Feedback: TypeAlias = Callable[[Game, Sequence[tuple[float, Players]]], Players]


def exact(game: Game, opponent: Sequence[tuple[float, Players]]) -> Players:
    """The exact payoff of every action against a linear blend: pairs (weight, probabilities of each player)."""
    return game.payoffs(blended([weight for weight, _ in opponent], [players for _, players in opponent]))


def blended(weights: Sequence[float], policies: Sequence[Players]) -> Players:
    """``sum_k w_k policies[k]``, player by player."""
    sides = zip(*policies, strict=True)
    return tuple(sum(w * side for w, side in zip(weights, members, strict=True)) for members in sides)


@dataclass(frozen=True)
class Tables:
    """Carries Steps out on a game, in log space, [..., n].

    A handle's ``value`` is a tuple of normalised log-probabilities, one tensor a player.
    """

    game: Game
    feedback: Feedback = exact

    def policy(self, probabilities: Any = None, name: str = "start") -> Policy:
        """A handle on given probabilities (None: uniform), spread over the batch of games."""
        if probabilities is None:
            sizes = self.game.sizes
            one = tuple(torch.full((n,), 1.0 / n, dtype=torch.float64, device=self.game.device) for n in sizes)
        else:
            one = self.game.players(probabilities)
        shapes = [(*self.game.batch_shape, n) for n in self.game.sizes]
        logs = (p.log().expand(torch.broadcast_shapes(p.shape, shape)) for p, shape in zip(one, shapes, strict=True))
        return Policy(tuple(logs), name)

    def probabilities(self, policy: Policy | Blend) -> Players:
        """The linear blend of the members' probabilities."""
        members = policy.members()
        return blended(list(members.values()), [_probabilities(member) for member in members])

    def execute(self, step: Step) -> Policy:
        logits = _geometric(step.anchor.members())
        if step.opponent is not None:
            opponent = [(weight, _probabilities(member)) for member, weight in step.opponent.members().items()]
            gains = self.feedback(self.game, opponent)
            logits = tuple(x + step.size * gain for x, gain in zip(logits, gains, strict=True))
        return Policy(tuple(x.log_softmax(-1) for x in logits), "iterate")


def _probabilities(policy: Policy) -> Players:
    return tuple(x.exp() for x in policy.value)


def _geometric(members: dict[Policy, float]) -> Players:
    """``sum_k w_k log pi_k``; an action that any member excludes stays excluded, whatever the sign of its weight."""
    logits: list[Tensor] = []
    for side in zip(*(member.value for member in members), strict=True):
        excluded = torch.stack([x.isneginf() for x in side]).any(0)
        total = sum(w * x.masked_fill(excluded, 0.0) for w, x in zip(members.values(), side, strict=True))
        logits.append(torch.as_tensor(total).masked_fill(excluded, -torch.inf))
    return tuple(logits)
