"""What a fit is asked for and what it achieved: pure functions of log-probabilities, all of them [prompts, R].

What is said of a policy is estimated from the responses that are fitted. They were drawn from the mean density of the
Step's opponents, at temperature 1 as far as these estimates hold, and are reweighted where the policy is another one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nashward.games.shapes import Float

from . import regression
from .batches import MicroBatch, on
from .regression import Baseline

FAR = 20.0  # nats rms: a target this far away is not met by any fit
ROUNDING = 0.01  # of a loss: less is no change
BAND = 0.05  # of the expected loss: how far the first one that is found may be from it


@dataclass(frozen=True)
class Scored:
    """Responses and their log-probabilities.

    Attributes:
        now: under the policy that the fit has made; before the fit, the one that it starts from.
        start, anchor, sampler, reference: see ``MicroBatch``.
        target: of the log-ratio ``now - anchor``, see ``regression.targets``.
        gains: what each counts against the Step's opponent; 0 where it was not judged.
        weights: each response's in the loss.
        lengths: tokens.
        other: the mean over prompts of what the fit lowers, where that is not the mirror step's regression.
    """

    now: Float[Tensor, "prompts R"]
    start: Float[Tensor, "prompts R"]
    anchor: Float[Tensor, "prompts R"]
    sampler: Float[Tensor, "prompts R"]
    reference: Float[Tensor, "prompts R"]
    target: Float[Tensor, "prompts R"]
    gains: Float[Tensor, "prompts R"]
    weights: Float[Tensor, "prompts R"]
    lengths: Float[Tensor, "prompts R"]
    other: float | None = None

    @classmethod
    def of(
        cls,
        batches: Sequence[MicroBatch],
        size: float,
        baseline: Baseline,
        now: Sequence[Tensor] | None = None,
    ) -> Scored:
        """Those of some micro-batches, at least one; ``now`` is what the fit made of each."""

        def joined(name: str) -> Tensor:
            return torch.cat([on(getattr(batch, name), batch.weights) for batch in batches])

        lengths = [[len(response) for response in group.responses] for batch in batches for group in batch.groups]
        start = joined("start")
        now = [on(batch.start, batch.weights) for batch in batches] if now is None else [t.to(start) for t in now]
        other = None
        if any(batch.objective.loss != "mirror" for batch in batches):
            lost = [batch.loss(own, size, baseline) for batch, own in zip(batches, now, strict=True)]
            other = float(torch.stack(lost).sum()) / len(start)
        return cls(
            torch.cat(list(now)),
            start,
            joined("anchor"),
            joined("sampler"),
            joined("reference"),
            torch.cat([batch.targets(size, baseline) for batch in batches]),
            joined("gains").nan_to_num(),
            joined("weights"),
            torch.tensor(lengths, dtype=torch.float64),
            other,
        )


def loss(scored: Scored, baseline: Baseline) -> float:
    """What the fit lowers: the mean over prompts of the weighted squared residual, nats^2, or of another loss."""
    if scored.other is not None:
        return scored.other
    ratio = scored.now - scored.anchor
    return float(regression.loss(ratio, scored.target, scored.weights, baseline)) / len(scored.weights)


def initial_metrics(scored: Scored, size: float, baseline: Baseline) -> dict[str, float]:
    """What is known before training: the exact loss at the start, and the rms of the log-ratio and of its target.

    ``loss`` is in nats^2; ``loss_paper`` is it divided by size^2, the unit in which SPPO's code reports (with its
    beta = 1 / size): the mean squared distance of a win probability from its baseline.
    """
    known = regression.fit_metrics(scored.now - scored.anchor, scored.target, scored.weights, baseline)
    found = loss(scored, baseline)
    return {
        "loss": found,
        "loss_paper": found / size**2 if size else float("nan"),
        "log_ratio_rms": known["log_ratio_rms"],
        "target_rms": known["target_rms"],
    }


def fit_metrics(scored: Scored, baseline: Baseline) -> dict[str, float]:
    """What the fit achieved: ``loss``, ``regression.fit_metrics``, and how far it went from where it started.

    ``kl`` is KL(start || now) in nats a response, ``kl_per_token`` it divided by the mean length under the start.
    """
    found = regression.fit_metrics(scored.now - scored.anchor, scored.target, scored.weights, baseline)
    moved = divergence(scored.start, scored.now, scored)
    length = mean_under(scored.start, scored.lengths, scored)
    return {"loss": loss(scored, baseline), **found, "kl": moved, "kl_per_token": moved / length}


def described(policy: Float[Tensor, "prompts R"], scored: Scored) -> dict[str, float]:
    """What a policy is like, from its log-probabilities: estimates, in nats a response and a token.

    ``tokens`` is the mean length; ``entropy`` is -E log pi; ``effective`` is the share of the responses that carries
    the estimates, 1 where the policy is the one that they were sampled from: at a few percent they say little.
    ``kl_to_reference_error`` is the standard error of ``kl_to_reference``, over prompts.
    """
    tokens = mean_under(policy, scored.lengths, scored)
    entropy, pulled = mean_under(policy, -policy, scored), divergence(policy, scored.reference, scored)
    error = standard_error(policy, _apart(policy, scored.reference), scored)
    return {
        "tokens": tokens,
        "entropy": entropy,
        "entropy_per_token": entropy / tokens,
        "kl_to_reference": pulled,
        "kl_to_reference_error": error,
        "kl_to_reference_per_token": pulled / tokens,
        "effective": effective(policy, scored),
    }


def mean_under(policy: Float[Tensor, "prompts R"], values: Float[Tensor, "prompts R"], scored: Scored) -> float:
    """E_{y ~ policy} values(y), from responses of the samplers: self-normalised importance sampling.

    Each response counts u = policy(y) / sampler(y) times, sampler the mean density of all that were sampled: at most M
    times where the policy is one of M.
    """
    mass = _mass(policy, scored)
    return float((mass * values.double()).sum() / mass.sum())


def divergence(policy: Float[Tensor, "prompts R"], other: Float[Tensor, "prompts R"], scored: Scored) -> float:
    """KL(policy || other) in nats: the mean of e^r - 1 - r, r = log other - log policy, under the policy.

    Its expectation is that of -r, because E e^r = 1; but no term is negative, and where both are close it varies less.
    """
    return mean_under(policy, _apart(policy, other), scored)


def standard_error(policy: Float[Tensor, "prompts R"], values: Float[Tensor, "prompts R"], scored: Scored) -> float:
    """Of ``mean_under``, over prompts, as that of a ratio of sums; NaN for a single prompt."""
    mass = _mass(policy, scored)
    off = (mass * (values.double() - mean_under(policy, values, scored))).sum(-1)
    return float(off.std() * len(off) ** 0.5 / mass.sum()) if len(off) > 1 else math.nan


def effective(policy: Float[Tensor, "prompts R"], scored: Scored) -> float:
    """The effective sample size of ``mean_under`` as a share of the responses: (E u)^2 / E u^2, u as there."""
    mass = _mass(policy, scored)
    weights = scored.weights.double()
    squares = (mass.square() / weights.clamp_min(1e-300)).sum()
    return float(mass.sum().square() / (weights.sum() * squares))


def clipped(norms: Sequence[float], most: float) -> float:
    """The share of the optimiser steps whose gradient was scaled down."""
    return sum(norm > most for norm in norms) / len(norms)


def changed_fraction(before: Sequence[Tensor], after: Sequence[Tensor]) -> float:
    """The share of the adapter's entries that are other numbers than before."""
    changed = sum(int((a != b).sum()) for a, b in zip(before, after, strict=True))
    return changed / sum(tensor.numel() for tensor in before)


def unreachable(target_rms: float, size: float) -> str | None:
    """A plain sentence where the target is out of reach; None where it is not."""
    if target_rms < FAR:
        return None
    return (
        f"The target is {target_rms:.0f} nats away (rms), which no fit reaches: this is policy gradient, in which the "
        f"step of {size:g} cancels, not a mirror step. For a mirror step take a step of 1 to 30 (--step) and a "
        "learning rate at which adapters move (--learning-rate)."
    )


def off_band(first: float, expected: float) -> str | None:
    """A plain sentence where the first loss that training found is not the one that was known before it."""
    if abs(first - expected) <= BAND * expected + 1e-6:  # not so where either is NaN
        return None
    return (
        f"The first loss was {first:.6g} nats^2 where {expected:.6g} was expected: training does not see the "
        "log-probabilities that were scored (other weights, another precision, dropout), so its targets are wrong."
    )


def worse(after: float, before: float) -> bool:
    """Whether a loss rose."""
    return not after <= before * (1 + ROUNDING) + 1e-6


def _apart(policy: Float[Tensor, "prompts R"], other: Float[Tensor, "prompts R"]) -> Float[Tensor, "prompts R"]:
    """e^r - 1 - r, r = log other - log policy."""
    ratio = (other - policy).double()
    return ratio.expm1() - ratio


def _mass(policy: Float[Tensor, "prompts R"], scored: Scored) -> Float[Tensor, "prompts R"]:
    """weight * policy / sampler, up to a factor; 0 where the weight is 0."""
    exponent = (policy - scored.sampler).double().masked_fill(scored.weights == 0, -torch.inf)
    return scored.weights.double() * (exponent - exponent.max()).exp()
