"""Gradient descent-ascent in self-play, projected to the simplex, plain and optimistic. For tables only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from nashward.games.shapes import Float

from ..mirror_steps.mwu import MWU
from ..mirror_steps.optimistic_mwu import OptimisticMWU
from ..schedule import Schedule, at, check_step
from .base import Payoffs

if TYPE_CHECKING:
    from torch import Tensor

    from nashward.games.forms.game import Players


def projected(values: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch n"]:
    """The distribution nearest to the values in Euclidean distance: ``[v - c]_+`` with the c that makes the sum 1.

    Args:
        values: [..., n]; what is not finite gives what is no policy.

    Source: Held, Wolfe & Crowder 1974; Duchi, Shalev-Shwartz, Singer & Chandra 2008, figure 1.

    Example:
        >>> import torch
        >>> projected(torch.tensor([0.9, 0.5, -0.3]))
        tensor([0.7000, 0.3000, 0.0000])
    """
    values = values - values.amax(-1, keepdim=True)  # the same c shifts with it; beside values of 1e16 a 1 is lost
    falling = values.sort(-1, descending=True).values
    count = falling.new_ones(falling.shape).cumsum(-1)
    excess = (falling.cumsum(-1) - 1) / count  # c, if the k largest values stay above 0
    kept = (falling > excess).sum(-1, keepdim=True).clamp_min(1)  # a run from the left; none if it is not finite
    return (values - excess.gather(-1, kept - 1)).clamp_min(0)


def _ascent(x: Players, payoffs: Players, size: float) -> Players:
    return tuple(projected(p + size * (g - g.mean(-1, keepdim=True))) for p, g in zip(x, payoffs, strict=True))


@dataclass(frozen=True)
class GDA:
    """Gradient descent-ascent: both players climb their own payoff at once, and are projected to the simplex.

    .. math::  \\pi_{t+1} = \\Pi_\\Delta(\\pi_t + step \\cdot P \\pi_t)

    The *average* of pi_1 .. pi_T has a duality gap of at most ``D^2 / (step T) + step n / 4``, where D is the largest
    distance of an action from pi_1; see :class:`nashward.theory.GradientAverage`. The *last* iterate circles an
    interior Nash and moves away from it, until it runs along the boundary.

    Args:
        step: the step size, or a function of t = 1, 2, ... (``games.schedule``).

    Raises:
        ValueError: a step that is not positive.

    Source: Zinkevich 2003; Arrow, Hurwicz & Uzawa 1958.

    Example:
        >>> from nashward import games
        >>> solution = games.solve(games.zoo.comal_cycle(), games.GDA(step=0.02), 10_000, start=[0.6, 0.3, 0.1])
        >>> solution.average
        tensor([0.3628, 0.2744, 0.3628], dtype=torch.float64)
    """

    step: Schedule = 0.1
    nearest: ClassVar[Any] = MWU

    def __post_init__(self) -> None:
        check_step(self.step)

    def iterate(self, x: Players, payoffs: Payoffs) -> Iterator[Players]:
        t = 0
        while True:
            t += 1
            x = _ascent(x, payoffs(x), at(self.step, t))
            yield x


@dataclass(frozen=True)
class OptimisticGDA:
    """Gradient descent-ascent with the next payoff predicted to be the last one.

    A base sequence z takes the steps, and the policy is one guess ahead of it:

    .. math::
        z_{t+1} = \\Pi_\\Delta(z_t + step \\cdot P \\pi_t), \\qquad
        \\pi_{t+1} = \\Pi_\\Delta(z_{t+1} + step \\cdot P \\pi_t), \\quad z_1 = \\pi_1

    With a step up to ``1 / (2 sqrt(2) |A|)``, where ``|A|`` is the spectral norm of the centred payoffs P - 1/2, the
    average's gap is at most ``D^2 / (step T) + step n / (2 T)`` (:class:`nashward.theory.OptimisticGradientAverage`).
    With a step up to ``1 / (8 |A|)`` the last iterate converges to a Nash at a geometric rate that depends on the game,
    even where there are several.

    Args:
        step: the step size, or a function of t = 1, 2, ...

    Raises:
        ValueError: a step that is not positive.

    Source: Popov 1980; Rakhlin & Sridharan 2013; Wei, Lee, Zhang & Luo 2021 (arXiv 2006.09517).

    Example:
        >>> from nashward import games
        >>> solution = games.solve(games.zoo.comal_cycle(), games.OptimisticGDA(step=0.3), 1000, start=[0.6, 0.3, 0.1])
        >>> (solution.last * 11).round(decimals=6)
        tensor([4., 3., 4.], dtype=torch.float64)
    """

    step: Schedule = 0.1
    nearest: ClassVar[Any] = OptimisticMWU

    def __post_init__(self) -> None:
        check_step(self.step)

    def iterate(self, x: Players, payoffs: Payoffs) -> Iterator[Players]:
        base, t = x, 0
        while True:
            t += 1
            size, seen = at(self.step, t), payoffs(x)
            base = _ascent(base, seen, size)
            x = _ascent(base, seen, size)
            yield x
