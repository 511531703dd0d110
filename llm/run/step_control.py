"""The step and the learning rate of each iteration: those of its phase, lowered where earlier ones crossed a limit."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

from nashward.errors import NashwardError
from nashward.games import Solver, schedule

from ..config.limits import Limits
from ..config.phase import Phase
from ..config.run import RunConfig
from ..processes import processes
from ..store.files import read_jsonl
from ..store.run_folder import METRICS, RunFolder, step_name


def phase_of(phases: Sequence[Phase], iteration: int) -> Phase | None:
    """The phase of the t-th iteration, from 1 on; None where there are none.

    Example:
        >>> phase_of([Phase(2, step=1.0), Phase(1, step=0.5)], 3)
        Phase(iterations=1, step=0.5, learning_rate=None)
    """
    ends = accumulate(phase.iterations for phase in phases)
    current = [phase for phase, end in zip(phases, ends, strict=True) if iteration <= end] or phases[-1:]
    return current[0] if current else None


def with_phases(solver: Solver, phases: Sequence[Phase]) -> Solver:
    """The solver with the steps of the phases; where it wraps another solver, that one with them.

    Returns:
        a solver of the same class, whose step is a schedule; the given one where no phase has a step.

    Raises:
        ValueError: a solver without a constant step, or one that refuses that of a phase.

    Example:
        >>> from nashward import games
        >>> [with_phases(games.solvers.SOLVERS[0](step=4.0), [Phase(2), Phase(1, step=1.0)]).step(t) for t in (1, 2, 3)]
        [4.0, 4.0, 1.0]
    """
    if all(phase.step is None for phase in phases):
        return solver
    outer: Any = solver
    if hasattr(outer, "solver"):
        return dataclasses.replace(outer, solver=with_phases(outer.solver, phases))
    step = getattr(solver, "step", None)
    if not isinstance(step, int | float):
        raise NashwardError(f"{type(solver).__name__} has no constant step; leave step out of the phases")
    steps = [step if phase.step is None else phase.step for phase in phases]
    for size in steps:
        dataclasses.replace(outer, step=size)  # its own checks
    ends = zip([phase.iterations for phase in phases], steps, strict=True)
    return dataclasses.replace(outer, step=schedule.phased(list(ends)))


def with_factor(solver: Solver, factor: Callable[[int], float]) -> Solver:
    """The solver with the step of its t-th iteration multiplied by ``factor(t)``; where it wraps another solver, that
    one with it.

    Raises:
        ValueError: a solver without a step.

    Example:
        >>> from nashward import games
        >>> halved = with_factor(games.solvers.SOLVERS[0](step=4.0), lambda t: 0.5 ** (t - 1))
        >>> [halved.step(t) for t in (1, 2, 3)]
        [4.0, 2.0, 1.0]
    """
    outer: Any = solver
    if hasattr(outer, "solver"):
        return dataclasses.replace(outer, solver=with_factor(outer.solver, factor))
    step = getattr(outer, "step", None)
    if not (callable(step) or isinstance(step, int | float)):
        raise NashwardError(
            f"{type(solver).__name__} has no step that a limit could lower; let it lower the learning-rate"
        )
    return dataclasses.replace(outer, step=lambda t: factor(t) * schedule.at(step, t))


def controlled(solver: Solver, config: RunConfig, home: RunFolder) -> Solver:
    """The solver with the steps of the phases, lowered where an iteration of the folder was beyond a limit.

    Raises:
        ValueError: see ``with_phases`` and ``with_factor``.
    """
    solver, limits = with_phases(solver, config.phases), config.limits
    if not limits.stated or limits.lowers != "step":
        return solver
    return with_factor(solver, lambda t: processes.decided(lambda: limit_factor(limits, home, t)))


def limit_factor(limits: Limits, home: RunFolder, t: int) -> float:
    """What the step or the learning rate of iteration t is multiplied by: ``factor ** (earlier ones beyond a limit)``.

    It is a function of the sealed metrics of the run folder alone, so that a run that continues takes the same steps.
    """
    adapters = (home / step_name(k) / "adapter" for k in range(1, t))
    rows = [row for adapter in adapters for row in read_jsonl(adapter / METRICS) if row.get("crossed")]
    return limits.factor ** len(rows)
