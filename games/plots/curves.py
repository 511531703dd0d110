"""Gaps against iterations: curves, races to a level, quantiles over a batch, and where steps are stable."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from nashward.errors import NashwardError
from nashward.shortened import quoted

from ..shapes import Float
from ..solution import Solution
from .appearance import as_legend, by_name, drawn_on, looks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FLOOR = 1e-16
"""Gaps below this are drawn here, a gap of 0 too."""
_ROUNDING = 1e-12  # a race ends here
_CONFIRMING = 0.1  # the share at the end of a run with few iterations after it


def gap_curves(
    solutions: Mapping[str, Solution],
    bounds: Mapping[str, Callable[[Any], Any]] | None = None,
    *,
    title: str = "",
    axes: Axes | None = None,
    which: str | Sequence[str] = ("last", "average"),
) -> Figure:
    """Duality gap against iterations, log-log: the last iterate solid, the average dashed, bounds dotted.

    An iteration is not equally much of each solver: of :class:`ProximalPoint` it is ``inner`` products of table and
    vector, of :class:`ExtraGradient` two, of most others one.

    Args:
        solutions: by name, each of a single game.
        bounds: by name, functions of the iterations, for example ``theory.MWUAverage(...).bound``.
        title: above the picture.
        axes: to draw on; a new figure when None.
        which: the iterate whose gaps are drawn, or several, of those in ``Solution.gaps``. The second is dashed, the
            third dash-dotted. With a single iterate its name is left out, and the styles are those of ``looks``.

    Raises:
        ValueError: no solution, none with a record, one of a batch of games, an iterate without gaps in a solution.
        TypeError: solutions or bounds without names, a bound that is not a function.
    """
    if not isinstance(bounds, Mapping | None):
        raise TypeError(f'expected bounds by name, as {{"bound": theorem.bound}}, got {type(bounds).__name__}')
    for name, bound in (bounds or {}).items():
        if not callable(bound):
            raise TypeError(
                f"the bound {name!r} is {quoted(bound, 80)}; expected a function of the iterations, for example "
                "theory.MWUAverage(...).bound"
            )
    figure, axes = drawn_on(axes, 6.4, 4.2)
    look = looks(list(_recorded(solutions)))
    which = (which,) if isinstance(which, str) else which
    lowest = np.inf
    for name, solution in solutions.items():
        for iterate, dashes in zip(which, ("-", "--", "-."), strict=False):
            gaps = _gaps(solution, iterate, name)
            if gaps.ndim != 1:
                raise NashwardError(
                    f"gap curves are drawn for one game, {name} holds a batch of shape {tuple(gaps.shape[1:])}"
                )
            lowest = min(lowest, float(gaps.min())) if len(gaps) else lowest
            values = gaps.cpu().clamp_min(FLOOR)
            label, style = (name, look[name].line) if len(which) == 1 else (f"{name}, {iterate}", dashes)
            axes.plot(
                solution.iterations, values, style, color=look[name].colour, label=_legend(label, solution),
                linewidth=1.6, marker=look[name].mark, markevery=0.15, markersize=4,
            )  # fmt: skip
    longest = max(int(s.iterations[-1]) for s in solutions.values() if len(s.iterations))
    grid = np.unique(np.geomspace(1, longest, 200).round())
    for name, bound in (bounds or {}).items():
        axes.plot(
            grid, np.broadcast_to(bound(grid), grid.shape), ":", color="black", label=as_legend(name), linewidth=1.6
        )
    gap = "duality gap" + f" (0 is drawn as {FLOOR:.0e})" * (lowest < FLOOR)
    axes.set(xscale="log", yscale="log", xlabel="iterations", ylabel=gap, title=title)
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8)
    return figure


def race(
    solutions: Mapping[str, Solution], which: str = "last", *, title: str = "", axes: Axes | None = None
) -> Figure:
    """The largest gap from each recorded iteration to the end of the run, down to 1e-12.

    A line shows after how many iterations the gap stayed at or below a level until the end of the run: further left is
    faster, and a line is level where the solver made no progress. The last tenth of each run is drawn pale: few
    iterations follow it, so that even a solver that circles falls there if the run ends near the Nash. An iteration is
    not equally much of each solver, see ``gap_curves``.

    Args:
        solutions: by name, each of a single game.
        which: "last" or "average".
        title: above the picture.
        axes: to draw on; a new figure when None.

    Raises:
        ValueError: no solution, none with a record, one of a batch of games, an iterate without gaps in a solution.
        TypeError: solutions without names.
    """
    figure, axes = drawn_on(axes, 6.4, 4.2)
    look = looks(list(_recorded(solutions)))
    curves = {name: _one(_gaps(solution, which, name), name) for name, solution in solutions.items()}
    for name, solution in solutions.items():
        T = solution.iterations.cpu().numpy()
        largest = np.maximum.accumulate(curves[name][::-1])[::-1].clip(_ROUNDING)
        confirmed = max(1, np.searchsorted(T, (1 - _CONFIRMING) * T[-1:], "right").sum())
        style: dict[str, Any] = {"color": look[name].colour, "linestyle": look[name].line, "linewidth": 1.6}
        axes.plot(
            T[:confirmed], largest[:confirmed], marker=look[name].mark, markevery=0.15, markersize=4,
            label=_legend(name, solution), **style,
        )  # fmt: skip
        axes.plot(T[confirmed - 1 :], largest[confirmed - 1 :], alpha=0.3, **style)
    axes.set(xscale="log", yscale="log", xlabel="iterations (pale: the last tenth)", title=title)
    below = f"\n(less is drawn as {_ROUNDING:.0e})" * any((curve < _ROUNDING).any() for curve in curves.values())
    axes.set(ylabel=f"largest gap of the {which} iterate from here on{below}")
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8)
    return figure


def quantiles(
    solutions: Mapping[str, Solution], which: str = "last", *, title: str = "", axes: Axes | None = None
) -> Figure:
    """The median gap over a batch of games, with the middle half and the middle nine tenths shaded.

    An iteration is not equally much of each solver, see ``gap_curves``.

    Args:
        solutions: by name, each of a batch.
        which: "last" or "average".
        title: above the picture.
        axes: to draw on; a new figure when None.

    Raises:
        ValueError: no solution, none with a record, one of a single game, an iterate without gaps in a solution.
    """
    figure, axes = drawn_on(axes, 6.4, 4.2)
    look = looks(list(_recorded(solutions)))
    for name, solution in solutions.items():
        gaps = _gaps(solution, which, name).cpu()
        if gaps.ndim < 2:
            raise NashwardError(f"quantiles are drawn over a batch of games, {name} holds a single game")
        colour, T = look[name].colour, solution.iterations.cpu().numpy()
        q = np.quantile(gaps.flatten(1).clamp_min(FLOOR).numpy(), (0.05, 0.25, 0.5, 0.75, 0.95), axis=1)
        axes.fill_between(T, q[0], q[4], color=colour, alpha=0.12, linewidth=0)
        axes.fill_between(T, q[1], q[3], color=colour, alpha=0.25, linewidth=0)
        axes.plot(
            T, q[2], look[name].line, color=colour, marker=look[name].mark, markevery=0.15, markersize=4,
            label=_legend(name, solution),
        )  # fmt: skip
    what = f"gap of the {which} iterate\nmedian, middle half, middle nine tenths"
    axes.set(xscale="log", yscale="log", xlabel="iterations", ylabel=what, title=title)
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8)
    return figure


def stability_map(
    frequencies: Sequence[float],
    steps: Sequence[float],
    factors: Any,
    threshold: Callable[[Any], Any] | None = None,
    *,
    title: str = "",
    axes: Axes | None = None,
) -> Figure:
    """Where small deviations from the Nash shrink (blue) and grow (red): step against the game's frequency.

    Args:
        frequencies: [columns], lam of ``games.rotation_frequency``.
        steps: [rows].
        factors: [rows, columns], by which a deviation grows per iteration, as from ``theory.local_factor``.
        threshold: the exact threshold as a function of lam, a solid curve; the curve where the factors are 1 is dotted.
        title: above the picture.
        axes: to draw on; a new figure when None.

    Raises:
        ValueError: factors of another shape.
    """
    figure, axes = drawn_on(axes, 5.6, 4.2)
    table = np.asarray(factors, dtype=np.float64)
    if table.shape != (len(steps), len(frequencies)):
        raise NashwardError(
            f"factors must be [{len(steps)}, {len(frequencies)}], steps by frequencies, got {table.shape}"
        )
    shown = np.log10(table.clip(1e-12, 1e12))
    width = max(float(np.quantile(np.abs(shown), 0.6)), 1e-12)  # the sign matters, so large values saturate
    mesh = axes.pcolormesh(frequencies, steps, shown, cmap="RdBu_r", vmin=-width, vmax=width, shading="nearest")
    axes.contour(frequencies, steps, shown, levels=[0.0], colors="black", linestyles=":")
    if threshold is not None:
        grid = np.linspace(min(frequencies), max(frequencies), 200)
        axes.plot(grid, [threshold(lam) for lam in grid], "-", color="black", linewidth=1.8, label="exact threshold")
        axes.legend(fontsize=8)
    axes.set(xlabel="frequency of the game", ylabel="step", title=title, ylim=(min(steps), max(steps)))
    figure.colorbar(mesh, ax=axes, label="log10 of the factor per iteration", extend="both")
    return figure


def _recorded(solutions: Mapping[str, Solution]) -> Mapping[str, Solution]:
    if not any(len(solution.iterations) for solution in by_name(solutions).values()):
        raise NashwardError("nothing to draw: no run was finite at its first record; lower the steps")
    return solutions


def _legend(text: str, solution: Solution) -> str:
    return as_legend(text if len(solution.iterations) else f"{text}: not finite")  # a run without any record


def _gaps(solution: Solution, which: str, name: str) -> Float[torch.Tensor, "records ..."]:
    if which not in solution.gaps:
        raise NashwardError(f"{name} has no gaps of {which!r}; it has {', '.join(solution.gaps)}")
    return solution.gaps[which]


def _one(gaps: Float[torch.Tensor, "records ..."], name: str) -> Float[np.ndarray, " records"]:
    if gaps.ndim != 1:
        raise NashwardError(f"this picture shows one game, {name} holds a batch of shape {tuple(gaps.shape[1:])}")
    return gaps.cpu().clamp_min(FLOOR).numpy()
