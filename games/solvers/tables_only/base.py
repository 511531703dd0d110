"""Solvers of tables only: what they look like, and how the one driver plays them."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeAlias, runtime_checkable

from nashward.games.driver import check_solver
from nashward.games.executor import TableExecutor
from nashward.games.forms.game import Players
from nashward.games.policy import Policy
from nashward.games.step import Solver, Step

Payoffs: TypeAlias = Callable[[Players], Players]


@runtime_checkable
class TableSolver(Protocol):
    """A method that is no mirror step, because it adds up payoffs and not their exponentials: for tables only.

    Attributes:
        nearest: the mirror-step solver to take for a language model.
    """

    nearest: ClassVar[Any]

    def iterate(self, x: Players, payoffs: Payoffs) -> Iterator[Players]:
        """The iterates after x, one [..., n] tensor a player; ``payoffs(x)`` is what each action earns against x."""
        ...


@dataclass(frozen=True)
class AsSteps:
    """A solver of tables only in the shape that the driver plays: each iterate is a Step that is its own anchor."""

    solver: TableSolver
    tables: TableExecutor

    def play(self, x: Policy, reference: Policy) -> Generator[Step, Policy, None]:
        for players in self.solver.iterate(self.tables.probabilities(x), self.tables.payoffs):
            x = yield Step(anchor=self.tables.handle(players), averaged=x)


def as_solver(solver: Solver | TableSolver, tables: TableExecutor) -> Solver:
    """The solver as the driver plays it on tables.

    Raises:
        TypeError: a solver's class.
    """
    if isinstance(solver, type):
        check_solver(solver)  # before anything is asked of it
    return AsSteps(solver, tables) if isinstance(solver, TableSolver) else solver
