"""Optimistic multiplicative weights: the last iterate converges."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from itertools import count

from ..policy import Policy
from ..step import Step
from .schedule import Schedule, at, check


@dataclass(frozen=True)
class OptimisticMWU:
    """Multiplicative weights that expect the next payoff to change as the last one did (one-sequence form).

    .. math::
        \\pi_{t+1} \\propto \\pi_t \\exp(step \\, (2 P \\pi_t - P \\pi_{t-1})), \\quad \\pi_0 = \\pi_1

    With a constant step below ``1 / (sqrt(3) lam)``, where lam is the spectral radius of diag(nash) (P - 1/2), the
    last iterate converges to a unique interior Nash; the average's gap falls as 1/T.

    Args:
        step: the step size, or a function of t = 1, 2, ...

    Source: Daskalakis & Panageas 2019; arXiv 2502.16852 (ONPO) for preferences.

    Example:
        >>> from nashward import games
        >>> solution = games.solve(games.zoo.comal_cycle(), games.OptimisticMWU(step=0.5), iterations=4000)
        >>> solution.last * 11
        tensor([4.0000, 3.0000, 4.0000], dtype=torch.float64)
    """

    step: Schedule = 0.5

    def __post_init__(self) -> None:
        check(self.step)

    @property
    def period(self) -> int | None:
        """After how many Steps they repeat, counted back from the newest policy (see ``games/recurrence.py``)."""
        return None if callable(self.step) else 1

    def play(self, x: Policy, reference: Policy) -> Generator[Step, Policy, None]:
        previous = x
        for t in count(1):
            step = Step(anchor=x, opponent=2 * x - previous, size=at(self.step, t), counts=x)
            previous, x = x, (yield step)
