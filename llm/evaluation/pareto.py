"""The Pareto front of win rate and task score: one point a policy (iterate, mixture, interpolation)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from nashward.errors import NashwardError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class ParetoPoint:
    """A policy by what it wins and by what it still can do.

    Attributes:
        name: of the policy.
        wins: win rate against a fixed opponent, in [0, 1].
        score: of a task, higher is better: an accuracy, or a mean log-probability of reference answers.
        error: standard error of the score; 0 where it is not known.

    Raises:
        ValueError: a number that is not finite, an error below 0, or a win rate outside [0, 1].
    """

    name: str
    wins: float
    score: float
    error: float = 0.0

    def __post_init__(self) -> None:
        if not (0 <= self.wins <= 1 and math.isfinite(self.score) and 0 <= self.error < math.inf):
            raise NashwardError(
                f"{self.name}: expected a win rate in [0, 1], a finite score and an error of at least 0, got "
                f"{self.wins}, {self.score} and {self.error}"
            )


def pareto_front(points: Sequence[ParetoPoint]) -> list[ParetoPoint]:
    """The policies that no other beats in both: from the best score to the best win rate, wins rising, scores falling.

    Of policies with equal figures the first one given counts. The ends are the best score (of these the one that wins
    most) and the best win rate (of these the one that scores most).

    Raises:
        ValueError: there are no points.

    Example:
        >>> P = ParetoPoint
        >>> front = pareto_front([P("base", 0.5, 0.8), P("one", 0.6, 0.7), P("two", 0.55, 0.6)])
        >>> [point.name for point in front]
        ['base', 'one']
    """
    if not points:
        raise NashwardError("a price curve needs at least one policy")
    kept: list[ParetoPoint] = []
    for point in sorted(points, key=lambda p: (-p.score, -p.wins)):
        if not kept or point.wins > kept[-1].wins:
            kept.append(point)
    return kept


def mixture_front(points: Sequence[ParetoPoint]) -> list[ParetoPoint]:
    """The corners of what linear mixtures of the policies attain: the concave upper edge of ``pareto_front``.

    A mixture's win rate against a fixed opponent and its score are the weighted means of its members', so that two
    neighbours' mixtures lie on the straight line between them. A corner of the front below such a line is worse
    than a mixture.

    Raises:
        ValueError: there are no points.

    Example:
        >>> curve = [ParetoPoint("base", 0.5, 0.8), ParetoPoint("one", 0.6, 0.6), ParetoPoint("two", 0.8, 0.5)]
        >>> [point.name for point in pareto_front(curve)], [point.name for point in mixture_front(curve)]
        (['base', 'one', 'two'], ['base', 'two'])
    """
    kept: list[ParetoPoint] = []
    for point in pareto_front(points):
        while len(kept) > 1 and _below(kept[-2], kept[-1], point):
            kept.pop()
        kept.append(point)
    return kept


def score_cost(points: Sequence[ParetoPoint], wins: float) -> float:
    """The score that the best mixture gives up for a win rate, against the best score; 0 where it costs nothing.

    .. math::  \\max_k s_k - \\max_w \\sum_k w_k s_k \\quad \\text{subject to} \\quad \\sum_k w_k p_k \\ge p

    with w a distribution over the policies, p_k their win rates, s_k their scores and p the win rate asked for.

    Args:
        points: the policies.
        wins: p, in [0, 1].

    Raises:
        ValueError: there are no points, or no mixture wins so often.

    Example:
        >>> points = [ParetoPoint("base", 0.5, 0.8), ParetoPoint("one", 0.7, 0.6)]
        >>> round(score_cost(points, wins=0.6), 3)  # half of each
        0.1
    """
    corners = mixture_front(points)
    if wins > corners[-1].wins:
        raise NashwardError(f"no mixture wins {wins:g}; the best one wins {corners[-1].wins:g}")
    for first, second in pairwise(corners):
        if first.wins < wins <= second.wins:
            share = (wins - first.wins) / (second.wins - first.wins)
            return corners[0].score - (first.score + share * (second.score - first.score))
    return 0.0


def figure(points: Sequence[ParetoPoint], task: str = "task score", axes: Axes | None = None) -> Figure:
    """All policies, their Pareto front as steps, and what mixtures attain as a dashed line.

    Args:
        points: the policies.
        task: what the score is called.
        axes: where to draw; None: a figure of its own.

    Raises:
        ValueError: there are no points.

    Example:
        >>> figure([ParetoPoint("base", 0.5, 0.8), ParetoPoint("one", 0.6, 0.7)]).axes[0].get_xlabel()
        'win rate'
    """
    from matplotlib.figure import Figure

    from nashward.games import plots

    if axes is None:
        page = Figure(figsize=(5.6, 4.2), layout="constrained")
        axes = page.subplots()
    kept, corners = pareto_front(points), mixture_front(points)
    axes.errorbar(
        [p.wins for p in points], [p.score for p in points], [p.error for p in points], fmt="o", capsize=2,
        color=plots.COLOURS[0], ecolor="0.6",
    )  # fmt: skip
    for point in points:
        axes.annotate(point.name, (point.wins, point.score), xytext=(4, 4), textcoords="offset points", fontsize=8)
    wins, scores = [p.wins for p in kept], [p.score for p in kept]
    axes.step(wins, scores, where="pre", color=plots.COLOURS[1], label="no policy is better in both")
    axes.plot(
        [p.wins for p in corners], [p.score for p in corners], "--", color=plots.COLOURS[2], label="mixtures attain"
    )
    axes.set(xlabel="win rate", ylabel=task)
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8)
    return axes.get_figure(root=True)  # type: ignore[return-value]


def _below(first: ParetoPoint, middle: ParetoPoint, last: ParetoPoint) -> bool:
    """Whether the middle one is on or below the line from the first to the last."""
    along = (middle.wins - first.wins) * (last.score - first.score)
    return (middle.score - first.score) * (last.wins - first.wins) <= along
