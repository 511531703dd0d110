"""The table executor: exact mirror steps on rows of log-probabilities, for a batch of games at once."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from nashward.errors import NashwardError
from nashward.shortened import cut

from .feedback import Feedback, Opponent, blended, exact
from .forms.contextual import ContextualGame
from .forms.game import Game, Players
from .policy import Blend, Policy
from .step import Step


class TableExecutor:
    """Executes Steps on a game, in log space, [..., n].

    A handle's ``value`` is a tuple of normalised log-probabilities, one tensor per player.

    Args:
        game: a game or a batch of games.
        feedback: what a step sees of the payoff; called with the game, the opponent and the round 0, 1, ...

    Raises:
        TypeError: a feedback that is not a function, or a class in place of an object.

    Example:
        >>> from nashward import games
        >>> tables = TableExecutor(games.zoo.rock_paper_scissors())
        >>> x = tables.policy([0.5, 0.25, 0.25])
        >>> tables.probabilities(tables.execute(Step(x, opponent=x, size=0.1)))
        (tensor([0.5000, 0.2531, 0.2469], dtype=torch.float64),)
    """

    def __init__(self, game: Game, feedback: Feedback = exact):
        if isinstance(feedback, type) or not callable(feedback):
            what = feedback.__name__ if isinstance(feedback, type) else repr(feedback)
            raise TypeError(
                f"feedback is {cut(what, 60)}; expected games.feedback.exact, games.feedback.SampledFeedback(k) or "
                "games.feedback.DuelingFeedback()"
            )
        self.game, self.feedback, self.rounds = game, feedback, 0

    def policy(self, probabilities: Any = None, name: str = "start") -> Policy:
        """A handle on given probabilities (None: uniform, without padding), spread over the batch of games."""
        if probabilities is None and isinstance(self.game, ContextualGame):
            players: Players = (self.game.uniform(),)
        elif probabilities is None:
            sizes = self.game.sizes
            players = tuple(torch.full((n,), 1.0 / n, dtype=torch.float64, device=self.game.device) for n in sizes)
        else:
            players = self.game.players(probabilities)
        return self.handle(players, name)

    def handle(self, players: Players, name: str = "iterate") -> Policy:
        """A handle on valid probabilities, [..., n] for each player; they are not checked."""
        batch = torch.broadcast_shapes(self.game.batch_shape, *(p.shape[:-1] for p in players))
        return Policy(tuple(p.log().expand(*batch, p.shape[-1]) for p in players), name)

    def probabilities(self, policy: Policy | Blend) -> Players:
        """The linear blend of the members' probabilities."""
        members = policy.members()
        return blended(list(members.values()), list(map(_probabilities, members)))

    def payoffs(self, players: Players) -> Players:
        """Every action's payoff against the players, as the feedback gives it."""
        return self._feedback([(1.0, players)])

    def execute(self, step: Step) -> Policy:
        """The policy that the Step makes, with payoffs from the feedback.

        Returns:
            A handle on the new policy.
        """
        logits = _geometric(step.anchor.members())
        if step.opponent is not None:
            payoffs = self._feedback([(weight, _probabilities(m)) for m, weight in step.opponent.members().items()])
            logits = tuple(x + step.size * payoff for x, payoff in zip(logits, payoffs, strict=True))
        return Policy(tuple(x.log_softmax(-1) for x in logits), "iterate")

    def _feedback(self, opponent: Opponent) -> Players:
        self.rounds += 1
        return self.feedback(self.game, opponent, self.rounds - 1)


def _logs(policy: Policy) -> Players:
    if not isinstance(policy.value, tuple):
        raise NashwardError(
            f"{policy!r} is not a policy of this game: a Step may refer to the start, the reference, iterates and "
            "fixed opponents"
        )
    return policy.value


def _probabilities(policy: Policy) -> Players:
    return tuple(x.exp() for x in _logs(policy))


def _geometric(members: dict[Policy, float]) -> Players:
    """``sum_k w_k log pi_k``; an action that any member excludes stays excluded, whatever the sign of its weight."""
    if len(members) == 1:  # its weight is 1
        return _logs(next(iter(members)))
    logits: list[Tensor] = []
    for side in zip(*map(_logs, members), strict=True):
        excluded = torch.stack([x.isneginf() for x in side]).any(0)
        total = sum(w * x.masked_fill(excluded, 0.0) for w, x in zip(members.values(), side, strict=True))
        logits.append(torch.as_tensor(total).masked_fill(excluded, -torch.inf))
    return tuple(logits)
