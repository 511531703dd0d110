"""What ``--help`` shows: the commands by what they are for, and of many options those that matter first."""

from __future__ import annotations

import argparse
import shutil
import textwrap
from collections.abc import Callable, Collection, Mapping
from typing import Any

from .command import Entry

HEAD = "From reward to Nash: the policy that no other policy beats, for a table and for a language model."
TO_TRY = {
    "nashward demo": "what this is, on a page: 1 to 4 minutes on a CPU",
    "nashward solve table.csv": "the Nash of a table of win probabilities",
    "nashward leaderboard battles.csv": "who is in the Nash of an arena's battles",
    "nashward plan --policy ID --memory 8GiB": "will it fit",
    "nashward align --policy pocket:policy --out runs/first \\\n"
    "      --oracle pocket:pairrm --prompts pocket:prompts":
        "a run with models that are here: a minute",
}  # fmt: skip
# the folders of commands, in the order of the help
TITLES = {
    "tables": "tables of payoffs",
    "runs": "align a language model",
    "judges": "judges",
    "evaluation": "evaluate",
    "delivery": "answer with what was trained, and take it elsewhere",
}
WIDTH = 79
COLUMN = 14


class Formatter(argparse.HelpFormatter):
    """Breaks no line within a word, so that the worked line can be copied; many choices stand in the help of theirs."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return textwrap.fill(text, width, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False)

    def _choices(self, action: argparse.Action) -> str:
        """The choices of an option, where they are too many to stand beside it; else nothing."""
        shown = action.metavar or "{" + ",".join(map(str, action.choices or ())) + "}"
        long = isinstance(shown, str) and shown.startswith("{") and len(shown) > self._width // 2
        return ", ".join(str(shown)[1:-1].split(",")) if long else ""

    def _metavar_formatter(self, action: argparse.Action, default_metavar: str) -> Callable[[int], tuple[str, ...]]:
        if self._choices(action):
            return lambda size: (default_metavar,) * size
        return super()._metavar_formatter(action, default_metavar)

    def _get_help_string(self, action: argparse.Action) -> str | None:
        choices = self._choices(action)
        return f"{action.help}; one of {choices}" if choices else action.help


def overview(commands: Mapping[str, Entry]) -> str:
    """The page of ``nashward --help``, which is also that of ``nashward`` alone."""
    width = min(WIDTH, shutil.get_terminal_size().columns - 1)
    lines = ["usage: nashward COMMAND [OPTION ...]", "", *textwrap.wrap(HEAD, width), "", "to try:"]
    longest = max(len(line) for line in TO_TRY if len(line) < WIDTH // 2)
    for line, what in TO_TRY.items():
        column = longest + 4 if longest + 4 + len(what) <= width else 6
        lines += [f"  {line:{longest}}  {what}"] if len(line) < column - 3 else [f"  {line}", f"{'':{column}}{what}"]
    for folder, title in TITLES.items():
        lines += ["", f"{title}:"]
        for name, entry in commands.items():
            if entry.folder == folder:
                first, *others = textwrap.wrap(entry.summary, width - COLUMN, break_on_hyphens=False)
                lines += [f"  {name:{COLUMN - 3}} {first}", *(" " * COLUMN + line for line in others)]
    lines += ["", *textwrap.wrap("nashward COMMAND --help shows its options; --version the version", width), ""]
    return "\n".join(lines)


class ShowHelp(argparse.Action):
    """``--help`` shows the options in ``first`` alone, where a command names some; ``--help-all`` shows all.

    Args:
        first: the long names of options, without dashes; None: all are shown.
    """

    def __init__(self, option_strings: list[str], dest: str, first: Collection[str] | None = None, **other: Any):
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, default=argparse.SUPPRESS, **other)
        self.first = first

    def __call__(self, parser: argparse.ArgumentParser, namespace: Any, values: Any, option_string: Any = None) -> None:
        actions, hidden = parser._actions, 0
        if self.first is not None:
            shown = {f"--{name}" for name in (*self.first, "help", "help-all")}
            for action in actions:
                if action.option_strings and not shown.intersection(action.option_strings):
                    action.help, hidden = argparse.SUPPRESS, hidden + 1
        parser.usage = " ".join([parser.prog, *map(_in_usage, filter(_is_named, actions)), "[OPTION ...]"])
        parser.print_help()
        if hidden:
            print(f"\n{hidden} more options: {parser.prog} --help-all")
        parser.exit()


def _is_named(action: argparse.Action) -> bool:
    """Whether the line of usage names it: the options that a command can do without stand below, each with its help."""
    return action.required or not action.option_strings


def _in_usage(action: argparse.Action) -> str:
    value = str(action.metavar or action.dest)
    if action.option_strings:
        return f"{action.option_strings[-1]} {value.upper()}"
    if action.nargs in ("*", "?"):
        return f"[{value} ...]" if action.nargs == "*" else f"[{value}]"
    return f"{value} [{value} ...]" if action.nargs == "+" else value


def add_help(parser: argparse.ArgumentParser, first: Collection[str]) -> None:
    """Declare ``--help``, and ``--help-all`` where ``first`` names the options that ``--help`` shows."""
    if not first:
        parser.add_argument("-h", "--help", action=ShowHelp, help="show this and exit")
        return
    parser.add_argument("-h", "--help", action=ShowHelp, first=first, help="show the options that matter first")
    parser.add_argument("--help-all", action=ShowHelp, help="show all options")
