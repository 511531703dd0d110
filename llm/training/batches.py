"""Rollouts that are fitted together: packed into micro-batches, and these into passes through the network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from nashward.errors import NashwardError
from nashward.games.shapes import Float

from ..data.rollouts import Rollout, Text
from ..policy.logprobs import sequence_logprobs
from ..policy.memory import OnEvent, ignore_event, one_memory_error, split_in_half
from ..policy.packing import packed_tokens
from . import regression
from .experience import Experience, scored
from .losses import LOSSES, MIRROR, LossSettings
from .regression import Baseline

Passes = list[list[int]]  # the texts of each forward pass, by their places
SCORES = ("anchor", "sampler", "start", "reference")  # attributes of a micro-batch, see ``Experience``


@dataclass
class MicroBatch:
    """Rollouts whose gradient is taken together; how they pass through the network is fixed for the whole fit.

    So a log-probability is the same number whenever the weights are the same: the first log-ratio is exactly 0.
    Only where memory runs out a pass is halved, for good. Tensors are ``[prompts, R]``.

    Args:
        rollouts: with their payoffs, R responses each.
        passes: the responses of each forward pass, by their places in the flattened ``[prompts * R]``; all in one by
            default.
        settings: those of the loss.

    Attributes:
        payoffs, weights: those of the rollouts.
        precision: that of the rollouts; None where none has any.
        anchor, sampler, start, reference: log-probabilities, see ``Experience``; None until they are scored.
    """

    rollouts: Sequence[Rollout]
    passes: Passes = field(default_factory=list)
    settings: LossSettings = MIRROR
    payoffs: Float[Tensor, "prompts R"] = field(init=False)
    weights: Float[Tensor, "prompts R"] = field(init=False)
    precision: Float[Tensor, "prompts R"] | None = field(init=False)
    anchor: Float[Tensor, "prompts R"] | None = None
    sampler: Float[Tensor, "prompts R"] | None = None
    start: Float[Tensor, "prompts R"] | None = None
    reference: Float[Tensor, "prompts R"] | None = None

    def __post_init__(self) -> None:
        payoffs = [rollout.payoffs for rollout in self.rollouts if rollout.payoffs is not None]
        if len(payoffs) != len(self.rollouts):
            raise NashwardError("a rollout without payoffs cannot be fitted; judge it first")
        self.payoffs = torch.stack(payoffs).float()
        self.weights = torch.stack([rollout.weights for rollout in self.rollouts]).float()
        sure = [rollout.precision for rollout in self.rollouts if rollout.precision is not None]
        self.precision = torch.stack(sure).float() if len(sure) == len(self.rollouts) else None
        self.passes = self.passes or [list(range(self.weights.numel()))]

    @property
    def fit_weights(self) -> Float[Tensor, "prompts R"]:
        """How much each response counts in the loss: its weight, times its precision."""
        return self.weights if self.precision is None else self.weights * self.precision

    @property
    def texts(self) -> list[Text]:
        """The responses with their prompts, flattened."""
        return _texts(self.rollouts)

    @property
    def tokens(self) -> int:
        """The tokens of the responses."""
        return sum(len(response) for _, response in self.texts)

    def part(self, numbers: Sequence[int]) -> MicroBatch:
        """Some of its rollouts, by their numbers, with their log-probabilities, and with their places in its passes."""
        responses = self.weights.shape[1]
        places = (number * responses + k for number in numbers for k in range(responses))
        passes = passes_of(self.passes, list(places))
        part = MicroBatch([self.rollouts[number] for number in numbers], passes, self.settings)
        for name in SCORES:
            values = getattr(self, name)
            setattr(part, name, None if values is None else values[list(numbers)])
        return part

    def logprobs(self, network: Any, pad_id: int, on_event: OnEvent = ignore_event) -> Float[Tensor, "prompts R"]:
        """log pi(y | x) of all responses, without a gradient."""
        flat = logprobs_by_pass(network, self.texts, self.passes, pad_id, on_event)
        return flat.to(self.weights).reshape(self.weights.shape)

    def backward(
        self, network: Any, pad_id: int, size: float, baseline: Baseline, scale: float, on_event: OnEvent
    ) -> float:
        """Add the gradient of ``scale`` times the loss to the network's weights; returns the scaled loss.

        Pass by pass: where the loss is a sum over responses, its gradient is exact however they are divided. Other
        losses (centred, of pairs) depend on the log-probabilities alone: where the responses are divided, a pass
        without gradient computes these and the loss's slope in each, and the gradient is the sum of the responses'
        gradients times slopes.

        Raises:
            torch.OutOfMemoryError: if a pass does not fit; it is then halved already, and the gradient is incomplete.
        """
        slope, total = None, 0.0
        if len(self.passes) > 1 and not self.settings.separable(baseline):
            now = self.logprobs(network, pad_id, on_event).requires_grad_()
            value = scale * self.loss(now, size, baseline)
            (slope,) = torch.autograd.grad(value, now)
            total = float(value.detach())

        def pass_value(places: Sequence[int], logprobs: Tensor) -> Tensor:
            if slope is not None:
                return (slope.flatten()[places].to(logprobs) * logprobs).sum()
            return scale * self._pass_loss(logprobs, places, size, baseline)

        passed = backward_by_pass(network, self.texts, self.passes, pad_id, pass_value, on_event)
        return passed if slope is None else total

    def _pass_loss(
        self, logprobs: Float[Tensor, " part"], places: Sequence[int], size: float, baseline: Baseline
    ) -> Float[Tensor, ""]:
        """The loss of one pass's responses; the others' weights are 0 in it."""
        index, count = torch.tensor(places, device=logprobs.device), self.weights.numel()
        now = logprobs.new_zeros(count).index_copy(0, index, logprobs).reshape(self.weights.shape)
        inside = torch.zeros(count, dtype=torch.bool).index_fill(0, index.cpu(), True)
        return self.loss(now, size, baseline, self.weights * inside.reshape(self.weights.shape))

    def loss(
        self,
        now: Float[Tensor, "prompts R"],
        size: float,
        baseline: Baseline,
        weights: Float[Tensor, "prompts R"] | None = None,
    ) -> Float[Tensor, ""]:
        """The sum over prompts of the loss, from the log-probabilities ``now``; ``weights`` in place of its own."""
        return LOSSES[self.settings.loss].of(self.experience(now, size, baseline, weights))

    def experience(
        self,
        now: Float[Tensor, "prompts R"],
        size: float,
        baseline: Baseline,
        weights: Float[Tensor, "prompts R"] | None = None,
    ) -> Experience:
        """What the loss sees, on the device of ``now``.

        Raises:
            ValueError: the anchor's or the sampler's log-probabilities are still to be scored.
        """
        device, settings = now.device, self.settings
        tables = [rollout.table for rollout in self.rollouts if rollout.table is not None]
        lengths = [[len(response.ids) for response in rollout.responses] for rollout in self.rollouts]
        return Experience(
            now,
            scored(self.anchor, "anchor").to(device),
            scored(self.sampler, "sampler").to(device),
            self.payoffs.nan_to_num().to(device),
            (self.weights if weights is None else weights).to(device),
            torch.tensor(lengths, dtype=now.dtype, device=device),
            self.targets(size, baseline).to(device),
            baseline,
            size,
            torch.stack(tables).to(now.dtype).to(device) if tables else None,
            settings.hard,
            settings.self_comparison,
            settings.margin,
            self.start,
            self.reference,
            precision=None if self.precision is None else self.precision.to(device),
        )

    def targets(self, size: float, baseline: Baseline) -> Float[Tensor, "prompts R"]:
        """The mirror step's targets, see ``regression.targets``: the normaliser is estimated with the samples' weights,
        the centre with those of the fit."""
        drift = None if self.anchor is None or self.sampler is None else self.anchor - self.sampler
        weights = self.fit_weights if baseline == "centred" else self.weights
        return regression.targets(self.payoffs, size, weights, baseline, drift)


def micro_batches(
    rollouts: Sequence[Rollout], tokens: int, most: int, settings: LossSettings = MIRROR, packed: bool = True
) -> list[MicroBatch]:
    """Rollouts of similar length, gathered up to a number of tokens and of prompts; ``packed``: see ``pass_tokens``.

    The longest come first, so that memory runs out at once. A rollout that is larger than ``tokens`` stands alone, and
    its responses pass in parts, the longest first.
    """
    packs: list[list[Rollout]] = []
    for rollout in sorted(rollouts, key=lambda rollout: -pass_tokens(rollout.texts, packed)):
        fits = bool(packs) and len(packs[-1]) < most and len(rollout.responses) == len(packs[-1][0].responses)
        if fits and pass_tokens(_texts([*packs[-1], rollout]), packed) <= tokens:
            packs[-1].append(rollout)
        else:
            packs.append([rollout])
    return [MicroBatch(pack, plan_passes(_texts(pack), tokens, packed), settings) for pack in packs]


def plan_passes(texts: Sequence[Text], tokens: int, packed: bool = True) -> Passes:
    """The texts of each pass: all in one if they fit, else the longest first, as many as fit."""
    if pass_tokens(texts, packed) <= tokens:
        return [list(range(len(texts)))]
    passes: Passes = []
    for k in sorted(range(len(texts)), key=lambda k: -len(texts[k][0]) - len(texts[k][1])):
        if passes and pass_tokens([texts[other] for other in (*passes[-1], k)], packed) <= tokens:
            passes[-1].append(k)
        else:
            passes.append([k])
    return passes


def passes_of(passes: Passes, chosen: Sequence[int]) -> Passes:
    """The passes of the chosen texts, renumbered in the order of ``chosen``; each keeps those that it had.

    Example:
        >>> passes_of([[0, 1, 2], [3]], [3, 1, 2])
        [[1, 2], [0]]
    """
    place = {text: number for number, text in enumerate(chosen)}
    kept = [[place[text] for text in one if text in place] for one in passes]
    return [one for one in kept if one]


def pass_tokens(texts: Sequence[Text], packed: bool) -> int:
    """The tokens that a pass computes: packed, see ``policy.packing``, or of rows that are padded to the longest.

    Example:
        >>> texts = [([7, 8], [1, 2, 3]), ([7, 8], [4])]
        >>> pass_tokens(texts, packed=True), pass_tokens(texts, packed=False)
        (6, 10)
    """
    if packed:
        return packed_tokens(*zip(*texts, strict=True))
    return len(texts) * max(len(prompt) + len(response) for prompt, response in texts)


def _texts(rollouts: Sequence[Rollout]) -> list[Text]:
    return [text for rollout in rollouts for text in rollout.texts]


def logprobs_by_pass(
    network: Any, texts: Sequence[Text], passes: Passes, pad_id: int, on_event: OnEvent = ignore_event
) -> Float[Tensor, " texts"]:
    """log pi(y | x) of each text in float32 on the CPU, without a gradient; a pass that does not fit is halved in
    ``passes``."""
    logprobs = torch.empty(len(texts))
    done = 0
    with torch.no_grad():
        while done < len(passes):
            try:
                with one_memory_error():
                    logprobs[passes[done]] = _pass(network, texts, passes[done], pad_id).to(logprobs)
                done += 1
                continue
            except torch.OutOfMemoryError:
                pass
            _halve(texts, passes, done, on_event)
    return logprobs


def backward_by_pass(
    network: Any,
    texts: Sequence[Text],
    passes: Passes,
    pad_id: int,
    value: Callable[[Sequence[int], Tensor], Tensor],
    on_event: OnEvent,
) -> float:
    """Add the gradient of the passes' values, each made of a pass and its log-probabilities; returns their sum.

    Raises:
        torch.OutOfMemoryError: if a pass does not fit; it is then halved already, and the gradient is incomplete.
    """
    total = 0.0
    for done, places in enumerate(passes):
        try:
            with one_memory_error():
                total += _backward(value(places, _pass(network, texts, places, pad_id)))
            continue
        except torch.OutOfMemoryError as error:
            failed = error.with_traceback(None)  # which would hold the tensors of the attempt
        _halve(texts, passes, done, on_event)
        raise failed
    return total


def _backward(value: Float[Tensor, ""]) -> float:
    value.backward()
    return float(value.detach())


def _pass(network: Any, texts: Sequence[Text], places: Sequence[int], pad_id: int) -> Float[Tensor, " part"]:
    return sequence_logprobs(network, [texts[k][0] for k in places], [texts[k][1] for k in places], pad_id)


def _halve(texts: Sequence[Text], passes: Passes, number: int, on_event: OnEvent) -> None:
    """Halve a pass that does not fit."""
    longest = max(len(texts[k][0]) + len(texts[k][1]) for k in passes[number])
    first, second = split_in_half(passes[number], f"response of up to {longest} tokens")
    on_event({"out_of_memory": "response", "at_once": len(passes[number])})
    passes[number : number + 1] = [list(first), list(second)]
