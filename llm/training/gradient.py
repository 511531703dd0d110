"""The gradient of a fit's loss over the prompts of one optimiser step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..config.fit import Fit
from ..policy.memory import OnEvent
from .batches import MicroBatch
from .sft import SFTBatch

HALF_SCALE = 2.0**16  # of the loss in float16


@dataclass
class Gradient:
    """The loss of one optimiser step's prompts, with its gradient in ``weights``.

    Attributes:
        scale: of the loss in the backward pass, see ``fit``; lowered for good where a gradient overflows.
    """

    network: Any
    weights: list[torch.nn.Parameter]
    size: float
    settings: Fit
    pad_id: int
    on_event: OnEvent
    scale: float

    def __call__(self, step: Sequence[MicroBatch], texts: Sequence[SFTBatch]) -> tuple[float, dict[str, float]]:
        """The total that is minimised, and the record of it."""
        while True:
            for trained in self.weights:
                trained.grad = None
            try:
                loss, weighted_nll = self._backward(step, texts)
            except torch.OutOfMemoryError:
                continue  # the pass that did not fit is halved; the gradient so far is of no use
            for trained in self.weights if self.scale != 1.0 else ():
                trained.grad = None if trained.grad is None else trained.grad.div_(self.scale)
            norm = float(torch.nn.utils.clip_grad_norm_(self.weights, self.settings.max_grad_norm))
            if math.isfinite(norm) or self.scale == 1.0 or not math.isfinite(loss + weighted_nll):
                break
            self.scale = max(1.0, self.scale / 4)  # the gradient overflowed on its way through float16
        nll = {"sft_nll": weighted_nll / self.settings.sft_weight} if texts else {}
        return loss + weighted_nll, {"loss": loss, "gradient_norm": norm, **nll}

    def _backward(self, step: Sequence[MicroBatch], texts: Sequence[SFTBatch]) -> tuple[float, float]:
        """The loss, a mean over the step's prompts, and the weighted NLL of the SFT texts; adds their gradients."""
        network, pad_id, settings, scale = self.network, self.pad_id, self.settings, self.scale
        each = scale / sum(len(batch.rollouts) for batch in step)
        loss = sum(b.backward(network, pad_id, self.size, settings.baseline, each, self.on_event) for b in step) / scale
        nll = sum(b.backward(network, pad_id, scale * settings.sft_weight, self.on_event) for b in texts) / scale
        return loss, nll
