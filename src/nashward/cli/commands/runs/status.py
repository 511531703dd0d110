"""``nashward status``: where a run stands, what is left, what happened on the way."""

from __future__ import annotations

import argparse
from pathlib import Path

from nashward.cli.command import Command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="the run folder")


def run(args: argparse.Namespace) -> int:
    from nashward.llm.run.status import clock, status

    progress = status(args.folder)
    finished = progress.finished >= progress.iterations
    state = "finished" if finished else "playing" if progress.playing else "stopped"
    print(f"{progress.folder}: {state}, {progress.finished} of {progress.iterations} iterations finished")
    for name, done in progress.steps:
        if done:
            print(f"  {name}: finished")
        phases = [phase for phase in progress.phases if phase.step == name]
        for phase in phases:
            total = "" if phase.total is None else f" of {phase.total}"
            rate = "" if phase.rate is None else f", {phase.rate:.3g} a second"
            if phase.rate and phase.total and phase.total > phase.done:
                rate += f", about {clock((phase.total - phase.done) / phase.rate)} left"
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


COMMAND = Command(
    "nashward status runs/first",
    add_arguments,
    run,
)
