"""Several solvers of one kind played together, each with its row of every policy, for ``games.sweep``."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any

from nashward.errors import NashwardError
from nashward.games.averaging import uniform
from nashward.games.policy import Blend, Policy
from nashward.games.step import Solver, Step, steps_of


class ApartError(NashwardError):
    """The solvers' Steps differ in more than numbers, so that they cannot be played together."""


class Blends(Blend):
    """One blend per solver, all of the same policies; weights that differ are a tensor [solvers, 1, ...]."""

    def __init__(self, members: dict[Policy, Any]):
        self._members = members


class Steps(Step):
    """One Step per solver, with blends of the same policies; sizes that differ are a tensor [solvers, 1, ...]."""

    def __post_init__(self) -> None:  # each Step was checked by itself
        pass


@dataclass(frozen=True)
class Together:
    """Solvers whose Steps differ only in weights and sizes, such as one solver with several step sizes.

    All of them are sent the same handle, whose value has a leading axis [solvers, ...].

    Attributes:
        solvers: mirror-step solvers.

    Example:
        >>> from nashward import games
        >>> pair = Together((games.MWU(0.1), games.MWU(0.4)))
        >>> solution = games.solve(games.zoo.comal_cycle(), pair, iterations=100)
        >>> solution.last.shape, pair.period
        (torch.Size([2, 3]), 1)
    """

    solvers: tuple[Solver, ...]

    @property
    def period(self) -> int | None:
        """The number of Steps after which the Steps repeat, if it is the same for all solvers; else None."""
        periods = {getattr(solver, "period", None) for solver in self.solvers}
        return periods.pop() if len(periods) == 1 else None

    @property
    def averaging(self) -> Callable[[int], float]:
        """The weights of the average that ``games.solve`` would take for each of them.

        Raises:
            ApartError: they differ.
        """
        kinds = [getattr(solver, "averaging", uniform) for solver in self.solvers]
        if any(kind != kinds[0] for kind in kinds):
            raise ApartError("the solvers weigh their averages in different ways")
        return kinds[0]

    def play(self, x: Policy, reference: Policy) -> Generator[Step, Policy, None]:
        import torch  # the solvers' names and settings do not need it

        plays = [steps_of(solver, x, reference) for solver in self.solvers]
        steps = [next(play) for play in plays]
        like = x.value[0]

        def number(numbers: Sequence[float]) -> Any:
            if len(set(numbers)) == 1:
                return numbers[0]
            return torch.tensor(numbers, dtype=like.dtype, device=like.device).view(-1, *(1,) * (like.ndim - 1))

        while True:
            x = yield _joined(steps, number)
            steps = [play.send(x) for play in plays]


def _joined(steps: Sequence[Step], number: Callable[[Sequence[float]], Any]) -> Step:
    """The Steps joined into one, if they blend the same policies.

    Raises:
        ApartError: they do not, or only some of them are iterates.
    """
    first = steps[0]

    def blend(name: str) -> Any:
        blends = [getattr(step, name) for step in steps]
        if any(one is None for one in blends):
            if all(one is None for one in blends):
                return None
            raise ApartError(f"one solver has no {name} where another has one")
        members = [one.members() for one in blends]
        if any(one.keys() != members[0].keys() for one in members):
            raise ApartError(f"the solvers blend different policies in their {name}")
        return Blends({policy: number([one[policy] for one in members]) for policy in members[0]})

    if len({step.is_iterate for step in steps}) > 1:
        raise ApartError("one solver makes a half step where another makes an iterate")
    anchor, opponent, averaged = map(blend, ("anchor", "opponent", "averaged"))
    return Steps(anchor, opponent, number([step.size for step in steps]), first.is_iterate, averaged)
