"""The journal of a run: one folder, one process at a time, ``run.json`` that pins what is played."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from nashward.errors import CorruptFileError, NashwardError

from .files import (
    LEFT,
    append_line,
    atomic_write,
    check_seal,
    check_shard,
    disk_errors,
    finite,
    lines,
    read_lines,
    shards,
    tidy,
    write_json,
)
from .say import warn

RUN, COPY, PROMPTS, PLAN = "run.json", ".run.json", "prompts.jsonl", "plan.json"
EVENTS, TIMINGS = "events.jsonl", "timings.jsonl"
LOCK, ASIDE = ".lock", "set-aside"

Stage = Literal["sample", "judge", "train"]
# what each stage writes into a step's folder, in order
WRITES: dict[Stage, tuple[str, ...]] = {
    "sample": (PLAN, "responses"),
    "judge": ("judgements",),
    "train": ("targets", "training", "adapter", "metrics.jsonl"),
}


# the phases that ``Progress`` times in each
PHASES_OF: dict[Stage, tuple[str, ...]] = {
    "sample": ("sampling",),
    "judge": ("judging",),
    "train": ("scoring", "training", "measuring"),
}


def iteration(step: str) -> int:
    """The number in the name of a step: iteration-07-half-1 is of the seventh iteration."""
    return int(step.split("-")[1])


def order(step: Path) -> tuple[int, bool, int]:
    """Sorts the folders of steps as they were played: the half steps of an iteration before it."""
    *_, last = step.name.split("-")
    return iteration(step.name), "half" not in step.name, int(last)


class RunFolder:
    """One run on disk: ``run.json``, the folder of the start, one folder a step.

    ``run.json`` pins the configuration, the versions, the prompts and the plan of batches. The same configuration
    continues the run; another one is refused, and so is a folder that holds something else.
    """

    # more iterations continue a run; the others are memory and time. The sizes of batches are those of the next step
    # that has none yet: a step that has begun keeps its own, so that it ends in the same numbers
    FREE = (
        "iterations", "sampling.batch", "fit.tokens", "fit.checkpoint_seconds", "placement", "placement.checkpoints",
        "placement.embeddings", "placement.adapters", "placement.mlp_tokens", "placement.layers",
        "cache", "plan",
    )  # fmt: skip
    # where these lie is free while their content (policy_content, ...) is the same, as on another machine
    MOVABLE = ("policy", "adapter", "oracle")
    CONTENTS = tuple(f"{name}_content" for name in MOVABLE)
    OMITTED = (
        "policy",
        "oracle",
        "prompts",
        "opponents",
        *CONTENTS,
    )  # what a stage that does not need it may leave out

    def __init__(self, path: str | Path):
        self.path = Path(path)

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def steps(self) -> list[Path]:
        """The folders of the steps, finished or begun, as they were played."""
        return sorted((path for path in self.path.glob("iteration-[0-9]*") if path.is_dir()), key=order)

    def read(self) -> dict[str, Any]:
        """``run.json``, or its copy where it is damaged; empty where there is no run yet.

        Raises:
            ValueError: it is that of something else, or it and the copy are damaged.
        """
        told: CorruptFileError | None = None
        for file in (self.path / RUN, self.path / COPY):
            try:
                return _pinned(file)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except CorruptFileError as error:
                told = error
                continue
        if told is not None:
            raise NashwardError(f"{told}; choose another folder")
        if self.started:
            raise NashwardError(f"{self.path} holds a run without {RUN}; restore the file, or choose another folder")
        return {}

    @property
    def started(self) -> bool:
        """Whether anything is there that a change of the configuration would make wrong."""
        return (self.path / "start").exists() or any(self.path.glob("iteration-*"))

    def check(self, config: dict[str, Any]) -> dict[str, Any]:
        """The configuration merged with what the folder holds; nothing is written.

        Raises:
            ValueError: the folder holds another run (the differing settings are named) or something else.
        """
        if self.path.exists() and not self.path.is_dir():
            raise NashwardError(f"{self.path} is a file; --out names a folder for the run")
        held = self.read()
        if not held:
            entries = self.path.iterdir() if self.path.exists() else ()
            own = (RUN, COPY, LOCK)  # what is there before run.json, or without it
            others = [entry.name for entry in entries if entry.name not in own and not LEFT.fullmatch(entry.name)]
            if others:
                raise NashwardError(
                    f"{self.path} is not empty and holds no run ({others[0]}, ...); choose another folder"
                )
            return config
        if not self.started:
            return config
        merged = dict(held["config"])
        before, now = flat(merged), flat(json.loads(json.dumps(finite(config))))
        differing = []
        other = before.get("solver.name") != now.get("solver.name")  # then its settings say nothing more
        for key in [*now, *(key for key in before if key not in now)]:
            if other and key.startswith("solver.") and key != "solver.name":
                continue
            if key in self.FREE or (key in self.OMITTED and None in (before.get(key), now.get(key))):
                continue
            content = f"{key}_content"
            moved = key in self.MOVABLE and before.get(content) == now.get(content) is not None
            if before.get(key) != now.get(key) and not moved:
                differing.append(f"{key} {before.get(key)!r} there, {now.get(key)!r} now")
        if differing:
            raise NashwardError(f"{self.path} holds another run ({'; '.join(differing)}); choose another folder")
        merged.update({key: value for key, value in config.items() if value is not None or key not in self.OMITTED})
        return merged

    def write(self, config: dict[str, Any], record: dict[str, Any]) -> None:
        """Pin the configuration; ``record`` (versions, hardware, prompts) is that of the start that did something."""
        self._pin({**self.read(), **({} if self.started else record), "config": json.loads(_text(config))})

    def plans(self) -> dict[str, dict[str, Any]]:
        """What is fixed of each step's batches, by the step's name."""
        return self.read().get("plans", {})

    def plan(self, step: str, fixed: dict[str, Any]) -> None:
        """Fix something of a step's batches for good; an empty plan forgets it."""
        held = self.read()
        plans = {**held.get("plans", {}), step: {**held.get("plans", {}).get(step, {}), **fixed}}
        self._pin({**held, "plans": plans if fixed else {name: plan for name, plan in plans.items() if name != step}})

    def _pin(self, value: dict[str, Any]) -> None:
        value = {key: item for key, item in value.items() if key != "checksum"}
        value["checksum"] = _sum(value)
        for file in (self.path / COPY, self.path / RUN):  # the copy first: a run.json of ours has one
            try:
                same = _pinned(file) == value
            except (CorruptFileError, FileNotFoundError):
                same = False
            if not same:
                write_json(file, value)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the folder alone, with what dead processes left half done undone; a kill lets go of it too.

        Raises:
            ValueError: another process holds it.
            OSError: it cannot be written.
        """
        try:
            with disk_errors(self.path / LOCK):
                self.path.mkdir(parents=True, exist_ok=True)
                lock = FileLock(self.path / LOCK).acquire(timeout=1)  # `nashward status` may have it for a moment
        except Timeout:
            raise NashwardError(
                f"another process is playing in {self.path}: wait for it or stop it, or choose another folder"
            ) from None
        with lock:
            for folder in (self.path, *(path for path in self.path.rglob("*") if path.is_dir())):
                if folder.exists():  # not itself tidied away
                    tidy(folder)
            yield

    def set_aside(self, path: Path, why: str) -> None:
        """Move something of the run out of the way, and say so in one line."""
        warn(f"{why}; it is set aside in {self._aside(path)}")
        self.journal({"set_aside": str(path.relative_to(self.path)), "why": why})

    def _aside(self, path: Path) -> Path:
        place = self.path / ASIDE / path.relative_to(self.path)
        number = 1
        while place.exists():
            number += 1
            place = place.with_name(f"{path.name}.{number}")
        place.parent.mkdir(parents=True, exist_ok=True)
        path.rename(place)
        return place

    def shard(self, folder: Path, name: str, number: int) -> Path | None:
        """The shard of that number, None where it is not there or (it is then set aside) damaged."""
        for file in shards(folder, name, number):
            try:
                check_shard(file)
            except CorruptFileError as error:
                self.set_aside(file, str(error))
            else:
                return file
        return None

    def sealed(self, folder: Path) -> bool:
        """Whether a sealed folder is there and whole; a damaged one is set aside."""
        if not folder.exists():
            return False
        try:
            check_seal(folder)
        except CorruptFileError as error:
            self.set_aside(folder, str(error))
        return folder.exists()

    def redo(self, stage: Stage) -> Path | None:
        """Set aside what the newest step has of a stage and of those after it; returns the step's folder.

        A step that is being made again from that stage and is not finished stays as it is: it is continued.
        """
        if not self.steps():
            return None
        step = self.steps()[-1]
        asked = {"stage": stage, "step": step.name}
        if self.read().get("redo") == asked and not (step / "adapter").exists():
            return step
        self._pin({**self.read(), "redo": None})
        kinds = list(WRITES)[list(WRITES).index(stage) :]
        if stage == "sample":
            self.plan(step.name, {})
        elif self.plans().get(step.name):
            self.plan(step.name, {"tokens": None, "refits": None})
        # the adapter, which ends a step, first: killed in between, the step is one that has still to be finished
        names = [name for kind in reversed(kinds) for name in sorted(WRITES[kind], key=lambda name: name != "adapter")]
        moved = [self._aside(step / name) for name in names if (step / name).exists()]
        phases = {phase for kind in kinds for phase in PHASES_OF[kind]}
        timings = [row for row in read_lines(self / TIMINGS) if (row.get("step"), row.get("phase")) not in
                   {(step.name, phase) for phase in phases}]  # fmt: skip
        with atomic_write(self / TIMINGS) as unfinished:
            unfinished.write_bytes(lines(timings))
        self.journal({"redo": stage, "at": step.name})
        if moved:
            what = ", ".join(place.name for place in moved)
            warn(f"{step.name} is made again from {stage} on: {what} set aside in {moved[0].parent}")
        for name in ("last.json", "mixture.json"):  # written again at the end
            (self.path / name).unlink(missing_ok=True)
        self._pin({**self.read(), "redo": asked})  # last: what is killed before is set aside by the same command
        return step

    def journal(self, event: dict[str, Any]) -> None:
        """Add one line to ``events.jsonl``: what happened on the way that the results do not show."""
        append_line(self.path / EVENTS, event)


def _pinned(file: Path) -> dict[str, Any]:
    """A ``run.json`` that is as it was written."""
    content = file.read_bytes()
    try:
        held = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise CorruptFileError(f"{file} is not valid JSON ({error})") from None
    if not isinstance(held, dict) or not isinstance(held.get("config"), dict) or "solver" not in held["config"]:
        raise CorruptFileError(f"{file} is not that of a nashward run")
    if held.get("checksum") != _sum({key: item for key, item in held.items() if key != "checksum"}):
        raise CorruptFileError(f"{file} is not as it was written: its checksum is another one")
    return held


def _text(value: Any) -> str:
    return json.dumps(finite(value), sort_keys=True)


def _sum(value: dict[str, Any]) -> str:
    return hashlib.sha256(_text(value).encode()).hexdigest()[:16]


def flat(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings by their keys as a configuration file has them: fit.epochs."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        found.update(flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value})
    return found
