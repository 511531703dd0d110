"""Runs side by side: where their settings differ, how each went, how each responds to the same prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nashward.counted import counted
from nashward.errors import CorruptFileError, NashwardError

from ..run.manifest import as_played
from ..run.selfplay import iterates
from ..store.files import atomic_write
from ..store.run_folder import RunFolder, flatten
from .alerts import ALERTS, alerts
from .content import Alert, Content, Heading, Paragraph, Picture, Section, Table, with_error
from .curves import ERRORS, MEASURES, training_curves
from .page import render
from .responses import (
    drawn_responses,
    judged_responses,
    newest_iterate,
    newest_sampled,
    prompt_texts,
    sampled_steps,
)
from .results import oracle_of_run
from .summary import run_name

Runs = Mapping[str, Path]  # the folders by the runs' names


def compare(folders: Sequence[str | Path], file: str | Path, count: int = 8) -> Path:
    """Write a page that shows runs, finished or not, side by side.

    Args:
        folders: the run folders; at least two.
        file: the page.
        count: prompts whose responses are shown, of those that all runs have.

    Returns:
        The page.

    Raises:
        ValueError: fewer than two folders, or one twice.
        FileNotFoundError: a folder holds no run.
        OSError: the page cannot be written.

    See also:
        ``write``: the report of one run.

    Example:
        >>> compare(["runs/first"], "both.html")
        Traceback (most recent call last):
        nashward.errors.NashwardError: a comparison is of two or more run folders, each once
    """
    paths = [Path(folder) for folder in folders]
    if len(paths) < 2 or len({path.resolve() for path in paths}) < len(paths):
        raise NashwardError("a comparison is of two or more run folders, each once")
    for path in paths:
        if not RunFolder(path).read():
            raise FileNotFoundError(f"{path} holds no run (it has no run.json)")
    names = _names(paths)
    runs = dict(zip(names, paths, strict=True))
    sections = [
        Section("In short", _summary(runs)),
        Section("Where the settings differ", _differing_settings(runs)),
        Section("Responses", _responses(runs, count)),
        Section("The newest iterates", _newest_iterates(runs)),
        Section("Their course", _curves(runs)),
        Section("Warnings", _warnings(runs)),
    ]
    with atomic_write(Path(file)) as unfinished:
        unfinished.write_text(render(" against ".join(names), sections), encoding="utf-8")
    return Path(file)


def _names(paths: Sequence[Path]) -> list[str]:
    """The runs' names where they differ, else the whole paths."""
    names = [run_name(path) for path in paths]
    return names if len(set(names)) == len(names) else [str(path) for path in paths]


def _summary(runs: Runs) -> list[Content]:
    """What the page is, and how much of each run there is."""
    names = ", ".join(f"{name} ({path})" for name, path in runs.items())
    text = (
        f"This page shows runs of self-play side by side: {names}. Each column, or line in a picture, is a run. "
        "What each run measured of itself does not say which of them is better: `nashward evaluate` lets the "
        "policies of one run play against another's (--adapter)."
    )
    return [Paragraph(text)]


def _warnings(runs: Runs) -> list[Content]:
    content: list[Content] = []
    for name, path in runs.items():
        if of_run := [alert for section in ALERTS for alert in alerts(path, section)]:
            content += [Heading(name), *of_run]
    return content


def _differing_settings(runs: Runs) -> list[Content]:
    records = {path: RunFolder(path).read() for path in runs.values()}
    configs = [
        {
            **flatten(as_played(path, record["config"])),
            "prompts": _prompts(record),
            "oracle": oracle_of_run(record["config"]),
        }
        for path, record in records.items()
    ]
    keys = sorted({key for config in configs for key in config} - {"objective", "combine"})  # said of the oracle
    rows = [(key, *("–" if config.get(key) is None else str(config[key]) for config in configs)) for key in keys]
    differing = [row for row in rows if len(set(row[1:])) > 1]
    if not differing:
        return [Paragraph("Their settings are the same.")]
    return [Table(("setting", *runs), differing, text=True)]


def _prompts(record: Mapping[str, Any]) -> str:
    """What a run is played on: the file's name, how many prompts, and their hash."""
    count = record.get("data", {}).get("prompts")
    known = "" if count is None else f"{counted(count, 'prompt')}, "
    return f"{record.get('prompts', 'rows')} ({known}hash {record['config'].get('prompts')})"


def _newest_iterates(runs: Runs) -> list[Content]:
    newest = {name: rows[-1] for name, path in runs.items() if (rows := iterates(path))}
    if not newest:
        return [Paragraph("No step is finished yet.")]
    names = ("iterate", *(row["iteration"] for row in newest.values()))
    measured = [
        (
            title,
            *(
                with_error(measure(row), ERRORS[title](row), 3) if title in ERRORS else measure(row)
                for row in newest.values()
            ),
        )
        for title, measure in MEASURES.items()
        if any(measure(row) is not None for row in newest.values())
    ]
    note = "Standard errors are over prompts; what has none was measured without one."
    return [Table(("", *newest), [names, *measured]), Paragraph(note)]


def _curves(runs: Runs) -> list[Content]:
    """The course of the runs that have an iterate; empty where none has one."""
    begun = {name: path for name, path in runs.items() if iterates(path)}
    if not begun:
        return []
    without = [f"{name} has no iterate yet." for name in runs if name not in begun]
    return [
        Picture(
            training_curves(begun),
            " ".join(["The iterates of the runs, one line per run; bars are standard errors over prompts.", *without]),
        )
    ]


def _responses(runs: Runs, count: int) -> list[Content]:
    """What the newest iterate of each run responds to the prompts that all have, or the newest sampled policy where
    not all were evaluated."""
    drawn = {name: _drawn(path) for name, path in runs.items()}
    if rows := _shared(drawn, count):
        note = "Drawn by `nashward evaluate`: a response of each run's last iterate to the same prompts."
        heads = (f"{name} ({newest_iterate(path)})" for name, path in runs.items())
        return [Paragraph(note), Table(("prompt", *heads), rows, text=True)]
    answers: dict[str, dict[str, str]] = {}
    without: list[Content] = []
    for name, path in runs.items():
        steps = sampled_steps(path)
        if not steps:
            without.append(Paragraph(f"{name} has not sampled yet."))
            continue
        try:
            responses = judged_responses(steps[-1], prompt_texts(path), 10 * count)
        except CorruptFileError as error:
            return [Alert(f"{error}.")]
        answers[f"{name} ({newest_sampled(steps[-1])})"] = {judged.prompt: judged.texts[0] for judged in responses}
    if not answers:
        return without
    if not (rows := _shared(answers, count)):
        return [*without, Paragraph("The runs have sampled no prompt in common.")]
    note = (
        "The first response of the newest policy that each run itself sampled, which is the iterate before its last: "
        "`nashward evaluate` draws those of the last, and this page shows them once it has done so for each run."
    )
    return [*without, Paragraph(note), Table(("prompt", *answers), rows, text=True)]


def _drawn(path: Path) -> dict[str, str]:
    """What ``nashward evaluate`` drew from a run's newest iterate, by prompt; empty where it drew nothing."""
    newest = newest_iterate(path)
    return {row["prompt"]: row["responses"][newest] for row in drawn_responses(path, newest)}


def _shared(answers: Mapping[str, Mapping[str, str]], count: int) -> list[tuple[str, ...]]:
    """Rows of the first prompts that all have."""
    first, *others = answers.values()
    shared = [prompt for prompt in first if all(prompt in other for other in others)][:count]
    return [(prompt, *(by_prompt[prompt] for by_prompt in answers.values())) for prompt in shared]
