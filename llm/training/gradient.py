"""The gradient of a fit's loss over the prompts of one optimiser step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from ..config.fit import Fit
from ..policy.memory import OnEvent
from ..processes import processes
from .batches import MicroBatch
from .division import Division
from .sft import SFTBatch

HALF_SCALE = 2.0**16  # scale of the loss in float16


@dataclass
class Gradient:
    """The loss of one optimiser step's prompts, with its gradient in ``weights``.

    Several processes pass their own parts of the step. The loss is a sum over the step's prompts divided by their
    number, so that the gradient is the plain sum of those of the processes, however many prompts and tokens each has;
    its norm is clipped after that.

    Attributes:
        scale: what multiplies the loss in the backward pass, see ``fit``; lowered for good where a gradient overflows.
        division: which part is this process's.
    """

    network: Any
    weights: list[torch.nn.Parameter]
    size: float
    settings: Fit
    pad_id: int
    on_event: OnEvent
    scale: float
    division: Division = field(init=False)

    def __post_init__(self) -> None:
        self.division = Division(self.network, self.pad_id, self.on_event)

    def __call__(self, step: Sequence[MicroBatch], texts: Sequence[SFTBatch]) -> tuple[float, dict[str, float]]:
        """The total that is minimised, and the record of it."""
        while True:
            for trained in self.weights:
                trained.grad = None
            try:
                loss, weighted_nll = self._backward(step, texts)
            except torch.OutOfMemoryError:
                continue  # the pass that did not fit is halved; the gradient so far is of no use
            loss, weighted_nll = self._reduce(loss, weighted_nll)
            for trained in self.weights if self.scale != 1.0 else ():
                trained.grad = None if trained.grad is None else trained.grad.div_(self.scale)
            norm = float(torch.nn.utils.clip_grad_norm_(self.weights, self.settings.max_grad_norm))
            if math.isfinite(norm) or self.scale == 1.0 or not math.isfinite(loss + weighted_nll):
                break
            self.scale = max(1.0, self.scale / 4)  # the gradient overflowed on its way through float16
        nll = {"sft_nll": weighted_nll / self.settings.sft_weight} if texts else {}
        return loss + weighted_nll, {"loss": loss, "gradient_norm": norm, **nll}

    def _backward(self, step: Sequence[MicroBatch], texts: Sequence[SFTBatch]) -> tuple[float, float]:
        """This process's part of the loss, a mean over the step's prompts, and of the SFT texts' weighted NLL; adds
        their gradients."""
        network, pad_id, settings, scale = self.network, self.pad_id, self.settings, self.scale
        each = scale / sum(len(batch.rollouts) for batch in step)
        own, own_texts = self.division.own(step, texts)
        loss = sum(b.backward(network, pad_id, self.size, settings.baseline, each, self.on_event) for b in own) / scale
        nll = sum(b.backward(network, pad_id, scale * settings.sft_weight, self.on_event) for b in own_texts) / scale
        return loss, nll

    def _reduce(self, loss: float, nll: float) -> tuple[float, float]:
        """The sums over all processes, of these and of the gradients."""
        if processes.count == 1:
            return loss, nll
        used = [trained.grad is not None for trained in self.weights]
        losses, nlls, all_used = zip(*processes.gather((loss, nll, used)), strict=True)
        reduced = [weight for weight, *of in zip(self.weights, *all_used, strict=True) if any(of)]
        for weight in reduced:
            weight.grad = torch.zeros_like(weight) if weight.grad is None else weight.grad
        processes.sum_([weight.grad for weight in reduced if weight.grad is not None])
        return sum(losses), sum(nlls)
