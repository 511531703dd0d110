"""The Pareto front of win rate and task score, with a point for each policy (iterate, mixture, interpolation)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from nashward.errors import NashwardError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

EQUAL = 1e-9  # figures nearer than that differ by rounding
MARGIN = 1.5  # pixels around a name that no other one enters


@dataclass(frozen=True)
class ParetoPoint:
    """A policy by its win rate and its task score.

    Attributes:
        name: of the policy.
        wins: win rate against a fixed opponent, in [0, 1].
        score: of a task, higher is better: an accuracy, or a mean log-probability of reference responses.
        error: standard error of the score; 0 where it is unknown.
        wins_error: standard error of the win rate; 0 where it is unknown.

    Raises:
        ValueError: a number that is not finite, an error below 0, or a win rate outside [0, 1].
    """

    name: str
    wins: float
    score: float
    error: float = 0.0
    wins_error: float = 0.0

    def __post_init__(self) -> None:
        errors = all(0 <= error < math.inf for error in (self.error, self.wins_error))
        if not (0 <= self.wins <= 1 and math.isfinite(self.score) and errors):
            raise NashwardError(
                f"{self.name}: expected a win rate in [0, 1], a finite score and an error of at least 0, got "
                f"{self.wins}, {self.score} and {self.error}"
            )


def pareto_front(points: Sequence[ParetoPoint]) -> list[ParetoPoint]:
    """The policies that no other policy dominates: is better in win rate or score, and in the other not worse.

    Figures within 1e-9 are equal. Of policies with equal win rate and score the first is kept. The ends of the front
    are the best score (with the highest win rate among equals) and the best win rate (with the highest score among
    equals).

    Returns:
        the front in order of increasing win rate and decreasing score.

    Raises:
        ValueError: there are no points.

    Example:
        >>> P = ParetoPoint
        >>> front = pareto_front([P("base", 0.5, 0.8), P("one", 0.6, 0.7), P("two", 0.55, 0.6)])
        >>> [point.name for point in front]
        ['base', 'one']
    """
    if not points:
        raise NashwardError("a Pareto front needs at least one policy")
    front: list[ParetoPoint] = []
    for point in sorted(points, key=lambda p: (-p.score, -p.wins)):
        if not front or point.wins > front[-1].wins + EQUAL:
            if front and point.score > front[-1].score - EQUAL:
                front.pop()
            front.append(point)
    return front


def mixture_front(points: Sequence[ParetoPoint]) -> list[ParetoPoint]:
    """The front of all mixtures of the policies: the upper concave envelope of ``pareto_front``.

    The win rate of a mixture against a fixed opponent and its score are weighted means over its members, so the
    mixtures of two policies lie on the line segment between them. A policy of the front below such a segment is
    dominated by a mixture.

    Returns:
        the vertices of the envelope, in order of increasing win rate.

    Raises:
        ValueError: there are no points.

    Example:
        >>> curve = [ParetoPoint("base", 0.5, 0.8), ParetoPoint("one", 0.6, 0.6), ParetoPoint("two", 0.8, 0.5)]
        >>> [point.name for point in pareto_front(curve)], [point.name for point in mixture_front(curve)]
        (['base', 'one', 'two'], ['base', 'two'])
    """
    corners: list[ParetoPoint] = []
    for point in pareto_front(points):
        while len(corners) > 1 and _below(corners[-2], corners[-1], point):
            corners.pop()
        corners.append(point)
    return corners


def score_cost(points: Sequence[ParetoPoint], wins: float) -> float:
    """The loss in score, against the best score, of the best mixture that attains a win rate.

    .. math::  \\max_k s_k - \\max_w \\sum_k w_k s_k \\quad \\text{subject to} \\quad \\sum_k w_k p_k \\ge p

    with w a distribution over the policies, p_k their win rates, s_k their scores and p the required win rate.

    Args:
        points: the policies.
        wins: p, in [0, 1].

    Returns:
        the loss in score; 0 where the policy with the best score attains p.

    Raises:
        ValueError: there are no points, or no mixture attains p.

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
    """Plot all policies, those that another one dominates in grey, their Pareto front as steps, and the front of their
    mixtures as a dashed line.

    Args:
        points: the policies.
        task: the name of the score.
        axes: the axes to draw on; None: those of a new figure.

    Returns:
        the figure of the axes.

    Raises:
        ValueError: there are no points.

    Example:
        >>> figure([ParetoPoint("base", 0.5, 0.8), ParetoPoint("one", 0.6, 0.7)]).axes[0].get_xlabel()
        'win rate'
    """
    from matplotlib.figure import Figure

    from nashward.games import plots

    alone = axes is None
    if axes is None:
        axes = Figure(figsize=(5.6, 4.2), layout="constrained").subplots()
    front, corners = pareto_front(points), mixture_front(points)
    for point in points:
        colour = plots.COLOURS[0] if point in front else "0.7"
        axes.errorbar(
            point.wins, point.score, point.error, point.wins_error, fmt="o", capsize=2, color=colour, ecolor="0.6"
        )
        axes.annotate(
            plots.as_label(point.name), (point.wins, point.score), xytext=(4, 4), textcoords="offset points",
            fontsize=8, color="black" if point in front else "0.4",
            bbox={"boxstyle": "square,pad=0", "facecolor": "white", "edgecolor": "none", "alpha": 0.7},
            arrowprops={"arrowstyle": "-", "color": "0.8", "linewidth": 0.5, "shrinkA": 0, "shrinkB": 0},
        )  # fmt: skip
    if len(front) > 1:  # a front of one policy has no lines
        wins, scores = [p.wins for p in front], [p.score for p in front]
        axes.step(wins, scores, where="pre", color=plots.COLOURS[1], label="not dominated")
        axes.plot(
            [p.wins for p in corners], [p.score for p in corners], "--", color=plots.COLOURS[2], label="mixtures attain"
        )
        axes.legend(fontsize=8)
    axes.set(xlabel="win rate", ylabel=plots.as_label(task))
    axes.grid(alpha=0.25)
    picture: Figure = axes.get_figure(root=True)  # type: ignore[assignment]
    if alone:
        spread_labels(picture)
    return picture


def spread_labels(picture: Figure) -> None:
    """Move names up until none lies over another one; to be called once all else is drawn.

    Args:
        picture: whose axes ``figure`` has drawn on.
    """
    from matplotlib.text import Annotation, Text

    picture.draw_without_rendering()
    for axes in picture.axes:
        taken: list[Any] = []
        names = [text for text in axes.texts if isinstance(text, Annotation)]
        # without the line to the point; a margin, as names that are moved may leave the axes less room
        boxes = {name: Text.get_window_extent(name).padded(MARGIN) for name in names}
        for name in sorted(names, key=lambda name: boxes[name].y0):
            box = boxes[name]
            while below := [other.y1 - box.y0 for other in taken if box.overlaps(other)]:
                box = box.translated(0, max(below) + 1)
            x, y = name.xyann
            name.xyann = (x, y + (box.y0 - boxes[name].y0) * 72 / picture.dpi)
            taken.append(box)


def _below(first: ParetoPoint, middle: ParetoPoint, last: ParetoPoint) -> bool:
    """Whether the middle point is on or below the line from the first to the last."""
    rise = (middle.wins - first.wins) * (last.score - first.score)
    return (middle.score - first.score) * (last.wins - first.wins) <= rise
