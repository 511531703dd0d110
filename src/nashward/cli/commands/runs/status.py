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
        parts = [part for part in found.parts if part.step == name]
        for part in parts:
            of = "" if part.of is None else f" of {part.of}"
            rate = "" if part.rate is None else f", {part.rate:.3g} a second"
            if part.rate and part.of and part.of > part.done:
                rate += f", about {clock((part.of - part.done) / part.rate)} left"
            print(f"  {name}: {f'{part.phase} {part.what}'.rstrip()}: {part.done}{of} {part.unit}{rate}")
        if not done and not parts:
            print(f"  {name}: begun")
    if found.events:
        print("  on the way: " + ", ".join(f"{count} x {event}" for event, count in sorted(found.events.items())))
    if not finished:
        estimate = "not known before an iteration is finished" if found.left is None else f"about {clock(found.left)}"
        print(f"left: {estimate}" + ("" if found.playing else "; the command that began the run continues it"))
    return 0


COMMAND = Command(
    "nashward status runs/first",
    add_arguments,
    run,
)
