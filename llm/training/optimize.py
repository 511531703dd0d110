"""The fit of one step: an adapter trained by regression on stored responses."""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, get_args

import bitsandbytes
import torch
from torch.optim.lr_scheduler import LambdaLR

from nashward.errors import DivergedError, NashwardError

from ..config.fit import Fit, Optimiser, Schedule
from ..policy.memory import OnEvent, ignore_event
from ..processes import processes
from .batches import MicroBatch
from .checkpoint import Checkpoints, State
from .gradient import HALF_SCALE, Gradient
from .sft import SFTBatch

OPTIMISERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adamw": lambda weights, lr: torch.optim.AdamW(weights, lr=lr, weight_decay=0.0),
    "rmsprop": lambda weights, lr: torch.optim.RMSprop(weights, lr=lr),
    # bitsandbytes' own: states in 8 bits (of weights under 4096 entries in 32), or paged to host memory on a GPU
    "adamw8bit": lambda weights, lr: bitsandbytes.optim.AdamW8bit(weights, lr=lr, weight_decay=0.0),
    "rmsprop8bit": lambda weights, lr: bitsandbytes.optim.RMSprop8bit(weights, lr=lr),
    "paged-adamw": lambda weights, lr: bitsandbytes.optim.PagedAdamW(weights, lr=lr, weight_decay=0.0),
    "paged-adamw8bit": lambda weights, lr: bitsandbytes.optim.PagedAdamW8bit(weights, lr=lr, weight_decay=0.0),
    "lbfgs": lambda weights, lr: torch.optim.LBFGS(
        weights, lr=lr, max_iter=60, tolerance_grad=1e-9, tolerance_change=1e-14, line_search_fn="strong_wolfe"
    ),
}


def order(batches: Sequence[MicroBatch], settings: Fit, seed: int) -> list[list[MicroBatch]]:
    """The micro-batches of each optimiser step of a fit."""
    shuffle = random.Random(seed)
    return [s for epoch in range(settings.epochs) for s in _epoch(batches, settings.batch, shuffle, epoch == 0)]


def fit(
    network: Any,
    weights: list[torch.nn.Parameter],
    batches: Sequence[MicroBatch],
    size: float,
    settings: Fit,
    pad_id: int,
    seed: int,
    progress: Callable[[int, bool], Any] = lambda done, before: None,
    on_event: OnEvent = ignore_event,
    checkpoints: Checkpoints | None = None,
    stop: Callable[[], bool] = lambda: False,
    half: bool = False,
    sft: Sequence[SFTBatch] = (),
) -> list[dict[str, float]]:
    """Train ``weights`` so that the log-ratio to the anchor meets its target; each of several processes passes its part
    of every optimiser step, see ``Division``, and the first one writes the checkpoints.

    Args:
        network: in the mode in which it is trained, with the adapter active.
        batches: with their log-probabilities scored.
        size: the Step's size.
        progress: called with a number of prompts done, and whether they were done before a restart.
        on_event: called where memory ran out.
        checkpoints: where to go on from, and where to save the state to.
        stop: called after each optimiser step; where it returns True the fit ends there.
        half: the network computes in float16, whose smallest number is 6e-8: the loss is scaled up for the backward
            pass, and less where that overflows; a step is then taken again, never left out.
        sft: a micro-batch of SFT texts for each optimiser step, whose NLL is minimised as well; empty: none.

    Returns:
        a record of each optimiser step, fewer than steps where it was stopped: see ``metrics.STEP_FIELDS``.

    Raises:
        DivergedError: the loss is not finite any more.
        NashwardError: the settings have no learning rate.
    """
    steps = order(batches, settings, seed)
    if settings.learning_rate is None:
        raise NashwardError("a fit needs a number as its learning_rate; trial_step.learning_rate finds one")
    optimiser = OPTIMISERS[settings.optimiser](weights, settings.learning_rate)
    warmup = round(settings.warmup * len(steps))
    scheduler = LambdaLR(optimiser, lambda done: rate_factor(settings.schedule, done, warmup, len(steps)))
    records: list[dict[str, float]] = []
    key = _key(batches, size, settings, seed, sft)
    scale = HALF_SCALE if half else 1.0
    gradient = Gradient(network, weights, size, settings, pad_id, on_event, scale)
    state = processes.decided(lambda: checkpoints.load(key)) if checkpoints is not None else None
    gradient.division.prepare(steps[0 if state is None else len(state.records) :])
    if state is not None:
        _restore(state, weights, optimiser, scheduler, batches)
        records = state.records
        progress(sum(len(batch.rollouts) for step in steps[: len(records)] for batch in step), True)
    if half and records:
        gradient.scale = records[-1]["loss_scale"]
    for number in range(len(records), len(steps)):
        step, texts = steps[number], sft[number : number + 1]
        rate = float(scheduler.get_last_lr()[0])
        record = {**_optimiser_step(optimiser, gradient, step, texts), "learning_rate": rate}
        scheduler.step()
        value = record["loss"] + record.get("sft_nll", 0.0)
        if not math.isfinite(value):
            raise DivergedError(
                f"the fit diverged: the loss of optimiser step {number + 1} of {len(steps)} is {value}; take a "
                f"learning_rate below {settings.learning_rate:g}, or a solver's step that is smaller"
            )
        records.append({**record, "loss_scale": gradient.scale} if half else record)
        progress(sum(len(batch.rollouts) for batch in step), False)
        stopping = stop()
        # a last checkpoint, so that what is measured afterwards can be measured again
        if checkpoints is not None and processes.main and (stopping or checkpoints.due or len(records) == len(steps)):
            passes = [batch.passes for batch in batches]
            state = State(list(weights), optimiser.state_dict(), scheduler.state_dict(), passes, records)
            checkpoints.save(key, state, len(steps))
        if stopping:
            break
    return records


def rate_factor(schedule: Schedule, done: int, warmup: int, steps: int) -> float:
    """What the learning rate is multiplied by in the optimiser step after ``done`` others; never 0 in one of them.

    Example:
        >>> [rate_factor("linear", done, 1, 5) for done in range(5)]
        [0.5, 1.0, 0.75, 0.5, 0.25]
    """
    if done < warmup:
        return (done + 1) / (warmup + 1)
    left = max(steps - done, 0) / max(steps - warmup, 1)
    return {"linear": left, "cosine": (1 - math.cos(math.pi * left)) / 2, "constant": 1.0}[schedule]


def _optimiser_step(
    optimiser: torch.optim.Optimizer, gradient: Gradient, step: Sequence[MicroBatch], texts: Sequence[SFTBatch]
) -> dict[str, float]:
    """One step; the record of its first evaluation (L-BFGS has several)."""
    records: list[dict[str, float]] = []

    def closure() -> float:
        total, record = gradient(step, texts)
        records.append(record)
        return total

    optimiser.step(closure)
    return records[0]


def _restore(
    state: State,
    weights: Sequence[torch.nn.Parameter],
    optimiser: torch.optim.Optimizer,
    scheduler: Any,
    batches: Sequence[MicroBatch],
) -> None:
    with torch.no_grad():
        for weight, value in zip(weights, state.weights, strict=True):
            weight.copy_(value)
    optimiser.load_state_dict(state.optimiser)
    scheduler.load_state_dict(state.scheduler)
    for batch, passes in zip(batches, state.passes, strict=True):
        batch.passes = passes


def _key(batches: Sequence[MicroBatch], size: float, settings: Fit, seed: int, sft: Sequence[SFTBatch] = ()) -> str:
    """What identifies a fit: a checkpoint of another fit is not taken."""
    targets = [batch.targets(size, settings.baseline).tolist() for batch in batches]
    prompts = [[rollout.prompt for rollout in batch.rollouts] for batch in batches]
    plain = replace(settings, checkpoint_seconds=0.0)
    texts = [batch.texts for batch in sft]
    sure = [batch.precision.tolist() for batch in batches if batch.precision is not None]
    return hashlib.sha256(repr((prompts, targets, size, plain, seed, texts, sure)).encode()).hexdigest()


def _epoch(
    batches: Sequence[MicroBatch], size: int, shuffle: random.Random, heaviest_first: bool
) -> Iterator[list[MicroBatch]]:
    """Micro-batches in a new order, gathered into optimiser steps of about ``size`` prompts.

    In the first epoch the heaviest one, which is given first, comes first: memory runs out at once or not at all.
    """
    order = list(batches)
    shuffle.shuffle(order)
    if heaviest_first:
        place = next(k for k, batch in enumerate(order) if batch is batches[0])
        order.insert(0, order.pop(place))
    step: list[MicroBatch] = []
    for batch in order:
        step.append(batch)
        if sum(len(b.rollouts) for b in step) >= size:
            yield step
            step = []
    if step:
        yield step


assert set(OPTIMISERS) == set(get_args(Optimiser))
