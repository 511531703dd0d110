"""Fictitious play: a best response to the average. For tables only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from nashward.games.shapes import Float

from ..mirror_steps.nash_md import NashEMA
from .base import Payoffs, sizes_of
from .rounding import share

if TYPE_CHECKING:
    from torch import Tensor

    from nashward.games.forms.game import Players


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
        totals = rounding = tuple(p.new_zeros(p.shape) for p in x)
        pure = False  # the start may be mixed, so that its payoffs cancel
        while True:
            seen = payoffs(x)
            totals = tuple(total + payoff for total, payoff in zip(totals, seen, strict=True))
            sizes = tuple(payoff.abs() for payoff in seen) if pure else sizes_of(payoffs, x, seen)
            rounding = tuple(
                near + share(payoff) * size for near, payoff, size in zip(rounding, seen, sizes, strict=True)
            )
            x, pure = tuple(_first_best(total, near) for total, near in zip(totals, rounding, strict=True)), True
            yield x


def _first_best(values: Float[Tensor, "*batch n"], rounding: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch n"]:
    """All probability on the largest value, or on the first of several that differ by rounding only.

    Args:
        values: [..., n], sums of payoffs.
        rounding: [..., n], of these sums: an action's own, so that one that pays far worse than all others blurs none
            of them.
    """
    best = values.argmax(-1, keepdim=True)
    ties = values >= values.gather(-1, best) - (rounding + rounding.gather(-1, best))
    return values.new_zeros(values.shape).scatter(-1, ties.int().argmax(-1, keepdim=True), 1.0)
