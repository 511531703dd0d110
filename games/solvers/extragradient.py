"""Extragradient (mirror prox), plain and regularised."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from itertools import count

from ..policy import Policy
from ..step import Step
from .schedule import Schedule, at, check


@dataclass(frozen=True)
class ExtraGradient:
    """Look half a step ahead, then step from where you were with the payoff seen there.

    .. math::
        a &= (1 - step \\cdot \\tau) \\log \\pi_t + step \\cdot \\tau \\log ref \\\\
        half &\\propto \\exp(a + step \\cdot P \\pi_t), \\qquad \\pi_{t+1} \\propto \\exp(a + step \\cdot P\\,half)

    With tau = 0 the last iterate converges to an interior Nash of P for a constant step below 1/lam; with tau > 0
    linearly to the Nash of the KL-regularised game, which is *not* a Nash of P. The half points are what was
    played: they form the average.

    Args:
        step: the step size, or a function of t = 1, 2, ...; step * tau <= 1.
        tau: the pull to the reference.

    Source: Nemirovski 2004; arXiv 2503.08942 (EGPO) for tau > 0.

    Example:
        >>> from nashward import games
        >>> solution = games.solve(games.zoo.comal_cycle(), games.ExtraGradient(step=2.0), iterations=500)
        >>> solution.last * 11
        tensor([4.0000, 3.0000, 4.0000], dtype=torch.float64)
    """

    step: Schedule = 1.0
    tau: float = 0.0

    def __post_init__(self) -> None:
        check(self.step, tau=self.tau)

    @property
    def period(self) -> int | None:
        """After how many Steps they repeat, counted back from the newest policy (see ``games/recurrence.py``)."""
        return None if callable(self.step) else 2

    def play(self, x: Policy, reference: Policy) -> Generator[Step, Policy, None]:
        for t in count(1):
            size = at(self.step, t)
            pull = size * self.tau
            if pull > 1:
                raise ValueError(f"step * tau must be at most 1, got {size:g} * {self.tau:g} in iteration {t}")
            anchor = (1 - pull) * x + pull * reference
            half = yield Step(anchor, opponent=x, size=size, last=False, counts=None)
            x = yield Step(anchor, opponent=half, size=size)
