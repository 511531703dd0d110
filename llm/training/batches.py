"""What is fitted together: the responses to a prompt, and how they pass through the network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch import Tensor

from nashward.errors import NashwardError
from nashward.games.shapes import Float

from ..policy.logprobs import sequence_logprobs
from ..policy.memory import OnEvent, ignore_event, split_in_half
from . import regression
from .losses import LOSSES, MIRROR, Judged, Objective
from .regression import Baseline

Text: TypeAlias = tuple[Sequence[int], Sequence[int]]  # a prompt and a response to it, as token ids


@dataclass
class Group:
    """The responses to one prompt that are fitted together. Tensors are [R], ``table`` [R, R]: their win probabilities
    against each other, where the loss needs them."""

    name: str
    prompt: Sequence[int]
    responses: Sequence[Sequence[int]]
    gains: Float[Tensor, " R"]
    weights: Float[Tensor, " R"]
    table: Float[Tensor, "R R"] | None = None

    @property
    def tokens(self) -> int:
        return len(self.responses) * (len(self.prompt) + max(map(len, self.responses)))


@dataclass
class MicroBatch:
    """Groups whose gradient is taken together; how they pass through the network is fixed for the whole fit.

    So a log-probability is the same number whenever the weights are the same: the first log-ratio is exactly 0.
    Only where memory runs out a pass is halved, for good. Tensors are [groups, R].

    Attributes:
        parts: the responses of each pass, by their places in the flattened [groups * R].
        anchor: B(y), the geometric blend of the Step's anchor.
        sampler: log of the mean density of the policies that y may have been sampled from.
        start: under the policy that the fit starts from.
        reference: under the policy that the run started from.
        objective: the loss.
    """

    groups: list[Group]
    gains: Float[Tensor, "groups R"]
    weights: Float[Tensor, "groups R"]
    parts: list[list[int]] = field(default_factory=list)
    anchor: Float[Tensor, "groups R"] | None = None
    sampler: Float[Tensor, "groups R"] | None = None
    start: Float[Tensor, "groups R"] | None = None
    reference: Float[Tensor, "groups R"] | None = None
    objective: Objective = MIRROR

    def __post_init__(self) -> None:
        self.parts = self.parts or [list(range(self.weights.numel()))]

    @property
    def texts(self) -> list[Text]:
        """The responses with their prompts, flattened."""
        return [(group.prompt, response) for group in self.groups for response in group.responses]

    def logprobs(self, network: Any, pad_id: int, on_event: OnEvent = ignore_event) -> Float[Tensor, "groups R"]:
        """log pi(y | x) of all responses, without a gradient."""
        found = self.weights.new_empty(self.weights.numel())
        return score(network, self.texts, self.parts, pad_id, found, on_event).reshape(self.weights.shape)

    def descend(
        self, network: Any, pad_id: int, size: float, baseline: Baseline, scale: float, on_event: OnEvent
    ) -> float:
        """Add the gradient of ``scale`` times the loss to the network's weights; returns it.

        A pass after another: where the loss is a sum over responses its gradient is exact however they are cut. Other
        losses (centred, of pairs) depend on the log-probabilities alone; where the responses are cut, a pass without
        gradient finds them and the loss's slope by each, and the gradient is the slopes' sum of the responses' own.

        Raises:
            torch.OutOfMemoryError: if a pass does not fit; it is then halved already, and the gradient is incomplete.
        """
        slope, total = None, 0.0
        if len(self.parts) > 1 and not self.objective.apart(baseline):
            now = self.logprobs(network, pad_id, on_event).requires_grad_()
            lost = scale * self.loss(now, size, baseline)
            (slope,) = torch.autograd.grad(lost, now)
            total = float(lost.detach())

        def value(part: Sequence[int], found: Tensor) -> Tensor:
            if slope is not None:
                return (slope.flatten()[part].to(found) * found).sum()
            return scale * self._partial(found, part, size, baseline)

        passed = backward(network, self.texts, self.parts, pad_id, value, on_event)
        return passed if slope is None else total

    def _partial(
        self, found: Float[Tensor, " part"], part: Sequence[int], size: float, baseline: Baseline
    ) -> Float[Tensor, ""]:
        """The loss of one pass's responses; the others' weights are 0 in it."""
        places = torch.tensor(part, device=found.device)
        whole = found.new_zeros(self.weights.numel()).index_copy(0, places, found).reshape(self.weights.shape)
        inside = torch.zeros(self.weights.numel(), dtype=torch.bool).index_fill(0, places.cpu(), True)
        return self.loss(whole, size, baseline, self.weights * inside.reshape(self.weights.shape))

    def loss(
        self,
        now: Float[Tensor, "groups R"],
        size: float,
        baseline: Baseline,
        weights: Float[Tensor, "groups R"] | None = None,
    ) -> Float[Tensor, ""]:
        """The sum over prompts of the loss, from the log-probabilities ``now``; ``weights``: others in their place."""
        tables = [group.table for group in self.groups if group.table is not None]
        lengths = [[len(response) for response in group.responses] for group in self.groups]
        judged = Judged(
            now,
            on(self.anchor, now),
            on(self.sampler, now),
            on(self.gains.nan_to_num(), now),
            on(self.weights if weights is None else weights, now),
            torch.tensor(lengths, dtype=now.dtype, device=now.device),
            on(self.targets(size, baseline), now),
            baseline,
            size,
            on(torch.stack(tables).to(now.dtype), now) if tables else None,
            self.objective.hard,
            self.objective.whole,
            self.objective.margin,
        )
        return LOSSES[self.objective.loss].of(judged)

    def targets(self, size: float, baseline: Baseline) -> Float[Tensor, "groups R"]:
        drift = None if self.anchor is None or self.sampler is None else self.anchor - self.sampler
        return regression.targets(self.gains, size, self.weights, baseline, drift)


def micro_batches(groups: Sequence[Group], tokens: int, most: int, objective: Objective = MIRROR) -> list[MicroBatch]:
    """Groups of like length, packed up to a number of padded tokens and of groups; the longest first, so that memory
    runs out at once. A group that is larger stands alone, and its responses pass in parts, the longest first."""
    packs: list[list[Group]] = []
    widest = 0
    for group in sorted(groups, key=lambda g: -g.tokens):
        room = bool(packs) and len(packs[-1]) < most and (len(packs[-1]) + 1) * widest <= tokens
        if room and len(group.responses) == len(packs[-1][0].responses):
            packs[-1].append(group)
        else:
            packs.append([group])
            widest = group.tokens
    return [
        MicroBatch(
            pack,
            torch.stack([g.gains for g in pack]).float(),
            torch.stack([g.weights for g in pack]).float(),
            in_passes([(group.prompt, response) for group in pack for response in group.responses], tokens),
            objective=objective,
        )
        for pack in packs
    ]


def in_passes(texts: Sequence[Text], tokens: int) -> list[list[int]]:
    """The texts of each pass: all in one if they fit, else the longest first, as many as fit."""
    lengths = [len(prompt) + len(response) for prompt, response in texts]
    if len(lengths) * max(lengths) <= tokens:
        return [list(range(len(lengths)))]
    parts: list[list[int]] = []
    for k in sorted(range(len(lengths)), key=lambda k: -lengths[k]):
        if parts and (len(parts[-1]) + 1) * lengths[parts[-1][0]] <= tokens:
            parts[-1].append(k)
        else:
            parts.append([k])
    return parts


def score(
    network: Any,
    texts: Sequence[Text],
    parts: list[list[int]],
    pad_id: int,
    found: Float[Tensor, " texts"],
    on_event: OnEvent = ignore_event,
) -> Float[Tensor, " texts"]:
    """Fill ``found`` with the texts' log pi(y | x), without a gradient; a pass that does not fit is halved in place."""
    done = 0
    with torch.no_grad():
        while done < len(parts):
            try:
                found[parts[done]] = _pass(network, texts, parts[done], pad_id).to(found)
                done += 1
                continue
            except torch.OutOfMemoryError:
                pass
            _halve(texts, parts, done, on_event)
    return found


def backward(
    network: Any,
    texts: Sequence[Text],
    parts: list[list[int]],
    pad_id: int,
    value: Callable[[Sequence[int], Tensor], Tensor],
    on_event: OnEvent,
) -> float:
    """Add the gradient of the passes' values, each made of a pass and its log-probabilities; returns their sum.

    Raises:
        torch.OutOfMemoryError: if a pass does not fit; it is then halved already, and the gradient is incomplete.
    """
    total = 0.0
    for done, part in enumerate(parts):
        try:
            total += _descended(value(part, _pass(network, texts, part, pad_id)))
            continue
        except torch.OutOfMemoryError as error:
            failed = error.with_traceback(None)  # which would hold the tensors of the attempt
        _halve(texts, parts, done, on_event)
        raise failed
    return total


def _descended(value: Float[Tensor, ""]) -> float:
    value.backward()
    return float(value.detach())


def _pass(network: Any, texts: Sequence[Text], part: Sequence[int], pad_id: int) -> Float[Tensor, " part"]:
    return sequence_logprobs(network, [texts[k][0] for k in part], [texts[k][1] for k in part], pad_id)


def _halve(texts: Sequence[Text], parts: list[list[int]], part: int, on_event: OnEvent) -> None:
    """Make two passes of one that does not fit."""
    longest = max(len(texts[k][0]) + len(texts[k][1]) for k in parts[part])
    first, second = split_in_half(parts[part], f"response of up to {longest} tokens")
    on_event({"out_of_memory": "response", "at_once": len(parts[part])})
    parts[part : part + 1] = [list(first), list(second)]


def on(tensor: Float[Tensor, "*shape"] | None, like: Tensor) -> Float[Tensor, "*shape"]:
    """The tensor on the device of another.

    Raises:
        ValueError: there is none: log-probabilities are still to be scored.
    """
    if tensor is None:
        raise NashwardError("the micro-batch has no anchor log-probabilities; score them first")
    return tensor.to(like.device)
