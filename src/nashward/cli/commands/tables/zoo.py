"""``nashward zoo``: the named games, what is known of each, and a page of pictures of them."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from nashward import games
from nashward.cli import json_output, options, outputs
from nashward.cli.command import Command
from nashward.counted import counted
from nashward.errors import NashwardError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="*", metavar="NAME", help="these games (default: all)")
    parser.add_argument(
        "--property", action="append", default=[], metavar="PROPERTY",
        help="only games that have it; given again, all of them (see the output for those that there are)",
    )  # fmt: skip
    parser.add_argument(
        "--page", type=options.path, nargs="?", const=Path("zoo.html"), metavar="FILE",
        help="write a page of pictures, one HTML file (default: zoo.html): of each game the table, who beats whom, and "
        "the Nash",
    )  # fmt: skip
    parser.add_argument("--json", type=options.path, metavar="FILE", help="write all of it for a machine to read")


def run(args: argparse.Namespace) -> int:
    chosen = games.zoo.names(*args.property)
    for name in args.names:
        if name not in games.zoo.GAMES:
            games.zoo.get(name)  # raises, with the nearest name
        if name not in chosen:
            raise NashwardError(
                f"{name} has not all of --property {', '.join(args.property)}; it is "
                f"{', '.join(sorted(games.zoo.GAMES[name].properties)) or 'without properties'}"
            )
    names = list(dict.fromkeys(args.names)) or chosen
    outputs.check_file("--json", args.json, "nash.json")
    outputs.check_file("--page", args.page, "zoo.html", (".html", ".htm"))
    width = max((len(name) for name in names), default=0)
    if names:
        print(f"{'game':<{width}}  actions  properties (source)")
    for name in names:
        entry = games.zoo.GAMES[name]
        size = entry.make().sizes[0]
        print(f"{name:<{width}}  {size:>7}  {', '.join(sorted(entry.properties)) or '-'} ({entry.source})")
    if not names:
        print(f"no game has all of {', '.join(args.property)}")
    else:
        print(f"{counted(len(names), 'game')}; properties:")
        for one, meaning in games.zoo.definitions(names).items():
            print(f"  {one}: {meaning}")
    if args.json is not None:
        json_output.write(args.json, {name: _described(name) for name in names})
        print(f"json: {args.json}")
    if args.page is not None:
        from nashward.games.zoo.page import page

        shown = sys.stderr if sys.stderr.isatty() and not args.quiet else None
        text = page(names, lambda name: shown and print(f"\r{name:<{width}}", end="", file=shown, flush=True))
        if shown:
            print(file=shown)
        args.page.parent.mkdir(parents=True, exist_ok=True)
        args.page.write_text(text, encoding="utf-8")
        print(f"page: {args.page}")
    return 0


def _described(name: str) -> dict[str, object]:
    entry = games.zoo.GAMES[name]
    game = entry.make()
    return {
        "labels": game.labels, "P": game.P, "source": entry.source, "properties": sorted(entry.properties),
        "nash": entry.equilibrium().policy, "fractions": entry.nash and [str(p) for p in entry.nash],
    }  # fmt: skip


COMMAND = Command("nashward zoo --property cyclic --page zoo.html", add_arguments, run, writes=("json", "page"))
