"""Local stability of any solver, by running it on a small rotation around the equilibrium."""

from __future__ import annotations

import math
from collections.abc import Callable

from nashward.errors import NashwardError
from nashward.games import Policy, Solver, Step
from nashward.games.driver import drive
from nashward.games.step import is_finite
from nashward.shortened import quoted


def local_factor(solver: Solver, lam: float, iterations: int = 200) -> float:
    """The factor by which a small deviation from the equilibrium grows (> 1) or shrinks (< 1) per iteration.

    Around a fixed point at which all policies meet, geometric and linear blends are the same, and payoffs act on
    deviations of log pi as a rotation with the frequencies +- i lam of ``games.rotation_frequency``. So the solver
    itself is run by the usual driver on complex numbers, from z = 1 with 0 for the reference:

    .. math::  z_{next} = \\sum_k w_k z_k + i \\lambda \\, size \\sum_j c_j z_j

    For multiplicative weights the factor is ``|1 + i step lam| = sqrt(1 + step^2 lam^2)``.

    Args:
        solver: any mirror-step solver.
        lam: the frequency at the point where the solver comes to rest (with tau > 0 the regularised Nash).
        iterations: the factor is the geometric mean over so many iterations, after as many again as burn-in. A solver
            that repeats after k iterations needs a multiple of k.

    Returns:
        The factor per iteration.

    Raises:
        ValueError: a frequency below 0 or not finite.

    See also:
        ``stable_below``: the largest stable step. ``LocalThreshold``: the formula, where there is one.

    Source: derived: the step is linearised at the fixed point.

    Example:
        >>> from nashward import games
        >>> round(local_factor(games.MWU(step=2.0), lam=0.2), 6), round(math.sqrt(1 + 0.4**2), 6)
        (1.077033, 1.077033)
    """
    _check_frequency(lam)
    sizes: list[float] = []

    def execute(step: Step) -> Policy:
        value = sum(w * p.value for p, w in step.anchor.members().items())
        if step.opponent is not None:
            value += 1j * lam * step.size * sum(c * p.value for p, c in step.opponent.members().items())
        return Policy(value)

    def record(step: Step, policy: Policy) -> bool:
        if not step.is_iterate:
            return False
        sizes.append(abs(policy.value))
        return not 1e-100 < abs(policy.value) < 1e100  # long before it overflows or underflows

    drive(solver, Policy(1.0 + 0j), Policy(0j), execute, record, 2 * iterations)
    half = len(sizes) // 2
    early = sizes[half - 1] if half else 1.0
    return (sizes[-1] / early) ** (1 / (len(sizes) - half))


def stable_below(make: Callable[[float], Solver], lam: float, iterations: int = 200, first: float = 1e-2) -> float:
    """The step up to which ``make(step)`` is locally stable, by bisection upwards from ``first``.

    A solver may be stable again at larger steps. Where it is stable up to the largest step that it allows
    (``step * tau`` of 1), this is that step.

    Args:
        make: makes the solver for a step.
        lam: the frequency at the point where the solver comes to rest.
        iterations: as for ``local_factor``.
        first: the smallest step that is tried.

    Returns:
        The step; 0: not stable at ``first``; inf: stable at 1e6.

    Raises:
        ValueError: a frequency below 0 or not finite, or a solver that refuses ``first``.

    See also:
        ``local_factor``: how fast deviations grow or shrink at one step.

    Source: derived; see ``local_factor``.

    Example:
        >>> from nashward import games
        >>> round(stable_below(games.OptimisticMWU, lam=0.25), 9), round(1 / (math.sqrt(3) * 0.25), 9)
        (2.309401077, 2.309401077)
    """

    def stable(step: float) -> bool:
        return local_factor(make(step), lam, iterations) < 1

    def allowed_and_stable(step: float) -> bool:
        try:
            return stable(step)
        except NashwardError:  # a step beyond those that the solver allows
            return False

    step = first
    if not stable(step):
        return 0.0
    while allowed_and_stable(step):
        step *= 1.25
        if step > 1e6:
            return math.inf
    low, high = step / 1.25, step
    while high - low > 1e-10 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if allowed_and_stable(middle) else (low, middle)
    return low


def _check_frequency(lam: float) -> None:
    if not (is_finite(lam) and lam >= 0):
        raise NashwardError(
            f"lam is {quoted(lam, 40)}; expected a frequency, a finite number >= 0, as of games.rotation_frequency"
        )
