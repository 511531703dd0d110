"""Runs beside each other: where their settings differ, how each went, what each answers to the same prompts."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path

from nashward.errors import CorruptFileError, NashwardError

from ..run.selfplay import iterates
from ..store.files import atomic_write
from ..store.run_folder import RunFolder, flatten
from .page import page, picture, table, warning
from .panels import MEASURES, asked, course, judged, sampled, warnings


def compare(folders: Sequence[str | Path], file: str | Path, count: int = 8) -> Path:
    """Write a page that holds runs, finished or not, beside each other.

    Args:
        folders: of the runs; at least two.
        file: the page.
        count: prompts whose responses are shown, of those that all runs have.

    Returns:
        The page.

    Raises:
        ValueError: fewer than two folders, or one twice.
        FileNotFoundError: a folder holds no run.
        OSError: the page cannot be written.

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
    told = "".join(f"<h3>{html.escape(name)}</h3>{text}" for name, path in runs.items() if (text := warnings(path)))
    sections = [
        ("Warnings", told),
        ("Where the settings differ", _differing(runs)),
        ("The newest iterates", _newest(runs)),
        ("Their course", picture(course(runs), "A line a run.") if all(iterates(path) for path in paths) else ""),
        ("Responses", _responses(runs, count)),
    ]
    with atomic_write(Path(file)) as unfinished:
        unfinished.write_text(page(" against ".join(names), sections), encoding="utf-8")
    return Path(file)


def _names(paths: Sequence[Path]) -> list[str]:
    """Short names that differ: the folders' own, or the whole paths."""
    short = [path.resolve().name for path in paths]
    return short if len(set(short)) == len(short) else [str(path) for path in paths]


def _differing(runs: dict[str, Path]) -> str:
    configs = [flatten(RunFolder(path).read()["config"]) for path in runs.values()]
    keys = sorted({key for config in configs for key in config})
    rows = [(key, *(str(config.get(key)) for config in configs)) for key in keys]
    rows = [row for row in rows if len(set(row[1:])) > 1]
    return table(("setting", *runs), rows, text=True) if rows else "<p>Their settings are the same.</p>"


def _newest(runs: dict[str, Path]) -> str:
    newest = {name: rows[-1] for name, path in runs.items() if (rows := iterates(path))}
    if not newest:
        return "<p>No step is finished yet.</p>"
    made = ("iterate", *(row["iteration"] for row in newest.values()))
    measured = [(title, *(measure(row) for row in newest.values())) for title, measure in MEASURES.items()]
    return table(("", *newest), [made, *measured])


def _responses(runs: dict[str, Path], count: int) -> str:
    """What the newest sampled policy of each run answers to the prompts that all have."""
    answers: dict[str, dict[str, str]] = {}
    for name, path in runs.items():
        stages = sampled(path)
        if not stages:
            return f"<p>{html.escape(name)} has not sampled yet.</p>"
        try:
            found = judged(stages[-1], asked(path), 10 * count)
        except CorruptFileError as error:
            return warning(f"{error}.")
        answers[f"{name} ({stages[-1].name})"] = {one.prompt: one.texts[0] for one in found}
    first, *others = answers.values()
    shared = [prompt for prompt in first if all(prompt in own for own in others)][:count]
    if not shared:
        return "<p>The runs have sampled no prompt in common.</p>"
    return table(
        ("prompt", *answers), [(prompt, *(own[prompt] for own in answers.values())) for prompt in shared], True
    )
