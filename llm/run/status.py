"""Where a run stands, what remains and how long it will take: read from its folder, which is not changed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ..store.files import read_jsonl, shards
from ..store.run_folder import (
    CHECKPOINT,
    EVENTS,
    LOCK,
    SHARDS,
    STAGE_PHASES,
    STEP,
    TIMINGS,
    RunFolder,
    is_half,
    iteration_of,
)
from ..store.step_shards import shard_names

PHASES = tuple(phase for phases in STAGE_PHASES.values() for phase in phases)
FOLDERS = {"sampling": "responses", "judging": "judgements"}


@dataclass(frozen=True)
class PhaseProgress:
    """How far a phase of a step is.

    Attributes:
        name: what is sampled or judged; empty where the phase has no parts.
        total: None where it is not known yet.
        rate: units per second; None where it was not timed.
    """

    step: str
    phase: str
    name: str
    done: int
    total: int | None
    unit: str
    rate: float | None

    @property
    def seconds_left(self) -> float | None:
        """The seconds left at this rate; None where it or the total is not known."""
        return (self.total - self.done) / self.rate if self.rate and self.total is not None else None


@dataclass(frozen=True)
class TimeLeft:
    """What is left of a run, from recorded timings.

    Attributes:
        run: seconds until the end; None before one iteration was timed in every phase.
        iteration: seconds left of the newest iteration; before one was timed, of the phases that were.
        least: seconds until the end that are known of: those of the phases that were timed, in this iteration and all
            later ones.
        untimed: phases that no iteration was timed in: no number has them.
    """

    run: float | None
    iteration: float
    least: float
    untimed: tuple[str, ...]


@dataclass(frozen=True)
class RunStatus:
    """Where a run stands.

    Attributes:
        iterations: how many the run is to make.
        steps: the steps that were begun, with whether each is finished: half steps are steps too.
        phases: those of the steps that are not finished.
        remaining_seconds, iteration_seconds, least_seconds, untimed: see ``TimeLeft``; None where nothing was timed.
        events: the number of events of each kind.
        playing: whether a process plays it now.
        unread: names in the folder that look like a step's and are none, such as a copy's.
    """

    folder: Path
    iterations: int
    steps: tuple[tuple[str, bool], ...]
    phases: tuple[PhaseProgress, ...]
    remaining_seconds: float | None
    iteration_seconds: float | None
    least_seconds: float | None
    untimed: tuple[str, ...]
    events: Counter[str]
    playing: bool
    unread: tuple[str, ...]

    @property
    def finished(self) -> int:
        """Iterations that are finished."""
        return sum(done for name, done in self.steps if not is_half(name))


def status(folder: str | Path) -> RunStatus:
    """Where a run stands, whether it is playing, was killed or is finished.

    Raises:
        FileNotFoundError: there is no run.
        NashwardError: its ``run.json`` is damaged, or of another format.
    """
    home = RunFolder(folder)
    record = home.read() if home.path.is_dir() else {}
    if not record:
        raise FileNotFoundError(f"{home.path} holds no run (it has no run.json)")
    iterations = int(record["config"]["iterations"])
    timings = read_timings(home)
    steps = tuple((step.name, (step / "adapter").is_dir()) for step in home.steps())
    phases = [phase for name, done in steps if not done for phase in _phases(home / name, timings)]
    finished = sum(done for name, done in steps if not is_half(name))
    events: Counter[str] = Counter()
    for event in read_jsonl(home / EVENTS):
        if "out_of_memory" in event:
            events["out of memory"] += 1
        elif "quarantine" in event:
            events["set aside"] += 1
    unread = tuple(path.name for path in home.unread())
    left = TimeLeft(0.0, 0.0, 0.0, ()) if finished >= iterations else remaining(timings, iterations)
    return RunStatus(
        home.path,
        iterations,
        steps,
        tuple(phases),
        remaining_seconds=None if left is None else left.run,
        iteration_seconds=None if left is None else left.iteration,
        least_seconds=None if left is None else left.least,
        untimed=PHASES if left is None else left.untimed,
        events=events,
        playing=_playing(home / LOCK),
        unread=unread,
    )


def read_timings(home: RunFolder) -> list[dict[str, Any]]:
    """The timings of a run, as ``Progress`` recorded them, without damaged rows."""

    def valid(row: dict[str, Any]) -> bool:
        words, numbers = (row.get("step"), row.get("phase"), row.get("what")), (row.get("done"), row.get("of"))
        return (
            all(isinstance(word, str) for word in words)
            and STEP.fullmatch(row["step"]) is not None
            and all(isinstance(number, int) for number in numbers)
            and isinstance(row.get("seconds"), int | float)
        )

    return [row for row in read_jsonl(home / TIMINGS) if valid(row)]


def remaining(timings: Sequence[dict[str, Any]], iterations: int) -> TimeLeft | None:
    """What is left: what an iteration takes, at the newest rates, less what the newest one has done.

    Args:
        iterations: how many the whole run has.

    Returns:
        None before anything was timed. Its ``run`` is None until one iteration has been through every phase: before
        that ``least`` lacks some. It is None too for a run of one iteration, which is measured in parts, the
        later of which are not known.
    """
    amounts: dict[int, dict[str, dict[str, int]]] = {}  # iteration: phase: part of it: how much there is
    done: Counter[tuple[int, str]] = Counter()
    rates: dict[str, tuple[str, float, float]] = {}  # phase: the newest step that timed it, how much, how long
    for row in timings:
        number, phase = iteration_of(row["step"]), row["phase"]
        amounts.setdefault(number, {}).setdefault(phase, {})[row["step"] + row["what"]] = row["of"]
        if not row["done"]:
            continue  # it has begun
        done[number, phase] += row["done"]
        step, count, seconds = rates.get(phase, ("", 0.0, 0.0))
        if step != row["step"]:
            count = seconds = 0.0
        rates[phase] = row["step"], count + row["done"], seconds + row["seconds"]
    if not amounts:
        return None
    cost = {phase: seconds / max(count, 1) for phase, (_, count, seconds) in rates.items()}
    newest = max(amounts)
    whole = {number: {phase: sum(parts.values()) for phase, parts in own.items()} for number, own in amounts.items()}
    begun = whole[newest]
    complete = [number for number, phases in whole.items() if set(phases) >= set(PHASES)]
    earlier = [number for number in complete if number < newest]  # the newest may lack parts of what it measures
    one = whole[max(earlier or complete)] if complete else {}
    rest = sum(
        max(0, max(one.get(phase, 0), begun.get(phase, 0)) - done[newest, phase]) * cost[phase]
        for phase in {*one, *begun} & cost.keys()
    )
    known = earlier or (complete and iterations > newest)
    later = sum(amount * cost.get(phase, 0.0) for phase, amount in (one or begun).items())
    least = rest + max(0, iterations - newest) * later
    return TimeLeft(least if known else None, rest, least, tuple(phase for phase in PHASES if phase not in cost))


def step_seconds(timings: Sequence[dict[str, Any]]) -> float | None:
    """What a step of the newest iteration took that has been through every phase; None: there is none."""
    phases: dict[int, set[str]] = {}
    for row in timings:
        phases.setdefault(iteration_of(row["step"]), set()).add(row["phase"])
    complete = [number for number, of in phases.items() if of >= set(PHASES)]
    if not complete:
        return None
    rows = [row for row in timings if iteration_of(row["step"]) == max(complete)]
    return float(sum(row["seconds"] for row in rows)) / len({row["step"] for row in rows})


def time_left(seconds: float | None) -> str:
    """The time that is left in words; empty where it is not known, or none is left.

    Example:
        >>> time_left(90), time_left(0.2), time_left(0), time_left(None)
        ('about 1 min 30 s left', 'less than 1 s left', '', '')
    """
    if not seconds:
        return ""
    return f"about {clock(seconds)} left" if round(seconds) else "less than 1 s left"


def clock(seconds: float) -> str:
    """A duration in its two largest units.

    Example:
        >>> clock(59), clock(3700), clock(200000)
        ('59 s', '1 h 1 min', '2 d 7 h')
    """
    whole = round(seconds)
    for big, small, size, part in (("d", "h", 86400, 3600), ("h", "min", 3600, 60), ("min", "s", 60, 1)):
        if whole >= size:
            rest = whole % size // part
            return f"{whole // size} {big}" + (f" {rest} {small}" if rest else "")
    return f"{whole} s"


def _phases(step: Path, timings: Sequence[dict[str, Any]]) -> list[PhaseProgress]:
    rows = [row for row in timings if row["step"] == step.name]
    phases = []

    def rate(phase: str) -> float | None:
        timed = [row for row in rows if row["phase"] == phase]
        seconds = sum(row["seconds"] for row in timed)
        return sum(row["done"] for row in timed) / seconds if seconds > 0 else None

    def recorded_names(phase: str) -> set[str]:
        return {row["what"] for row in rows if row["phase"] == phase}

    def recorded_total(phase: str, name: str = "") -> int | None:
        return next((row["of"] for row in reversed(rows) if (row["phase"], row["what"]) == (phase, name)), None)

    def add(phase: str, name: str, done: int, total: int | None, unit: str) -> None:
        done = done if total is None else min(done, total)  # what was repeated was timed twice
        phases.append(PhaseProgress(step.name, phase, name, done, total, unit, rate(phase)))

    sizes = _shard_sizes(step / SHARDS)
    for phase, folder in FOLDERS.items():
        names = {*shard_names(step / folder), *recorded_names(phase)}
        if sizes and phase == "sampling" and not names:
            add(phase, "", 0, sum(sizes), "prompts")  # the first shard is being sampled
        for name in sorted(names):
            numbers = {int(file.name.split(".")[1]) for file in shards(step / folder, name)}
            done = sum(size for k, size in enumerate(sizes) if k in numbers) if sizes else _done(rows, phase, name)
            add(phase, name, done, sum(sizes) or recorded_total(phase, name), "prompts")
    if recorded_names("scoring") or shards(step / "targets", "anchor"):
        add("scoring", "", _done(rows, "scoring", ""), recorded_total("scoring"), "passes")
    trained = _trained(step / "training")
    if trained is not None:
        prompts, each_second = recorded_total("training"), rate("training")  # timed in prompts
        steps = each_second * trained[1] / prompts if prompts and each_second else None
        phases.append(PhaseProgress(step.name, "training", "", *trained, "optimiser steps", steps))
    elif recorded_names("training"):  # it has no checkpoint yet
        add("training", "", _done(rows, "training", ""), recorded_total("training"), "prompts of all epochs")
    for name in sorted(recorded_names("measuring"), reverse=True):  # that without a name is the last
        add("measuring", name, _done(rows, "measuring", name), recorded_total("measuring", name), "prompts")
    return phases


def _trained(folder: Path) -> tuple[int, int] | None:
    """The optimiser steps done and in all, as the newest checkpoint of the fit has them."""
    states = [about for file in folder.glob(f"[01]/{CHECKPOINT}") for about in read_jsonl(file)]
    return max(((about["done"], about["steps"]) for about in states if {"done", "steps"} <= about.keys()), default=None)


def _done(rows: Sequence[dict[str, Any]], phase: str, name: str) -> int:
    return sum(row["done"] for row in rows if (row["phase"], row["what"]) == (phase, name))


def _shard_sizes(file: Path) -> list[int]:
    """Prompts in each shard of a step; empty where it has none of its own."""
    if not file.exists():
        return []
    try:
        return [sum(map(len, shard)) for shard in json.loads(file.read_bytes())]
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
    except OSError:  # the folder cannot be written
        return False
