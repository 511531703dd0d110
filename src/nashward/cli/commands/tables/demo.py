"""``nashward demo``: a small zoo solved, a pocket model aligned; with ``--proof`` both side by side."""

from __future__ import annotations

import argparse

from nashward.cli import options
from nashward.cli.command import Command
from nashward.errors import NashwardError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=options.path, help="folder to write (default: demo; with --proof: proof)")
    parser.add_argument("--iterations", type=options.whole, help="of self-play (default: 6; with --proof: 40)")
    parser.add_argument("--seed", type=options.whole, help="default: 0; the proof draws nothing at random")
    parser.add_argument(
        "--proof", action="store_true", help="show instead that language model and table go the same way"
    )


def run(args: argparse.Namespace) -> int:
    named = ("out", "iterations", "seed")
    chosen = {name: getattr(args, name) for name in named if getattr(args, name) is not None}
    if args.proof:
        from nashward.cli.demo.proof import proof

        if "seed" in chosen:
            raise NashwardError("--proof draws nothing at random: leave --seed out")
        proof(**chosen, progress=not args.quiet)
    else:
        from nashward.cli.demo.demo import demo

        demo(**chosen, progress=not args.quiet)
    return 0


COMMAND = Command(
    "nashward demo",
    add_arguments,
    run,
)
