"""What a solver of your own must satisfy, checked by playing it on small games."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from traceback import walk_tb
from typing import TYPE_CHECKING, Any

from nashward.errors import NashwardError
from nashward.games.driver import drive, require_steps
from nashward.games.policy import Policy
from nashward.games.step import Step
from nashward.python_object import LIBRARY_ERRORS, first_line

from .tables_only.base import Payoffs, TableSolver, check_policies

if TYPE_CHECKING:
    from torch import Tensor

    from nashward.games.executor import TableExecutor
    from nashward.games.forms.game import Players

_ITERATIONS, _ROUNDING = 12, 1e-9


def check_solver(solver: Any) -> None:
    """Play a solver on small games; raise if a policy is invalid, or if two runs differ.

    The checks, for solvers with ``play`` and with ``iterate``: every iterate is a distribution, for one player and for
    two; the same run gives the same iterates and leaves the solver as it was; several starts in one call give what each
    gives alone; renamed actions give renamed iterates; Steps continue from the policies that were sent. Convergence is
    not checked: a game, its exact equilibrium and ``games.solve`` show that.

    Args:
        solver: an object with ``play(x, reference)`` or ``iterate(x, payoffs)``.

    Raises:
        ValueError: says what is wrong, and where.
        TypeError: not a solver.

    See also:
        ``llm.oracles.check_oracle``, the same for oracles.

    Example:
        >>> from nashward import games
        >>> check_solver(games.GDA(0.1))
        >>> class Grows:
        ...     def iterate(self, x, payoffs):
        ...         while True: x = tuple(p + g for p, g in zip(x, payoffs(x))); yield x
        >>> try: check_solver(Grows())
        ... except ValueError as error: print(error)
        Grows: iterate 1 of a game of 4 actions: a policy sums to 3.06035, not to 1
    """
    import torch

    from nashward import games

    if isinstance(solver, type) or not isinstance(solver, TableSolver):
        require_steps(solver)
    name = type(solver).__name__
    rng = torch.Generator().manual_seed(0)
    P = torch.triu(torch.rand(4, 4, generator=rng, dtype=torch.float64), 1)
    P = P + torch.tril(1 - P.mT, -1) + torch.eye(4, dtype=torch.float64) / 2
    one = games.PreferenceGame(P)
    two = games.ConstantSumGame(torch.rand(2, 3, generator=rng, dtype=torch.float64) - 0.4, total=0.2)
    first, second = (torch.rand(4, generator=rng, dtype=torch.float64).softmax(-1) for _ in range(2))
    pair = (torch.tensor([0.3, 0.7], dtype=torch.float64), torch.tensor([0.5, 0.2, 0.3], dtype=torch.float64))
    before = repr(getattr(solver, "__dict__", {}))

    def path(game: Any, start: Any, what: str) -> tuple[Tensor, ...]:
        every = range(1, _ITERATIONS + 1)
        played = _Watched(solver, name, what) if isinstance(solver, TableSolver) else solver
        with _errors_on(name, what):
            solution = games.solve(game, played, _ITERATIONS, start, record=every, keep_policies=True, traced=False)
        found = solution.policies["last"]
        players: tuple[Tensor, ...] = (found,) if isinstance(found, torch.Tensor) else tuple(found)
        if len(players[0]) < _ITERATIONS:
            raise NashwardError(f"{name}: iterate {len(players[0]) + 1} of {what} is not finite")
        return players

    if not isinstance(solver, TableSolver):
        _check_goes_on(name, solver, games.executor.TableExecutor(one), first)
    alone = path(one, first, "a game of 4 actions")
    path(two, pair, "a game of 2 x 3 actions")
    if not torch.equal(alone[0], path(one, first, "a game of 4 actions")[0]):
        raise NashwardError(
            f"{name}: the same run gave other iterates the second time; a solver must keep nothing between runs"
        )
    if repr(getattr(solver, "__dict__", {})) != before:
        raise NashwardError(f"{name}: playing it changed its settings; keep the state of a run in its generator")
    (both,) = path(one, torch.stack([first, second]), "a game of 4 actions from two starts")
    for k, start in enumerate((first, second)):
        _check_equal(name, both[:, k], path(one, start, "a game of 4 actions")[0], "in one call with another start")
    order = torch.tensor([2, 0, 3, 1])
    (renamed,) = path(games.PreferenceGame(P[order][:, order]), first[order], "a game of 4 actions")
    _check_equal(name, renamed, alone[0][:, order], "with its actions in another order")


def _check_goes_on(name: str, solver: Any, tables: TableExecutor, start: Tensor) -> None:
    """Refuse a solver if none of its Steps names a policy that a Step has made."""
    x = tables.policy(start)
    made: set[Policy] = set()
    named: set[Policy] = set()

    def record(step: Step, policy: Policy) -> bool:
        for blend in (step.anchor, step.opponent):
            named.update({} if blend is None else blend.members())
        made.add(policy)
        return False

    with _errors_on(name, "a game of 4 actions"):
        drive(solver, x, x, tables.execute, record, _ITERATIONS)
    if made.isdisjoint(named):
        raise NashwardError(
            f"{name}: of {len(made)} Steps none uses a policy that was sent, so the solver never moves on; expected "
            "x = yield Step(...), and x in the next Step"
        )


@contextmanager
def _errors_on(name: str, what: str) -> Iterator[None]:
    """What a solver's own code raises, with the game that it was played on."""
    try:
        yield
    except LIBRARY_ERRORS as error:
        *_, (frame, _) = walk_tb(error.__traceback__)
        if str(frame.f_globals.get("__name__")).startswith("nashward."):
            raise
        raise NashwardError(
            f"{name}: {frame.f_code.co_name} raised {type(error).__name__} on {what}: {first_line(error)}"
        ) from error


@dataclass(frozen=True)
class _Watched:
    """A solver of tables only whose iterates are checked as it yields them."""

    solver: TableSolver
    name: str
    what: str

    def iterate(self, x: Players, payoffs: Payoffs) -> Iterator[Players]:
        before, made = tuple(p.clone() for p in x), 0
        for t, players in enumerate(self.solver.iterate(x, payoffs), 1):
            where = f"{self.name}: iterate {t} of {self.what}"
            if not all((p == q).all() for p, q in zip(x, before, strict=True)):
                raise NashwardError(f"{where} changed the start in place; make new tensors")
            check_policies(players, x, where)
            yield players
            made = t
        raise NashwardError(f"{self.name}: iterate ended after {made} policies; it must yield for ever")


def _check_equal(name: str, found: Tensor, expected: Tensor, how: str) -> None:
    distance = (found - expected).abs().flatten(1).amax(-1)
    if (distance > _ROUNDING).any():
        t = int((distance > _ROUNDING).int().argmax())
        raise NashwardError(f"{name}: iterate {t + 1} is off by {float(distance[t]):.2g} {how}")
