"""What is fitted together: the responses to a prompt, and how they pass through the network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from . import regression
from .logprobs import sequence_logprobs
from .memory import Tell, halves, quiet
from .regression import Baseline


@dataclass
class Group:
    """The responses to one prompt that are fitted together. Tensors are [R]."""

    name: str
    prompt: Sequence[int]
    responses: Sequence[Sequence[int]]
    gains: Tensor
    weights: Tensor

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
    """

    groups: list[Group]
    gains: Tensor
    weights: Tensor
    parts: list[list[int]] = field(default_factory=list)
    anchor: Tensor | None = None
    sampler: Tensor | None = None
    start: Tensor | None = None
    reference: Tensor | None = None

    def __post_init__(self) -> None:
        self.parts = self.parts or [list(range(self.weights.numel()))]

    def logprobs(self, network: Any, pad_id: int, tell: Tell = quiet) -> Tensor:
        """log pi(y | x) of all responses, without a gradient."""
        found = self.weights.new_empty(self.weights.numel())
        done = 0
        with torch.no_grad():
            while done < len(self.parts):
                try:
                    found[self.parts[done]] = self._pass(network, pad_id, self.parts[done]).to(found)
                    done += 1
                    continue
                except torch.OutOfMemoryError:
                    pass
                self.halve(done, tell)
        return found.reshape(self.weights.shape)

    def descend(self, network: Any, pad_id: int, size: float, baseline: Baseline, scale: float, tell: Tell) -> float:
        """Add the gradient of ``scale`` times the loss to the network's weights; returns it.

        A pass after another: the loss is a sum over responses, so that its gradient is exact however they are cut. With
        the centred baseline each residual holds the prompt's mean log-ratio; where its responses are cut, a pass
        without gradient finds it first.

        Raises:
            torch.OutOfMemoryError: if a pass does not fit; it is then halved already, and the gradient is incomplete.
        """
        target = self.targets(size, baseline)
        slope, total = None, 0.0
        if baseline == "centred" and len(self.parts) > 1:
            ratio = (self.logprobs(network, pad_id, tell) - on(self.anchor, self.weights)).requires_grad_()
            value = scale * regression.loss(ratio, target, self.weights, baseline)
            (slope,) = torch.autograd.grad(value, ratio)
            total = float(value.detach())

        def gradient(part: Sequence[int]) -> float:
            found = self._pass(network, pad_id, part)
            if slope is not None:
                (slope.flatten()[part].to(found) * found).sum().backward()
                return 0.0
            value = scale * self._loss(found, part, target, baseline)
            value.backward()
            return float(value.detach())

        for done, part in enumerate(self.parts):
            try:
                total += gradient(part)
                continue
            except torch.OutOfMemoryError as error:
                failed = error.with_traceback(None)  # which would hold the tensors of the attempt
            self.halve(done, tell)
            raise failed
        return total

    def _pass(self, network: Any, pad_id: int, part: Sequence[int]) -> Tensor:
        texts = [(group.prompt, response) for group in self.groups for response in group.responses]
        return sequence_logprobs(network, [texts[k][0] for k in part], [texts[k][1] for k in part], pad_id)

    def _loss(self, found: Tensor, part: Sequence[int], target: Tensor, baseline: Baseline) -> Tensor:
        """The loss of one pass's responses; the others' weights are 0 in it."""
        places = torch.tensor(part, device=found.device)
        whole = found.new_zeros(self.weights.numel()).index_copy(0, places, found).reshape(self.weights.shape)
        inside = torch.zeros(self.weights.numel(), dtype=torch.bool).index_fill(0, places.cpu(), True)
        weights = on(self.weights * inside.reshape(self.weights.shape), found)
        return regression.loss(whole - on(self.anchor, found), on(target, found), weights, baseline)

    def halve(self, part: int, tell: Tell) -> None:
        """Make two passes of one that does not fit."""
        lengths = [len(group.prompt) + len(response) for group in self.groups for response in group.responses]
        longest = max(lengths[k] for k in self.parts[part])
        first, second = halves(self.parts[part], f"response of up to {longest} tokens")
        tell({"out_of_memory": "response", "at_once": len(self.parts[part])})
        self.parts[part : part + 1] = [list(first), list(second)]

    def targets(self, size: float, baseline: Baseline) -> Tensor:
        drift = None if self.anchor is None or self.sampler is None else self.anchor - self.sampler
        return regression.targets(self.gains, size, self.weights, baseline, drift)


def micro_batches(groups: Sequence[Group], tokens: int, most: int) -> list[MicroBatch]:
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
            _parts(pack, tokens),
        )
        for pack in packs
    ]


def _parts(groups: Sequence[Group], tokens: int) -> list[list[int]]:
    """The responses of each pass: all in one if they fit, else the longest first, as many as fit."""
    lengths = [len(group.prompt) + len(response) for group in groups for response in group.responses]
    if len(lengths) * max(lengths) <= tokens:
        return [list(range(len(lengths)))]
    parts: list[list[int]] = []
    for k in sorted(range(len(lengths)), key=lambda k: -lengths[k]):
        if parts and (len(parts[-1]) + 1) * lengths[parts[-1][0]] <= tokens:
            parts[-1].append(k)
        else:
            parts.append([k])
    return parts


def on(tensor: Tensor | None, like: Tensor) -> Tensor:
    """The tensor on the device of another; a ValueError where log-probabilities are still to be scored."""
    if tensor is None:
        raise ValueError("the micro-batch has no anchor log-probabilities; score them first")
    return tensor.to(like.device)
