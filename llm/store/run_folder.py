"""The folder of a run: ``run.json``, which records what is played, one folder per step, a lock and two logs."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from nashward.errors import CorruptFileError, NashwardError

from ..processes import processes
from .differences import differences
from .files import (
    TEMPORARY,
    append_jsonl,
    disk_errors,
    finite,
    read_jsonl,
    recover,
    sha256,
    shards,
    verify_checksums,
    verify_shard,
    write_json,
    write_jsonl,
)
from .judged_by import JUDGED, JUDGED_KEYS, another_kind, judges

logger = logging.getLogger(__name__)

FORMAT = 3  # of the run folder
RUN, COPY, PROMPTS, SHARDS = "run.json", ".run.json", "prompts.jsonl", "shards.json"
PROMPT_SELECTION, AUGMENTED = "prompt-selection.jsonl", "augmented-prompts.jsonl"
EVENTS, TIMINGS, METRICS = "events.jsonl", "timings.jsonl", "metrics.jsonl"
LOCK, QUARANTINE = ".lock", "set-aside"
CHECKPOINT = "about.json"  # of a fit, in each of its two checkpoints
JUDGEMENTS = "judgements.sqlite"
KEPT = re.compile(r"judgements.*\.sqlite(-wal|-shm)?")  # judgements, verdicts that were paid, those of other machines

Stage = Literal["sample", "judge", "train"]
# what each stage writes into a step's folder, in order
STAGE_OUTPUTS: dict[Stage, tuple[str, ...]] = {
    "sample": (PROMPT_SELECTION, AUGMENTED, SHARDS, "responses"),
    "judge": ("oracle", "judgements"),
    "train": ("targets", "training", "adapter", METRICS),
}
# the phases that ``Progress`` times in each
STAGE_PHASES: dict[Stage, tuple[str, ...]] = {
    "sample": ("sampling",),
    "judge": ("judging",),
    "train": ("scoring", "training", "measuring"),
}


STEP = re.compile(
    r"iteration-(0[1-9]|[1-9][0-9]+)(-half-[1-9][0-9]*)?"
)  # the names of the folders of steps; no copy has one


def step_name(iteration: int, half: int | None = None) -> str:
    """The name of a step's folder: that of an iterate, or of a half step of its iteration.

    Example:
        >>> step_name(7), step_name(7, half=1)
        ('iteration-07', 'iteration-07-half-1')
    """
    return f"iteration-{iteration:02d}" + ("" if half is None else f"-half-{half}")


def iteration_of(step: str) -> int:
    """The number in the name of a step: iteration-07-half-1 belongs to the seventh iteration."""
    return int(step.split("-")[1])


def is_half(step: str) -> bool:
    """Whether the name of a step is that of a half step."""
    return "-half-" in step


def step_order(step: Path) -> tuple[int, bool, int]:
    """A key that sorts the folders of steps as they were played: the half steps of an iteration before it."""
    *_, number = step.name.split("-")
    return iteration_of(step.name), not is_half(step.name), int(number)


class RunFolder:
    """One run on disk: ``run.json``, the folder of the start, one folder per step.

    ``run.json`` records the configuration, the versions, the prompts and the batches of each step. The same
    configuration continues the run. Another configuration is refused, and so is a folder that holds something else, or
    a run of another format. What happens on the way (a damaged file, a stage played again, memory that ran out) is
    logged, and recorded in ``events.jsonl``.
    """

    # more iterations continue a run; the others are about memory and time. New sizes of batches apply from the next
    # step that has none yet: a step that has begun keeps its own, so that it ends in the same numbers
    FREE = (
        "iterations", "sampling.batch", "fit.tokens", "fit.checkpoint_seconds", "placement", "cache", "plan",
        "people.votes",
        # responses are of the same policy, whoever draws them
        "engine", "engine_model", "engine_python", "engine_options",
        "judge", "endpoint",  # those that a judge's verdicts depend on are in its fingerprint, oracle_content
    )  # fmt: skip
    # these may lie elsewhere, as on another machine, while their content (policy_content, ...) is the same
    MOVABLE = ("policy", "adapter", "oracle")
    CONTENTS = tuple(f"{name}_content" for name in MOVABLE)
    # a stage that does not need these, or leaves them to the run, may leave them out
    OPTIONAL = (
        "policy", "oracle", "objective", "combine", "correct", "prompts", "opponents", "drawn_opponents", "quantise",
        "people", *CONTENTS,
    )  # fmt: skip

    def __init__(self, path: str | Path):
        self.path = Path(path)

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def judgements(self, cache: str | Path | None) -> Path:
        """The file of the run's judgements: ``cache``, or the one in the folder."""
        return self / JUDGEMENTS if cache is None else Path(cache)

    def steps(self) -> list[Path]:
        """The folders of the steps, finished or begun, as they were played."""
        found = (path for path in self.path.glob("iteration-*") if STEP.fullmatch(path.name) and path.is_dir())
        return sorted(found, key=step_order)

    def unread(self) -> list[Path]:
        """What looks like a step and is none, such as a copy that somebody made: it is left alone."""
        return sorted(set(self.path.glob("iteration-*")) - set(self.steps()))

    def read(self) -> dict[str, Any]:
        """``run.json``, or its copy where it is damaged; empty where there is no run yet.

        Raises:
            NashwardError: it is of another format or of another program, or it and the copy are damaged.
        """
        damage: CorruptFileError | None = None
        for file in (self.path / RUN, self.path / COPY):
            try:
                return read_run_json(file)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except CorruptFileError as error:
                damage = error
        if damage is not None:
            raise NashwardError(f"{damage}; choose another folder")
        if self.started:
            raise NashwardError(f"{self.path} holds a run without {RUN}; restore the file, or choose another folder")
        return {}

    @property
    def started(self) -> bool:
        """Whether a run has begun in the folder: its settings are recorded, if nothing else."""
        return self.computed or any((self.path / file).exists() for file in (RUN, COPY))

    @property
    def foreign(self) -> list[str]:
        """The names of what lies in the folder that no run leaves before it has begun."""
        names = [entry.name for entry in self.path.iterdir()] if self.path.is_dir() else []
        ours = (RUN, COPY, LOCK)
        return [name for name in names if name not in ours and not any(k.fullmatch(name) for k in (TEMPORARY, KEPT))]

    @property
    def computed(self) -> bool:
        """Whether the folder holds an adapter or a step, finished or begun."""
        return (self.path / "start" / "adapter").exists() or bool(self.steps())

    @property
    def judged(self) -> bool:
        """Whether the folder holds a table of an oracle."""
        return any((step / "judgements").exists() for step in self.steps())

    def check(self, config: dict[str, Any], redo: Stage | None = None) -> dict[str, Any]:
        """The configuration merged with that of the folder; nothing is written.

        Args:
            config: the configuration of the run that is to go on.
            redo: the stage from which its newest step is made again: settings that only the stages from there on need
                may then be others.

        Raises:
            NashwardError: the folder holds another run (the settings that differ are named) or something else.
        """
        if self.path.exists() and not self.path.is_dir():
            raise NashwardError(f"{self.path} is a file; --out names a folder for the run")
        record = self.read()
        if not record:
            if foreign := self.foreign:
                raise NashwardError(
                    f"{self.path} is not empty and holds no run ({foreign[0]}, ...); choose another folder"
                )
            return config
        merged = dict(record["config"])
        if not self.computed:  # whatever stopped it may be put right
            named = [name for name in self.MOVABLE if config.get(name) is not None]
            contents = {f"{name}_content": config.get(f"{name}_content") for name in named}
            replaced = dict.fromkeys(JUDGED if another_kind(merged, config) else ())
            return merged | replaced | self._given(config) | contents
        before, now = flatten(merged), flatten(json.loads(json.dumps(finite(config))))
        judged = self.judged or merged.get("people") is not None  # who are asked while a run waits are its judges
        other = another_kind(before, now) if judged else None
        if not judged and judges(config):  # responses are the same whatever judges them
            merged |= dict.fromkeys(JUDGED_KEYS)
        free = (*self.FREE, *(("fit",) if redo == "train" else ()), *(JUDGED_KEYS if other or not judged else ()))
        differing = ({"oracle": other} if other else {}) | differences(
            before, now, free, self.OPTIONAL, self.MOVABLE, record.get("prompts")
        )
        if differing:
            of_fit = bool(self.steps()) and all(key.startswith("fit.") for key in differing)
            again = "add --from train to nashward align to fit the newest step again with the new ones, or " * of_fit
            told = "; ".join(differing.values())
            raise NashwardError(f"{self.path} holds another run ({told}); {again}choose another folder")
        return merged | self._given(config)

    def _given(self, config: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in config.items() if value is not None or key not in self.OPTIONAL}

    def write(self, config: dict[str, Any], record: dict[str, Any]) -> None:
        """Record the configuration; ``record`` (versions, hardware, prompts) is kept from the process that computed
        something first."""
        self._write({**self.read(), **({} if self.computed else record), "config": json.loads(_canonical(config))})

    def step_values(self, step: str) -> dict[str, Any]:
        """What ``run.json`` holds of a step's batches and fits, by the step's name; empty where it holds nothing."""
        return self.read().get("steps", {}).get(step, {})

    def update_step(self, step: str, values: dict[str, Any]) -> None:
        """Add to what ``run.json`` holds of a step's batches or fits; values under other keys stay."""
        record = self.read()
        steps = record.get("steps", {})
        self._write({**record, "steps": {**steps, step: {**steps.get(step, {}), **values}}})

    def clear_step(self, step: str) -> None:
        """Remove what ``run.json`` holds of a step."""
        record = self.read()
        self._write(
            {**record, "steps": {name: values for name, values in record.get("steps", {}).items() if name != step}}
        )

    def _write(self, record: dict[str, Any]) -> None:
        record = {**record, "format": FORMAT}
        record["checksum"] = _checksum(record)
        for file in (self.path / COPY, self.path / RUN):  # the copy first: there is never a run.json without one
            try:
                same = read_run_json(file) == record
            except (CorruptFileError, FileNotFoundError):
                same = False
            if not same:
                write_json(file, record)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Lock the folder for this process and undo the unfinished writes of killed ones; a kill unlocks it too.

        Where several processes run one command, the first one locks it when all have come here.

        Raises:
            NashwardError: another process has locked it.
            OSError: it cannot be written.
        """
        with ExitStack() as held:

            def acquire() -> None:
                held.enter_context(self._acquired())
                for folder in (self.path, *(path for path in self.path.rglob("*") if path.is_dir())):
                    if folder.exists():  # may have been a temporary one
                        recover(folder)

            processes.gather(None)
            processes.decided(acquire)
            yield

    def _acquired(self) -> Any:
        try:
            with disk_errors(self.path / LOCK):
                self.path.mkdir(parents=True, exist_ok=True)
                return FileLock(self.path / LOCK).acquire(timeout=1)  # `nashward status` may have it for a moment
        except Timeout:
            raise NashwardError(
                f"another process is playing in {self.path}: wait for it or stop it, or choose another folder"
            ) from None

    def quarantine(self, path: Path, reason: str) -> None:
        """Move a file or folder of the run to ``set-aside``; a warning and an event give the reason."""
        logger.warning("%s; it is set aside in %s", reason, self._move_aside(path))
        self.journal({"quarantine": str(path.relative_to(self.path)), "reason": reason})

    def _move_aside(self, path: Path) -> Path:
        target = self.path / QUARANTINE / path.relative_to(self.path)
        number = 1
        while target.exists():
            number += 1
            target = target.with_name(f"{path.name}.{number}")
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)
        return target

    def shard(self, folder: Path, name: str, number: int) -> Path | None:
        """The file of a shard; None where there is none, or only a damaged one, which is quarantined."""
        for file in shards(folder, name, number):
            try:
                verify_shard(file)
            except CorruptFileError as error:
                self.quarantine(file, str(error))
            else:
                return file
        return None

    def intact(self, folder: Path) -> bool:
        """Whether the shards that are in a folder have their checksums; damaged ones are quarantined."""
        damaged = False
        for file in shards(folder, "*"):
            try:
                verify_shard(file)
            except CorruptFileError as error:
                self.quarantine(file, str(error))
                damaged = True
        return not damaged

    def verified(self, folder: Path) -> bool:
        """Whether a folder is there and its files have their checksums; a damaged one is quarantined."""
        if not folder.exists():
            return False
        try:
            verify_checksums(folder)
        except CorruptFileError as error:
            self.quarantine(folder, str(error))
        return folder.exists()

    def redo(self, stage: Stage, fit: dict[str, Any] | None = None) -> Path | None:
        """Set aside what a stage and those after it wrote into the newest step, which is then played again from there.

        A step that such a call has set aside, for a fit of these settings, and that is not finished yet is not changed:
        it is continued.

        Args:
            stage: the first of the stages.
            fit: the settings of the next fit, which are journalled; None: those of the run.

        Returns:
            The step's folder; None where there is no step.
        """
        if not self.steps():
            return None
        step = self.steps()[-1]
        before = self.read()["config"].get("fit")
        request = {"stage": stage, "step": step.name, "fit": json.loads(_canonical(fit or before))}
        if self.read().get("redo") == request and not (step / "adapter").exists():
            return step
        self._write({**self.read(), "redo": None})
        stages = list(STAGE_OUTPUTS)[list(STAGE_OUTPUTS).index(stage) :]
        if stage == "sample":
            self.clear_step(step.name)
        elif self.step_values(step.name):
            self.update_step(step.name, {"tokens": None, "refits": None, "learning_rate": None})
        # the adapter, which ends a step, first: after a kill in between the step counts as not finished
        names = [
            name
            for later in reversed(stages)
            for name in sorted(STAGE_OUTPUTS[later], key=lambda name: name != "adapter")
        ]
        # log-probabilities under the anchor: another fit of the same responses has the same
        kept = {"targets", "scoring"} if stage == "train" else set()
        moved = [self._move_aside(step / name) for name in names if name not in kept and (step / name).exists()]
        phases = {(step.name, phase) for later in stages for phase in {*STAGE_PHASES[later]} - kept}
        timings = [row for row in read_jsonl(self / TIMINGS) if (row.get("step"), row.get("phase")) not in phases]
        write_jsonl(self / TIMINGS, timings)
        self.journal({"redo": stage, "at": step.name, "fit": request["fit"], "fit_before": before})
        if moved:
            outputs = ", ".join(path.name for path in moved)
            logger.warning("%s is redone from %s on: %s set aside in %s", step.name, stage, outputs, moved[0].parent)
        for name in ("last.json", "mixture.json"):  # written again at the end
            (self.path / name).unlink(missing_ok=True)
        self._write(
            {**self.read(), "redo": request}
        )  # last: after a kill before this line the same command does the rest
        return step

    def journal(self, event: dict[str, Any]) -> None:
        """Append an event to ``events.jsonl``; one of its keys names it: out_of_memory, quarantine, refit or redo."""
        append_jsonl(self.path / EVENTS, event)


def read_run_json(file: Path) -> dict[str, Any]:
    """The content of a ``run.json``, verified by its checksum.

    Raises:
        FileNotFoundError: there is no such file.
        CorruptFileError: it is not as it was written.
        NashwardError: it is of another format of the run folder.
    """
    content = file.read_bytes()
    try:
        record = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise CorruptFileError(f"{file} is not valid JSON ({error})") from None
    if not isinstance(record, dict) or not isinstance(record.get("config"), dict) or "solver" not in record["config"]:
        raise CorruptFileError(f"{file} is not the {RUN} of a nashward run")
    if record.keys() & {"checksum", "format"} and record.get("checksum") != _checksum(record):
        raise CorruptFileError(f"{file} is not as it was written: its checksum differs")
    if record.get("format") != FORMAT:
        versions = record.get("versions")
        version = versions.get("nashward", "unknown") if isinstance(versions, dict) else "unknown"
        raise NashwardError(
            f"{file.parent} holds a run of format {record.get('format', 1)}, begun by nashward {version}; this version "
            f"plays format {FORMAT}: finish the run with the version that began it, or choose another folder"
        )
    return record


def _canonical(value: Any) -> str:
    return json.dumps(finite(value), sort_keys=True)


def _checksum(record: dict[str, Any]) -> str:
    """The checksum of everything but itself."""
    return sha256(_canonical({key: item for key, item in record.items() if key != "checksum"}).encode())[:16]


def flatten(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings by their keys in a configuration file.

    Example:
        >>> flatten({"seed": 0, "fit": {"epochs": 2}})
        {'seed': 0, 'fit.epochs': 2}
    """
    flat: dict[str, Any] = {}
    for key, value in config.items():
        flat.update(flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value})
    return flat
