"""The payoffs of a Step under several objectives that are measured against the run's start."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from nashward.games import Policy, Step
from nashward.games.analysis.confidence import win_rate_error
from nashward.games.objectives.entropic import adversary
from nashward.games.objectives.floors import check_feasible
from nashward.games.shapes import Float

from ...data.prompts import Prompt
from ...oracles.ensembles.objectives import Combination
from ...policy.handles import Adapter, Sampled
from ...store.files import read_jsonl
from ...store.run_folder import METRICS
from ...training import regression
from ..rollouts import PromptNumbers, RolloutStore

NONE = "no floor"  # the share of the multipliers' limit that no floor has; no objective has this name
Rates = Float[torch.Tensor, "prompts R"]


@dataclass(frozen=True)
class StepObjectives:
    """What the objectives of a run make of one Step.

    The start's responses are what a policy is compared with: the adversary of the worst case replies with them, and
    floors are win rates over them. The multipliers of floors belong to a policy as its adapter does: those of the
    policy that a Step makes are

    .. math::
        \\log \\nu(m) = \\sum_k w_k \\log \\nu_k(m)
        + size \\cdot \\Lambda \\sum_j c_j (b_m - P_m(\\rho_j \\succ start)) + constant

    with the floors b_m, and are sealed with its adapter, so that a run that continues reads them. The same Steps on a
    table are those of ``games.objectives.EntropicGame`` and ``FloorsGame``.

    Args:
        combination: that of the run.
        rollouts: its responses and tables.
        prompts: all prompts of the run.
        numbers: those of the Step.
        reference: the policy that the run started from.
        self_comparison: a response is compared with itself too.
    """

    combination: Combination
    rollouts: RolloutStore
    prompts: Sequence[Prompt]
    numbers: PromptNumbers
    reference: Adapter
    self_comparison: bool
    _kept: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)

    def payoffs(self, policy: Sampled, opponents: Mapping[Policy, float]) -> Rates:
        """The payoff of each response of a policy, ``[prompts, R]``, but for a constant."""
        first, *_ = self.combination.names
        if self.combination.rule == "floors":
            total = sum(c * self._wins(policy, rho.value, first) for rho, c in opponents.items())
            for k, name in enumerate(self.combination.floors):
                charged = sum(c * self._shares(rho.value)[k] for rho, c in opponents.items())
                total = total + self.combination.limit * charged * self._wins(policy, self.reference, name)
            return torch.as_tensor(total)
        weights, replies = self._adversary(opponents)
        return torch.as_tensor(
            sum(
                w * regression.win_rates(self._table(policy, self.reference, name), q.nan_to_num(), self._own(policy))
                for name, w, q in zip(self.combination.names, weights.tolist(), replies, strict=True)
            )
        )

    def shares(self, step: Step) -> list[float]:
        """How the policy that the Step makes divides the limit among the floors, and none."""
        logs = sum(
            weight * self._shares(member.value).log() for member, weight in step.anchor.members().items()
        ) + torch.zeros(len(self.combination.charged) + 1, dtype=torch.float64)
        for rho, c in ({} if step.opponent is None else step.opponent.members()).items():
            logs = logs + step.size * self.combination.limit * c * torch.tensor(
                [*self._lacking(rho.value), 0.0], dtype=torch.float64
            )
        return [float(share) for share in logs.softmax(0)]

    def _lacking(self, policy: Sampled) -> list[float]:
        """By how much a policy is below each floor: win rates, and nats per token of the SFT texts."""
        lacking = [floor - self.over_start(policy, name)[0] for name, floor in self.combination.floors.items()]
        if self.combination.sft is not None:
            assert isinstance(policy, Adapter)
            rise = 0.0 if policy == self.reference else self._once(("rise", policy), lambda: nll_rise(policy))
            lacking.append(rise - self.combination.sft)
        return lacking

    def sft_factor(self, opponents: Mapping[Policy, float]) -> float:
        """What the weight of the SFT texts in the loss is multiplied by: the multiplier of their floor; 1 without
        one."""
        if self.combination.sft is None:
            return 1.0
        place = self.combination.charged.index("sft")
        charged = sum(c * float(self._shares(rho.value)[place]) for rho, c in opponents.items())
        return max(0.0, self.combination.limit * charged)  # for an extrapolated opponent it may be below 0

    def summary(self, step: Step, played: Sampled) -> dict[str, Any]:
        """What the metrics of a Step hold of its objectives."""
        rates = {name: self.over_start(played, name) for name in self.combination.names}
        found: dict[str, Any] = {
            "policy": played.label,
            "win_rates": {name: rate for name, (rate, _) in rates.items()},
            "standard_errors": {name: error for name, (_, error) in rates.items()},
        }
        limit = self.combination.limit
        if self.combination.rule == "floors":
            found["shares"] = dict(zip((*self.combination.charged, NONE), self.shares(step), strict=True))
            of_played = limit * self._shares(played)
            found["multipliers"] = dict(zip(self.combination.charged, of_played.tolist(), strict=False))
        elif self.combination.rule == "worst-case" and step.opponent is not None:
            weights, _ = self._adversary(step.opponent.members())
            found["multipliers"] = dict(zip(self.combination.names, weights.tolist(), strict=True))
        else:
            found["multipliers"] = dict(zip(self.combination.names, self.combination.member_weights, strict=True))
        return found

    def over_start(self, policy: Sampled, name: str) -> tuple[float, float | None]:
        """The win rate of a policy over the start under an objective, and its standard error over prompts.

        The error is None for the start itself, whose win rate is 1/2, and for a single prompt.
        """
        rates = self._wins(policy, self.reference, name)
        weights = self._weights(policy).masked_fill(rates.isnan(), 0.0)
        each = (weights * rates.nan_to_num()).sum(-1) / weights.sum(-1)
        share = self._prompt_weights.masked_fill(each.isnan(), 0.0)
        share, each = share / share.sum(), each.nan_to_num()
        mean = float(share @ each)
        error = math.nan if policy == self.reference else win_rate_error(each.numpy(), share.numpy())
        return mean, None if math.isnan(error) else error

    def check_floors(self) -> float | None:
        """Whether a policy of the start's responses can meet the floors; the largest slack.

        Raises:
            ValueError: none can; the largest floors that one meets are given.
        """
        if not self.combination.floors:
            return None
        floors = self.combination.floors
        wins = torch.stack([self._wins(self.reference, self.reference, name) for name in floors])
        return check_feasible([*floors], wins.numpy(), np.array([*floors.values()]), self._prompt_weights.numpy())

    def _adversary(
        self, opponents: Mapping[Policy, float]
    ) -> tuple[Float[torch.Tensor, " m"], Float[torch.Tensor, "m prompts M"]]:
        def beaten(name: str) -> Rates:  # P_m(rho beats y) for each response y of the start
            lost = sum(c * self._wins(self.reference, rho.value, name) for rho, c in opponents.items())
            return 1 - torch.as_tensor(lost)

        wins = torch.stack([beaten(name) for name in self.combination.names])
        weights, replies, _ = adversary(wins, self._weights(self.reference), self._prompt_weights, self.combination.tau)
        return weights, replies

    @property
    def _prompt_weights(self) -> Float[torch.Tensor, " prompts"]:
        weights = torch.tensor([self.prompts[number].weight for number in self.numbers], dtype=torch.float64)
        return weights / weights.sum()

    def _shares(self, policy: Sampled) -> Float[torch.Tensor, " floors"]:
        count = len(self.combination.charged) + 1
        if policy == self.reference:
            return torch.full((count,), 1 / count, dtype=torch.float64)
        assert isinstance(policy, Adapter)  # checked before the run
        return self._once(("shares", policy), lambda: shares_of(policy))

    def _wins(self, policy: Sampled, against: Sampled, name: str) -> Rates:
        """P_m(y beats a policy) for the responses y of another."""
        return self._once(
            (policy, against, name),
            lambda: regression.win_rates(
                self._table(policy, against, name), self._weights(against), self._own(policy, against)
            ),
        )

    def _own(self, policy: Sampled, against: Sampled | None = None) -> torch.Tensor | None:
        """The column that is the row's own sample, see ``regression.win_rates``."""
        same = policy == (self.reference if against is None else against)
        return regression.own_columns(self._weights(policy).shape[1], same, self.self_comparison)

    def _weights(self, policy: Sampled) -> Rates:
        return self._once(
            ("weights", policy),
            lambda: torch.stack([r.weights for r in self.rollouts.rollouts(policy.label, self.numbers)]).double(),
        )

    def _table(self, rows: Sampled, columns: Sampled, name: str) -> Float[torch.Tensor, "prompts R M"]:
        return self._once(
            ("table", rows, columns, name),
            lambda: self.rollouts.tables(rows.label, columns.label, self.numbers, name),
        )

    def _once(self, key: Any, make: Callable[[], Any]) -> Any:
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]


def shares_of(adapter: Adapter) -> Float[torch.Tensor, " floors"]:
    """How an iterate divides the limit of the multipliers, as it was sealed with its adapter."""
    *_, summary = read_jsonl(adapter.folder / METRICS)
    return torch.tensor([*summary["objectives"]["shares"].values()], dtype=torch.float64)


def nll_rise(adapter: Adapter) -> float:
    """How far the NLL of the held-out SFT texts is over the start's, nats per token, as it was sealed with an
    iterate."""
    *_, summary = read_jsonl(adapter.folder / METRICS)
    return float(summary["sft"]["after"] - summary["sft"]["start"])
