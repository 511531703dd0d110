"""Step sizes: a number, or a function of the iteration t = 1, 2, ...; and the schedules of the theorems.

Policies are opaque to a solver, so a step depends on t alone, and a run can be replayed. Steps that adapt to payoffs
(AdaHedge, AdaGrad) need what a solver does not see, and are left out; ``doubling`` adapts to the horizon.
For falling steps the theorem for multiplicative weights is about the average *weighted by the step*:
``solve(game, MWU(schedule), averaging=schedule)``.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, TypeAlias

from nashward.errors import NashwardError
from nashward.games.step import is_finite
from nashward.shortened import quoted

Schedule: TypeAlias = float | Callable[[int], float]
"""A step size: one number, or a function of t = 1, 2, ..."""


@dataclass(frozen=True)
class Rule:
    """A schedule that is shown by its name and settings, and can be compared and pickled, as a closure cannot.

    Args:
        size: a function of a module, of t and the settings.
        settings: those of the schedule.

    Example:
        >>> inverse_sqrt(0.5)
        inverse_sqrt(0.5)
    """

    size: Callable[..., float]
    settings: tuple[Any, ...]

    def __call__(self, t: int) -> float:
        return self.size(t, *self.settings)

    def __repr__(self) -> str:
        return f"{self.size.__name__.removeprefix('_')}({', '.join(map(repr, self.settings))})"


def at(schedule: Schedule, t: int) -> float:
    """The step size of iteration ``t``.

    Args:
        schedule: a step size, or a function of t.
        t: 1, 2, ...

    Raises:
        ValueError: the step is not a positive number.

    Example:
        >>> at(0.5, 3), at(inverse_sqrt(1.0), 4)
        (0.5, 0.5)
    """
    size = schedule(t) if callable(schedule) else schedule
    if not (is_finite(size) and size > 0):
        raise NashwardError(f"the step of iteration {t} must be a positive number, got {quoted(size, 80)}")
    return size


def check_step(step: Schedule, **not_negative: float) -> None:
    """Check a constant step and other settings before the first step.

    Args:
        step: a step size, or a function of t, which is not called.
        not_negative: further settings, by name.

    Raises:
        ValueError: a constant step that is not a positive number, another setting that is not a number >= 0.

    Example:
        >>> check_step(0.5, tau=0.1)
        >>> try: check_step(0.5, tau=-1.0)
        ... except ValueError as error: print(error)
        tau must be a number >= 0, got -1.0
    """
    if not callable(step):
        if hasattr(step, "__len__") and not isinstance(step, str) and getattr(step, "ndim", True):
            raise NashwardError(
                f"the step must be a positive number or a function of t, got {quoted(step, 80)}; for several steps: "
                "games.sweep(game, solver, step=[...])"
            )
        at(step, 1)
    for name, value in not_negative.items():
        if not (is_finite(value) and value >= 0):
            raise NashwardError(f"{name} must be a number >= 0, got {quoted(value, 80)}")


def check_whole(name: str, value: int) -> None:
    """Check that a setting is a whole number of at least 1.

    Args:
        name: the name of the setting, for the message.
        value: the setting.

    Raises:
        ValueError: the value is not a whole number of at least 1.

    Example:
        >>> try: check_whole("n", 0)
        ... except ValueError as error: print(error)
        n must be a whole number >= 1, got 0
    """
    if not is_finite(value) or value != int(value) or value < 1:
        raise NashwardError(f"{name} must be a whole number >= 1, got {quoted(value, 80)}")


def horizon(iterations: int, C: float) -> float:
    """The constant step ``sqrt(8 C / T)`` of multiplicative weights for T iterations, C = max_y -log pi_1(y).

    It makes the bound of :class:`nashward.theory.MWUAverage` smallest, ``sqrt(2 C / T)``.

    Args:
        iterations: T.
        C: max_y -log pi_1(y), in nats; log n for a uniform start.

    Raises:
        ValueError: C is not above 0, so that no step would be made; iterations below 1.

    Source: Freund & Schapire 1999, with Hoeffding's lemma.

    Example:
        >>> round(horizon(10_000, C=math.log(10)), 4)
        0.0429
    """
    check_whole("iterations", iterations)
    _check_positive("C", C)
    return math.sqrt(8 * C / iterations)


def doubling(C: float) -> Callable[[int], float]:
    """``horizon`` for an unknown number of iterations: for t = 2^k .. 2^(k+1) - 1 it is the step for T = 2^k.

    It adapts to any horizon at the price of a constant factor (the doubling trick).

    Args:
        C: max_y -log pi_1(y), in nats.

    Example:
        >>> step = doubling(C=math.log(3))
        >>> [round(step(t), 3) for t in (1, 2, 3, 4)]
        [2.965, 2.096, 2.096, 1.482]
    """
    return Rule(_doubling, (C,))


def _doubling(t: int, C: float) -> float:
    return horizon(2 ** (t.bit_length() - 1), C)


def inverse_sqrt(scale: float) -> Callable[[int], float]:
    """``scale / sqrt(t)``.

    Args:
        scale: the first step.

    Raises:
        ValueError: a scale that is not a positive number.

    Example:
        >>> [inverse_sqrt(1.0)(t) for t in (1, 4, 16)]
        [1.0, 0.5, 0.25]
    """
    _check_positive("scale", scale)
    return Rule(_inverse_sqrt, (scale,))


def _inverse_sqrt(t: int, scale: float) -> float:
    return scale / math.sqrt(t)


def harmonic(tau: float) -> Callable[[int], float]:
    """``2 / (tau (t + 2))``, the theorem's schedule for Nash-MD (8 / (tau^2 (T + 1)) in KL) and for INPO.

    Args:
        tau: the strength of the regularisation towards the reference.

    Raises:
        ValueError: a tau that is not a positive number.

    Source: arXiv 2312.00886, theorem 1; arXiv 2407.00617, theorem 4 (there eta_t = tau (t + 2) / 2 is its inverse).

    Example:
        >>> [harmonic(0.5)(t) for t in (2, 6, 14)]
        [1.0, 0.5, 0.25]
    """
    _check_positive("tau", tau)
    return Rule(_harmonic, (tau,))


def _harmonic(t: int, tau: float) -> float:
    return 2 / (tau * (t + 2))


def phased(phases: Sequence[tuple[int, float]]) -> Callable[[int], float]:
    """Piecewise constant steps: phases of (iterations, step) one after another; the last one continues.

    Args:
        phases: (iterations, step) for each phase, at least one.

    Raises:
        ValueError: no phase.

    Example:
        >>> step = phased([(2, 1.0), (1, 0.5)])
        >>> [step(t) for t in range(1, 6)]
        [1.0, 1.0, 0.5, 0.5, 0.5]
    """
    if not phases:
        raise NashwardError("phased needs at least one phase (iterations, step), got none")
    return Rule(_phased, (tuple((count, step) for count, step in phases),))


def _phased(t: int, phases: Sequence[tuple[int, float]]) -> float:
    ends = list(accumulate(count for count, _ in phases))
    return phases[min(bisect_left(ends, t), len(phases) - 1)][1]


def _check_positive(name: str, value: float) -> None:
    if not (is_finite(value) and value > 0):
        raise NashwardError(f"{name} must be a positive number, got {value!r:.80}")
