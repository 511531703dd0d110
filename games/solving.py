"""``solve``: play a solver on a game with the table executor and record its duality gaps."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from nashward.errors import NashwardError
from nashward.shortened import quoted

from .averaging import uniform
from .compiled.runner import run_traced, untraceable_reason
from .driver import drive
from .executor import TableExecutor
from .feedback import Feedback, blended, exact
from .forms.contextual import ContextualGame
from .forms.game import ConstantSumGame, Game, Players, PreferenceGame, check_game
from .forms.low_rank import LowRankGame
from .measures import gap_of
from .policy import Policy
from .solution import Solution, SolverError, Status, record_points
from .solvers.schedule import check_whole
from .solvers.support import warn_support
from .solvers.tables_only.base import TableSolver, as_solver
from .solvers.together import Together
from .stability import warn_step_size
from .step import Solver, Step, is_finite

_HEAVIEST = 1e200  # a weight; sums of larger ones overflow
_WAITING = 2**18  # numbers that wait to be measured: 2 MiB for each kind of policy


def solve(
    game: Game,
    solver: Solver | TableSolver,
    iterations: int = 1000,
    start: Any = None,
    reference: Any = None,
    tolerance: float | None = None,
    feedback: Feedback = exact,
    *,
    opponents: Mapping[str, Any] | None = None,
    averaging: Callable[[int], float] | None = None,
    averages: Mapping[str, Callable[[int], float]] | None = None,
    record: Sequence[int] | None = None,
    keep_policies: bool = False,
    throw: bool = False,
    traced: bool | None = None,
    progress: bool = False,
) -> Solution:
    """Play ``solver`` on ``game``.

    If numba is installed, the payoffs are exact and the solver has a ``period``, its Steps are traced and run as a
    compiled loop; the result is the same within 1e-12 while the run is stable (see docs/equilibria.md).

    Args:
        game: a game or a batch of games, which are solved together.
        solver: for example ``games.MWU(step=0.1)``; ``games.solvers.SOLVERS`` lists all.
        iterations: how many iterates to make from pi_1 = start; most solvers take one product of table and vector for
            each, some two, ``ProximalPoint`` its ``inner`` ones.
        start: pi_1, [..., n] probabilities (uniform when None), or [starts, ..., n] for many trajectories at once; a
            pair for an ``n x m`` game.
        reference: the policy that regularised solvers stay near (the start when None).
        tolerance: stop at the first record where the gap of the last or of the average iterate is this small.
        feedback: what a step sees of the payoff: ``games.feedback.exact``, ``SampledFeedback(k)`` or
            ``DuelingFeedback()``.
        opponents: fixed policies that the solver plays against by name (``games.FixedOpponents``), each as ``start``.
        averaging: the weight of the t-th played policy, ``games.averaging.uniform``, ``games.averaging.linear`` or a
            step schedule; None: the solver's default, or uniform. A weight may be 0; until one is above 0, the
            average is the last iterate.
        averages: further averages to record by name, for example ``{"linear": games.averaging.linear}``.
        record: the step counts from 1 to ``iterations`` at which to record (see ``default_record``); the last is always
            recorded.
        keep_policies: keep the policies at every record, for trajectories.
        throw: raise a ``SolverError`` unless the status is ok.
        traced: False never compiles the loop; True always does, also for solvers without a period (such as a step that
            is a function of t), which are traced to the last iteration; None compiles as described above.
        progress: show a bar of the iterations on standard error.

    Raises:
        ValueError: iterations or a record that is not a whole number, a tolerance
            below 0 or not finite, a further average named "last" or "average", a start, reference or fixed opponent
            that is not a distribution over the actions, a reference that excludes an action of the start, an unknown
            fixed opponent, a weight of an average below 0 or not finite, ``traced=True`` for a run that cannot be
            traced.
        TypeError: not a game, not a solver, or a feedback or an average that is not a function.

    Warns:
        UserWarning: a record that is not one of the iterations, which is left out.
        StepWarning: a constant step beyond a proven or exact threshold of the solver.
        SupportWarning: a start with zeros, which stay under this solver.

    Example:
        >>> from nashward import games
        >>> solution = games.solve(games.zoo.comal_cycle(), games.OptimisticMWU(step=0.5), 5000, tolerance=1e-6)
        >>> solution.status.name, int(solution.iterations[-1]), solution.last
        ('CONVERGED', 1926, tensor([0.3636, 0.2727, 0.3636], dtype=torch.float64))
    """
    check_game(game)
    check_whole("iterations", iterations)
    iterations = int(iterations)  # 1e3 is one
    if tolerance is not None and not (is_finite(tolerance) and tolerance >= 0):
        raise NashwardError(
            f"tolerance is {quoted(tolerance, 80)}; expected a duality gap, a finite number >= 0, or None"
        )
    tables = TableExecutor(game, feedback)
    start_policy = tables.policy(start)
    anchor_policy = start_policy if reference is None else tables.policy(reference, "reference")
    _check_reference(*map(tables.probabilities, (start_policy, anchor_policy)))
    weigh = averaging if averaging is not None else getattr(solver, "averaging", uniform)
    weights = {"average": weigh, **_checked_averages(averaging, averages)}
    weights = {name: each if each is uniform else _checked_weights(name, each) for name, each in weights.items()}
    players = {name: tables.policy(policy, name) for name, policy in (opponents or {}).items()}
    lead = (len(solver.solvers),) if isinstance(solver, Together) else ()
    start_policy, anchor_policy, players = _spread(start_policy, anchor_policy, players, lead)
    warn_step_size(game, solver)
    if start is not None and not isinstance(game, ContextualGame):  # its padding has probability 0
        warn_support(game, solver, tables.probabilities(start_policy))
    points = record_points(record, iterations)
    played = as_solver(solver, tables)
    reason = untraceable_reason(game, solver, feedback)
    if traced and reason is not None:
        raise NashwardError(f"the run cannot be traced: {reason}; leave traced out")
    with tqdm(total=iterations, desc=type(solver).__name__, unit=" iterations", disable=not progress) as bar:
        if traced or (traced is None and reason is None and getattr(solver, "period", None) is not None):
            solution = run_traced(
                game, played, start_policy.value, anchor_policy.value, tolerance, weights, points, keep_policies, bar
            )
        else:
            recorder = _Recorder(tables, tolerance, weights, points, keep_policies, bar)
            solution = recorder.solution(
                drive(played, start_policy, anchor_policy, tables.execute, recorder, iterations, players)
            )
    if throw and not solution.status.ok:
        raise SolverError(solution.status.value)
    return solution


def _check_reference(start: Players, reference: Players) -> None:
    if any(((q == 0) & (p > 0)).any() for p, q in zip(start, reference, strict=True)):
        raise NashwardError("the reference gives probability 0 to an action that the start plays: KL is infinite there")


def _checked_averages(averaging: Any, averages: Any) -> Mapping[str, Callable[[int], float]]:
    """The further averages, which like the first are functions of t."""
    if averages is not None and not isinstance(averages, Mapping):
        raise TypeError(
            f'averages are given by name, for example {{"linear": games.averaging.linear}}, got {averages!r}'
        )
    for name, given in {"averaging": averaging or uniform, **(averages or {})}.items():
        if not callable(given):
            raise TypeError(f"{name} is a function of t, for example games.averaging.linear, got {given!r}")
    if taken := {"last", "average"}.intersection(averages or ()):
        raise NashwardError(
            f"a further average must not be named 'last' or 'average', got {taken.pop()!r}; for example 'linear'"
        )
    return averages or {}


def _checked_weights(name: str, weigh: Callable[[int], float]) -> Callable[[int], float]:
    def weight(t: int) -> float:
        found = weigh(t)
        if not (is_finite(found) and 0 <= found <= _HEAVIEST):
            what = "averaging" if name == "average" else f"averages[{name!r}]"
            raise NashwardError(
                f"{what} weighs the policy of t = {t} by {quoted(found, 40)}; expected a number from 0 to {_HEAVIEST:g}"
            )
        return found

    return weight


def _spread(
    start_policy: Policy, anchor_policy: Policy, opponents: Mapping[str, Policy], lead: tuple[int, ...]
) -> tuple[Policy, Policy, dict[str, Policy]]:
    """Broadcast all handles over the starts, and over ``lead`` before them, so that all records have one shape."""
    batch = torch.broadcast_shapes(
        *(handle.value[0].shape[:-1] for handle in (start_policy, anchor_policy, *opponents.values()))
    )
    batch = torch.Size((*lead, *batch))

    def spread(policy: Policy) -> Policy:
        return Policy(tuple(side.expand(*batch, side.shape[-1]) for side in policy.value), policy.name)

    start = spread(start_policy)
    return (
        start,
        start if anchor_policy is start_policy else spread(anchor_policy),
        {name: spread(policy) for name, policy in opponents.items()},
    )


class _Recorder:
    """Averages the played policies and computes the gaps of the records, many records in one product."""

    def __init__(
        self,
        tables: TableExecutor,
        tolerance: float | None,
        averages: Mapping[str, Callable[[int], float]],
        points: Sequence[int],
        keep: bool,
        bar: tqdm,
    ):
        self.tables, self.tolerance, self.averages, self.keep, self.bar = tables, tolerance, averages, keep, bar
        self.points = set(points)
        self.done, self.played = 0, 0
        self.weights = dict.fromkeys(averages, 0.0)
        self.sums: dict[str, Players] = {}
        self.status = Status.DONE
        self.at: list[int] = []
        names = ("last", *averages)
        self.gaps: dict[str, list[Tensor]] = {name: [] for name in names}
        self.policies: dict[str, list[Players]] = {name: [] for name in names}
        self.waiting: dict[str, list[tuple[Players, float]]] = {name: [] for name in names}
        self.at_once = _at_once(tables.game) if tolerance is None else 1

    def __call__(self, step: Step, policy: Policy) -> bool:
        if step.averaged is not None:
            self.played += 1
            new = self.tables.probabilities(step.averaged)
            for name, weigh in self.averages.items():
                weight = weigh(self.played)
                self.weights[name] += weight
                so_far = self.sums.get(name)
                self.sums[name] = blended([weight], [new]) if so_far is None else blended([1, weight], [so_far, new])
        self.done += step.is_iterate
        self.bar.update(step.is_iterate)
        if not (step.is_iterate and self.done in self.points):
            return False
        now = self.tables.probabilities(policy)
        if not all(math.isfinite(p.sum()) for p in now):
            self.status = Status.NOT_FINITE
            return True
        self.at.append(self.done)
        self.waiting["last"].append((now, 1.0))
        for name, weight in self.weights.items():
            self.waiting[name].append((self.sums[name], weight) if weight > 0 else (now, 1.0))
        if len(self.waiting["last"]) * sum(p.numel() for p in now) >= self.at_once:
            self._measure()
        if self.tolerance is None:
            return False
        gap = torch.minimum(self.gaps["last"][-1], self.gaps["average"][-1])
        small = bool((gap <= self.tolerance).all())
        self.status = Status.CONVERGED if small else Status.NOT_CONVERGED
        return small

    def _measure(self) -> None:
        for name, waiting in self.waiting.items():
            if not waiting:
                continue
            policies = _normalised(waiting)
            alone = len(waiting) == 1  # a custom game may expect a single policy
            gaps = gap_of(self.tables.game, tuple(p[0] for p in policies) if alone else policies)
            self.gaps[name].append(gaps[None] if alone else gaps)
            if self.keep:
                self.policies[name].append(policies)
            waiting.clear()

    def average(self, otherwise: Players) -> Players:
        weight = self.weights["average"]
        return blended([1 / weight], [self.sums["average"]]) if weight > 0 else otherwise

    def solution(self, last: Policy) -> Solution:
        self._measure()
        profile, now = self.tables.game.profile, self.tables.probabilities(last)
        empty = tuple(p[None][:0] for p in now)  # a run that was not finite at its first record
        return Solution(
            last=profile(now),
            average=profile(self.average(now)),
            gaps={name: torch.cat(v or [empty[0][..., 0]]) for name, v in self.gaps.items()},
            iterations=torch.tensor(self.at, dtype=torch.int64),
            status=self.status,
            policies={
                name: profile(tuple(map(torch.cat, zip(*(v or [empty]), strict=True))))
                for name, v in self.policies.items()
                if self.keep
            },
        )


def _normalised(records: Sequence[tuple[Players, float]]) -> Players:
    """Each record's weighted sum divided by its weight, [records, ..., n] for each player."""
    sides = [torch.stack(side) for side in zip(*(players for players, _ in records), strict=True)]
    weights = torch.tensor([weight for _, weight in records], dtype=sides[0].dtype, device=sides[0].device)
    return tuple(side / weights.view(-1, *[1] * (side.ndim - 1)) for side in sides)


def _at_once(game: Game) -> int:
    """How many numbers may wait to be measured; a custom game may accept a single policy only."""
    ours = (PreferenceGame, ConstantSumGame, ContextualGame, LowRankGame)
    return _WAITING if type(game) in ours else 1  # a subclass may compute its payoffs in another way
