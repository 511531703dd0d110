"""Replicator dynamics: multiplicative weights in the limit of small steps. For tables only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ..mirror_steps.mwu import MWU
from ..schedule import Schedule, at, check_step
from .base import Payoffs

if TYPE_CHECKING:
    from nashward.games.forms.game import Players


@dataclass(frozen=True)
class Replicator:
    """The differential equation behind multiplicative weights, by the classical Runge-Kutta method.

    .. math::  \\dot\\pi_y = \\pi_y \\, ((P \\pi)_y - \\pi^\\top P \\pi)

    Around an interior Nash it cycles for ever: sum_y nash_y log pi_y is conserved. The mean payoff is computed as
    pi^T P pi although it is 1/2: with the constant the sum of pi is an unstable fixed point of the equation, and
    rounding grows until the invariant is lost.

    Args:
        step: the time step, or a function of t = 1, 2, ...

    Raises:
        ValueError: a step that is not positive.

    Source: Taylor & Jonker 1978.

    Example:
        >>> from nashward import games
        >>> game, start = games.zoo.rock_paper_scissors(), [0.5, 0.3, 0.2]
        >>> last = games.solve(game, games.Replicator(), iterations=1000, start=start).last
        >>> last, round(float(last.prod()), 12)
        (tensor([0.1773, 0.4061, 0.4165], dtype=torch.float64), 0.03)
    """

    step: Schedule = 0.01
    nearest: ClassVar[Any] = MWU
    keeps_support: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_step(self.step)

    def iterate(self, x: Players, payoffs: Payoffs) -> Iterator[Players]:
        def slope(x: Players) -> Players:
            r = payoffs(x)
            return tuple(p * (g - (p * g).sum(-1, keepdim=True)) for p, g in zip(x, r, strict=True))

        t = 0
        while True:
            t += 1
            x = _runge_kutta(x, slope, at(self.step, t))
            yield x


def _runge_kutta(x: Players, slope: Callable[[Players], Players], h: float) -> Players:
    def moved(k: Players, by: float) -> Players:
        return tuple(p + by * d for p, d in zip(x, k, strict=True))

    k1 = slope(x)
    k2 = slope(moved(k1, h / 2))
    k3 = slope(moved(k2, h / 2))
    k4 = slope(moved(k3, h))
    mean = tuple((a + 2 * b + 2 * c + d) / 6 for a, b, c, d in zip(k1, k2, k3, k4, strict=True))
    return moved(mean, h)
