"""``nashward status``: where a run stands, what is left, what happened on the way."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nashward.cli import json_output, options, outputs
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
    from nashward.llm.run.status import status, time_left

    if args.json not in (None, STDOUT):
        outputs.check_file("--json", args.json, "nash.json")
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
            if left := time_left(phase.seconds_left):
                rate += f", {left}"
            print(f"  {name}: {f'{phase.phase} {phase.name}'.rstrip()}: {phase.done}{total} {phase.unit}{rate}")
        if not done and not phases:
            print(f"  {name}: begun")
    if progress.unread:
        print("  not of the run: " + ", ".join(progress.unread))
    if progress.events:
        print("  on the way: " + ", ".join(f"{count} x {event}" for event, count in sorted(progress.events.items())))
    if not finished:
        print(
            f"left: {_estimate(progress)}"
            + ("" if progress.playing else "; the command that began the run continues it")
        )
    return 0


def _estimate(progress: RunStatus) -> str:
    """How long it still takes, and by what that is known."""
    from nashward.llm.run.status import clock

    run, iteration, untimed = progress.remaining_seconds, progress.iteration_seconds, ", ".join(progress.untimed)
    if run is not None:
        part = f", {clock(iteration)} of it in this iteration" if iteration and iteration < run else ""
        return f"about {clock(run)}{part}, at the speed of each phase so far"
    if iteration is None:
        return "not known before the first prompts are sampled"
    if not untimed:
        return f"about {clock(iteration)} in this iteration, at the speed of each phase so far"
    least = progress.least_seconds
    first = f"at least {clock(least)}, at the speed of each phase so far" if least else "not known"
    return f"{first}; not timed yet: {untimed}"


def _write_json(file: Path, state: str, progress: RunStatus) -> None:
    from nashward.llm.store.run_folder import RunFolder

    record = RunFolder(progress.folder).read()
    kept = [key for key in ("format", "versions", "python", "hardware", "config") if key in record]
    known: dict[str, Any] = dataclasses.asdict(progress)
    known["folder"] = progress.folder.name
    known["phases"] = [{**dataclasses.asdict(phase), "seconds_left": phase.seconds_left} for phase in progress.phases]
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
