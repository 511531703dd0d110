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

from ..evaluation.evaluate import same_as_start
from ..evaluation.objectives.by_objective import over_start
from ..evaluation.objectives.frontier import FILE, figure
from ..evaluation.players import START, is_start
from ..evaluation.win_rates.win_rate import WinRate
from ..oracles.ensembles.objectives import Combination
from ..run.selfplay import iterates
from ..store.run_folder import RunFolder
from .content import Alert, Content, Heading, Paragraph, Picture, Table, with_error
from .results import TRAINING, command, prompts_in_words
from .stored_results import current_evaluation, read_evaluation

logger = logging.getLogger(__name__)
KEPT = {True: "kept beyond noise", False: "missed beyond noise", None: "within noise"}  # a floor
MULTIPLIERS = {"floors": "multiplier", "worst-case": "the adversary's weight"}  # by the rule; of others weights
BINDS = 0.01  # a multiplier from here on binds: the win rate under the first objective that a unit of the floor costs


def objectives(folder: Path) -> list[Content]:
    """The section of a run with several objectives, or with a frontier; empty for any other."""
    return [*_course(folder), *_evaluated(folder), *_frontier(folder)]


def columns_by_objective(results: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """The columns of a table of ``evaluation.json``: the policies, what is played for, and the objectives.

    Example:
        >>> rate = {"win_rate": 51.8, "standard_error": 0.6, "verdict": "beats"}
        >>> plain = {"win_rate": 75.1, "standard_error": 1.2, "verdict": "beats", "kept": True}
        >>> by = {"long": {"against_start": {"new": rate}}, "plain": {"floor": 45.0, "against_start": {"new": plain}}}
        >>> columns = columns_by_objective({"objectives": by, "against_start": {"training": {"new": rate}}})
        >>> for column in columns:
        ...     print(column)
        ('', 'new')
        ('played for', '51.8 ± 0.6% beats')
        ('long', '51.8 ± 0.6% beats')
        ('plain, floor 45%', '75.1 ± 1.2% beats, floor kept beyond noise')
    """
    played_for = results["against_start"][TRAINING]
    columns = [("", *played_for), ("played for", *map(_percent, played_for.values()))]
    for name, found in results["objectives"].items():
        head = f"{name}, floor {found['floor']:g}%" if "floor" in found else name
        columns.append((head, *map(_percent, found["against_start"].values())))
    return columns


def objective_sentences(player: str, results: Mapping[str, Any]) -> list[str]:
    """What a policy wins over the start under each objective, and whether it keeps its floor; none of one oracle.

    Example:
        >>> rate = {"win_rate": 75.1, "standard_error": 1.2, "kept": True}
        >>> objective_sentences("new", {"objectives": {"plain": {"floor": 45.0, "against_start": {"new": rate}}}})
        ['Under plain new wins 75.1 ± 1.2%: the floor of 45% is kept beyond noise.']
    """
    sentences = []
    for name, found in results.get("objectives", {}).items():
        rate = found["against_start"][player]
        state = f": the floor of {found['floor']:g}% is {KEPT[rate['kept']]}" if "floor" in found else ""
        wins = f"{with_error(rate['win_rate'], rate['standard_error'])}%{rate.get('by', '')}"
        sentences.append(f"Under {name} {player} wins {wins}{state}.")
    return sentences


def most_exact(results: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """``evaluation.json`` with the win rates under objectives that ``nashward frontier`` measured of the same policies,
    where their error is the smaller one; each then says ``by`` which command it is."""
    measured = _measured(folder) or {}
    same = dict(measured.get("identities", {}).items() & results.get("policies", {}).items())
    exact: dict[str, Any] = {}
    for name, found in results.get("objectives", {}).items():
        floor = found["floor"] / 100 if "floor" in found else None
        rates = {player: {**rate, "by": " (nashward evaluate)"} for player, rate in found["against_start"].items()}
        for player in rates.keys() & same.keys():
            other, error = measured["policies"][player].get(name), rates[player]["standard_error"]
            if other is not None and error is not None and 100 * other["standard_error"] < error:
                rate = WinRate(other["value"], other["standard_error"], measured["prompts"])
                each = f"{counted(measured['responses'], 'response')} to each of {measured['prompts']} prompts"
                rates[player] = {**over_start(rate, floor), "by": f" (nashward frontier, {each})"}
        exact[name] = {**found, "against_start": rates}
    return {**results, "objectives": exact} if exact else dict(results)


def floor_alerts(folder: Path, old: bool = True) -> list[Alert]:
    """A warning for each floor that a policy misses beyond noise, of those that ``nashward evaluate`` compared; with
    ``old`` also of policies that have changed since."""
    results = most_exact(read_evaluation(folder) if old else current_evaluation(folder), folder)
    objectives = results.get("objectives", {})
    missed = [
        sentence
        for player in results.get("policies", {})
        if player != START
        for found, sentence in zip(objectives.values(), objective_sentences(player, results), strict=True)
        if found["against_start"][player].get("kept") is False
    ]
    return [
        Alert(
            f"{sentence} Take an earlier iterate, more iterations (a multiplier rises while its floor is missed), or a "
            "larger limit of the multipliers."
        )
        for sentence in missed
    ]


def _evaluated(folder: Path) -> list[Content]:
    """The objectives one by one, on the prompts of ``nashward evaluate``; empty where it was not run."""
    results = read_evaluation(folder)
    if "objectives" not in results:
        return []
    head, *rows = zip(*columns_by_objective(results), strict=True)
    return [
        Heading("What was won over the start, by objective"),
        Paragraph(
            f"By `nashward evaluate`, on {prompts_in_words(results)}. What is played for is {results['payoff']}."
        ),
        Table(("policy", *head[1:]), rows),
    ]


def _percent(rate: Mapping[str, Any]) -> str:
    """A win rate with its error and what it says beyond noise."""
    verdict = (rate.get("verdict") or "(no error is known)").removeprefix("is ").removesuffix(" from")
    text = f"{with_error(rate['win_rate'], rate['standard_error'])}% {verdict}"
    return text + (f", floor {KEPT[rate['kept']]}" if "kept" in rate else "")


def _course(folder: Path) -> list[Content]:
    rows = [row for row in iterates(folder) if row.get("objectives")]
    if not rows:
        return []
    names = list(rows[0]["objectives"]["win_rates"])
    if len(rows) == 1:  # the win rate of the start over itself, which says nothing
        played, listed = rows[0]["objectives"]["policy"], f"{', '.join(names[:-1])} and {names[-1]}"
        unknown = Paragraph(
            f"One step was played, against {played}; what its iterate wins under {listed} is not measured yet: "
            f"`{command('frontier', folder)}` measures it, and so does a further step."
        )
        return [] if (folder / FILE).is_file() else [unknown]
    floors = _floors(folder)
    charged = list(rows[0]["objectives"]["multipliers"])
    what = MULTIPLIERS.get(_rule(folder), "weight")
    head = ("policy", *(f"wins, {name}" for name in names), *(f"{what}, {name}" for name in charged))
    played = [row["objectives"]["policy"] for row in rows]
    unmoved = [name for name in played if name != START and is_start(RunFolder(folder), folder / name / "adapter")]
    sentences = [
        "Each step is played against a policy, whose win rate over the run's start is measured under each objective on "
        "the step's own responses, with standard errors over prompts; the newest iterate is not among them until a "
        "further step or nashward frontier measures it."
    ]
    if floors:
        newest = rows[-1]["objectives"]
        sentences += [_floor_sentence(name, floor, newest) for name, floor in floors.items()]
        sentences.append("Multipliers start as equal shares of their limit, and rise while a floor is missed.")
    if unmoved:
        sentences.append(f"{same_as_start(unmoved)}: that its win rate is not 0.5 is the luck of what was drawn.")
    table = [_row(row["objectives"], names, charged) for row in rows]
    return [Paragraph(" ".join(sentences)), Table(head, table), Picture(_figure(rows, names, floors), "by objective")]


def _row(found: Mapping[str, Any], names: Sequence[str], charged: Sequence[str]) -> tuple[Any, ...]:
    return (
        found["policy"],
        *(with_error(found["win_rates"][name], found["standard_errors"][name], 3) for name in names),
        *(found["multipliers"][name] for name in charged),
    )


def _rule(folder: Path) -> str:
    """How the objectives of a run are combined."""
    return str(RunFolder(folder).read().get("config", {}).get("combine")).partition(":")[0]


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
        state = "is kept with room to spare" if room >= 0 else "is missed within noise"
    return (
        f"The floor of {name}, {floor:g}, {state} on the responses of the run: {newest['policy']} wins "
        f"{with_error(rate, error, 3)} there, at a multiplier of {multiplier:.3f}."
    )


def _figure(rows: Sequence[Mapping[str, Any]], names: Sequence[str], floors: Mapping[str, float]) -> Any:
    """On the left the win rates over the start, with the floors; on the right the course of the multipliers."""
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


def _measured(folder: Path) -> dict[str, Any] | None:
    """What ``nashward frontier`` measured; None where it did not, or where its file is damaged."""
    file = folder / FILE
    try:
        return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None
    except ValueError:
        logger.warning("%s is damaged; nashward frontier writes it again", file)
        return None


def _frontier(folder: Path) -> list[Content]:
    found = _measured(folder)
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
            f"By `nashward frontier`: win rates over the start on {counted(found['prompts'], 'prompt')} with "
            f"{counted(found['responses'], 'response')} each, drawn anew, with "
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
