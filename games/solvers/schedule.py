"""Step sizes: a number, or a function of the iteration t = 1, 2, ...; and those functions that theorems ask for.

A solver's policies are opaque to it, so a step depends on t alone: what it plays is the same when it is played again.
A step that adapts to payoffs (AdaHedge's to the regret so far, AdaGrad's to squared gradients) needs what a solver does
not see, and is not here; ``doubling`` adapts to the horizon, which t tells.
Where steps fall, the theorem for multiplicative weights speaks of the average *weighted by the step*:
``solve(game, MWU(schedule), averaging=schedule)``.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import TypeAlias

Schedule: TypeAlias = float | Callable[[int], float]
"""A step size: one for all, or a function of t = 1, 2, ..."""


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


def whole(name: str, value: int) -> None:
    """Refuse what is not a whole number of at least 1."""
    if value != int(value) or value < 1:
        raise ValueError(f"{name} must be a whole number >= 1, got {value}")


def horizon(iterations: int, C: float) -> float:
    """The constant step ``sqrt(8 C / T)`` of multiplicative weights for T iterations, C = max_y -log pi_1(y).

    It makes the bound of :class:`nashward.theory.MWUAverage` smallest, ``sqrt(2 C / T)``.
    """
    return at(math.sqrt(8 * C / iterations), 1)


def doubling(C: float) -> Callable[[int], float]:
    """``horizon`` for a number of iterations that nobody told: over t = 2^k .. 2^(k+1) - 1 the step for T = 2^k.

    It adapts to any horizon at the price of a constant factor (the doubling trick).
    """
    return lambda t: horizon(2 ** (t.bit_length() - 1), C)


def inverse_sqrt(scale: float) -> Callable[[int], float]:
    """``scale / sqrt(t)``."""
    return lambda t: scale / math.sqrt(t)


def harmonic(tau: float) -> Callable[[int], float]:
    """``2 / (tau (t + 2))``, the theorem's schedule for Nash-MD (8 / (tau^2 (T + 1)) in KL) and for INPO.

    Source: arXiv 2312.00886, theorem 1; arXiv 2407.00617, theorem 4 (there eta_t = tau (t + 2) / 2 is its inverse).
    """
    return lambda t: 2 / (tau * (t + 2))


def phased(phases: Sequence[tuple[int, float]]) -> Callable[[int], float]:
    """The steps of phases, each (iterations, step), one after another; the last one goes on.

    Example:
        >>> step = phased([(2, 1.0), (1, 0.5)])
        >>> [step(t) for t in range(1, 6)]
        [1.0, 1.0, 0.5, 0.5, 0.5]
    """
    ends = list(accumulate(count for count, _ in phases))
    return lambda t: phases[min(bisect_left(ends, t), len(phases) - 1)][1]
