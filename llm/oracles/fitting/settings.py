"""The folds of a cross-validation by prompt, and the schedule of the learning rate."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from nashward.games.shapes import Int

from ...config.oracle_fit import RATES as RATES
from ...config.oracle_fit import FitSettings as FitSettings


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
