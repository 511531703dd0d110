"""Multiplicative weights (Hedge) in self-play: what SPPO idealises."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from itertools import count

from nashward.games.policy import Policy
from nashward.games.step import Step

from ..schedule import Schedule, at, check_step


@dataclass(frozen=True)
class MWU:
    """Multiplicative weights against oneself.

    .. math::  \\pi_{t+1}(y) \\propto \\pi_t(y) \\exp(step \\cdot P(y \\succ \\pi_t))

    The *average* of pi_1 .. pi_T has a duality gap of at most ``step / 4 + 2 C / (step T)`` with
    C = max_y -log pi_1(y); see :class:`nashward.theory.MWUAverage`. The *last* iterate circles an interior Nash
    and moves away from it, by a factor of ``sqrt(1 + step^2 lam^2)`` per iteration: no step makes it stable.

    SPPO, SPO, DNO and REBEL (with the win rate as its reward) are this update; they differ in how they fit it.

    Args:
        step: the step size (SPPO's eta = 1/beta), or a function of t = 1, 2, ... (``games.schedule``).

    Raises:
        ValueError: a step that is not positive.

    Source: Freund & Schapire 1999; arXiv 2405.00675, equation 4.1.

    Example:
        >>> from nashward import games
        >>> solution = games.solve(games.zoo.comal_cycle(), games.MWU(step=0.1), iterations=1000)
        >>> solution.average, solution.gaps["average"][-1]
        (tensor([0.3584, 0.2760, 0.3657], dtype=torch.float64), tensor(0.0058, dtype=torch.float64))
    """

    step: Schedule = 0.5

    def __post_init__(self) -> None:
        check_step(self.step)

    @property
    def period(self) -> int | None:
        """The number of Steps after which the Steps repeat, in ages of policies (see ``games/compiled/trace.py``)."""
        return None if callable(self.step) else 1

    def play(self, x: Policy, reference: Policy) -> Generator[Step, Policy, None]:
        for t in count(1):
            x = yield Step(anchor=x, opponent=x, size=at(self.step, t))
