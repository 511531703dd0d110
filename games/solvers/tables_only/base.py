"""The protocol of solvers for tables only, and how the driver plays them."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

from nashward.errors import NashwardError
from nashward.games.driver import require_steps
from nashward.games.policy import Policy
from nashward.games.step import Solver, Step

if TYPE_CHECKING:  # these import torch, which the solvers' names and settings do not need
    from nashward.games.executor import TableExecutor
    from nashward.games.forms.game import Players

_OVERSHOT = 1e9  # no policy, but one that a step has thrown out of all bounds

Payoffs: TypeAlias = "Callable[[Players], Players]"


@runtime_checkable
class TableSolver(Protocol):
    """A method whose updates are not mirror steps: it works on payoffs, not on log-probabilities. For tables only.

    A class with ``iterate`` is a table solver; it need not inherit. It may also have

    - ``nearest``, the mirror-step solver to use instead for a language model, named in the error;
    - ``keeps_support``, True where an action at probability 0 stays at 0; ``games.solve`` then warns;
    - ``averaging``, the usual weight of the t-th policy in the average, such as ``games.averaging.linear``.

    Example:
        >>> from nashward import games
        >>> isinstance(games.Replicator(), TableSolver), isinstance(games.MWU(), TableSolver)
        (True, False)
    """

    def iterate(self, x: Players, payoffs: Payoffs) -> Iterator[Players]:
        """The iterates after the start x, for ever.

        Args:
            x: the start, a tuple with one tensor of probabilities per player: (pi,) [..., n] in a preference game,
                (row, column) in an ``n x m`` game. The leading axes are games, starts or seeds. Must not be changed in
                place.
            payoffs: maps such a tuple to what each action earns against it, in the same form; linear. Each call is one
                look at the game: with sampled feedback it draws anew.

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
        start = self.tables.probabilities(x)
        iterates = self.solver.iterate(start, self.tables.payoffs)
        name, made = type(self.solver).__name__, 0
        for players in iterates:
            if made == 0:  # a wrong form shows at once; games.solvers.check_solver checks more
                check_form(players, start, f"{name}: iterate 1")
                if any((policy.abs() > _OVERSHOT).any() for policy in players):  # the step is far too large
                    players = tuple(policy * math.nan for policy in players)  # as after more iterations: not finite
                else:
                    check_policies(players, start, f"{name}: iterate 1")
            x = yield Step(anchor=self.tables.handle(players), averaged=x)
            made += 1
        raise NashwardError(f"{name}: iterate ended after {made} policies; it must yield for ever")


def check_policies(players: Any, like: Players, where: str) -> None:
    """Refuse what a solver yields unless it is a policy for each player.

    Args:
        players: what the solver yielded.
        like: policies of the same game.
        where: begins the message.

    Raises:
        ValueError: not a tuple of tensors of these shapes, or not distributions.
    """
    check_form(players, like, where)
    for policy in players:
        if (policy < -1e-9).any():
            raise NashwardError(f"{where}: a policy has the probability {float(policy.min()):g}")
        off = (policy.sum(-1) - 1).flatten()
        if (off.abs() > 1e-6).any():
            raise NashwardError(f"{where}: a policy sums to {float(1 + off[off.abs().argmax()]):.6g}, not to 1")


def check_form(players: Any, like: Players, where: str) -> None:
    """Refuse what a solver yields unless it is a tensor of the right shape for each player; as ``check_policies``."""
    shapes = [tuple(p.shape) for p in like]
    if not isinstance(players, tuple) or [tuple(getattr(p, "shape", ())) for p in players] != shapes:
        got = (
            [tuple(getattr(p, "shape", ())) for p in players] if isinstance(players, tuple) else type(players).__name__
        )
        raise NashwardError(f"{where}: expected a tuple with one tensor per player, of shapes {shapes}, got {got}")
    for policy, own in zip(players, like, strict=True):
        if not isinstance(policy, type(own)):
            raise NashwardError(
                f"{where}: expected a tuple with one tensor per player, got {type(policy).__name__}; torch.as_tensor "
                "makes one"
            )


def as_solver(solver: Solver | TableSolver, tables: TableExecutor) -> Solver:
    """The solver with the method ``play`` that the driver calls.

    Returns:
        A mirror-step solver as it is; a solver of tables only inside ``AsSteps``.

    Raises:
        TypeError: a class in place of a solver.
    """
    if isinstance(solver, type):
        require_steps(solver)  # raises
    return AsSteps(solver, tables) if isinstance(solver, TableSolver) else solver
