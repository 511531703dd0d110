"""How an oracle is fitted: the settings, the folds by prompt, the course of the learning rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from nashward.errors import NashwardError
from nashward.games.shapes import Int
from nashward.llm.config.choices import check_choice

Train = Literal["head", "lora", "all"]
RATES: dict[str, float] = {"head": 1e-3, "lora": 2e-4, "all": 2e-5}


@dataclass(frozen=True)
class FitSettings:
    """How an oracle is fitted.

    Attributes:
        train: "head": the head alone, on states of the frozen encoder that are computed once; "lora": a LoRA on all its
            linear layers as well; "all": everything.
        folds: of the cross-validation, by prompt.
        epochs, patience: so many epochs at most; training stops earlier when ``patience`` of them bring no better
            held-out loss.
        learning_rate: None: 1e-3 for a head, 2e-4 for a LoRA, 2e-5 for all. A cosine over ``epochs`` after a warm-up.
        weight_decay: of AdamW.
        batch: pairs in an optimiser step.
        warmup: the share of the optimiser steps over which the rate rises.
        near_duplicates, length_matched, style_swapped: pairs added, as shares of the labelled ones: a response against
            its near copy (a tie), labelled pairs of like length once more, the winner in plain text against the loser
            in lists and bold.
        weigh_annotators: fit twice, the second time with each voter's votes weighed by his reliability.
        rank: of the LoRA.
        dimensions: d of a fresh preference embedding.
        ensemble: keep the folds' models beside the one that was trained on everything.
        half: store the weights in float16.
        seed: of everything.

    Raises:
        ValueError: a number out of its range, an odd dimension, or a part to train that is not known.

    Example:
        >>> FitSettings(dimensions=3)
        Traceback (most recent call last):
        nashward.errors.NashwardError: dimensions is 3; expected an even number
    """

    train: Train = "head"
    folds: int = 5
    epochs: int = 20
    patience: int = 3
    learning_rate: float | None = None
    weight_decay: float = 0.01
    batch: int = 32
    warmup: float = 0.05
    near_duplicates: float = 0.1
    length_matched: float = 0.1
    style_swapped: float = 0.05
    weigh_annotators: bool = False
    rank: int = 16
    dimensions: int = 8
    ensemble: bool = True
    half: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        check_choice("train", self.train, Train)
        least = {"folds": 2, "epochs": 1, "patience": 1, "batch": 1, "rank": 1, "dimensions": 2, "seed": 0}
        for name, bound in least.items():
            value = getattr(self, name)
            if not isinstance(value, int) or value < bound:
                raise NashwardError(f"{name} is {value}; expected a whole number, at least {bound}")
        for name in ("weight_decay", "warmup", "near_duplicates", "length_matched", "style_swapped"):
            if not 0 <= getattr(self, name) < math.inf:
                raise NashwardError(f"{name} is {getattr(self, name)}; expected 0 or more")
        if self.learning_rate is not None and not 0 < self.learning_rate < math.inf:
            raise NashwardError(f"learning_rate is {self.learning_rate}; expected a positive number")
        if self.dimensions % 2:
            raise NashwardError(f"dimensions is {self.dimensions}; expected an even number")


def fold_key(prompt: str) -> str:
    """Prompts that differ in blanks and case alone are one: they go to one fold."""
    return " ".join(prompt.casefold().split())


def folds(prompts: Sequence[str], count: int, seed: int) -> Int[np.ndarray, " prompts"]:
    """The fold ``[len(prompts)]`` of each: equal prompts are in one, and all have as many prompts, plus or minus 1."""
    keys = [fold_key(prompt) for prompt in prompts]
    unique = list(dict.fromkeys(keys))
    order = np.random.default_rng(seed).permutation(len(unique))
    of = {unique[int(k)]: place % min(count, len(unique)) for place, k in enumerate(order)}
    return np.array([of[key] for key in keys])


def warmed_cosine(step: int, steps: int, warmup: float) -> float:
    """The share of the full rate: a cosine to zero over all steps, times a linear rise over the first ``warmup``.

    Example:
        >>> [round(warmed_cosine(step, 4, warmup=2), 3) for step in range(5)]
        [0.5, 0.854, 0.5, 0.146, 0.0]
    """
    return min(1.0, (step + 1) / max(1.0, warmup)) * 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps)))
