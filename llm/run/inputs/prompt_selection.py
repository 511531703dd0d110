"""Which prompts an iteration plays on: all of its own, the next ones of an order, or the more informative."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nashward.counted import counted
from nashward.games.shapes import Bool, Float

from ...config.run import RunConfig
from ...data.prompts import Prompt
from ...policy.sampling import seed_of
from ...processes import processes
from ...store.files import to_jsonl
from ...store.run_folder import PROMPT_SELECTION, RunFolder
from ...store.saved_inputs import saved_in_step
from ...training.regression import own_columns, win_rates
from ..rollouts import PromptNumbers, RolloutStore
from .augmentation import Augmenter
from .coverage import coverage, covering, features


@dataclass
class PromptSelector:
    """Selects the prompts of each iteration of a run.

    Where a prompt of an iteration has been judged before, informative selection draws it with a probability that grows
    with the spread of its responses' win rates over each other: their standard deviation in the newest table
    ``[K, K]`` that the run has of it. Where all responses are equally good the payoffs are equal, and the
    prompt teaches nothing. A prompt that was not judged yet counts as the mean of those that were; before any was, all
    are equally probable.

    Selection by coverage takes the next ones of the order of ``covering``: the first iteration's are like as many of
    all prompts as possible, the second's cover what these leave, and after the last prompt the order begins anew.

    What was selected is written into the folder of the iteration's first step, with spread and probability (or
    coverage) of each prompt, so that a run that continues plays on the same prompts.

    Args:
        home: the run folder.
        prompts: all prompts of the run.
        lengths: how long each is, in tokens; prompts of all lengths are selected.
        config: sizes, seed, and the way of selection.
        rollouts: where the tables are.
        info: called with a line about a selection.
        augmenter: adds variants of prompts to an iteration, among its size where it has one; None: there are none.

    Source: prompts drawn by the spread of their rewards: arXiv 2411.00062 (eva), where it is the distance of the best
        response; a sample with given probabilities: Madow, Annals of Mathematical Statistics 20, 1949.
    """

    home: RunFolder
    prompts: Sequence[Prompt]
    lengths: Sequence[int]
    config: RunConfig
    rollouts: RolloutStore
    info: Callable[[str], object]
    augmenter: Augmenter | None = None
    _known: dict[int, PromptNumbers] = field(default_factory=dict, init=False, repr=False)

    def numbers(self, iteration: int, step: Path) -> PromptNumbers:
        """The prompts of an iteration, by their numbers.

        Args:
            iteration: from 0.
            step: the folder of a step of it; what is selected is written into that of the first one.
        """
        if iteration not in self._known:
            stated = {prompt.iteration for prompt in self.prompts if prompt.iteration is not None}
            parts: list[int | None] = [*sorted(stated)] or [None]
            part = iteration % len(parts)
            own = [
                k
                for k, prompt in enumerate(self.prompts)
                if prompt.parent is None and prompt.iteration in (None, parts[part])
            ]
            size = self.config.prompts_per_iteration
            # variants are among the size: each iteration of this part takes fewer of its own, up to this one
            variants = [self._variants(of, len(own)) for of in range(part, iteration + 1, len(parts))]
            *before, count = [min(len(own), (size or len(own)) - wanted) for wanted in variants]
            if size is None or count == len(own):
                numbers = own
            elif self.config.prompt_selection == "uniform":
                numbers = self._shuffled(own, count, sum(before))
            else:
                numbers = processes.decided(
                    lambda: (
                        self._informative(own, count, step)
                        if self.config.prompt_selection == "informative"
                        else self._covering(own, count, sum(before), step)
                    )
                )
            if self.augmenter is not None:
                numbers = [*numbers, *self.augmenter.add(iteration, step, tuple(numbers), variants[-1])]
            self._known[iteration] = tuple(numbers)
        return self._known[iteration]

    def _variants(self, iteration: int, own: int) -> int:
        """How many variants an iteration has at most that draws from so many prompts."""
        size = min(self.config.prompts_per_iteration or own, own)
        return 0 if self.augmenter is None else self.augmenter.wanted(iteration, size)

    def _shuffled(self, own: Sequence[int], size: int, first: int) -> list[int]:
        """The prompts from that place on of an order that is shuffled for each epoch."""
        numbers: list[int] = []
        while len(numbers) < size:
            epoch, offset = divmod(first + len(numbers), len(own))
            order = list(own)
            random.Random(seed_of(self.config.seed, "prompts", epoch)).shuffle(order)
            numbers += order[offset : offset + size - len(numbers)]
        return sorted(set(numbers))

    def _informative(self, own: Sequence[int], size: int, step: Path) -> list[int]:
        def make() -> bytes:
            judged = self.rollouts.spreads(self.spread)
            spread = np.array([judged.get(number, np.nan) for number in own])
            probability = inclusion_probabilities(spread, size, self.config.prompt_floor)
            key = (self.config.seed, "prompt selection", step.name)
            # in the order of their lengths, so that the drawn prompts are of all lengths; ties by chance
            order = sorted(
                range(len(own)), key=lambda k: (self.lengths[own[k]], seed_of(*key, self.prompts[own[k]].id))
            )
            drawn = np.zeros(len(own), dtype=bool)
            drawn[order] = systematic_sample(probability[order], random.Random(seed_of(*key)).random())
            known = ~np.isnan(spread)
            if (drawn & known).any():
                self.info(
                    f"{step.name}: {drawn.sum()} of {counted(len(own), 'prompt')} by informativeness; spread of "
                    "win rates "
                    f"{spread[drawn & known].mean():.3f}, of all that were judged {spread[known].mean():.3f}"
                )
            return to_jsonl([
                {"prompt": self.prompts[number].id, "spread": float(s), "probability": float(p), "selected": bool(d)}
                for number, s, p, d in zip(own, spread, probability, drawn, strict=True)
            ])  # fmt: skip

        return self._saved(own, step, make)

    def _covering(self, own: Sequence[int], size: int, first: int, step: Path) -> list[int]:
        """The prompts from that place on of an order in which each covers the most of what those before it leave."""

        def make() -> bytes:
            seed = seed_of(self.config.seed, "coverage")
            texts, lengths = [self.prompts[k].text for k in own], [self.lengths[k] for k in own]
            vectors = features(texts, lengths, self.config.prompt_encoder)
            best = covering(vectors, min(len(own), first + size), self.config.prompts_per_iteration or size, seed)
            chosen = [best[(first + k) % len(own)] for k in range(size)]
            near, drawn = coverage(vectors, chosen), set(chosen)
            others = random.Random(seed_of(self.config.seed, "coverage", step.name)).sample(range(len(own)), size)
            self.info(
                f"{step.name}: {size} of {len(own)} prompts by coverage; similarity of a prompt to the nearest of them "
                f"{near.mean():.3f}, of as many at random {coverage(vectors, others).mean():.3f}"
            )
            return to_jsonl([
                {"prompt": self.prompts[number].id, "coverage": round(float(near[k]), 6), "selected": k in drawn}
                for k, number in enumerate(own)
            ])  # fmt: skip

        return self._saved(own, step, make)

    def _saved(self, own: Sequence[int], step: Path, make: Callable[[], bytes]) -> list[int]:
        """The prompts that the step's file says are selected; it is made where there is none yet."""
        content = saved_in_step(self.home, step / PROMPT_SELECTION, "prompt_selection", make)
        rows: list[dict[str, Any]] = [json.loads(line) for line in content.splitlines()]
        return [number for number, row in zip(own, rows, strict=True) if row["selected"]]

    def spread(self, P: Float[torch.Tensor, "K K"]) -> float:
        """How far the win rates of a prompt's responses are apart."""
        return win_rate_spread(P, own_columns(len(P), same=True, self_comparison=self.config.self_comparison))


def win_rate_spread(P: Float[torch.Tensor, "K K"], own_column: torch.Tensor | None) -> float:
    """The standard deviation of the row means of a table of win probabilities; NaN where fewer than 2 are judged.

    Args:
        P: ``[K, K]``; NaN where not judged.
        own_column: ``[K]``, the column of each row's own response, which is left out; None: none is.

    Example:
        >>> round(win_rate_spread(torch.tensor([[0.5, 0.9], [0.1, 0.5]]), torch.arange(2)), 3)
        0.4
    """
    rates = win_rates(P.double(), P.new_ones(len(P), dtype=torch.float64), own_column)
    rates = rates[~rates.isnan()]
    return round(float(rates.std(correction=0)), 12) if len(rates) > 1 else float("nan")


def inclusion_probabilities(spread: Float[np.ndarray, " n"], size: int, floor: float) -> Float[np.ndarray, " n"]:
    """How probable each prompt is to be among ``size``: at least ``floor * size / n``, the rest as its spread.

    .. math::  p_i = \\min(1, c (f + (1 - f) s_i / \\bar s)), \\qquad \\sum_i p_i = size

    Args:
        spread: ``[n]``, at least 0; NaN: not known, the mean of those that are.
        size: how many are drawn, at most n.
        floor: f, in (0, 1]; 1: all are equally probable.

    Returns:
        ``[n]``, their sum is ``size``.

    Example:
        >>> inclusion_probabilities(np.array([0.0, 0.1, 0.2, np.nan]), 2, floor=0.2)
        array([0.1, 0.5, 0.9, 0.5])
    """
    known = spread[~np.isnan(spread)]
    mean = known.mean() if len(known) else 0.0
    relative = np.where(np.isnan(spread), mean, spread) / mean if mean > 0 else np.ones(len(spread))
    share = floor + (1 - floor) * relative
    certain = np.zeros(len(spread), dtype=bool)
    while True:  # each round makes one more certain, or is the last
        left = size - certain.sum()
        probability = np.where(certain, 1.0, share * left / max(share[~certain].sum(), np.finfo(float).tiny))
        if not (probability > 1).any():
            return probability
        certain |= probability >= 1


def systematic_sample(probability: Float[np.ndarray, " n"], start: float) -> Bool[np.ndarray, " n"]:
    """A sample that has each element with its probability, and of each run of elements as many as their sum says.

    Args:
        probability: ``[n]``, their sum a whole number.
        start: uniform in [0, 1).

    Returns:
        ``[n]``, whether it is in the sample.

    Example:
        >>> systematic_sample(np.array([0.5, 0.5, 0.25, 0.75]), start=0.3)
        array([ True, False, False,  True])
    """
    ends = np.cumsum(probability)
    passed = np.floor(ends - start)  # whole numbers + start that were passed
    passed[-1] = round(ends[-1]) - 1  # whatever the last bits say
    return np.diff(passed, prepend=-1.0) > 0
