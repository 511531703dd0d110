"""What the responses of a Step are worth, and how far the judges of an ensemble differ in that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch

from nashward.games import Policy
from nashward.games.shapes import Float

from ...data.rollouts import Rollout
from ...policy.handles import Sampled
from ...training import regression
from ...training.losses import LossKind
from ..rollouts import PromptNumbers, RolloutStore
from .objectives import StepObjectives

Each = Float[torch.Tensor, "prompts R"]  # of the responses of all samplers


@dataclass(frozen=True)
class StepPayoffs:
    """The payoffs G(y) = sum_j c_j P(y beats rho_j) of the responses of a Step, and their standard errors.

    The same sum over the tables of member a of an ensemble is that judge's payoff G_a(y). To first order, the pooled
    payoff of all m members has the standard error

    .. math::  s(y)^2 = \\frac{f^2}{m - 1} \\sum_a (G_a(y) - \\bar G(y))^2

    with the factor f of the ensemble, ``PreferenceOracle.error_factor``: 1 / sqrt(m) for independent judges. It counts
    how the judges differ about a response as a whole: an error that a judge makes against all opponents does not
    average out, as it would in the errors of single pairs.

    Args:
        rollouts: the run's responses and tables.
        numbers: the prompts.
        opponents: rho_j of the Step, with c_j.
        sampled: the responses of the policies that are fitted.
        loss: that of the fit.
        self_comparison: a response is compared with itself too.
        objectives: what several objectives make of the Step, where they are measured against the run's start.
    """

    rollouts: RolloutStore
    numbers: PromptNumbers
    opponents: Mapping[Policy, float]
    sampled: Mapping[Sampled, Sequence[Rollout]]
    loss: LossKind
    self_comparison: bool
    objectives: StepObjectives | None = None

    def payoffs(self) -> Each:
        """G, ``[prompts, R]``; NaN where it was not judged."""
        total: list[torch.Tensor] = []
        for policy in self.sampled:
            if self.objectives is not None and self.opponents:
                total.append(self.objectives.payoffs(policy, self.opponents))
                continue
            expected = torch.zeros_like(self._weights[policy])
            for member, weight in self.opponents.items():
                expected += weight * self._win_rates(self._table(policy, member), policy, member)
            total.append(expected)
        return torch.cat(total, 1)

    def standard_errors(self) -> Each | None:
        """s, ``[prompts, R]``; None for a single oracle, and for several objectives."""
        found = [self._variance(policy) for policy in self.sampled]
        if self.objectives is not None or all(one is None for one in found):
            return None
        none = (torch.zeros_like(weights) for weights in self._weights.values())
        return torch.cat([zero if one is None else one for one, zero in zip(found, none, strict=True)], 1).sqrt()

    def variances(self) -> Each:
        """The variance of G over other draws of the opponents' responses, ``[prompts, R]``, see
        ``regression.win_rate_variances``; NaN where it is not known, as with several objectives."""
        total: list[torch.Tensor] = []
        for policy, weights in self._weights.items():
            variance = torch.zeros_like(weights)
            for member, weight in self.opponents.items():
                variance += weight**2 * regression.win_rate_variances(
                    *self._compared(self._table(policy, member), policy, member)
                )
            total.append(variance if self.objectives is None else torch.full_like(variance, torch.nan))
        return torch.cat(total, 1)

    def weights(self) -> Each:
        """The weights of the responses in the union of all samplers, ``[prompts, R]``."""
        return torch.cat([*self._weights.values()], 1) / len(self.sampled)

    def _variance(self, policy: Sampled) -> Each | None:
        """s^2. Tables by ensembles of different sizes, as before and after another fit of the judges, have independent
        errors."""
        sizes: dict[tuple[int, float], torch.Tensor] = {}
        for member, weight in self.opponents.items():
            found = self.rollouts.members(policy.label, member.value.label, self.numbers)
            if found is not None:
                judged, factor = found
                rates = weight * self._win_rates(self.loss.payoff(judged), policy, member)
                sizes[judged.shape[1], factor] = sizes.get((judged.shape[1], factor), torch.zeros(())) + rates
        if not sizes:
            return None
        return torch.stack([factor**2 * rates.var(1) for (_, factor), rates in sizes.items()]).sum(0)

    def _table(self, policy: Sampled, opponent: Policy) -> Float[torch.Tensor, "prompts K M"]:
        names = policy.label, opponent.value.label
        return self.loss.payoff(self.rollouts.tables(*names, self.numbers, targets=self.loss.regresses))

    def _win_rates(
        self, P: Float[torch.Tensor, "prompts *m K M"], policy: Sampled, opponent: Policy
    ) -> Float[torch.Tensor, "prompts *m K"]:
        return regression.win_rates(*self._compared(P, policy, opponent))

    def _compared(
        self, P: Float[torch.Tensor, "prompts *m K M"], policy: Sampled, opponent: Policy
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """A table with the weights of its columns, and the column that is the row's own sample."""
        own_column = regression.own_columns(P.shape[-2], opponent.value == policy, self.self_comparison)
        # the responses of a fixed opponent, which is not sampled, weigh the same
        columns = self._weights.get(opponent.value, P.new_ones(len(P), P.shape[-1]))
        return P, columns if P.ndim == 3 else columns.unsqueeze(1), own_column

    @cached_property
    def _weights(self) -> dict[Sampled, Float[torch.Tensor, "prompts K"]]:
        return {
            policy: torch.stack([rollout.weights for rollout in rollouts]) for policy, rollouts in self.sampled.items()
        }
