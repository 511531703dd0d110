"""Fictitious play: a best response to the average. For tables only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from nashward.games.shapes import Float

from ..mirror_steps.nash_md import NashEMA
from .base import Payoffs

if TYPE_CHECKING:
    from torch import Tensor

    from nashward.games.forms.game import Players


ROUNDING = 1e-12  # of a payoff and of sums of payoffs, relative


@dataclass(frozen=True)
class FictitiousPlay:
    """Play the pure best response to the average of what was played.

    .. math::  \\pi_{t+1} = e_{y}, \\quad y = \\arg\\max_y (P \\bar\\pi_t)_y

    where the bar is the average of pi_1 .. pi_t. It converges (Robinson 1951); its gap times sqrt(T) stays near 0.67
    on rock-paper-scissors from the first action, but no such rate holds in general. Ties go to the first action. For
    a language model: a best response to a mixture of its checkpoints.

    Source: Brown 1951; Robinson 1951.

    Example:
        >>> from nashward import games
        >>> start, game = [1.0, 0.0, 0.0], games.zoo.rock_paper_scissors()
        >>> games.solve(game, games.FictitiousPlay(), 10_000, start=start).gaps["average"][-1]
        tensor(0.0067, dtype=torch.float64)
    """

    nearest: ClassVar[Any] = NashEMA

    def iterate(self, x: Players, payoffs: Payoffs) -> Iterator[Players]:
        totals = sizes = tuple(p.new_zeros(p.shape) for p in x)
        while True:
            seen = payoffs(x)
            totals = tuple(total + payoff for total, payoff in zip(totals, seen, strict=True))
            sizes = tuple(size + payoff.abs() for size, payoff in zip(sizes, seen, strict=True))
            x = tuple(_first_best(total, size) for total, size in zip(totals, sizes, strict=True))
            yield x


def _first_best(values: Float[Tensor, "*batch n"], sizes: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch n"]:
    """All probability on the largest value, or on the first of several that differ by rounding only.

    Args:
        values: [..., n], sums of payoffs.
        sizes: [..., n], the sums of their absolute values, of which rounding is a share: an action's own, so that one
            that pays far worse than all others blurs none of them.
    """
    best = values.argmax(-1, keepdim=True)
    rounding = ROUNDING * (sizes + sizes.gather(-1, best))
    ties = values >= values.gather(-1, best) - rounding
    return values.new_zeros(values.shape).scatter(-1, ties.int().argmax(-1, keepdim=True), 1.0)
