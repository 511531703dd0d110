"""Several objectives in a report: what each policy wins under each of them, which floor binds, the multipliers."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nashward.counted import counted
from nashward.errors import NashwardError
from nashward.games.plots import COLOURS, MARKS, as_label

from ..evaluation.frontier import FILE, figure
from ..oracles.ensembles.objectives import Combination
from ..run.selfplay import iterates
from ..store.run_folder import RunFolder
from .content import Content, Heading, Paragraph, Picture, Table, with_error
from .results import command

logger = logging.getLogger(__name__)
BINDS = 0.01  # a multiplier of so much: win rate of the first objective that a unit of the floor's costs


def objectives(folder: Path) -> list[Content]:
    """The section of a run with several objectives, or with a frontier; empty of any other."""
    return [*_course(folder), *_frontier(folder)]


def _course(folder: Path) -> list[Content]:
    rows = [row for row in iterates(folder) if row.get("objectives")]
    if not rows:
        return []
    names = list(rows[0]["objectives"]["win_rates"])
    if len(rows) == 1:  # of the start over itself, which says nothing
        played, listed = rows[0]["objectives"]["policy"], f"{', '.join(names[:-1])} and {names[-1]}"
        unknown = Paragraph(
            f"One step was played, against {played}; what its iterate wins under {listed} is not measured yet: "
            f"`{command('frontier', folder)}` measures it, and so does a further step."
        )
        return [] if (folder / FILE).is_file() else [unknown]
    floors = _floors(folder)
    charged = list(rows[0]["objectives"]["multipliers"])
    head = ("policy", *(f"wins, {name}" for name in names), *(f"multiplier, {name}" for name in charged))
    sentences = [
        "Each step is played against a policy, whose win rate over the run's start is measured under each objective on "
        "the step's own responses, with standard errors over prompts; the newest iterate is not among them until a "
        "further step or nashward frontier measures it."
    ]
    if floors:
        newest = rows[-1]["objectives"]
        sentences += [_floor_sentence(name, floor, newest) for name, floor in floors.items()]
        sentences.append("Multipliers start as equal shares of their limit, and rise while a floor is missed.")
    table = [_row(row["objectives"], names, charged) for row in rows]
    return [Paragraph(" ".join(sentences)), Table(head, table), Picture(_figure(rows, names, floors), "by objective")]


def _row(found: Mapping[str, Any], names: Sequence[str], charged: Sequence[str]) -> tuple[Any, ...]:
    return (
        found["policy"],
        *(with_error(found["win_rates"][name], found["standard_errors"][name], 3) for name in names),
        *(found["multipliers"][name] for name in charged),
    )


def _floors(folder: Path) -> dict[str, float]:
    """The floors of a run, by name; empty where it has none."""
    config = RunFolder(folder).read()["config"]
    given = config.get("objective")
    if not given:
        return {}
    try:
        return dict(Combination.read([one.partition("=")[0] for one in given], config["combine"]).floors)
    except (NashwardError, OSError):
        return {}


def _floor_sentence(name: str, floor: float, newest: Mapping[str, Any]) -> str:
    rate, error = newest["win_rates"][name], newest["standard_errors"][name]
    room, multiplier = rate - floor, newest["multipliers"][name]
    if room < -2 * (error or 0.0):
        state = "is missed"
    elif room <= 2 * (error or 0.0) and multiplier > BINDS:
        state = "binds"
    else:
        state = "is kept with room to spare"
    return (
        f"The floor of {name}, {floor:g}, {state}: {newest['policy']} wins {with_error(rate, error, 3)} there, at a "
        f"multiplier of {multiplier:.3f}."
    )


def _figure(rows: Sequence[Mapping[str, Any]], names: Sequence[str], floors: Mapping[str, float]) -> Any:
    """Left the win rates over the start, with the floors; right the multipliers' course."""
    from matplotlib.figure import Figure

    page = Figure(figsize=(10, 3.2), layout="constrained")
    left, right = page.subplots(1, 2)
    times = range(len(rows))
    for k, name in enumerate(names):
        rates = [row["objectives"]["win_rates"][name] for row in rows]
        errors = [row["objectives"]["standard_errors"][name] or 0.0 for row in rows]
        style = {"color": COLOURS[k % len(COLOURS)], "label": as_label(name), "fmt": f"{MARKS[k % len(MARKS)]}-"}
        left.errorbar(times, rates, errors, capsize=2, **style)
        if name in floors:
            left.axhline(floors[name], color=style["color"], linestyle=":")
        if name in rows[0]["objectives"]["multipliers"]:
            values = [row["objectives"]["multipliers"][name] for row in rows]
            right.plot(times, values, style["fmt"], color=style["color"], label=style["label"])
    left.set_title("win rate over the start (dotted: its floor)", fontsize=9)
    right.set_title("weight or multiplier", fontsize=9)
    for axes in (left, right):
        axes.set_xlabel("policy that was played (0: the start)", fontsize=8)
        axes.grid(alpha=0.25)
        axes.legend(fontsize=8)
    return page


def _frontier(folder: Path) -> list[Content]:
    file = folder / FILE
    try:
        found = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None
    except ValueError:
        logger.warning("%s is damaged; nashward frontier writes it again", file)
        return []
    if found is None:
        return []
    names = list(dict.fromkeys(name for rates in found["policies"].values() for name in rates))
    rows = [
        (policy, *(with_error(rate["value"], rate["standard_error"], 3) if (rate := rates.get(name)) else None
                   for name in names))
        for policy, rates in found["policies"].items()
    ]  # fmt: skip
    fronts = "; ".join(f"of {pair}: {', '.join(front)}" for pair, front in found["fronts"].items())
    return [
        Heading("What a win rate costs"),
        Paragraph(
            f"Win rates over the start on {counted(found['prompts'], 'prompt')} with "
            f"{counted(found['responses'], 'response')} each, with "
            "standard errors over prompts. Grey policies are dominated: another one is better in one and not worse in "
            f"the other. Not dominated are, {fronts}."
        ),
        Table(("policy", *names), rows),
        Picture(
            figure(found),
            "Policies by their win rates, with standard errors; mixtures of two policies attain what lies on the "
            "dashed line.",
        ),
    ]
