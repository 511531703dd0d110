"""A solver's Steps as a table of numbers: which policies they blend, counted back from the newest one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nashward.errors import NashwardError

from ..opponents import OpponentName
from ..policy import Blend, Policy
from ..step import Solver, Step

START, REFERENCE, NOTHING = -1, -2, -3
DEEPEST = 64  # a policy further back than this is not kept


class UntraceableError(NashwardError):
    """The solver's Steps cannot be laid down before the policies are known, or look too far back."""


class _Unseen:
    """What a handle holds while a solver is traced: nothing that may be looked at."""

    def __getattr__(self, name: str) -> Any:
        raise UntraceableError("the solver looks into its policies, so its Steps depend on them: it stays interpreted")


@dataclass(frozen=True)
class Recurrence:
    """The Steps of a solver, the first ``lead`` ones and then a round of the others again and again.

    ``anchor``, ``opponent`` and ``averaged`` are pairs (ages [steps, members], weights [steps, members]); an age of 0 is
    the newest policy, ``START`` and ``REFERENCE`` are the given ones, ``NOTHING`` fills up.
    """

    anchor: tuple[NDArray[np.int64], NDArray[np.float64]]
    opponent: tuple[NDArray[np.int64], NDArray[np.float64]]
    averaged: tuple[NDArray[np.int64], NDArray[np.float64]]
    size: NDArray[np.float64]
    is_iterate: NDArray[np.bool_]
    lead: int
    summed: bool  # what is counted is played against in the same Step

    @property
    def depth(self) -> int:
        """How many of the newest policies must be kept."""
        return 1 + max(int(ages.max(initial=0)) for ages, _ in (self.anchor, self.opponent, self.averaged))


def trace(solver: Solver, iterations: int) -> Recurrence:
    """The Steps of ``solver`` for so many iterations, without making any policy.

    A solver that promises ``period``, the number of Steps after which they repeat with the same weights and sizes
    counted back from the newest policy, is played for a few rounds; the promise is checked on two of them. Any other
    solver is played to the end, which costs some microseconds a Step.

    Raises:
        UntraceableError: the solver looks into its policies, or blends one from more than 64 Steps ago.
        ValueError: the promised period is not kept.
    """
    period = getattr(solver, "period", None)
    lead = 0 if period is None else 4 * period + 4
    lines, done = [], 0
    for step, line in _lines(solver):
        lines.append(line)
        done += step.is_iterate
        if done == iterations or (period is not None and len(lines) == lead + 2 * period):
            break
    if period is None or len(lines) < lead + 2 * period:
        return _packed(lines, len(lines))
    if lines[lead : lead + period] != lines[lead + period :]:
        raise NashwardError(
            f"{solver!r} promises Steps that repeat after {period}, and they do not: its period is wrong"
        )
    return _packed(lines[: lead + period], lead)


_Members = tuple[tuple[int, float], ...]
_Line = tuple[_Members, _Members, _Members, float, bool]


def _lines(solver: Solver) -> Iterator[tuple[Step, _Line]]:
    start, reference = Policy(_Unseen(), "start"), Policy(_Unseen(), "reference")
    made: dict[Policy, int] = {}  # the Step that made a policy
    play = solver.play(start, reference)
    step = next(play)
    while True:

        def aged(blend: Policy | Blend | None, now: int = len(made)) -> _Members:
            members = [] if blend is None else list(blend.members().items())
            if any(isinstance(policy.value, OpponentName) for policy, _ in members):
                raise UntraceableError("the solver plays against fixed opponents: it stays interpreted")
            fixed = {start: START, reference: REFERENCE}
            found = tuple((fixed.get(p, now - 1 - made.get(p, 0)), weight) for p, weight in members)
            if any(age >= DEEPEST for age, _ in found):
                raise UntraceableError(
                    f"the solver blends a policy from more than {DEEPEST} Steps ago: it stays interpreted"
                )
            return tuple(sorted(found))

        yield step, (aged(step.anchor), aged(step.opponent), aged(step.averaged), step.size, step.is_iterate)
        policy = Policy(_Unseen(), "iterate")
        made[policy] = len(made)
        step = play.send(policy)


def _packed(lines: list[_Line], lead: int) -> Recurrence:
    def table(field: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        width = max(1, max(len(line[field]) for line in lines))  # type: ignore[arg-type]
        ages, weights = np.full((len(lines), width), NOTHING), np.zeros((len(lines), width))
        for row, line in enumerate(lines):
            for column, (age, weight) in enumerate(line[field]):  # type: ignore[arg-type]
                ages[row, column], weights[row, column] = age, weight
        return ages, weights

    size, last = np.array([line[3] for line in lines]), np.array([line[4] for line in lines])
    summed = all({age for age, _ in line[2]} <= {age for age, _ in line[1]} for line in lines)
    return Recurrence(table(0), table(1), table(2), size, last, lead, summed)
