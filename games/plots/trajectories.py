"""Trajectories of policies: on the simplex of three actions, or in a plane for more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nashward.errors import NashwardError
from nashward.shortened import cut

from ..equilibria.face import Face, nearest
from ..equilibria.nash import Equilibrium
from ..equilibria.regularised import RegularisedEquilibrium
from ..forms.game import Profile
from ..shapes import Float
from ..solution import Solution
from .appearance import as_label, as_legend, drawn_on, looks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIDEWAYS = 0.4  # of an arrow's direction, below which its label stands in the middle


def simplex(
    policies: Mapping[str, Any],
    equilibrium: Any = None,
    labels: tuple[str, ...] = ("0", "1", "2"),
    *,
    title: str = "",
    axes: Axes | None = None,
    start: Any = None,
) -> Figure:
    """Trajectories on the simplex of three actions.

    Args:
        policies: by name, solutions with ``keep_policies=True``, whose last iterates are drawn; or [records, 3]
            probabilities.
        equilibrium: [3], or as ``games.nash`` gives it, drawn as a star; or of a game with several the set of all, as
            ``games.face`` gives it, of which the one nearest to the end of a trajectory is drawn.
        labels: the names of the three corners.
        title: above the picture.
        axes: to draw on; a new figure when None.
        start: [3], the common start, drawn as a ring; None: each trajectory has a hollow mark at its first record.

    Raises:
        ValueError: a trajectory, an equilibrium or a start of another shape, or of an ``n x m`` game, which has two
            policies; a solution that kept none; other than three labels.
        TypeError: trajectories without names.
    """
    paths = _paths(policies)
    if wrong := [f"{name} has {path.shape}" for name, path in paths.items() if path.shape[1] != 3]:
        raise NashwardError(f"a trajectory on the simplex has shape [records, 3], {wrong[0]}; see plots.trajectories")
    first, (star, called) = _point(start, 3, "start"), _star(equilibrium, paths, 3)
    _check_labels(labels, 3)
    figure, axes = drawn_on(axes, 4.8, 4.4)
    corners = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, np.sqrt(3) / 2]])
    axes.fill(*corners.T, facecolor="none", edgecolor="black", linewidth=1)
    offsets = np.array([[-0.04, -0.05], [0.04, -0.05], [0.0, 0.03]])
    for corner, offset, label in zip(corners, offsets, labels, strict=True):
        x, y = corner + offset
        axes.text(x, y, as_label(label), ha="center", va="center")
    _draw(axes, {name: path @ corners for name, path in paths.items()}, None if first is None else first @ corners)
    if star is not None:
        axes.plot(*(star @ corners), "*", color="black", markersize=14, label=called)
    axes.set(title=title, aspect="equal")
    axes.axis("off")
    axes.legend(fontsize=8, loc="upper right")
    return figure


def trajectories(
    policies: Mapping[str, Any],
    equilibrium: Any = None,
    labels: Sequence[str] | None = None,
    *,
    actions: Sequence[int] | None = None,
    title: str = "",
    axes: Axes | None = None,
    start: Any = None,
) -> Figure:
    """Trajectories of policies over any number of actions, from the hollow mark to the filled one.

    Over three actions they lie on the simplex. Over more they are drawn in the plane of two chosen actions, or else
    projected on their principal plane: the plane through the equilibrium (if not given, through the mean) in which they
    move most, from the singular vectors of all points together. The axes then say which share of the squared distances
    they show, and grey arrows from the star (or the mean) the directions in which the probability of an action grows,
    of the three actions that reach furthest in the plane.

    Args:
        policies: by name, solutions with ``keep_policies=True``, whose last iterates are drawn; or [records, n]
            probabilities.
        equilibrium: [n], or as ``games.nash`` gives it, drawn as a star; or of a game with several the set of all, as
            ``games.face`` gives it, of which the one nearest to the end of a trajectory is drawn.
        labels: the names of the n actions.
        actions: the numbers of two actions whose probabilities are the axes; None: the principal plane.
        title: above the picture.
        axes: to draw on; a new figure when None.
        start: [n], the common start, drawn as a ring; None: each trajectory has a hollow mark at its first record.

    Raises:
        ValueError: no trajectory, or trajectories of different sizes or of fewer than three actions, or of an
            ``n x m`` game, which has two policies; a solution that kept none; an equilibrium, a start or labels of
            another size; other than two actions, or one that does not exist.
        TypeError: trajectories without names.
    """
    paths = _paths(policies)
    sizes = sorted({path.shape[1] for path in paths.values()})
    if len(sizes) != 1 or sizes[0] < 3:
        raise NashwardError(f"trajectories in a plane need the same number of actions, at least 3; got {sizes}")
    (n,) = sizes
    names = tuple(map(str, range(n))) if labels is None else tuple(labels)
    _check_labels(names, n)
    if actions is None and n == 3:
        return simplex(policies, equilibrium, names, title=title, axes=axes, start=start)
    first, (star, called) = _point(start, n, "start"), _star(equilibrium, paths, n)
    figure, axes = drawn_on(axes, 5.6, 4.6)
    if actions is not None:
        _plane_of_actions(axes, paths, star, called, first, names, actions)
    else:
        _principal_plane(axes, paths, star, called, first, names)
    axes.set(title=title)
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2)  # below the names of the actions
    return figure


def _paths(policies: Mapping[str, Any]) -> dict[str, Float[np.ndarray, "_ _"]]:
    if not isinstance(policies, Mapping):
        raise TypeError(
            f'expected trajectories by name, as {{"MWU": solution.policies["last"]}}, got {type(policies).__name__}'
        )
    paths = {name: _path(name, path) for name, path in policies.items()}
    for name, path in paths.items():
        if path.ndim != 2 or not len(path):
            raise NashwardError(
                f"a trajectory has shape [records, n], {name} has {path.shape}; solve(..., keep_policies=True) keeps "
                "it for one game and one start"
            )
    return paths


def _path(name: str, path: Any) -> Float[np.ndarray, "..."]:
    if isinstance(path, Solution):
        if "last" not in path.policies:
            raise NashwardError(f"{name} has kept no policies: give games.solve(..., keep_policies=True)")
        path = path.policies["last"]
    return _of_one_player(path, name)


def _of_one_player(policy: Any, name: str) -> Float[np.ndarray, "..."]:
    if isinstance(policy, Profile):
        raise NashwardError(
            f"this picture shows one policy, {name} has two, of an n x m game: draw one player's, as "
            '{"row": solution.policies["last"].row} and nash(game).policy.row'
        )
    return np.asarray(policy, dtype=np.float64)


def _point(given: Any, n: int, name: str) -> Float[np.ndarray, " n"] | None:
    """A policy to mark, from an equilibrium or from its probabilities."""
    if given is None:
        return None
    held = given.policy if isinstance(given, Equilibrium | RegularisedEquilibrium) else given
    point = _of_one_player(held, f"the {name}")
    if point.shape != (n,):
        raise NashwardError(f"the {name} of these trajectories has shape [{n}], got {point.shape}")
    return point


def _star(
    equilibrium: Any, paths: Mapping[str, Float[np.ndarray, "_ n"]], n: int
) -> tuple[Float[np.ndarray, " n"] | None, str]:
    """The equilibrium to mark, and what the legend calls it."""
    if isinstance(equilibrium, Face):
        at = _point(equilibrium.interior, n, "equilibrium")
        if equilibrium.dimension == 0:
            return at, "Nash"
        ends = [(path[-1], nearest(equilibrium, path[-1])) for path in paths.values()]
        closest = min(ends, key=lambda pair: float(np.linalg.norm(pair[0] - pair[1])))[1]
        return closest, "Nash nearest to an end, one of several"
    one_of = isinstance(equilibrium, Equilibrium) and equilibrium.unique is not None and not bool(equilibrium.unique)
    return _point(equilibrium, n, "equilibrium"), "Nash, one of several" if one_of else "Nash"


def _check_labels(labels: Sequence[str], n: int) -> None:
    if len(labels) != n:
        raise NashwardError(f"there are {n} actions, got {len(labels)} labels: {cut(', '.join(map(str, labels)), 60)}")


def _draw(
    axes: Axes, lines: Mapping[str, Float[np.ndarray, "_ 2"]], first: Float[np.ndarray, " 2"] | None
) -> None:  # fmt: skip
    look = looks(list(lines))
    for name, line in lines.items():
        colour, mark, style = look[name]
        way = line if first is None else np.vstack([first, line])
        axes.plot(
            *way.T, style, color=colour, linewidth=1.2, label=as_legend(name), marker=mark, markevery=[-1], markersize=6
        )
        if first is None:
            axes.plot(*line[0], mark, color=colour, markersize=4, fillstyle="none")
    if first is not None:
        axes.plot(*first, "o", color="black", markersize=9, markeredgewidth=1.5, fillstyle="none", label="start")


def _plane_of_actions(
    axes: Axes, paths: Mapping[str, Float[np.ndarray, "_ n"]], star: Float[np.ndarray, " n"] | None,
    called: str, first: Float[np.ndarray, " n"] | None, names: Sequence[str], actions: Sequence[int],
) -> None:  # fmt: skip
    chosen = list(actions)
    if len(set(chosen)) != 2 or len(chosen) != 2 or not all(0 <= action < len(names) for action in chosen):
        raise NashwardError(f"two of the actions 0 to {len(names) - 1} make a plane, got {chosen}")
    axes.plot([0, 0, 1, 0], [0, 1, 0, 0], color="black", linewidth=1)  # all policies lie within
    _draw(axes, {name: path[:, chosen] for name, path in paths.items()}, None if first is None else first[chosen])
    if star is not None:
        axes.plot(*star[chosen], "*", color="black", markersize=14, label=called)
    x, y = (f"P({as_label(names[action])})" for action in chosen)
    axes.set(xlabel=x, ylabel=y, aspect="equal")


def _principal_plane(
    axes: Axes, paths: Mapping[str, Float[np.ndarray, "_ n"]], star: Float[np.ndarray, " n"] | None,
    called: str, first: Float[np.ndarray, " n"] | None, names: Sequence[str],
) -> None:  # fmt: skip
    points = np.concatenate([*paths.values(), *([] if first is None else [first[None]])])
    centre = points.mean(0) if star is None else star
    _, lengths, directions = np.linalg.svd(points - centre, full_matrices=False)
    plane = np.zeros((2, len(names)))
    plane[: min(2, len(directions))] = directions[:2]
    for row in plane:  # the sign of a singular vector is arbitrary
        row *= -1 if row[np.abs(row).argmax()] < 0 else 1
    begin = None if first is None else (first - centre) @ plane.T
    _draw(axes, {name: (path - centre) @ plane.T for name, path in paths.items()}, begin)
    if star is not None:
        axes.plot(0, 0, "*", color="black", markersize=14, label=called)
    reach = np.abs((points - centre) @ plane.T).max() or 1.0
    largest = np.linalg.norm(plane, axis=0)
    for action in largest.argsort(kind="stable")[::-1][:3]:
        tip = plane[:, action] / largest.max() * 0.8 * reach
        axes.update_datalim([1.15 * tip])  # arrows and texts do not extend the limits by themselves
        axes.annotate("", xy=tuple(tip), xytext=(0, 0), arrowprops={"arrowstyle": "->", "color": "0.5"})
        x, y = way = tip / (np.linalg.norm(tip) or 1.0)
        axes.annotate(  # beyond the tip, with lines behind it
            as_label(names[action]), tuple(tip), tuple(4 * way), textcoords="offset points", color="0.35", fontsize=8,
            ha="center" if abs(x) < SIDEWAYS else "left" if x > 0 else "right",
            va="center" if abs(y) < SIDEWAYS else "bottom" if y > 0 else "top",
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1}, zorder=5,
        )  # fmt: skip
    axes.plot(
        [], [], color="0.5", marker=r"$\rightarrow$", linestyle="none", markersize=10, label="more of the named action"
    )
    squares = np.pad(lengths**2, (0, 2))
    for which, square in zip(("x", "y"), squares[:2], strict=True):
        share = square / squares.sum() if squares.sum() else 0.0
        axes.set(**{f"{which}label": f"{'first' if which == 'x' else 'second'} principal direction ({share:.0%})"})
    axes.set(aspect="equal")
    axes.margins(0.12)
    axes.autoscale_view()
