"""``nashward report``: the page of a run, or of several beside each other."""

from __future__ import annotations

import argparse
from pathlib import Path

from nashward.cli import options, outputs
from nashward.cli.command import Command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folders", type=options.path, nargs="+", metavar="FOLDER", help="a run folder, or several")
    parser.add_argument(
        "--out",
        type=options.path,
        help="the page (default: report.html in the folder; of several runs comparison.html)",
    )


def run(args: argparse.Namespace) -> int:
    from nashward.llm import report

    first, *others = args.folders
    outputs.check_file("--out", args.out, "report.html")
    if others:
        page = report.compare(args.folders, args.out or Path("comparison.html"))
    elif not (first / "run.json").exists():
        raise FileNotFoundError(f"{first} holds no run (it has no run.json)")
    else:
        page = report.write(first, file=args.out)
    print(f"report: {page}")
    return 0


COMMAND = Command(
    "nashward report runs/first runs/second --out both.html",
    add_arguments,
    run,
    writes=("out",),
)
