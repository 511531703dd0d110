"""Pictures that a paper would print. Each function draws on the ``axes`` given, or on a figure of its own, and returns
the figure; nothing is shown or saved. Lines differ in style or mark as well as in colour, so that grey will do.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from nashward.console import printable
from nashward.errors import NashwardError

from .equilibria.nash import Equilibrium
from .forms.game import ConstantSumGame, PreferenceGame
from .shapes import Float
from .solution import Solution

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, safe for colour-blind readers.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKS = ("o", "s", "^", "D", "v", "P", "X")
STYLES = ("-", "--", ":")  # one more round of colours and marks
FLOOR = 1e-16  # gaps below this are drawn here


def as_label(text: object, longest: int = 32) -> str:
    """A name of an action, a model or a file as matplotlib draws it: as it is, in one line.

    A dollar sign begins no mathematics, an underscore at the beginning does not hide it from a legend, control
    characters are shown as "?", and what is longer than ``longest`` letters is cut: it would leave no room to draw.

    Args:
        text: the name.
        longest: the most letters.

    Example:
        >>> as_label("_cost: $5\\nor $6\\x1b[31m")
        ' _cost: \\\\$5 or \\\\$6?[31m'
    """
    line = printable(" ".join(str(text).splitlines()).replace("\t", " "))
    if len(line) > longest:
        line = line[: longest - 1] + "\N{HORIZONTAL ELLIPSIS}"
    return (" " if line.startswith("_") else "") + line.replace("$", r"\$")


def save(figure: Figure, file: Any, **options: Any) -> list[str]:
    """Save a figure; what its font does not have is drawn as boxes.

    Args:
        figure: of matplotlib.
        file: a path, or a file that is open for bytes.
        options: of ``Figure.savefig``.

    Returns:
        The Unicode names of the signs that the font lacks.
    """
    lacking = set()
    with warnings.catch_warnings(record=True) as said:  # matplotlib warns of a sign each time that it lays out a text
        warnings.simplefilter("always")
        figure.savefig(file, **options)
    for warning in said:
        if sign := re.match(r"Glyph \d+ \((?:\\N\{)?(.*?)\}?\) missing", str(warning.message)):
            lacking.add(sign[1])
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    return sorted(lacking)


def some_of(names: Sequence[str]) -> str:
    """The first three of the names, and how many more there are.

    Args:
        names: in their order.

    Example:
        >>> some_of(["a", "b", "c", "d", "e"]), some_of(["a", "b"])
        ('a, b, c and 2 more', 'a, b')
    """
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _figure(width: float, height: float, columns: int = 1) -> tuple[Figure, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(1, columns, squeeze=False)[0]


def _by_name(solutions: Mapping[str, Solution]) -> Mapping[str, Solution]:
    if not isinstance(solutions, Mapping):
        raise TypeError(f'expected solutions by name, as {{"MWU": solution}}, got {type(solutions).__name__}')
    return solutions


def _drawn_on(axes: Axes | None, width: float, height: float) -> tuple[Figure, Axes]:
    """The axes given and their figure, or new ones of that size."""
    if axes is None:
        figure, (axes,) = _figure(width, height)
        return figure, axes
    return axes.get_figure(root=True), axes  # type: ignore[return-value]


def gap_curves(
    solutions: Mapping[str, Solution],
    bounds: Mapping[str, Callable[[Any], Any]] | None = None,
    title: str = "",
    axes: Axes | None = None,
) -> Figure:
    """Duality gap against iterations, log-log: the last iterate solid, the average dashed, bounds dotted.

    Args:
        solutions: by name, each of a single game.
        bounds: by name, functions of the iterations, for example ``theory.MWUAverage(...).bound``.
        title: above the picture.
        axes: to draw on; a new figure when None.

    Raises:
        ValueError: a solution of a batch of games.
        TypeError: solutions without names.
    """
    figure, axes = _drawn_on(axes, 6.4, 4.2)
    for k, (name, solution) in enumerate(_by_name(solutions).items()):
        colour, mark = COLOURS[k % len(COLOURS)], MARKS[k % len(MARKS)]
        for which, style in (("last", "-"), ("average", "--")):
            gaps = solution.gaps[which]
            if gaps.ndim != 1:
                raise NashwardError(
                    f"gap curves are drawn for one game, {name} holds a batch of shape {tuple(gaps.shape[1:])}"
                )
            values = gaps.cpu().clamp_min(FLOOR)
            axes.plot(
                solution.iterations, values, style, color=colour, label=f"{as_label(name)}, {which}", linewidth=1.6,
                marker=mark, markevery=0.15, markersize=4,
            )  # fmt: skip
    longest = max(int(s.iterations[-1]) for s in solutions.values())
    grid = np.unique(np.geomspace(1, longest, 200).round())
    for name, bound in (bounds or {}).items():
        axes.plot(grid, bound(grid), ":", color="black", label=as_label(name), linewidth=1.6)
    axes.set(xscale="log", yscale="log", xlabel="iterations", ylabel="duality gap", title=title)
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8)
    return figure


def simplex(
    policies: Mapping[str, Any],
    equilibrium: Any = None,
    labels: tuple[str, ...] = ("0", "1", "2"),
    title: str = "",
    axes: Axes | None = None,
) -> Figure:
    """Trajectories on the simplex of three actions.

    Args:
        policies: by name, [records, 3] probabilities, as in ``Solution.policies["last"]``.
        equilibrium: [3], drawn as a star.
        labels: of the three corners.
        title: above the picture.
        axes: to draw on; a new figure when None.

    Raises:
        ValueError: a trajectory of another shape.
    """
    figure, axes = _drawn_on(axes, 4.8, 4.4)
    corners = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, np.sqrt(3) / 2]])
    axes.fill(*corners.T, facecolor="none", edgecolor="black", linewidth=1)
    offsets = np.array([[-0.04, -0.05], [0.04, -0.05], [0.0, 0.03]])
    for corner, offset, label in zip(corners, offsets, labels, strict=True):
        x, y = corner + offset
        axes.text(x, y, as_label(label), ha="center", va="center")
    for k, (name, path) in enumerate(policies.items()):
        colour, mark = COLOURS[k % len(COLOURS)], MARKS[k % len(MARKS)]
        points = np.asarray(path, dtype=np.float64)
        if points.ndim != 2 or points.shape[1] != 3:
            raise NashwardError(f"a trajectory on the simplex has shape [records, 3], {name} has {points.shape}")
        line = points @ corners
        axes.plot(*line.T, "-", color=colour, linewidth=1.2, label=as_label(name))
        axes.plot(*line[0], mark, color=colour, markersize=4, fillstyle="none")
        axes.plot(*line[-1], mark, color=colour, markersize=6)
    if equilibrium is not None:
        axes.plot(*(np.asarray(equilibrium) @ corners), "*", color="black", markersize=14, label="Nash")
    axes.set(title=title, aspect="equal")
    axes.axis("off")
    axes.legend(fontsize=8, loc="upper right")
    return figure


def cycle_graph(game: PreferenceGame, title: str = "", axes: Axes | None = None, least: float = 0.0) -> Figure:
    """Who beats whom: an arrow from each winner to the loser, the wider the surer; ties have none.

    Actions stand in a ring in the order of their mean win rate, the best on top, clockwise. Arrows against that order
    (upsets, without which there is no ring) are in the second colour and dashed.

    Args:
        game: a single game.
        least: arrows for margins above this only.
        title: above the picture.
        axes: to draw on; a new figure when None.

    Raises:
        ValueError: a batch of games.
    """
    if game.batch_shape:
        raise NashwardError(f"the picture is of one game, got a batch of shape {tuple(game.batch_shape)}")
    figure, axes = _drawn_on(axes, 5.2, 5.0)
    P, n = game.P.cpu(), game.sizes[0]
    order = P.mean(-1).argsort(descending=True, stable=True).tolist()
    angle = np.pi / 2 - 2 * np.pi * np.arange(n) / n
    place = {action: np.array([np.cos(t), np.sin(t)]) for action, t in zip(order, angle, strict=True)}
    for rank, i in enumerate(order):
        for other, j in enumerate(order):
            margin = float(P[i, j]) - 0.5
            if margin > least:
                upset = rank > other
                style = {"color": COLOURS[1] if upset else COLOURS[0], "linestyle": "--" if upset else "-"}
                arrow = {"arrowstyle": "-|>", "linewidth": 0.5 + 4 * margin, "shrinkA": 14, "shrinkB": 14, **style}
                axes.annotate("", xy=tuple(place[j]), xytext=tuple(place[i]), arrowprops=arrow)
        x, y = place[i]
        axes.text(x, y, as_label(game.labels[i]), ha="center", va="center", fontsize=9,
                  bbox={"boxstyle": "round", "facecolor": "white", "edgecolor": "black"})  # fmt: skip
    axes.set(title=title, aspect="equal", xlim=(-1.35, 1.35), ylim=(-1.25, 1.25))
    axes.axis("off")
    return figure


def race(solutions: Mapping[str, Solution], which: str = "last", title: str = "", axes: Axes | None = None) -> Figure:
    """The iterations that each solver needs until its gap stays below a level, for all levels from 1 to 1e-12.

    Further left is faster; a line is level, up to the last iteration, where the solver got no further.

    Args:
        solutions: by name, each of a single game.
        which: "last" or "average".
        title: above the picture.
        axes: to draw on; a new figure when None.

    Raises:
        ValueError: a solution of a batch of games.
        TypeError: solutions without names.
    """
    figure, axes = _drawn_on(axes, 6.4, 4.2)
    levels = np.geomspace(1, 1e-12, 121)
    for k, (name, solution) in enumerate(solutions.items()):
        gaps = _one(solution.gaps[which], name)
        stays = np.maximum.accumulate(gaps[::-1])[::-1]  # the worst gap from here on
        reached = [int(np.argmax(stays <= level)) for level in levels if stays[-1] <= level]
        shown = levels[: len(reached)]
        reached += [-1] * bool(reached)  # level to the end
        style = STYLES[k // len(COLOURS) % len(STYLES)]
        axes.plot(
            solution.iterations.cpu().numpy()[reached], [*shown, *shown[-1:]], style, color=COLOURS[k % len(COLOURS)],
            marker=MARKS[k % len(MARKS)], markevery=10, markersize=4, label=as_label(name), linewidth=1.6,
        )  # fmt: skip
    axes.set(xscale="log", yscale="log", xlabel="iterations", ylabel=f"gap of the {which} iterate stays below")
    axes.set(title=title)
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8)
    return figure


def quantiles(
    solutions: Mapping[str, Solution], which: str = "last", title: str = "", axes: Axes | None = None
) -> Figure:
    """The median gap over a batch of games, with the middle half and the middle nine tenths shaded.

    Args:
        solutions: by name, each of a batch.
        which: "last" or "average".
        title: above the picture.
        axes: to draw on; a new figure when None.

    Raises:
        ValueError: a solution of a single game.
    """
    figure, axes = _drawn_on(axes, 6.4, 4.2)
    for k, (name, solution) in enumerate(_by_name(solutions).items()):
        gaps = solution.gaps[which].cpu()
        if gaps.ndim < 2:
            raise NashwardError(f"quantiles are drawn over a batch of games, {name} holds a single game")
        colour, T = COLOURS[k % len(COLOURS)], solution.iterations.cpu().numpy()
        q = np.quantile(gaps.flatten(1).clamp_min(FLOOR).numpy(), (0.05, 0.25, 0.5, 0.75, 0.95), axis=1)
        axes.fill_between(T, q[0], q[4], color=colour, alpha=0.12, linewidth=0)
        axes.fill_between(T, q[1], q[3], color=colour, alpha=0.25, linewidth=0)
        mark = MARKS[k % len(MARKS)]
        axes.plot(T, q[2], "-", color=colour, marker=mark, markevery=0.15, markersize=4, label=as_label(name))
    axes.set(xscale="log", yscale="log", xlabel="iterations", ylabel=f"gap of the {which} iterate", title=title)
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8)
    return figure


def stability_map(
    frequencies: Sequence[float],
    steps: Sequence[float],
    factors: Any,
    threshold: Callable[[Any], Any] | None = None,
    title: str = "",
    axes: Axes | None = None,
) -> Figure:
    """Where small deviations from the Nash shrink (blue) and grow (red): step against the game's frequency.

    Args:
        frequencies: [columns], lam of ``games.rotation_frequency``.
        steps: [rows].
        factors: [rows, columns], by which a deviation grows an iteration, as of ``theory.local_factor``.
        threshold: the exact threshold as a function of lam, a solid curve; where the factors say 1 is dotted.
        title: above the picture.
        axes: to draw on; a new figure when None.

    Raises:
        ValueError: factors of another shape.
    """
    figure, axes = _drawn_on(axes, 5.6, 4.2)
    table = np.asarray(factors, dtype=np.float64)
    if table.shape != (len(steps), len(frequencies)):
        raise NashwardError(
            f"factors must be [{len(steps)}, {len(frequencies)}], steps by frequencies, got {table.shape}"
        )
    shown = np.log10(table.clip(1e-12, 1e12))
    width = max(float(np.quantile(np.abs(shown), 0.6)), 1e-12)  # the side of 0 is what matters, so the rest saturates
    mesh = axes.pcolormesh(frequencies, steps, shown, cmap="RdBu_r", vmin=-width, vmax=width, shading="nearest")
    axes.contour(frequencies, steps, shown, levels=[0.0], colors="black", linestyles=":")
    if threshold is not None:
        grid = np.linspace(min(frequencies), max(frequencies), 200)
        axes.plot(grid, [threshold(lam) for lam in grid], "-", color="black", linewidth=1.8, label="exact threshold")
        axes.legend(fontsize=8)
    axes.set(xlabel="frequency of the game", ylabel="step", title=title, ylim=(min(steps), max(steps)))
    figure.colorbar(mesh, ax=axes, label="log10 of the factor an iteration", extend="both")
    return figure


def _one(gaps: Float[torch.Tensor, "records ..."], name: str) -> Float[np.ndarray, " records"]:
    if gaps.ndim != 1:
        raise NashwardError(f"this picture is of one game, {name} holds a batch of shape {tuple(gaps.shape[1:])}")
    return gaps.cpu().clamp_min(FLOOR).numpy()


def _heat(
    axes: Axes, table: Float[np.ndarray, "n m"], names: Sequence[Sequence[str]], figure: Figure, form: str
) -> None:
    """A heat map around the middle of the payoffs, which of probabilities are 0 to 1."""
    low, high = (0.0, 1.0) if form == ".2f" else (float(table.min()), float(table.max()))
    image = axes.imshow(table, cmap="RdBu", vmin=low, vmax=high if high > low else low + 1)
    _ticks(axes, *names)
    if max(table.shape) <= 12:
        middle, reach = (low + high) / 2, (high - low) / 2
        for i, row in enumerate(table):
            for j, value in enumerate(row):
                dark = abs(value - middle) > 0.66 * reach
                axes.text(j, i, f"{value:{form}}", ha="center", va="center", fontsize=7, color="w" if dark else "k")
    figure.colorbar(image, ax=axes, shrink=0.7)


def payoff_table(game: PreferenceGame | ConstantSumGame, equilibrium: Equilibrium, title: str = "") -> Figure:
    """The table as a heat map, and beside it the equilibrium's probabilities; most played actions first.

    Args:
        game: a single game; of an ``n x m`` one the row player's payoffs and the probabilities of both are shown.
        equilibrium: of the game, as ``games.nash`` gives it.
        title: above the picture.

    Raises:
        ValueError: a batch of games.
        TypeError: a game without a table.
    """
    if not isinstance(game, PreferenceGame | ConstantSumGame):
        raise TypeError(f"expected a game with a table of payoffs, got {type(game).__name__}")
    if game.batch_shape:
        raise NashwardError(f"the picture is of one game, got a batch of shape {tuple(game.batch_shape)}")
    if isinstance(game, PreferenceGame):
        what, form, table = "P(row beats column)", ".2f", game.P
        sides = [("Nash", game.labels, equilibrium.policy)] * 2
    else:
        what, form, table = "payoff of the row player", ".3g", game.payoff
        pair = equilibrium.policy
        sides = [("row player", game.row_labels, pair.row), ("column player", game.column_labels, pair.column)]
    orders = [torch.argsort(policy.cpu(), descending=True, stable=True) for _, _, policy in sides]
    names = [[as_label(labels[i]) for i in order] for (_, labels, _), order in zip(sides, orders, strict=True)]
    shown = sides[:1] if isinstance(game, PreferenceGame) else sides
    n, m = len(names[0]), len(names[1])
    figure, (left, *rights) = _figure(min(4.0 + 0.7 * max(n, m), 12), min(2.0 + 0.32 * max(n, m), 9), 1 + len(shown))
    _heat(left, table.cpu()[orders[0]][:, orders[1]].numpy(), names, figure, form)
    left.set_title(title or what)
    for right, (player, _, policy), order, own in zip(rights, shown, orders, names, strict=False):
        right.barh(range(len(own)), policy.cpu()[order].numpy(), color=COLOURS[0])
        heading = f"{player}, gap {float(equilibrium.gap):.0e}"
        right.set(yticks=range(len(own)), yticklabels=own, xlabel="probability", title=heading)
        right.invert_yaxis()
    return figure


def _ticks(axes: Axes, rows: Sequence[str], columns: Sequence[str]) -> None:
    axes.set(xticks=range(len(columns)), yticks=range(len(rows)))
    axes.set_xticklabels(columns, rotation=60, ha="right", fontsize=8)
    axes.set_yticklabels(rows, fontsize=8)
