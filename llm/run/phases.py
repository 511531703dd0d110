"""Phases of a run: so many iterations with a step and a learning rate of their own."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from nashward.errors import NashwardError
from nashward.games import Solver, schedule


@dataclass(frozen=True)
class Phase:
    """Some iterations; the last phase of a run goes on to its end.

    Attributes:
        iterations: how many.
        step: the solver's constant step in them; None: its own.
        learning_rate: of their fits; None: that of ``Fit``.

    Raises:
        ValueError: iterations that are no whole number above 0, or a step or a rate that is no positive number.

    Example:
        >>> Phase.read({"iterations": 2, "learning_rate": 1e-4})
        Phase(iterations=2, step=None, learning_rate=0.0001)
    """

    iterations: int
    step: float | None = None
    learning_rate: float | None = None

    def __post_init__(self) -> None:
        if isinstance(self.iterations, bool) or not isinstance(self.iterations, int) or self.iterations < 1:
            raise NashwardError(f"a phase has a whole number of iterations, at least 1, got {self.iterations!r}")
        for name in ("step", "learning_rate"):
            value = getattr(self, name)
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if value is not None and not (number and 0 < value < math.inf):
                raise NashwardError(f"the {name} of a phase must be a positive number, got {value!r}")

    @classmethod
    def read(cls, row: Any) -> Phase:
        """One of a file of settings.

        Raises:
            ValueError: no mapping with ``iterations``, a name that is none of a phase's, or what the class refuses.
        """
        names = [field.name for field in dataclasses.fields(cls)]
        if not isinstance(row, Mapping) or "iterations" not in row or set(row) - set(names):
            had = ", ".join(map(str, row)) if isinstance(row, Mapping) else repr(row)
            raise NashwardError(f"a phase has iterations, and may have a step and a learning_rate; this one has {had}")
        return cls(**row)


def phase_of(phases: Sequence[Phase], iteration: int) -> Phase | None:
    """The phase of the t-th iteration, from 1 on; None where there are none.

    Example:
        >>> phase_of([Phase(2, step=1.0), Phase(1, step=0.5)], 3)
        Phase(iterations=1, step=0.5, learning_rate=None)
    """
    ends = accumulate(phase.iterations for phase in phases)
    current = [phase for phase, end in zip(phases, ends, strict=True) if iteration <= end] or phases[-1:]
    return current[0] if current else None


def stepped(solver: Solver, phases: Sequence[Phase]) -> Solver:
    """The solver with the steps of the phases, also where another one plays it.

    Raises:
        ValueError: a solver without a constant step, or one that refuses that of a phase.
    """
    if all(phase.step is None for phase in phases):
        return solver
    played: Any = solver
    if hasattr(played, "solver"):
        return dataclasses.replace(played, solver=stepped(played.solver, phases))
    own = getattr(solver, "step", None)
    if not isinstance(own, int | float):
        raise NashwardError(f"{type(solver).__name__} has no constant step; leave step out of the phases")
    steps = [own if phase.step is None else phase.step for phase in phases]
    for step in steps:
        dataclasses.replace(played, step=step)  # its own checks
    ends = zip([phase.iterations for phase in phases], steps, strict=True)
    return dataclasses.replace(played, step=schedule.phased(list(ends)))
