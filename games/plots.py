"""Pictures. Each function returns a matplotlib figure; nothing is shown or saved."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from .equilibrium import Equilibrium
from .game import PreferenceGame
from .solve import Solution

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, safe for colour-blind readers.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
FLOOR = 1e-16  # gaps below this are drawn here


def _figure(width: float, height: float, columns: int = 1) -> tuple[Figure, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(1, columns, squeeze=False)[0]


def gap_curves(
    solutions: Mapping[str, Solution],
    bounds: Mapping[str, Callable[[Any], Any]] | None = None,
    title: str = "",
) -> Figure:
    """Duality gap against iterations, log-log: the last iterate solid, the average dashed, bounds dotted.

    Args:
        solutions: by name, each of a single game.
        bounds: by name, functions of the iterations, for example ``theory.MWUAverage(...).bound``.
    """
    figure, (axes,) = _figure(6.4, 4.2)
    for (name, solution), colour in zip(solutions.items(), _cycle(len(solutions)), strict=True):
        for which, style in (("last", "-"), ("average", "--")):
            gaps = solution.gaps[which]
            if gaps.ndim != 1:
                raise ValueError(
                    f"gap curves are drawn for one game, {name} holds a batch of shape {tuple(gaps.shape[1:])}"
                )
            values = gaps.cpu().clamp_min(FLOOR)
            axes.plot(solution.iterations, values, style, color=colour, label=f"{name}, {which}", linewidth=1.6)
    longest = max(int(s.iterations[-1]) for s in solutions.values())
    grid = np.unique(np.geomspace(1, longest, 200).round())
    for name, bound in (bounds or {}).items():
        axes.plot(grid, bound(grid), ":", color="black", label=name, linewidth=1.6)
    axes.set(xscale="log", yscale="log", xlabel="iterations", ylabel="duality gap", title=title)
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8)
    return figure


def simplex(
    policies: Mapping[str, Any],
    equilibrium: Any = None,
    labels: tuple[str, ...] = ("0", "1", "2"),
    title: str = "",
) -> Figure:
    """Trajectories on the simplex of three actions.

    Args:
        policies: by name, [records, 3] probabilities, as in ``Solution.policies["last"]``.
        equilibrium: [3], drawn as a star.
    """
    figure, (axes,) = _figure(4.8, 4.4)
    corners = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, np.sqrt(3) / 2]])
    axes.fill(*corners.T, facecolor="none", edgecolor="black", linewidth=1)
    offsets = np.array([[-0.04, -0.05], [0.04, -0.05], [0.0, 0.03]])
    for corner, offset, label in zip(corners, offsets, labels, strict=True):
        axes.text(*(corner + offset), label, ha="center", va="center")
    for (name, path), colour in zip(policies.items(), _cycle(len(policies)), strict=True):
        points = np.asarray(path, dtype=np.float64)
        if points.ndim != 2 or points.shape[1] != 3:
            raise ValueError(f"a trajectory on the simplex has shape [records, 3], {name} has {points.shape}")
        line = points @ corners
        axes.plot(*line.T, "-", color=colour, linewidth=1.2, label=name)
        axes.plot(*line[0], "o", color=colour, markersize=4)
        axes.plot(*line[-1], "s", color=colour, markersize=5)
    if equilibrium is not None:
        axes.plot(*(np.asarray(equilibrium) @ corners), "*", color="black", markersize=14, label="Nash")
    axes.set(title=title, aspect="equal")
    axes.axis("off")
    axes.legend(fontsize=8, loc="upper right")
    return figure


def payoff_table(game: PreferenceGame, equilibrium: Equilibrium, title: str = "") -> Figure:
    """The table as a heat map, and beside it the equilibrium's probabilities; most played actions first."""
    if game.batch_shape:
        raise ValueError(f"the picture is of one game, got a batch of shape {tuple(game.batch_shape)}")
    n = game.sizes[0]
    order = torch.argsort(equilibrium.policy.cpu(), descending=True, stable=True)
    names = [game.labels[i] for i in order]
    figure, (left, right) = _figure(min(4.0 + 0.7 * n, 12), min(2.0 + 0.32 * n, 9), 2)
    table = game.P.cpu()[order][:, order].numpy()
    image = left.imshow(table, cmap="RdBu", vmin=0, vmax=1)
    _ticks(left, names)
    if n <= 12:
        for i in range(n):
            for j in range(n):
                dark = abs(table[i, j] - 0.5) > 0.33
                left.text(j, i, f"{table[i, j]:.2f}", ha="center", va="center", fontsize=7, color="w" if dark else "k")
    left.set_title(title or "P(row beats column)")
    figure.colorbar(image, ax=left, shrink=0.7)
    right.barh(range(n), equilibrium.policy.cpu()[order].numpy(), color=COLOURS[0])
    right.set(yticks=range(n), yticklabels=names, xlabel="probability", title=f"Nash, gap {float(equilibrium.gap):.0e}")
    right.invert_yaxis()
    return figure


def _ticks(axes: Axes, names: list[str]) -> None:
    axes.set(xticks=range(len(names)), yticks=range(len(names)))
    axes.set_xticklabels(names, rotation=60, ha="right", fontsize=8)
    axes.set_yticklabels(names, fontsize=8)


def _cycle(n: int) -> list[str]:
    return [COLOURS[i % len(COLOURS)] for i in range(n)]
