"""``nashward status``: where a run stands, what is left, what happened on the way."""

from __future__ import annotations

import argparse
from pathlib import Path

from nashward.cli.command import Command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="the run folder")


def run(given: argparse.Namespace) -> int:
    from nashward.llm.run.status import clock, status

    found = status(given.folder)
    finished = found.finished >= found.iterations
    state = "finished" if finished else "playing" if found.playing else "stopped"
    print(f"{found.folder}: {state}, {found.finished} of {found.iterations} iterations finished")
    for name, done in found.steps:
        if done:
            print(f"  {name}: finished")
        phases = [phase for phase in found.phases if phase.step == name]
        for phase in phases:
            total = "" if phase.total is None else f" of {phase.total}"
            rate = "" if phase.rate is None else f", {phase.rate:.3g} a second"
            if phase.rate and phase.total and phase.total > phase.done:
                rate += f", about {clock((phase.total - phase.done) / phase.rate)} left"
            print(f"  {name}: {f'{phase.phase} {phase.name}'.rstrip()}: {phase.done}{total} {phase.unit}{rate}")
        if not done and not phases:
            print(f"  {name}: begun")
    if found.events:
        print("  on the way: " + ", ".join(f"{count} x {event}" for event, count in sorted(found.events.items())))
    if not finished:
        seconds = found.remaining_seconds
        estimate = "not known before an iteration is finished" if seconds is None else f"about {clock(seconds)}"
        print(f"left: {estimate}" + ("" if found.playing else "; the command that began the run continues it"))
    return 0


COMMAND = Command(
    "nashward status runs/first",
    add_arguments,
    run,
)
