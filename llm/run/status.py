"""Where a run stands, what is left and how long it will take: read from its folder, of which nothing is changed."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ..store.files import read_lines, shards
from ..store.run_folder import EVENTS, LOCK, PHASES_OF, PLAN, TIMINGS, RunFolder, iteration
from ..training.checkpoint import progress

PHASES = tuple(phase for own in PHASES_OF.values() for phase in own)
FOLDERS = {"sampling": "responses", "judging": "judgements"}


@dataclass(frozen=True)
class Part:
    """A phase of a step: how many are done of how many (None: not known yet), and how many a second."""

    step: str
    phase: str
    what: str
    done: int
    of: int | None
    unit: str
    rate: float | None


@dataclass(frozen=True)
class Status:
    """Where a run stands.

    Attributes:
        iterations: asked for.
        steps: the steps that were begun, with whether each is finished: half steps are steps too.
        parts: of the steps that are not finished, what there is of them.
        left: seconds until the end, from recorded timings; None where a phase was never timed.
        events: how often what happened on the way.
        playing: whether a process plays it now.
    """

    folder: Path
    iterations: int
    steps: tuple[tuple[str, bool], ...]
    parts: tuple[Part, ...]
    left: float | None
    events: Counter[str]
    playing: bool

    @property
    def finished(self) -> int:
        """Iterations that are finished."""
        return sum(done for name, done in self.steps if "half" not in name)


def status(folder: str | Path) -> Status:
    """Where a run stands, whether it is playing, was killed or is finished.

    Raises:
        FileNotFoundError: there is no run.
        ValueError: its ``run.json`` is damaged.
    """
    run = RunFolder(folder)
    held = run.read() if run.path.is_dir() else {}
    if not held:
        raise FileNotFoundError(f"{run.path} holds no run (it has no run.json)")
    iterations = int(held["config"]["iterations"])
    timings = recorded(run)
    steps = tuple((step.name, (step / "adapter").is_dir()) for step in run.steps())
    parts = [part for name, done in steps if not done for part in _parts(run / name, timings)]
    finished = sum(done for name, done in steps if "half" not in name)
    events: Counter[str] = Counter()
    for event in read_lines(run / EVENTS):
        if "out_of_memory" in event:
            events["out of memory"] += 1
        elif "set_aside" in event:
            events["set aside"] += 1
    seconds = 0.0 if finished >= iterations else left(timings, iterations)
    return Status(run.path, iterations, steps, tuple(parts), seconds, events, _playing(run / LOCK))


def recorded(run: RunFolder) -> list[dict[str, Any]]:
    """The timings of a run, as ``Progress`` kept them; a line that is damaged is left out."""

    def whole(row: dict[str, Any]) -> bool:
        words, numbers = (row.get("step"), row.get("phase"), row.get("what")), (row.get("done"), row.get("of"))
        return (
            all(isinstance(word, str) for word in words)
            and re.match(r"iteration-\d+", row["step"]) is not None
            and all(isinstance(number, int) for number in numbers)
            and isinstance(row.get("seconds"), int | float)
        )

    return [row for row in read_lines(run / TIMINGS) if whole(row)]


def left(timings: Sequence[dict[str, Any]], iterations: int) -> float | None:
    """Seconds until the end: what one iteration takes, at the newest rates, less what the newest has done.

    Until the first iteration has been through every phase nothing is known of those to come, and so not of the end.
    """
    amounts: dict[int, dict[str, dict[str, int]]] = {}  # iteration: phase: part of it: how much there is
    made: Counter[tuple[int, str]] = Counter()
    rates: dict[str, tuple[str, float, float]] = {}  # phase: the newest step that timed it, how much, how long
    for row in timings:
        number, phase = iteration(row["step"]), row["phase"]
        amounts.setdefault(number, {}).setdefault(phase, {})[row["step"] + row["what"]] = row["of"]
        made[number, phase] += row["done"]
        step, count, seconds = rates.get(phase, ("", 0.0, 0.0))
        if step != row["step"]:
            count = seconds = 0.0
        rates[phase] = row["step"], count + row["done"], seconds + row["seconds"]
    known = [number for number, phases in amounts.items() if set(phases) >= set(PHASES)]
    if not known:
        return None
    one = {phase: sum(parts.values()) for phase, parts in amounts[max(known)].items()}
    cost = {phase: seconds / max(count, 1) for phase, (_, count, seconds) in rates.items()}
    newest = max(amounts)
    rest = sum(max(0, one[phase] - made[newest, phase]) * cost[phase] for phase in one)
    return rest + max(0, iterations - newest) * sum(one[phase] * cost[phase] for phase in one)


def clock(seconds: float) -> str:
    """A time as people say it, to two units.

    Example:
        >>> clock(59), clock(3700), clock(200000)
        ('59 s', '1 h 1 min', '2 d 7 h')
    """
    whole = round(seconds)
    for big, small, size, inside in (("d", "h", 86400, 3600), ("h", "min", 3600, 60), ("min", "s", 60, 1)):
        if whole >= size:
            rest = whole % size // inside
            return f"{whole // size} {big}" + (f" {rest} {small}" if rest else "")
    return f"{whole} s"


def _parts(step: Path, timings: Sequence[dict[str, Any]]) -> list[Part]:
    own = [row for row in timings if row["step"] == step.name]
    found = []

    def rate(phase: str) -> float | None:
        rows = [row for row in own if row["phase"] == phase]
        seconds = sum(row["seconds"] for row in rows)
        return sum(row["done"] for row in rows) / seconds if seconds > 0 else None

    def timed(phase: str) -> int | None:
        return next((row["of"] for row in reversed(own) if row["phase"] == phase), None)

    sizes = _sizes(step / PLAN)
    for phase, folder in FOLDERS.items():
        names = Counter(file.name.split(".")[0] for file in shards(step / folder, "*"))
        for name in sorted({*names, *(row["what"] for row in own if row["phase"] == phase)}):
            numbers = {int(file.name.split(".")[1]) for file in shards(step / folder, name)}
            done = sum(size for k, size in enumerate(sizes) if k in numbers)
            of = sum(sizes) or timed(phase)
            found.append(
                Part(step.name, phase, name, done if sizes else _done(own, phase, name), of, "prompts", rate(phase))
            )
    scored = len(shards(step / "targets", "anchor"))
    if scored:
        done = min(_done(own, "scoring", ""), timed("scoring") or 0)
        found.append(Part(step.name, "scoring", "", done, timed("scoring"), "batches", rate("scoring")))
    trained = progress(step / "training")
    if trained is not None:
        found.append(Part(step.name, "training", "", *trained, "optimiser steps", None))
    return found


def _done(rows: Sequence[dict[str, Any]], phase: str, what: str) -> int:
    return sum(row["done"] for row in rows if (row["phase"], row["what"]) == (phase, what))


def _sizes(plan: Path) -> list[int]:
    """Prompts in each shard; empty where the step has no plan of its own."""
    if not plan.exists():
        return []
    try:
        return [sum(map(len, shard)) for shard in json.loads(plan.read_bytes())]
    except ValueError:  # damaged: the run makes it again
        return []


def _playing(lock: Path) -> bool:
    if not lock.exists():
        return False
    try:
        with FileLock(lock, timeout=0):
            return False
    except Timeout:
        return True
    except OSError:  # nobody can write here
        return False
