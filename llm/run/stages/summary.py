"""What a Step's metrics hold: the Step, its responses, and the fit. ``training/metrics.py`` says what each field is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from nashward.games import Policy, Step
from nashward.games.analysis.social_choice import is_cyclic
from nashward.games.policy import Blend

from ...data.rollouts import Rollout
from ...policy.handles import Sampled, StoredResponses
from ...training import regression
from ...training.diagnostics import clip_fraction, fit_metrics, policy_metrics
from ...training.experience import scored
from ..rollouts import PromptNumbers, RolloutStore
from .fit_result import FitResult


def step_summary(
    name: str,
    step: Step,
    sampled: Mapping[Sampled, Sequence[Rollout]],
    rollouts: RolloutStore,
    numbers: PromptNumbers,
    fitted: int,
    label: Callable[[str], str | None] | None,
) -> dict[str, Any]:
    """The metrics of a Step and its responses.

    Args:
        name: the Step's name in the run.
        sampled: the responses that it is fitted on; win rates and labels describe those of the first policy.
        rollouts: what the run has sampled and judged.
        numbers: the prompts.
        fitted: on how many of them.
        label: returns the kind of a response's text.
    """
    first, *_ = sampled
    responses = [response for found in sampled.values() for rollout in found for response in rollout.responses]
    return {
        "iteration": name,
        "size": step.size,
        "anchor": _named_weights(step.anchor),
        "opponent": _named_weights(step.opponent),
        "opponent_win_rates": _opponent_win_rates(step, first, sampled[first], rollouts, numbers),
        "prompts": len(numbers),
        "prompts_without_pair": len(numbers) - fitted,
        **_missing(step, sampled, rollouts, numbers),
        "cyclic_prompts": _cyclic_prompts(step, first, rollouts, numbers),
        "response_tokens": sum(len(response.ids) for response in responses) / len(responses),
        "finished": sum(response.finished for response in responses) / len(responses),
        "labels": None if label is None else _label_fractions(rollouts.label_counts(first.label, numbers, label)),
    }


def fit_summary(result: FitResult, max_grad_norm: float) -> dict[str, Any]:
    """The metrics of a fit and of the policies before and after it."""
    train, validation, held_out = result.scores.train, result.scores.validation, result.scores.held_out
    observed = result.records[0]["loss"] if result.records else None
    return {
        "first_loss": {"observed": observed, "expected": result.expected},
        "train": fit_metrics(train),
        "validation": {} if validation is None else fit_metrics(validation),
        "held_out": {} if held_out is None else fit_metrics(held_out),
        "before": policy_metrics(scored(train.start, "start"), train),
        "after": policy_metrics(train.now, train),
        "learning_rate": result.learning_rate,
        "line_fraction": result.line_fraction,
        "refits": result.refits,
        "clip_fraction": clip_fraction([record["gradient_norm"] for record in result.records], max_grad_norm),
    }


def unjudged_pairs(described: Mapping[str, Any]) -> str | None:
    """A warning where judgements are missing; None where none is.

    Example:
        >>> unjudged_pairs({"missing": 0.3})
        '30% of the pairs of responses have no judgement: the payoffs are those of the others.'
    """
    if "missing" not in described:
        return None
    share = 100 * described["missing"]
    return f"{share:.2g}% of the pairs of responses have no judgement: the payoffs are those of the others."


def _missing(
    step: Step, sampled: Mapping[Sampled, Sequence[Rollout]], rollouts: RolloutStore, numbers: PromptNumbers
) -> dict[str, float]:
    """The fraction of the pairs that were to be judged and were not, where there are some."""
    opponents = [] if step.opponent is None else [member.value.label for member in step.opponent.members()]
    counts = [rollouts.missing(policy.label, other, numbers) for policy in sampled for other in opponents]
    missing, pairs = (sum(column) for column in zip((0, 0), *counts, strict=True))
    return {"missing": missing / pairs} if missing else {}


def _cyclic_prompts(step: Step, first: Sampled, rollouts: RolloutStore, numbers: PromptNumbers) -> float | None:
    """The fraction of the prompts on which a sampler's responses, judged against each other, are cyclic; None: they
    were not judged so, or are too few for a cycle."""
    if step.opponent is None or first not in (member.value for member in step.opponent.members()):
        return None
    P = rollouts.tables(first.label, first.label, numbers)
    P = P[~P.isnan().any((-2, -1))]
    return float(is_cyclic(P).double().mean()) if len(P) and P.shape[-1] > 2 else None


def _opponent_win_rates(
    step: Step, sampler: Sampled, responses: Sequence[Rollout], rollouts: RolloutStore, numbers: PromptNumbers
) -> dict[str, float]:
    """How often a sampler beats each fixed opponent, over the prompts that were judged."""
    weights, rates = torch.stack([rollout.weights for rollout in responses]), {}
    for member in step.opponent.members() if step.opponent is not None else ():
        if isinstance(member.value, StoredResponses):
            P = rollouts.tables(sampler.label, member.value.label, numbers)
            wins = regression.win_rates(P, P.new_ones(len(P), P.shape[-1]))
            rates[member.name] = float((wins * weights).sum(-1).nanmean())
    return rates


def _label_fractions(counts: Counter[str]) -> dict[str, float]:
    """The fraction of each label among a policy's responses, "none" for those that have none."""
    return {label: count / counts.total() for label, count in sorted(counts.items())}


def _named_weights(blend: Policy | Blend | None) -> dict[str, float]:
    return {} if blend is None else {member.name: weight for member, weight in blend.members().items()}
