"""The protocol of solvers for tables only, and how the driver plays them."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

from nashward.errors import NashwardError
from nashward.games.driver import require_steps
from nashward.games.policy import Policy
from nashward.games.step import Solver, Step

from .rounding import share

if TYPE_CHECKING:  # these import torch, which the solvers' names and settings do not need
    from nashward.games.executor import TableExecutor
    from nashward.games.forms.game import ConstantSumGame, Players

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
class TablePayoffs:
    """The payoffs of a table, as ``iterate`` is given them; and how large what they are summed from is.

    Example:
        >>> from nashward import games
        >>> game = games.ConstantSumGame([[1.0, -1.0], [-1.0, 1.0]], total=0.0)
        >>> payoffs = TablePayoffs(games.executor.TableExecutor(game))
        >>> x = game.players([[0.5, 0.5], [0.5, 0.5]])
        >>> payoffs(x)[0].tolist(), sizes_of(payoffs, x, payoffs(x))[0].tolist()
        ([0.0, 0.0], [1.0, 1.0])
    """

    tables: TableExecutor

    def __call__(self, players: Players) -> Players:
        return self.tables.payoffs(players)

    def sizes(self, x: Players, seen: Players, differences: Players | None = None) -> Players:
        """``sizes_of``: of payoffs that may be below 0 it takes a product with their absolute values."""
        own = tuple(g.abs() for g in seen)
        if self._absolute is None:
            return own
        total = abs(self.tables.game.total)
        largest = 4 * (self._largest + total)
        if differences is not None and not any(
            ((d != 0) & (d.abs() <= share(g) * largest)).any() for d, g in zip(differences, seen, strict=True)
        ):
            return own
        row, column = self._absolute.payoffs(x)  # its total is 0
        return row.maximum(own[0]), (total - column).maximum(own[1])

    @cached_property
    def _absolute(self) -> ConstantSumGame | None:
        """None where no payoff is below 0, so that none cancel."""
        from nashward.games.forms.game import ConstantSumGame  # brings torch

        game = self.tables.game
        return ConstantSumGame(game.payoff.detach().abs(), 0.0) if isinstance(game, ConstantSumGame) else None

    @cached_property
    def _largest(self) -> float:
        return 0.0 if self._absolute is None else float(self._absolute.payoff.max())


def sizes_of(payoffs: Payoffs, x: Players, seen: Players, differences: Players | None = None) -> Players:
    """The sums of the absolute values of what payoffs were summed from, of which rounding is a share.

    Args:
        payoffs: as ``iterate`` is given them; of any other function the payoffs' own sizes are taken.
        x: against which they are.
        seen: the payoffs.
        differences: of payoffs; where none is as small as rounding of the largest payoff, their own sizes will do, and
            a product is saved.
    """
    if isinstance(payoffs, TablePayoffs):
        return payoffs.sizes(x, seen, differences)
    return tuple(g.abs() for g in seen)


@dataclass(frozen=True)
class AsSteps:
    """Adapts a solver of tables only to the driver: each iterate is a Step whose anchor is the iterate itself."""

    solver: TableSolver
    tables: TableExecutor

    def play(self, x: Policy, reference: Policy) -> Generator[Step, Policy, None]:
        start = self.tables.probabilities(x)
        iterates = self.solver.iterate(start, TablePayoffs(self.tables))
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
