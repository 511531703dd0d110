"""Step sizes: a number, or a function of the iteration t = 1, 2, ..."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

Schedule: TypeAlias = float | Callable[[int], float]


def at(schedule: Schedule, t: int) -> float:
    """The step size of iteration ``t``; ValueError if it is not a positive number."""
    size = schedule(t) if callable(schedule) else schedule
    if not (math.isfinite(size) and size > 0):
        raise ValueError(f"the step of iteration {t} must be a positive number, got {size}")
    return size


def check(step: Schedule, **not_negative: float) -> None:
    """Refuse a constant step that is not positive, and any other setting that is negative, before the first play."""
    if not callable(step):
        at(step, 1)
    for name, value in not_negative.items():
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"{name} must be a number >= 0, got {value}")
