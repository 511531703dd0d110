"""``solve``: a solver played on a game by the table executor, with its duality gaps recorded."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from .averaging import uniform
from .driver import drive
from .feedback import Feedback, blended, exact
from .game import Game, Players, Profile
from .measures import duality_gap
from .policy import Policy
from .step import Solver, Step
from .table_solver import TableSolver, playable
from .tables import Tables
from .thresholds import warn_of_step


class Status(enum.Enum):
    """What happened, and what to do about it."""

    DONE = "All iterations were made."
    CONVERGED = "The duality gap of the last or of the average iterate fell to the tolerance in every game."
    NOT_CONVERGED = (
        "All iterations were made and the duality gap is still above the tolerance: raise iterations, lower the step, "
        "or take a solver whose last iterate converges (OptimisticMWU, ExtraGradient)."
    )
    NOT_FINITE = "The policy is not finite any more: the step is too large for this solver; lower it."

    @property
    def ok(self) -> bool:
        return self in (Status.DONE, Status.CONVERGED)


class SolverError(RuntimeError):
    """Raised by ``solve(..., throw=True)`` with the status as its message."""


@dataclass(frozen=True)
class Solution:
    """What a solver found.

    Attributes:
        last: pi_{T+1}, [..., n] probabilities (a ``Profile`` for an ``n x m`` game).
        average: the average of what was played, pi_1 .. pi_T.
        gaps: ``{"last": [records, ...], "average": [records, ...]}``, duality gaps after ``iterations`` steps; further
            averages have theirs by name.
        iterations: [records], the step counts at which ``gaps`` were taken.
        status: what happened; its value says what to do.
        policies: with ``keep_policies=True`` ``{"last": ..., "average": ...}``, each [records, ..., n]; else empty.
    """

    last: Any
    average: Any
    gaps: dict[str, Tensor]
    iterations: Tensor
    status: Status
    policies: dict[str, Any] = field(default_factory=dict, repr=False)


def recorded(iterations: int) -> list[int]:
    """The default records: every iteration up to 200, then each one 2% later than the one before, and the last."""
    points, t = [], 1
    while t < iterations:
        points.append(t)
        t = max(t + 1, int(t * 1.02)) if t >= 200 else t + 1
    return [*points, iterations]


def solve(
    game: Game,
    solver: Solver | TableSolver,
    iterations: int = 1000,
    start: Any = None,
    reference: Any = None,
    tolerance: float | None = None,
    feedback: Feedback = exact,
    *,
    cast: Mapping[str, Any] | None = None,
    averaging: Callable[[int], float] | None = None,
    averages: Mapping[str, Callable[[int], float]] | None = None,
    record: Sequence[int] | None = None,
    keep_policies: bool = False,
    throw: bool = False,
) -> Solution:
    """Play ``solver`` on ``game``.

    Args:
        game: a game or a batch of games, which are solved together.
        solver: for example ``games.MWU(step=0.1)``; ``games.SOLVERS`` lists all.
        iterations: how many steps to make from pi_1 = start.
        start: pi_1, [..., n] probabilities (uniform when None); a pair for an ``n x m`` game.
        reference: the policy that regularised solvers are drawn to (the start when None).
        tolerance: stop at the first record where the gap of the last or of the average iterate is this small.
        feedback: what a step sees of the payoff: ``games.exact``, ``games.Samples(k)`` or ``games.Duels()``.
        cast: fixed policies that the solver plays against by name (``games.AgainstCast``), as ``start`` is given.
        averaging: the weight of the t-th played policy, ``games.uniform``, ``games.linear`` or a step schedule; None:
            the solver's own, which is uniform for those that do not say.
        averages: further averages to record by name, for example ``{"linear": games.linear}``.
        record: the step counts at which to record (see ``recorded``); the last is always recorded.
        keep_policies: keep the policies at every record, for trajectories.
        throw: raise a ``SolverError`` unless the status is ok.

    Raises:
        ValueError: iterations < 1, a further average called "last" or "average", a start, reference or member of the
            cast that is no distribution over the actions, a reference that excludes what the start plays, settings that
            the solver refuses, an unknown member of the cast.
        TypeError: no solver.

    Warns:
        StepWarning: a constant step beyond a proven or exact threshold of the solver.

    Example:
        >>> from nashward import games
        >>> solution = games.solve(games.zoo.comal_cycle(), games.OptimisticMWU(step=0.5), 5000, tolerance=1e-6)
        >>> solution.status.name, int(solution.iterations[-1]), solution.last
        ('CONVERGED', 1926, tensor([0.3636, 0.2727, 0.3636], dtype=torch.float64))
    """
    if iterations < 1:
        raise ValueError(f"iterations must be at least 1, got {iterations}")
    tables = Tables(game, feedback)
    first = tables.policy(start)
    pull = first if reference is None else tables.policy(reference, "reference")
    if any(((q == 0) & (p > 0)).any() for p, q in zip(*map(tables.probabilities, (first, pull)), strict=True)):
        raise ValueError("the reference gives probability 0 to an action that the start plays: KL is infinite there")
    if taken := {"last", "average"}.intersection(averages or ()):
        raise ValueError(f"a further average needs a name of its own, got {taken.pop()!r}; for example 'linear'")
    players = {name: tables.policy(policy, name) for name, policy in (cast or {}).items()}
    warn_of_step(game, solver)
    weigh = averaging if averaging is not None else getattr(solver, "averaging", uniform)
    recorder = _Recorder(tables, iterations, tolerance, {"average": weigh, **(averages or {})}, record, keep_policies)
    last = drive(playable(solver, tables), first, pull, tables.execute, recorder, iterations, players)
    solution = recorder.solution(last)
    if throw and not solution.status.ok:
        raise SolverError(solution.status.value)
    return solution


class _Recorder:
    def __init__(
        self,
        tables: Tables,
        iterations: int,
        tolerance: float | None,
        averages: Mapping[str, Callable[[int], float]],
        record: Sequence[int] | None,
        keep: bool,
    ):
        self.tables, self.tolerance, self.averages, self.keep = tables, tolerance, averages, keep
        self.points = {*(record if record is not None else recorded(iterations)), iterations}
        self.done, self.played = 0, 0
        self.weights = dict.fromkeys(averages, 0.0)
        self.sums: dict[str, Players] = {}
        self.status = Status.DONE
        self.at: list[int] = []
        self.gaps: dict[str, list[Tensor]] = {name: [] for name in ("last", *averages)}
        self.policies: dict[str, list[Players]] = {name: [] for name in ("last", *averages)}

    def __call__(self, step: Step, policy: Policy) -> bool:
        if step.counts is not None:
            self.played += 1
            new = self.tables.probabilities(step.counts)
            for name, weigh in self.averages.items():
                weight = weigh(self.played)
                self.weights[name] += weight
                so_far = self.sums.get(name)
                self.sums[name] = blended([weight], [new]) if so_far is None else blended([1, weight], [so_far, new])
        self.done += step.last
        if not (step.last and self.done in self.points):
            return False
        now = self.tables.probabilities(policy)
        if not all(p.isfinite().all() for p in now):
            self.status = Status.NOT_FINITE
            return True
        self._record(now)
        gap = torch.minimum(self.gaps["last"][-1], self.gaps["average"][-1])
        small = self.tolerance is not None and bool((gap <= self.tolerance).all())
        if self.tolerance is not None:
            self.status = Status.CONVERGED if small else Status.NOT_CONVERGED
        return small

    def _record(self, now: Players) -> None:
        self.at.append(self.done)
        for name, players in (("last", now), *((name, self.average(name, now)) for name in self.averages)):
            profile = self.tables.game.profile(players)
            self.gaps[name].append(duality_gap(self.tables.game, profile))
            if self.keep:
                self.policies[name].append(players)

    def average(self, name: str, otherwise: Players) -> Players:
        return blended([1 / self.weights[name]], [self.sums[name]]) if name in self.sums else otherwise

    def solution(self, last: Policy) -> Solution:
        profile, now = self.tables.game.profile, self.tables.probabilities(last)
        return Solution(
            last=profile(now),
            average=profile(self.average("average", now)),
            gaps={
                k: torch.stack(v) if v else torch.empty(0, *self.tables.game.batch_shape) for k, v in self.gaps.items()
            },
            iterations=torch.tensor(self.at, dtype=torch.int64),
            status=self.status,
            policies={k: _stacked(v) for k, v in self.policies.items() if v},
        )


def _stacked(policies: list[Players]) -> Tensor | Profile:
    sides = [torch.stack(side) for side in zip(*policies, strict=True)]
    return sides[0] if len(sides) == 1 else Profile(*sides)
