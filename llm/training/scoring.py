"""Log-probabilities of the responses that are fitted, under each policy that the fit's targets and metrics need."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import torch

from ..policy.experimental.token_mixture import use_policy
from ..policy.handles import Adapter, Sampled
from ..policy.model import LanguageModel
from .batches import MicroBatch


def score(
    model: LanguageModel,
    batches: Sequence[MicroBatch],
    anchor: Mapping[Adapter, float],
    samplers: Sequence[Sampled],
    reference: Adapter,
    after_pass: Callable[[MicroBatch], object] = lambda batch: None,
) -> None:
    """Set the log-probabilities, ``batches.SCORES``, of the micro-batches, each passed in the composition of the fit.

    .. math::
        B(y) = \\sum_k w_k \\log \\pi_k(y), \\qquad
        \\log \\rho(y) = \\log \\frac{1}{M} \\sum_m \\pi_m(y)

    Args:
        anchor: the members of the Step's anchor with their weights w_k; the fit starts from the heaviest.
        samplers: the M policies that the responses were sampled from.
        reference: the policy that the run started from.
        after_pass: called after each pass of a micro-batch, one under each of ``scored_policies``.
    """
    start = heaviest(anchor)
    for batch in batches:
        batch.anchor = torch.zeros_like(batch.weights)
        batch.sampler = torch.full_like(batch.weights, -torch.inf)
    for policy in scored_policies(anchor, samplers, reference):
        with use_policy(model, policy) as network:
            for batch in batches:
                logprobs = batch.logprobs(network, model.pad_id, model.on_event)
                weight = anchor.get(policy, 0.0) if isinstance(policy, Adapter) else 0.0
                batch.anchor = logprobs * weight + batch.anchor  # type: ignore[operator]
                if policy in samplers:
                    # The mean density of all samplers varies far less than that of each response's own sampler.
                    density = logprobs - math.log(len(samplers))
                    batch.sampler = torch.logaddexp(density, batch.sampler)  # type: ignore[arg-type]
                batch.start = logprobs if policy == start else batch.start
                batch.reference = logprobs if policy == reference else batch.reference
                after_pass(batch)


def scored_policies(anchor: Iterable[Adapter], samplers: Sequence[Sampled], reference: Adapter) -> list[Sampled]:
    """The policies that responses are scored under, each once: the arguments are those of ``score``."""
    return list(dict.fromkeys([*anchor, *samplers, reference]))


def heaviest(anchor: Mapping[Adapter, float]) -> Adapter:
    """The member of an anchor with the largest weight, the first of several."""
    return max(anchor, key=lambda member: anchor[member])
