"""``nashward demo``: a small zoo solved, a pocket model aligned; or the proof, or a real model."""

from __future__ import annotations

import argparse

from nashward.cli import options
from nashward.cli.command import Command
from nashward.errors import NashwardError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=options.path, help="folder to write (default: demo, proof or demo-real)")
    parser.add_argument(
        "--iterations",
        type=options.whole,
        help="iterations of self-play (default: 6; with --proof: 40; with --real: 2)",
    )
    parser.add_argument("--seed", type=options.whole, help="default: 0; the proof draws nothing at random")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--real", action="store_true", help="a real chat model under three judges (nashward[real])")
    which.add_argument(
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
    elif args.real:
        from nashward.cli.demo.real import real

        real(**chosen, progress=not args.quiet)
    else:
        from nashward.cli.demo.demo import demo

        demo(**chosen, progress=not args.quiet)
    return 0


COMMAND = Command(
    "nashward demo",
    add_arguments,
    run,
    continues=True,
)
