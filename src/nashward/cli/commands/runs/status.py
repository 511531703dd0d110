"""``nashward status``: where a run stands, what is left, what happened on the way."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nashward.cli import json_output, options
from nashward.cli.command import Command
from nashward.counted import counted

if TYPE_CHECKING:
    from nashward.llm.run.status import RunStatus

STDOUT = Path("-")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="the run folder")
    parser.add_argument(
        "--json", type=options.path, metavar="FILE", nargs="?", const=STDOUT,
        help="all of it for a machine to read, or for a report of an error: settings, versions and hardware too; "
        "without FILE on standard output",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    from nashward.llm.run.status import clock, status, time_left

    if args.json not in (None, STDOUT):
        json_output.check(args.json)
    progress = status(args.folder)
    finished = progress.finished >= progress.iterations
    state = "finished" if finished else "playing" if progress.playing else "stopped"
    if args.json is not None:
        _write_json(args.json, state, progress)
        return 0
    print(f"{progress.folder}: {state}, {progress.finished} of {counted(progress.iterations, 'iteration')} finished")
    for name, done in progress.steps:
        if done:
            print(f"  {name}: finished")
        phases = [phase for phase in progress.phases if phase.step == name]
        for phase in phases:
            total = "" if phase.total is None else f" of {phase.total}"
            rate = "" if phase.rate is None else f", {phase.rate:.3g} a second"
            if phase.rate and phase.total and (left := time_left((phase.total - phase.done) / phase.rate)):
                rate += f", {left}"
            print(f"  {name}: {f'{phase.phase} {phase.name}'.rstrip()}: {phase.done}{total} {phase.unit}{rate}")
        if not done and not phases:
            print(f"  {name}: begun")
    if progress.unread:
        print("  not of the run: " + ", ".join(progress.unread))
    if progress.events:
        print("  on the way: " + ", ".join(f"{count} x {event}" for event, count in sorted(progress.events.items())))
    if not finished:
        seconds = progress.remaining_seconds
        estimate = "not known before an iteration is finished" if seconds is None else f"about {clock(seconds)}"
        print(f"left: {estimate}" + ("" if progress.playing else "; the command that began the run continues it"))
    return 0


def _write_json(file: Path, state: str, progress: RunStatus) -> None:
    from nashward.llm.store.run_folder import RunFolder

    record = RunFolder(progress.folder).read()
    kept = [key for key in ("format", "versions", "python", "hardware", "config") if key in record]
    known: dict[str, Any] = dataclasses.asdict(progress)
    known["folder"] = progress.folder.name
    known["steps"] = [{"step": name, "finished": done} for name, done in progress.steps]
    content: dict[str, Any] = {
        "state": state,
        "finished": progress.finished,
        **known,
        **{key: record[key] for key in kept},
    }
    if file == STDOUT:
        print(json_output.text(content))
    else:
        json_output.write(file, content)
        print(f"json: {file}")


COMMAND = Command(
    "nashward status runs/first",
    add_arguments,
    run,
    writes=("json",),
)
