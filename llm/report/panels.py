"""What a report shows of a run: each panel is a function of the run folder, and works on an unfinished run."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nashward.errors import CorruptFileError

from ..data.prompts import Prompt
from ..run.rollouts import table_name
from ..run.selfplay import iterates, metrics
from ..run.status import status
from ..store.files import read_lines, read_shard, shards
from ..store.run_folder import PROMPTS, RunFolder, flat, order
from .evaluated import called_out, evaluated
from .page import download, picture, table, warning, with_error

Panel = Callable[[Path], str]
CUT = 0.2  # the share of responses without an end from which on it is worth a warning


def warnings(folder: Path) -> str:
    """What a reader should know before anything else; empty where there is nothing."""
    if not RunFolder(folder).read():
        return ""
    found, rows = status(folder), metrics(folder)
    told = []
    if found.finished < found.iterations:
        told.append(
            f"The run is not finished: {found.finished} of {found.iterations} iterations. "
            + ("It is being played." if found.playing else "The command that began it continues it.")
        )
    told += [f"{row['iteration']}: {row['warning']}" for row in rows if row["warning"]]
    for row in rows:
        if (cut := 1 - row["finished"]) > CUT:
            told.append(
                f"{row['iteration']}: {100 * cut:.0f}% of the responses did not end within --max-new-tokens; what the "
                "oracle judged was cut"
            )
    told += [f"On the way: {count} x {event}." for event, count in sorted(found.events.items())]
    return "".join(map(warning, told)) + called_out(folder)


def settings(folder: Path) -> str:
    """What the run was asked for, and where it ran."""
    run = RunFolder(folder).read()
    if not run:
        return "<p>The run has not started.</p>"
    config = run["config"]
    solver = ", ".join(f"{key} {value}" for key, value in config["solver"].items() if key != "name")
    rows = [
        ("policy", config["policy"]),
        ("adapter to start from", config["adapter"] or "none"),
        ("oracle", config["oracle"] or "not given yet"),
        ("prompts", run["prompts"]),
        ("solver", f"{config['solver']['name']} ({solver})"),
        ("responses a prompt", config["responses"]),
        ("hardware", run["hardware"]),
        ("versions", ", ".join(f"{name} {version}" for name, version in run["versions"].items())),
    ]
    whole = table(("setting", "value"), sorted(flat(config).items()), text=True)
    return (
        table(("setting", "value"), rows, text=True)
        + f"<details><summary>All settings</summary>{whole}"
        + f"{download(config, 'all settings', 'settings.json')}</details>"
    )


def curves(folder: Path) -> str:
    """How the policy changed over the iterations."""
    if len(iterates(folder)) < 2:
        return ""
    return picture(course({"": folder}), "The policies that the iterations made.")


MEASURES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "tokens of a response": lambda row: row["after"]["tokens"],
    "KL to the start (nats a response)": lambda row: row["after"]["kl_to_reference"],
    "entropy (nats a token)": lambda row: row["after"]["entropy_per_token"],
    "share of the target reached": lambda row: row["train"]["share"],
    "R² on held-out prompts": lambda row: row["held_out"].get("r2"),
    "wins over the policy before (held out)": lambda row: row.get("win_rate"),
    "task, nats a token (held out)": lambda row: (row.get("task") or {}).get("after"),
}
COLUMNS = 3  # of pictures


def course(folders: Mapping[str, Path]) -> Any:
    """Each measure of the iterates against the iteration, a line a run, as a matplotlib figure."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    from nashward.games.plots import COLOURS, MARKS

    runs = {name: iterates(folder) for name, folder in folders.items()}
    labels = sorted({label for rows in runs.values() for row in rows for label in row.get("labels") or ()})
    drawn = [
        name for name, of in MEASURES.items() if any(of(row) is not None for rows in runs.values() for row in rows)
    ]
    shares = len(runs) == 1 and bool(labels)
    count = len(drawn) + shares
    figure = Figure(figsize=(10, 2.5 * -(-count // COLUMNS)), layout="constrained")
    for place, title in enumerate(drawn, 1):
        axes = figure.add_subplot(-(-count // COLUMNS), COLUMNS, place)
        for k, (name, rows) in enumerate(runs.items()):
            values = [float("nan") if (value := MEASURES[title](row)) is None else value for row in rows]
            colour, mark = COLOURS[k % len(COLOURS)], MARKS[k % len(MARKS)]
            axes.plot(range(1, len(rows) + 1), values, f"{mark}-", color=colour, label=name.replace("$", r"\$") or None)
        axes.set_title(title, fontsize=9)
    if shares:
        (rows,) = runs.values()
        _shares(figure.add_subplot(-(-count // COLUMNS), COLUMNS, count), rows, labels)
    for axes in figure.axes:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("iteration", fontsize=8)
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.25)
    if len(runs) > 1:
        figure.axes[0].legend(fontsize=8)
    return figure


def _shares(axes: Any, rows: Sequence[dict[str, Any]], labels: Sequence[str]) -> None:
    """The shares of the kinds of responses."""
    from nashward.games.plots import COLOURS, MARKS

    for k, label in enumerate(labels):
        values = [(row.get("labels") or {}).get(label, 0.0) for row in rows]
        mark, colour = MARKS[k % len(MARKS)], COLOURS[k % len(COLOURS)]
        axes.plot(range(1, len(rows) + 1), values, f"{mark}-", color=colour, label=label)
    axes.set_title("share of the responses", fontsize=9)
    axes.legend(fontsize=7)


def fits(folder: Path) -> str:
    """What the fit of each step achieved."""
    rows = [
        (
            m["iteration"],
            m["prompts"],
            m["train"]["target_rms"],
            m["train"]["log_ratio_rms"],
            m["train"]["share"],
            m["train"]["r2"],
            m["held_out"].get("r2"),
            m["train"]["kl"],
            with_error(m["after"]["kl_to_reference"], m["after"].get("kl_to_reference_error"), 3),
            m["after"]["entropy_per_token"],
            f"{100 * m['changed_fraction']:.0f}%",
            m["response_tokens"],
            f"{100 * m['finished']:.0f}%",
            None if m.get("labels") is None else f"{100 * m['labels'].get('none', 0):.0f}%",
        )
        for m in metrics(folder)
    ]
    if not rows:
        return "<p>No step is finished yet.</p>"
    head = (
        "step",
        "prompts",
        "target rms",
        "log-ratio rms",
        "share",
        "R² train",
        "R² held out",
        "KL of the step",
        "KL to the start",
        "entropy a token",
        "changed",
        "tokens",
        "finished",
        "no label",
    )
    note = (
        "<p>A step asks the log-ratio of the new policy to its anchor to meet a target (rms in nats). The share is how "
        "much of the target was met, R² how well; both are 1 for the exact mirror step. KL divergences are in "
        "nats a response, estimated: of the step, and of the new policy to the start; its entropy is a token's. "
        "Changed is the share of the adapter's entries that the fit changed.</p>"
    )
    return note + table(head, rows)


@dataclass(frozen=True)
class Judged:
    """One prompt's responses of a policy, in their order, and what the oracle said of them (None: not judged)."""

    prompt: str
    texts: list[str]
    P: list[list[float]] | None

    def wins(self, k: int) -> float | None:
        """The win rate of a response against the policy's others."""
        if self.P is None or len(self.texts) < 2:
            return None
        return sum(p for j, p in enumerate(self.P[k]) if j != k) / (len(self.texts) - 1)

    @property
    def extremes(self) -> tuple[int, int] | None:
        """The responses with the highest and with the lowest win rate; None where they are not told apart."""
        rates = [self.wins(k) for k in range(len(self.texts))]
        known = [rate for rate in rates if rate is not None]
        if not known or max(known) == min(known):
            return None
        return rates.index(max(known)), rates.index(min(known))


def judged(step: Path, prompts: Mapping[str, str], count: int) -> list[Judged]:
    """The first responses that a step drew from its newest policy, with their table.

    Raises:
        CorruptFileError: a shard that is not as it was written.
    """
    responses = step / "responses"
    names = {file.name.split(".")[0] for file in shards(responses, "*")}
    label = max(names - {"start"}, default="start")
    texts: dict[str, list[str]] = {}
    for row in (row for file in shards(responses, label)[:1] for row in read_shard(file)):
        texts.setdefault(row["prompt"], []).append(row["text"])
    tables = {
        row["prompt"]: row["P"]
        for file in shards(step / "judgements", table_name(label, label))[:1]
        for row in read_shard(file, ["prompt", "P"])
    }
    return [
        Judged(prompts[name], own, tables.get(name)) for name, own in list(texts.items())[:count] if name in prompts
    ]


def sampled(folder: Path) -> list[Path]:
    """The steps that have drawn responses, as they were played."""
    found = (path.parent for path in folder.glob("iteration-*/responses") if any(path.glob("*.parquet")))
    return sorted(found, key=order)


def asked(folder: Path) -> dict[str, str]:
    """The texts of a run's prompts by their ids."""
    return {row["id"]: Prompt(tuple(row["messages"])).text for row in read_lines(folder / PROMPTS)}


def samples(folder: Path, count: int = 8) -> str:
    """Responses of the first and of the newest policy that was sampled, side by side, with the oracle's verdicts."""
    stages, prompts = sampled(folder), asked(folder)
    if not stages:
        return "<p>Nothing is sampled yet.</p>"
    ends = list(dict.fromkeys((stages[0], stages[-1])))
    try:
        sets = [judged(stage, prompts, 10 * count) for stage in ends]
    except CorruptFileError as error:
        return warning(f"{error}.")
    heads = [f"{'first' if stage == stages[0] else 'newest'} policy ({stage.name})" for stage in ends]
    shared = [one.prompt for one in sets[0] if all(any(other.prompt == one.prompt for other in own) for own in sets)]
    text = ""
    if len(sets) == 1 or shared:
        first = [{one.prompt: one for one in own} for own in sets]
        rows = [(_short(prompt), *(_told(own[prompt], 0) for own in first)) for prompt in shared[:count]]
        text += table(("prompt", *heads), rows, text=True)
    else:  # each iteration had prompts of its own
        for head, own in zip(heads, sets, strict=True):
            text += table(("prompt", head), [(_short(one.prompt), _told(one, 0)) for one in own[:count]], text=True)
    rows = []
    for one in sets[-1]:
        if (pair := one.extremes) is not None:
            assert one.P is not None
            verdict = f"{100 * one.P[pair[0]][pair[1]]:.0f}%"
            rows.append((_short(one.prompt), _told(one, pair[0]), _told(one, pair[1]), verdict))
    if rows:
        top = ("prompt", "preferred", "least preferred", "P(the first beats the second)")
        text += f"<h3>What the oracle prefers, {html.escape(heads[-1])}</h3>" + table(top, rows[:count], text=True)
    return text


def _told(one: Judged, k: int) -> str:
    rate = one.wins(k)
    return _short(one.texts[k]) + ("" if rate is None else f"\n[wins {100 * rate:.0f}% of its duels]")


def _short(text: str, length: int = 240) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


PANELS: tuple[tuple[str, Panel], ...] = (
    ("Warnings", warnings),
    ("The run", settings),
    ("Its course", curves),
    ("Evaluation", evaluated),
    ("What the fits achieved", fits),
    ("Responses", samples),
)
