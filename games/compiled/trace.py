"""A solver's Steps as a table of numbers: which policies they blend, counted back from the newest one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nashward.errors import NashwardError

from ..opponents import OpponentName
from ..policy import Blend, Policy
from ..solvers.together import ApartError
from ..step import Solver, Step, steps_of

START, REFERENCE, PADDING = -1, -2, -3
MAX_AGE = 64  # older policies are not kept


class UntraceableError(NashwardError):
    """The solver's Steps depend on the policies, or refer to policies too far back."""


class _OpaqueValue:
    """The value of a handle while a solver is traced; any access raises."""

    def __getattr__(self, name: str) -> Any:
        raise UntraceableError(
            "the solver reads its policies' values, so its Steps depend on them: it cannot be traced"
        )


class Members(NamedTuple):
    """The members of a blend in each Step.

    Attributes:
        ages: [steps, members], 0 is the newest policy; ``START`` and ``REFERENCE`` stand for the start and the
            reference, ``PADDING`` for no member.
        weights: [steps, members, solvers].
    """

    ages: NDArray[np.int64]
    weights: NDArray[np.float64]


class Recurrence(NamedTuple):
    """The Steps of a solver: the first ``lead`` once, then the others in cycles.

    Attributes:
        anchor, opponent, averaged: the members of each.
        size: [steps, solvers], the step sizes.
        is_iterate: [steps], whether the new policy is an iterate.
        lead: the number of Steps before the cycle.
        sum_payoffs: every averaged policy is among the opponents of the same Step, so that its payoffs are known.
    """

    anchor: Members
    opponent: Members
    averaged: Members
    size: NDArray[np.float64]
    is_iterate: NDArray[np.bool_]
    lead: int
    sum_payoffs: bool

    @property
    def depth(self) -> int:
        """How many of the newest policies must be kept."""
        return 1 + max(int(ages.max(initial=0)) for ages, _ in (self.anchor, self.opponent, self.averaged))


def trace(solver: Solver, iterations: int) -> Recurrence:
    """Record the Steps of ``solver`` for this many iterations, without computing any policy.

    A solver with a ``period`` (the number of Steps after which ages, weights and sizes repeat) is run for a few
    periods, and the last two are compared. Any other solver is run for all iterations, at some microseconds per Step.

    Returns:
        The Steps as a recurrence.

    Raises:
        UntraceableError: the solver reads its policies' values, or blends a policy from more than 64 Steps ago.
        ValueError: the Steps do not repeat after ``period``.
    """
    period = getattr(solver, "period", None)
    lead = 0 if period is None else 4 * period + 4
    rows, done = [], 0
    for step, row in _rows(solver):
        rows.append(row)
        done += step.is_iterate
        if done == iterations or (period is not None and len(rows) == lead + 2 * period):
            break
    if period is None or len(rows) < lead + 2 * period:
        return _recurrence(rows, len(rows))
    if rows[lead : lead + period] != rows[lead + period :]:
        raise NashwardError(f"the Steps of {solver!r} do not repeat after its period of {period}")
    return _recurrence(rows[: lead + period], lead)


_Members = tuple[tuple[int, float], ...]
_StepRow = tuple[_Members, _Members, _Members, float, bool]


def _rows(solver: Solver) -> Iterator[tuple[Step, _StepRow]]:
    start, reference = Policy(_OpaqueValue(), "start"), Policy(_OpaqueValue(), "reference")
    step_of: dict[Policy, int] = {}  # the Step that produced each policy
    play = steps_of(solver, start, reference)
    step = next(play)
    while True:

        def ages(blend: Policy | Blend | None, now: int = len(step_of)) -> _Members:
            members = [] if blend is None else list(blend.members().items())
            if any(isinstance(policy.value, OpponentName) for policy, _ in members):
                raise UntraceableError("the solver plays against fixed opponents: it cannot be traced")
            fixed = {start: START, reference: REFERENCE}
            by_age = tuple((fixed.get(p, now - 1 - step_of.get(p, 0)), weight) for p, weight in members)
            if any(age >= MAX_AGE for age, _ in by_age):
                raise UntraceableError(
                    f"the solver blends a policy from more than {MAX_AGE} Steps ago: it cannot be traced"
                )
            return tuple(sorted(by_age))

        yield step, (ages(step.anchor), ages(step.opponent), ages(step.averaged), step.size, step.is_iterate)
        policy = Policy(_OpaqueValue(), "iterate")
        step_of[policy] = len(step_of)
        step = play.send(policy)


def _recurrence(rows: list[_StepRow], lead: int) -> Recurrence:
    def table(field: int) -> Members:
        width = max(1, max(len(row[field]) for row in rows))  # type: ignore[arg-type]
        ages, weights = np.full((len(rows), width), PADDING), np.zeros((len(rows), width))
        for i, row in enumerate(rows):
            for j, (age, weight) in enumerate(row[field]):  # type: ignore[arg-type]
                ages[i, j], weights[i, j] = age, weight
        return Members(ages, weights[..., None])

    size, is_iterate = np.array([row[3] for row in rows]), np.array([row[4] for row in rows])
    sum_payoffs = all({age for age, _ in row[2]} <= {age for age, _ in row[1]} for row in rows)
    return Recurrence(table(0), table(1), table(2), size[:, None], is_iterate, lead, sum_payoffs)


def joined(several: Sequence[Recurrence]) -> Recurrence:
    """The recurrences of several solvers as one, with the weights and sizes of each.

    Raises:
        ApartError: the recurrences differ in more than weights and sizes.
    """
    first = several[0]

    def table(name: str) -> Members:
        tables = [getattr(one, name) for one in several]
        if any(not np.array_equal(ages, tables[0].ages) for ages, _ in tables):
            raise ApartError(f"the solvers blend different policies in their {name}")
        return Members(tables[0].ages, np.concatenate([weights for _, weights in tables], axis=-1))

    if any(not np.array_equal(one.is_iterate, first.is_iterate) or one.lead != first.lead for one in several):
        raise ApartError("one solver makes a half step where another makes an iterate")
    size = np.concatenate([one.size for one in several], axis=-1)
    anchor, opponent, averaged = map(table, ("anchor", "opponent", "averaged"))
    return Recurrence(anchor, opponent, averaged, size, first.is_iterate, first.lead, first.sum_payoffs)
