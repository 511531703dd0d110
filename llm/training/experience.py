"""What a loss and a measure of a fit see of some responses: one tensor container, ``[prompts, R]``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from nashward.errors import NashwardError
from nashward.games.shapes import Float, Num

from .regression import Baseline


@dataclass(frozen=True)
class Experience:
    """R responses to each of some prompts, as RLHF libraries batch them. Tensors are ``[prompts, R]`` unless said.

    Attributes:
        now: log pi_theta, which has the gradient; for a measure, that of the policy that the fit has made.
        anchor: B(y), the geometric blend of the Step's anchor.
        sampler: the log of the mean density of the policies that the responses may have been sampled from.
        payoffs: sum_j c_j P(y beats rho_j), or the sum of scores for ``gpo``, see ``LossKind.payoff``; 0 where not
            judged.
        weights: how much each response weighs; those of a prompt sum to the prompt's.
        lengths: in tokens.
        target: what the log-ratio is fitted to in the mirror step, see ``regression.targets``.
        baseline: that of the mirror step.
        size: that of the Step.
        table: P[i, j] among the responses, ``[prompts, R, R]``, NaN where not judged; None where no loss needs it.
        hard: of two responses the one with the larger payoff is chosen; False: each is, with the oracle's probability.
        self_comparison: each response is compared with itself too: they are the whole distribution.
        margin: gamma / beta of SimPO.
        start: log-probabilities under the policy that the fit starts from.
        reference: log-probabilities under the policy that the run started from.
        loss_value: the mean over prompts of what the fit lowers, where that is not the mirror step's regression.
        precision: what multiplies the weights in the loss and in what is measured of the fit, see
            ``regression.precisions``; not in expectations under a policy. None: 1.
        ratio: now - anchor, l.

    Example:
        >>> from nashward.llm.training.losses import LOSSES
        >>> zero, even = torch.zeros(1, 2), torch.full((1, 2), 0.5)
        >>> length = torch.tensor([[3, 3]])
        >>> table = torch.tensor([[[0.5, 0.9], [0.1, 0.5]]])
        >>> batch = Experience(zero, zero, zero, even, even, length, zero, "centred", size=1.0, table=table)
        >>> float(LOSSES["ipo"].of(batch))  # 1/4, whichever of the two is the chosen one
        0.25
    """

    now: Float[Tensor, "prompts R"]
    anchor: Float[Tensor, "prompts R"]
    sampler: Float[Tensor, "prompts R"]
    payoffs: Float[Tensor, "prompts R"]
    weights: Float[Tensor, "prompts R"]
    lengths: Num[Tensor, "prompts R"]
    target: Float[Tensor, "prompts R"]
    baseline: Baseline
    size: float
    table: Float[Tensor, "prompts R R"] | None = None
    hard: bool = False
    self_comparison: bool = False
    margin: float = 0.5
    start: Float[Tensor, "prompts R"] | None = None
    reference: Float[Tensor, "prompts R"] | None = None
    loss_value: float | None = None
    precision: Float[Tensor, "prompts R"] | None = None

    @classmethod
    def concatenate(cls, batches: Sequence[Experience], loss_value: float | None = None) -> Experience:
        """The prompts of several batches of one fit, at least one, without tables."""

        names = ("now", "anchor", "sampler", "payoffs", "weights", "lengths", "target", "start", "reference")
        joined: dict[str, Any] = {
            name: torch.cat([scored(getattr(batch, name), name) for batch in batches]) for name in names
        }
        if batches[0].precision is not None:  # all batches of a fit have one, or none has
            joined["precision"] = torch.cat([batch.precision for batch in batches if batch.precision is not None])
        return replace(batches[0], **joined, table=None, loss_value=loss_value)

    @cached_property
    def ratio(self) -> Float[Tensor, "prompts R"]:
        return self.now - self.anchor

    @cached_property
    def fit_weights(self) -> Float[Tensor, "prompts R"]:
        """How much each response counts in the loss: its weight, times its precision."""
        return self.weights if self.precision is None else self.weights * self.precision

    @property
    def P(self) -> Float[Tensor, "prompts R R"]:
        """The table, ``[prompts, R, R]``.

        Raises:
            ValueError: there is none.
        """
        if self.table is None:
            raise NashwardError("this loss compares responses with each other: it needs the table of their judgements")
        return self.table

    @property
    def chosen(self) -> Float[Tensor, "prompts R R"]:
        """The probability that the first is the chosen one of a pair, ``[prompts, R, R]``; NaN where not judged.

        Raises:
            ValueError: it is not ``hard``, and there is no table.
        """
        if not self.hard:
            return self.P
        first, second = pair(self.payoffs)
        return (first > second).to(self.payoffs) + 0.5 * (first == second)

    def responses(self, each: Float[Tensor, "prompts R"]) -> Float[Tensor, ""]:
        """The weighted sum over the responses of all prompts, ``[]``, of ``each`` ``[prompts, R]``."""
        return (self.fit_weights * each).sum()

    def pairs(self, each: Float[Tensor, "prompts R R"], chance: Float[Tensor, "prompts R R"]) -> Float[Tensor, ""]:
        """The mean over a prompt's pairs of ``each``, an ordered pair counting by its ``chance``, both
        ``[prompts, R, R]``; the sum of the prompts' means, ``[]``.

        Pairs weigh the product of their responses. What was not judged (NaN) does not count, nor does a response with
        itself, unless the responses are the whole distribution: two draws may then be of one.
        """
        first, second = pair(self.fit_weights)
        itself = torch.eye(chance.shape[-1], dtype=torch.bool, device=chance.device) & (not self.self_comparison)
        known = ~chance.isnan() & ~itself
        weight = (first * second).masked_fill(~known, 0.0)
        total = weight.sum((-2, -1)) / 2  # of unordered pairs
        means = (weight * chance.nan_to_num() * each).sum((-2, -1)) / total.clamp_min(1e-30)
        return (means * self.fit_weights.sum(-1)).sum()


def pair(values: Num[Tensor, "*batch R"]) -> tuple[Num[Tensor, "*batch R R"], Num[Tensor, "*batch R R"]]:
    """The first's and the second's of every ordered pair, each ``[..., R, R]``, of values ``[..., R]``.

    Example:
        >>> pair(torch.tensor([1, 2]))
        (tensor([[1, 1],
                [2, 2]]), tensor([[1, 2],
                [1, 2]]))
    """
    return torch.broadcast_tensors(values.unsqueeze(-1), values.unsqueeze(-2))


def scored(logprobs: Float[Tensor, "*shape"] | None, name: str) -> Float[Tensor, "*shape"]:
    """Log-probabilities that have been computed.

    Raises:
        ValueError: they are still to be.
    """
    if logprobs is None:
        raise NashwardError(f"the batch has no log-probabilities under its {name}; score it first")
    return logprobs
