"""The pictures of ``nashward solve``: the table, gaps, the race and the path."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nashward import games
from nashward.cli import outputs
from nashward.errors import NashwardError

PICTURES = ("table", "gaps", "race", "path")
MOST_DRAWN = 10_000  # iterations of a path; of more a part is recorded


def chosen(args: argparse.Namespace, game: Any) -> tuple[str, list[int] | None]:
    """What is drawn, and the two actions of a path, if they are given; refuses what does not go together."""
    for name in ("picture", "actions"):
        if getattr(args, name) is not None and args.plot is None:
            raise NashwardError(f"--{name} chooses what the picture shows: give --plot FILE as well")
    picture = args.picture or ("gaps" if args.solver else "table")
    if picture != "table" and not args.solver:
        raise NashwardError(f"--picture {picture} shows solvers: give --solver as well")
    if args.actions is not None and picture != "path":
        raise NashwardError(f"--actions belongs to --picture path; this is {picture}")
    if picture != "path":
        return picture, None
    if not isinstance(game, games.PreferenceGame):
        raise NashwardError("--picture path shows one policy, and this game has two: take --picture gaps")
    if game.sizes[0] < 3:
        raise NashwardError("--picture path needs three actions at least; take --picture gaps")
    if args.actions is None:
        return picture, None
    names = args.actions.split(",")
    unknown = [name for name in names if name not in game.labels]
    if len(names) != 2 or names[0] == names[1] or unknown:
        what = f"there is no {unknown[0]!r}" if unknown else "expected two different ones"
        raise NashwardError(f"--actions {args.actions}: {what}; the actions are {games.plots.some_of(game.labels)}")
    return picture, [game.labels.index(name) for name in names]


def points(picture: str, args: argparse.Namespace) -> range | None:
    """The iterations to record: all of a path, whose lines would cut corners; where a tolerance ends it the usual."""
    if picture == "path" and args.tolerance is None and 1 <= args.iterations <= MOST_DRAWN:
        return range(1, args.iterations + 1)
    return None


def draw(
    path: Path, picture: str, title: str, game: Any, equilibrium: games.equilibria.Equilibrium,
    found: Mapping[str, games.Solution], actions: list[int] | None, start: Any,
) -> None:  # fmt: skip
    """Write the picture; of solvers without a finite policy it says that they are left out."""
    solutions = {label: solution for label, solution in found.items() if len(solution.iterations)}
    if picture != "table" and not solutions:
        raise NashwardError(f"there is nothing to draw in {path}: no solver reached a finite policy; lower the step")
    if missing := [label for label in found if label not in solutions]:
        print(f"warning: not in the picture, as no policy of it is finite: {', '.join(missing)}", file=sys.stderr)
    title = games.plots.as_label(title, longest=90)  # the name of a file
    if picture == "table":
        figure = games.plots.payoff_table(game, equilibrium)
        figure.suptitle(title, wrap=True)
    elif picture == "path":
        paths = {name: solution.policies["last"] for name, solution in solutions.items()}
        first = [1 / game.sizes[0]] * game.sizes[0] if start is None else start
        figure = games.plots.trajectories(
            paths, _all_or_one(game, equilibrium), game.labels, actions=actions, title=title, start=first
        )
    elif len(solutions) == 1 and picture == "gaps":
        figure = games.plots.gap_curves(solutions, title=title)
    else:
        figure = _both_iterates(picture, solutions, title)
    if lacking := outputs.write_picture(figure, path):
        print(f"warning: boxes in {path} for what its font lacks: {games.plots.some_of(lacking)}", file=sys.stderr)


def _all_or_one(game: Any, equilibrium: games.equilibria.Equilibrium) -> Any:
    """The equilibria, of which the picture shows the nearest; the one that is printed where it is the only one."""
    if equilibrium.unique is None or bool(equilibrium.unique):
        return equilibrium
    try:
        face = games.face(game)
    except ArithmeticError:  # too badly conditioned
        return equilibrium
    return face if face.dimension else equilibrium  # without rounding there may be one


def _both_iterates(picture: str, solutions: Mapping[str, games.Solution], title: str) -> Any:
    """The last iterates and the averages side by side."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11.5, 4.4), layout="constrained")
    panels = figure.subplots(1, 2, sharey=picture == "gaps")
    for which, axes in zip(("last", "average"), panels, strict=True):
        heading = f"{title}: {which} iterate"
        if picture == "race":
            games.plots.race(solutions, which, title=heading, axes=axes)
        else:
            games.plots.gap_curves(solutions, title=heading, axes=axes, which=[which])
    return figure
