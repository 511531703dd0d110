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
from transformers import get_scheduler

from nashward.errors import DivergedError

from ..config.fit import Fit, Optimiser
from ..policy.memory import OnEvent, ignore_event
from .batches import MicroBatch
from .checkpoint import Checkpoints, State
from .sft import TaskBatch

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


HALF_SCALE = 2.0**16  # of the loss in float16


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
    task: Sequence[TaskBatch] = (),
) -> list[dict[str, float]]:
    """Train ``weights`` so that the log-ratio to the anchor meets its target; returns a record of every step.

    Args:
        network: in the mode in which it is trained, with the adapter active.
        batches: with their ``anchor`` log-probabilities filled in.
        size: the Step's size.
        progress: is told a number of prompts done, and whether they were done before a restart.
        on_event: is told where memory ran out.
        checkpoints: where to go on from, and where to keep what it takes to go on.
        stop: asked after each optimiser step; where it says so the fit stops there, with fewer records than steps.
        half: the network computes in float16, whose smallest number is 6e-8: the loss is scaled up for the backward
            pass, and less where that overflows; a step is then taken again, never left out.
        task: a micro-batch of task texts for each optimiser step, whose NLL is lowered beside; empty: none.

    Raises:
        DivergedError: the loss is not finite any more.
    """
    steps = order(batches, settings, seed)
    optimiser = OPTIMISERS[settings.optimiser](weights, settings.learning_rate)
    scheduler = get_scheduler(settings.schedule, optimiser, round(settings.warmup * len(steps)), len(steps))
    records: list[dict[str, float]] = []
    name = _name(batches, size, settings, seed, task)
    held = checkpoints.load(name) if checkpoints is not None else None
    if held is not None:
        with torch.no_grad():
            for weight, value in zip(weights, held.weights, strict=True):
                weight.copy_(value)
        optimiser.load_state_dict(held.optimiser)
        scheduler.load_state_dict(held.scheduler)
        records = held.records
        for batch, own in zip(batches, held.parts, strict=True):
            batch.parts = own
        progress(sum(len(batch.groups) for step in steps[: len(records)] for batch in step), True)
    scale = (records[-1]["loss_scale"] if records else HALF_SCALE) if half else 1.0
    for number in range(len(records), len(steps)):
        step, beside = steps[number], task[number : number + 1]
        prompts = sum(len(batch.groups) for batch in step)
        evaluated: list[dict[str, float]] = []

        def closure(
            step: list[MicroBatch] = step,
            beside: Sequence[TaskBatch] = beside,
            prompts: int = prompts,
            seen: list[dict[str, float]] = evaluated,
        ) -> float:
            nonlocal scale
            while True:
                optimiser.zero_grad(set_to_none=True)
                try:
                    each = scale / prompts
                    lost = (
                        sum(b.descend(network, pad_id, size, settings.baseline, each, on_event) for b in step) / scale
                    )
                    weight = settings.task_weight
                    likelihood = sum(b.descend(network, pad_id, scale * weight, on_event) for b in beside) / scale
                    total = lost + likelihood
                except torch.OutOfMemoryError:
                    continue  # the pass that did not fit is halved; the gradient so far is of no use
                for trained in weights if scale != 1.0 else ():
                    trained.grad = None if trained.grad is None else trained.grad.div_(scale)
                norm = float(torch.nn.utils.clip_grad_norm_(weights, settings.max_grad_norm))
                if math.isfinite(norm) or scale == 1.0 or not math.isfinite(total):
                    break
                scale = max(1.0, scale / 4)  # the gradient overflowed on its way through float16
            told = {"task_nll": likelihood / weight} if beside else {}
            seen.append({"loss": lost, "gradient_norm": norm, **told})
            return total

        rate = scheduler.get_last_lr()[0]
        optimiser.step(closure)
        scheduler.step()
        record = {**evaluated[0], "learning_rate": rate}
        lost = record["loss"] + record.get("task_nll", 0.0)
        if not math.isfinite(lost):
            raise DivergedError(
                f"the fit diverged: the loss of optimiser step {number + 1} of {len(steps)} is {lost}; take a "
                f"learning_rate below {settings.learning_rate:g}, or a solver's step that is smaller"
            )
        records.append({**record, "loss_scale": scale} if half else record)
        progress(prompts, False)
        stopping = stop()
        # the last one, so that what is measured afterwards can be measured again
        if checkpoints is not None and (stopping or checkpoints.due or len(records) == len(steps)):
            parts = [batch.parts for batch in batches]
            state = State(list(weights), optimiser.state_dict(), scheduler.state_dict(), parts, records)
            checkpoints.save(name, state, len(steps))
        if stopping:
            break
    return records


def _name(batches: Sequence[MicroBatch], size: float, settings: Fit, seed: int, task: Sequence[TaskBatch] = ()) -> str:
    """Names a fit: another one's checkpoint is of no use to it."""
    targets = [batch.targets(size, settings.baseline).tolist() for batch in batches]
    groups = [[group.name for group in batch.groups] for batch in batches]
    plain = replace(settings, checkpoint_seconds=0.0)
    texts = [batch.texts for batch in task]
    return hashlib.sha256(repr((groups, targets, size, plain, seed, texts)).encode()).hexdigest()


def _epoch(
    batches: Sequence[MicroBatch], size: int, shuffle: random.Random, heaviest_first: bool
) -> Iterator[list[MicroBatch]]:
    """Micro-batches in a new order, gathered into optimiser steps of about ``size`` prompts.

    In the first epoch the heaviest, which is the first that is given, comes first: memory runs out at once or not.
    """
    order = list(batches)
    shuffle.shuffle(order)
    if heaviest_first:
        place = next(k for k, batch in enumerate(order) if batch is batches[0])
        order.insert(0, order.pop(place))
    step: list[MicroBatch] = []
    for batch in order:
        step.append(batch)
        if sum(len(b.groups) for b in step) >= size:
            yield step
            step = []
    if step:
        yield step


assert set(OPTIMISERS) == set(get_args(Optimiser))
