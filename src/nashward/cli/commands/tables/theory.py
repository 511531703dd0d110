"""``nashward theory``: every numbered check, its bound beside what was measured."""

from __future__ import annotations

import argparse
import math

from nashward.cli.command import Command

HEAD = (
    "T: the iteration nearest to failing (or the game, draw or pair, by number), with bound and measured there\n"
    "ratio: measured / bound; of an equation what the two may differ by, as ±4e-02\n"
    "exceeds, as it should: what is claimed is that the value lies above the bound, as beyond a step's threshold"
)


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
            print(HEAD)
            print(head)
            head = ""
        if row.number + row.statement != last:
            print(f"{row.number:<6}  {row.statement}")
        last = row.number + row.statement
        T, bound, measured, ratio = row.check.worst
        verdict = "FAILS" if not row.check.holds else "exceeds, as it should" if row.check.exceeds else "holds"
        # of two zeros the ratio is no number
        shown = f"±{row.check.within:.0e}" if row.check.equal else f"{ratio:.4f}" if math.isfinite(ratio) else ""
        print(f"{'':<6}  {T:>6g}  {bound:>10.3e}  {measured:>10.3e}  {shown:>8}  {verdict}  {row.case}", flush=True)
    print(f"{failed} checks fail" if failed else "every check holds")
    return int(failed > 0)


COMMAND = Command(
    "nashward theory --quick",
    add_arguments,
    run,
)
