"""The learning rate of a fit, from one trial step: how far a step of the optimiser moves the log-ratio."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf

import torch

from ..config.fit import Baseline, Optimiser
from .batches import MicroBatch
from .experience import scored
from .gradient import Gradient
from .regression import residuals

SHARE = 0.3  # share of the target by which the first full step of a fit moves the log-ratio
MOVED = 1.0  # nats rms by which the trial moves it: far above the rounding of 16 bits
FIRST = 1e-5  # the first trial's step
TRIALS = 6
# an optimiser's first step, over its learning rate: Adam divides a gradient by its own size, RMSprop by a tenth of it
FIRST_STEP: dict[Optimiser, float] = {"rmsprop": 10.0, "rmsprop8bit": 10.0}


def learning_rate(
    gradient: Gradient, step: Sequence[MicroBatch], before_pass: Callable[[], object] = lambda: None
) -> float:
    """The learning rate at which the optimiser's first step moves the log-ratio by ``SHARE`` of the target, both rms.

    .. math::
        \\eta = 0.3 \\; \\frac{\\mathrm{rms}(t)}{c}, \\qquad
        c = \\frac{1}{r} \\, \\mathrm{rms}(\\log \\pi_{\\theta - r \\, \\mathrm{sign}(g)} - \\log \\pi_\\theta)

    Adam's steps have a size of their own, whatever the loss: a target of half a nat and one of ten get the same step.
    So the rate has to come from the target. c, in nats per unit of rate, is measured on the step's own responses.

    Args:
        gradient: that of the fit; its weights are as before afterwards.
        step: the micro-batches of the first optimiser step, with their log-probabilities scored.
        before_pass: called before each pass of a trial; where it raises, the weights are as before too.

    Returns:
        the rate; 1 for lbfgs, which searches along lines; ``FIRST`` where nothing is to be learned.
    """
    settings, network, pad_id = gradient.settings, gradient.network, gradient.pad_id
    if settings.optimiser == "lbfgs":
        return 1.0
    target = _rms([_residual(batch, gradient.size, settings.baseline) for batch in step], step)
    devices = [weight.device for weight in gradient.weights if weight.device.type == "cuda"]
    # dropout draws: those of the fit are to be the same as without a trial
    with torch.random.fork_rng(devices=devices[:1]):
        start = [weight.detach().clone() for weight in gradient.weights]
        try:
            gradient(step, ())
            signs = [torch.zeros_like(w) if w.grad is None else w.grad.sign() for w in gradient.weights]
            following, moved = FIRST, 0.0
            for _ in range(TRIALS):
                rate = following
                with torch.no_grad():
                    for weight, begin, sign in zip(gradient.weights, start, signs, strict=True):
                        weight.copy_(begin - rate * sign)
                now = []
                for batch in step:
                    before_pass()
                    now.append(batch.logprobs(network, pad_id, gradient.on_event))
                moved = _rms([a - scored(batch.start, "start") for a, batch in zip(now, step, strict=True)], step)
                if MOVED / 2 <= moved <= 2 * MOVED:
                    break
                factor = MOVED / moved if moved > 0 else inf  # 0: the step was lost in rounding
                following = rate * (min(max(factor, 1 / 30), 30.0) if moved < inf else 1 / 30)
        finally:
            with torch.no_grad():
                for weight, begin in zip(gradient.weights, start, strict=True):
                    weight.copy_(begin)
                    weight.grad = None
    if not 0 < moved < inf or not target > 0:
        return FIRST
    return SHARE * target * rate / moved / FIRST_STEP.get(settings.optimiser, 1.0)


def _residual(batch: MicroBatch, size: float, baseline: Baseline) -> torch.Tensor:
    """What the log-ratio lacks of its target where the fit starts."""
    ratio = scored(batch.start, "start") - scored(batch.anchor, "anchor")
    return residuals(ratio, batch.targets(size, baseline), batch.fit_weights, baseline)


def _rms(values: Sequence[torch.Tensor], step: Sequence[MicroBatch]) -> float:
    """Root mean square over the responses that are fitted, by their weights in it."""
    weights = [batch.fit_weights.double() for batch in step]
    total = sum(float((w * value.double().to(w).square()).sum()) for w, value in zip(weights, values, strict=True))
    return (total / sum(float(w.sum()) for w in weights)) ** 0.5
