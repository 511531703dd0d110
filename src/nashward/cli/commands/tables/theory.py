"""``nashward theory``: every numbered check, its bound beside what was measured."""

from __future__ import annotations

import argparse
import math

from nashward.cli.command import Command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "numbers", nargs="*", metavar="NUMBER", help="only these checks, for example 1 3b (default: all)"
    )
    parser.add_argument("--quick", action="store_true", help="fewer and smaller games, shorter runs: seconds")


def run(args: argparse.Namespace) -> int:
    from nashward import theory

    failed = 0
    head = f"{'':<6}  {'T':>6}  {'bound':>10}  {'measured':>10}  {'ratio':>8}  verdict"
    last = ""
    for row in theory.table(args.quick, tuple(args.numbers)):
        failed += not row.check.holds
        if args.quiet and row.check.holds:
            continue
        if head and not args.quiet:
            print(head)
            head = ""
        if row.number + row.statement != last:
            print(f"{row.number:<6}  {row.statement}")
        last = row.number + row.statement
        T, bound, measured, ratio = row.check.worst
        verdict = "holds" if row.check.holds else "FAILS"
        # of an equation the ratio is 1 but for rounding, and of two zeros no number
        shown = "" if row.check.equal or not math.isfinite(ratio) else f"{ratio:.4f}"
        print(f"{'':<6}  {T:>6g}  {bound:>10.3e}  {measured:>10.3e}  {shown:>8}  {verdict}  {row.case}", flush=True)
    print(f"{failed} checks fail" if failed else "every check holds")
    return int(failed > 0)


COMMAND = Command(
    "nashward theory --quick",
    add_arguments,
    run,
)
