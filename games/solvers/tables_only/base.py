"""The protocol of solvers for tables only, and how the driver plays them."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

from nashward.games.driver import check_solver
from nashward.games.policy import Policy
from nashward.games.step import Solver, Step

if TYPE_CHECKING:  # they import torch, which the names and settings of the solvers do not need
    from nashward.games.executor import TableExecutor
    from nashward.games.forms.game import Players

Payoffs: TypeAlias = "Callable[[Players], Players]"


@runtime_checkable
class TableSolver(Protocol):
    """A method whose updates are not mirror steps: it works on payoffs, not on log-probabilities. For tables only.

    A class with ``iterate`` is one; it need not inherit. It may also have

    - ``nearest``, the mirror-step solver to use instead for a language model, which the error for one names;
    - ``averaging``, the usual weight of the t-th policy in the average, such as ``games.averaging.linear``.

    Example:
        >>> from nashward import games
        >>> isinstance(games.Replicator(), TableSolver), isinstance(games.MWU(), TableSolver)
        (True, False)
    """

    def iterate(self, x: Players, payoffs: Payoffs) -> Iterator[Players]:
        """The iterates after the start x, for ever.

        Args:
            x: the start, a tuple with one tensor a player: (pi,) [..., n] of a preference game, and (row, column) of an
                ``n x m`` game, each player's probabilities. The leading axes are games, starts or seeds. Not to be
                changed in place.
            payoffs: of such a tuple, what each action earns against it, in the same form; linear in it. Each call is
                one look at the game: with sampled feedback it draws anew.

        Yields:
            The next policies, in the same form: non-negative, each summing to 1.
        """
        ...


@dataclass(frozen=True)
class AsSteps:
    """Adapts a solver of tables only to the driver: each iterate is a Step whose anchor is the iterate itself."""

    solver: TableSolver
    tables: TableExecutor

    def play(self, x: Policy, reference: Policy) -> Generator[Step, Policy, None]:
        for players in self.solver.iterate(self.tables.probabilities(x), self.tables.payoffs):
            x = yield Step(anchor=self.tables.handle(players), averaged=x)


def as_solver(solver: Solver | TableSolver, tables: TableExecutor) -> Solver:
    """The solver with the method ``play`` that the driver calls.

    Returns:
        A mirror-step solver as it is; a solver of tables only inside ``AsSteps``.

    Raises:
        TypeError: a solver's class.
    """
    if isinstance(solver, type):
        check_solver(solver)  # raises
    return AsSteps(solver, tables) if isinstance(solver, TableSolver) else solver
