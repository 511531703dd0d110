"""Metrics of a fit: pure functions of log-probabilities, all of them ``[prompts, R]``.

Metrics of a policy are estimated from the responses that are fitted. They were drawn from the mean density of the
Step's opponents (the estimates hold for temperature 1), and are reweighted for any other policy.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from nashward.games.shapes import Float

from . import regression
from .batches import MicroBatch
from .experience import Experience, scored
from .losses import LOSSES
from .regression import HANDFUL, Baseline

UNREACHABLE = 20.0  # nats rms: a target this far away is not met by any fit
TOLERANCE = 0.01  # relative change of a loss: less is no change
LEAST_ESS = 0.02  # effective share of the responses: what fewer of them carry is not known
MOST_EXCESS = 9.0  # excess of the mean of e^r over 1, its expectation: a sample with more misses it
SURE = 2.0  # standard errors beyond which a figure of a fit is more than noise
MISMATCH = 0.05  # share of the expected loss by which the first one in training may differ


def experience(
    batches: Sequence[MicroBatch], size: float, baseline: Baseline, now: Sequence[Tensor] | None = None
) -> Experience:
    """What some micro-batches, at least one, are measured by.

    Args:
        size, baseline: those of the fit.
        now: the log-probabilities of each batch under the policy that the fit has made; None: the start's.
    """
    starts = [scored(batch.start, "start") for batch in batches]
    after = starts if now is None else [logprobs.to(starts[0]) for logprobs in now]
    each = [batch.experience(logprobs, size, baseline) for batch, logprobs in zip(batches, after, strict=True)]
    loss_value = None
    if any(batch.settings.loss != "mirror" for batch in batches):
        losses = [LOSSES[batch.settings.loss].of(of_batch) for batch, of_batch in zip(batches, each, strict=True)]
        loss_value = float(torch.stack(losses).sum()) / sum(len(logprobs) for logprobs in starts)
    return Experience.concatenate(each, loss_value)


def loss(batch: Experience) -> float:
    """What the fit minimises: the mean over prompts of the weighted squared residual, nats^2, or of another loss."""
    if batch.loss_value is not None:
        return batch.loss_value
    return float(regression.loss(batch.ratio, batch.target, batch.fit_weights, batch.baseline)) / len(batch.weights)


def initial_metrics(batch: Experience) -> dict[str, float]:
    """Before training: the exact loss at the start, and the rms of the log-ratio and of its target (``fit_metrics``).

    ``loss`` is in nats^2; ``loss_paper`` is divided by size^2, the unit in which SPPO's code reports it (with its
    beta = 1 / size): the mean squared distance of a win probability from its baseline.
    """
    metrics = _of_fit(batch)
    value = loss(batch)
    return {
        "loss": value,
        "loss_paper": value / batch.size**2 if batch.size else float("nan"),
        "log_ratio_rms": metrics["log_ratio_rms"],
        "target_rms": metrics["target_rms"],
    }


def promised_win_rate(batch: Experience, r2_ceiling: float | None = None) -> float:
    """What a fit that met its target on every response would win over the policy that it starts from, in self-play.

    .. math::  \\frac{1}{2} + \\mathrm{mean}_x \\left[ E_{next} G - E_{start} G \\right],
        \\qquad next(y) \\propto start(y) \\, e^{size \\, G(y)}

    A mean over prompts. The errors of estimated payoffs count as spread and would make it too large. To first order it
    is proportional to the payoffs' variance, of which ``regression.r2_ceiling`` is the share that is no error; where
    that is None the errors count. At a large step it is too small: the best of a prompt's R responses is the most that
    it sees, and a policy may find better ones.
    """
    mass = batch.weights.double() / batch.weights.double().sum(-1, keepdim=True).clamp_min(1e-300)
    start = (scored(batch.start, "start") - batch.sampler).double().exp() * mass
    start = start / start.sum(-1, keepdim=True).clamp_min(1e-300)
    payoffs = batch.payoffs.double()
    after = start * (batch.size * payoffs).exp()
    after = after / after.sum(-1, keepdim=True).clamp_min(1e-300)
    fitted = batch.weights.sum(-1) > 0
    gain = float(((after - start) * payoffs).sum(-1)[fitted].mean())
    return 0.5 + gain * (1.0 if r2_ceiling is None else max(r2_ceiling, 0.0))


def rise(batch: Experience) -> tuple[float, float]:
    """How much the mirror step's loss rose over that at the start, with its standard error over prompts (NaN for a
    single one); below 0 it fell."""
    ratio = scored(batch.start, "start") - batch.anchor
    missed = [regression.residuals(of, batch.target, batch.fit_weights, batch.baseline) for of in (batch.ratio, ratio)]
    now, before = ((batch.fit_weights * residual.square()).sum(-1).double() for residual in missed)
    error = (now - before).std() / len(now) ** 0.5 if len(now) > 1 else math.nan
    return float((now - before).mean()), float(error)


def fit_metrics(batch: Experience) -> dict[str, float]:
    """After training: ``loss``, ``regression.fit_metrics``, and how far the policy went from where it started.

    The target of a geometric mixture (a Step without an opponent) is one constant for each prompt, which says nothing
    of the responses. It is measured by the change since the start of the fit, whose target is what the start lacks.

    ``best_scale`` is what the change since the start would have to be multiplied by for the least loss. ``kl`` is
    KL(start || now) in nats per response, ``kl_per_token`` the same divided by the mean length under the start.
    """
    metrics = _of_fit(batch)
    start = scored(batch.start, "start")
    kl = divergence(start, batch.now, batch)
    length = mean_under(start, batch.lengths, batch)
    missing = batch.target - (start - batch.anchor)
    scale, _ = regression.line_minimum(batch.now - start, missing, batch.fit_weights, batch.baseline)
    return {
        "prompts": len(batch.weights),
        "loss": loss(batch),
        **metrics,
        "best_scale": scale,
        "kl": kl,
        "kl_per_token": kl / length,
    }


def _of_fit(batch: Experience) -> dict[str, float]:
    ratio, target, weights, baseline = batch.ratio, batch.target, batch.fit_weights, batch.baseline
    if batch.size == 0:
        start = scored(batch.start, "start")
        ratio, target = batch.now - start, -regression.residuals(start - batch.anchor, target, weights, baseline)
    return regression.fit_metrics(ratio, target, weights, baseline)


def policy_metrics(policy: Float[Tensor, "prompts R"], batch: Experience) -> dict[str, float]:
    """Estimates for a policy, from its log-probabilities: in nats per response and per token.

    ``tokens`` is the mean length; ``entropy`` is -E log pi; ``relative_ess`` is the share of the responses that
    carries the estimates, 1 where the policy is the one that they were sampled from: below 2% the estimates say nothing
    and are NaN. ``kl_to_reference_error`` is the standard error of ``kl_to_reference``, over prompts.
    """
    tokens = mean_under(policy, batch.lengths, batch)
    reference = scored(batch.reference, "reference")
    entropy, kl = mean_under(policy, -policy, batch), divergence(policy, reference, batch)
    error = standard_error(policy, _divergence_terms(policy, reference, batch), batch)
    found = {
        "tokens": tokens,
        "entropy": entropy,
        "entropy_per_token": entropy / tokens,
        "kl_to_reference": kl,
        "kl_to_reference_error": error,
        "kl_to_reference_per_token": kl / tokens,
    }
    ess = relative_ess(policy, batch)
    return {**(found if ess >= LEAST_ESS else dict.fromkeys(found, math.nan)), "relative_ess": ess}


def mean_under(policy: Float[Tensor, "prompts R"], values: Float[Tensor, "prompts R"], batch: Experience) -> float:
    """E_{y ~ policy} values(y), from responses of the samplers: self-normalised importance sampling.

    Each response counts u = policy(y) / sampler(y) times, sampler the mean density of all that were sampled: at most M
    times where the policy is one of M.
    """
    mass = _importance(policy, batch)
    return float((mass * values.double()).sum() / mass.sum())


def divergence(policy: Float[Tensor, "prompts R"], other: Float[Tensor, "prompts R"], batch: Experience) -> float:
    """KL(policy || other) in nats: the mean of e^r - 1 - r, r = log other - log policy, under the policy.

    Its expectation is that of -r, because E e^r = 1; but no term is negative, and where both are close it varies less.
    Where both are so far apart that a few responses decide on the mean of e^r, and it is 10 or more, -r alone is taken.
    """
    return max(mean_under(policy, _divergence_terms(policy, other, batch), batch), 0.0)


def standard_error(policy: Float[Tensor, "prompts R"], values: Float[Tensor, "prompts R"], batch: Experience) -> float:
    """The standard error of ``mean_under`` over prompts, as that of a ratio of sums; NaN for a handful of prompts."""
    return _error_of_sum(_influence(policy, values, batch))


def difference_error(
    policy: Float[Tensor, "prompts R"],
    other: Float[Tensor, "prompts R"],
    values: Float[Tensor, "prompts R"],
    batch: Experience,
) -> float:
    """The standard error of ``mean_under`` of a policy less that of another one, over the same prompts; NaN for a
    handful of them."""
    return _error_of_sum(_influence(policy, values, batch) - _influence(other, values, batch))


def _influence(
    policy: Float[Tensor, "prompts R"], values: Float[Tensor, "prompts R"], batch: Experience
) -> Float[Tensor, " prompts"]:
    """What each prompt adds to the error of ``mean_under``."""
    mass = _importance(policy, batch)
    return (mass * (values.double() - mean_under(policy, values, batch))).sum(-1) / mass.sum()


def _error_of_sum(each: Float[Tensor, " prompts"]) -> float:
    return float(each.std() * len(each) ** 0.5) if len(each) >= HANDFUL else math.nan


def relative_ess(policy: Float[Tensor, "prompts R"], batch: Experience) -> float:
    """The effective sample size of ``mean_under`` as a share of the responses: (E u)^2 / E u^2, u as there."""
    mass = _importance(policy, batch)
    weights = batch.weights.double()
    squares = (mass.square() / weights.clamp_min(1e-300)).sum()
    return float(mass.sum().square() / (weights.sum() * squares))


def clip_fraction(norms: Sequence[float], most: float) -> float:
    """The share of the optimiser steps whose gradient was scaled down; 0 of none."""
    return sum(norm > most for norm in norms) / max(len(norms), 1)


def changed_fraction(before: Sequence[Tensor], after: Sequence[Tensor]) -> float:
    """The share of the adapter's entries that changed."""
    changed = sum(int((a != b).sum()) for a, b in zip(before, after, strict=True))
    return changed / sum(tensor.numel() for tensor in before)


def unreachable_target(target_rms: float, size: float) -> str | None:
    """A warning where the target is out of reach; None where it is not, and of a mixture, which has no size."""
    if target_rms < UNREACHABLE or size == 0:
        return None
    return (
        f"The step of {size:g} asks for more than a fit reaches: its target is {target_rms:.0f} nats away (rms). "
        "A fit falls short of it, and is then policy gradient, in which the size of the step cancels, or it leaves "
        f"all that was sampled. Take a smaller --step, {2 * size / target_rms:.2g} asks for 2 nats; where the policy "
        "hardly moves, a larger --learning-rate as well."
    )


def went_too_far(after: Mapping[str, float | None], kl: float) -> str | None:
    """A warning where a fit took the policy so far that the responses say nothing of it; None where they do.

    Args:
        after: the ``policy_metrics`` of the new policy, NaN or None where they are not known.
        kl: KL(policy before || new policy), nats per response.
    """
    if (entropy := after["entropy"]) is not None and not math.isnan(entropy):
        return None
    return (
        f"The policy went too far: {kl:.0f} nats per response from the one before (KL). The responses that it was "
        f"fitted on are worth {after['relative_ess']:.1%} of their number for it (effective sample size): R2 and share "
        "do not show what it responds now, or whether it wins. Take a smaller --step, or bound it with --target-kl."
    )


def loss_mismatch(first: float, expected: float) -> str | None:
    """A warning where the first loss in training is not the one that was computed before it."""
    if abs(first - expected) <= MISMATCH * expected + 1e-6:  # False where either is NaN
        return None
    return (
        f"The first loss was {first:.6g} nats^2 where {expected:.6g} was expected: training does not see the "
        "log-probabilities that were scored (other weights, another precision, dropout), so its targets are wrong."
    )


def rose(after: float, before: float) -> bool:
    """Whether a loss rose."""
    return not after <= before * (1 + TOLERANCE) + 1e-6


def _divergence_terms(
    policy: Float[Tensor, "prompts R"], other: Float[Tensor, "prompts R"], batch: Experience
) -> Float[Tensor, "prompts R"]:
    """e^r - 1 - r, r = log other - log policy; -r where the mean of e^r is far above 1."""
    ratio = (other - policy).double()
    excess = ratio.expm1()
    return excess - ratio if mean_under(policy, excess, batch) <= MOST_EXCESS else -ratio


def _importance(policy: Float[Tensor, "prompts R"], batch: Experience) -> Float[Tensor, "prompts R"]:
    """weight * policy / sampler, up to a factor; 0 where the weight is 0."""
    exponent = (policy - batch.sampler).double().masked_fill(batch.weights == 0, -torch.inf)
    return batch.weights.double() * (exponent - exponent.max()).exp()
