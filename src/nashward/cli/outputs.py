"""A file that a command writes is none that it reads."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from nashward.errors import NashwardError

READ_WHOLE = ("responses", "answers")  # folders of which every file with one of these endings is a model's answers
ANSWERS = (".json", ".jsonl")


def check(args: argparse.Namespace, parser: argparse.ArgumentParser, written: Sequence[str]) -> None:
    """Refuse, before anything is read, to write over what the command reads, or two results to one file.

    Args:
        args: of the command.
        parser: that they are of, for the names of its options.
        written: the names in ``args`` of the files that the command writes.

    Raises:
        ValueError: one of them is the file that another argument names, also through a link, or lies where it would be
            read as a model's answers.
    """
    names = {
        action.dest: action.option_strings[-1] if action.option_strings else action.dest for action in parser._actions
    }
    for name in written:
        out = getattr(args, name, None)
        if not isinstance(out, Path) or out.is_dir():  # of a folder that is there the command says what it wants
            continue
        for other, option in names.items():
            for given in () if other == name else _named(getattr(args, other, None)):
                if _same(out, given):
                    lost = "one would replace the other" if other in written else "which would be lost"
                    raise NashwardError(
                        f"{names[name]} {out} is the same file as {option} {given}, {lost}; name another"
                    )
                if other in READ_WHOLE and _same(out.parent, given) and out.name.removesuffix(".gz").endswith(ANSWERS):
                    raise NashwardError(
                        f"{names[name]} {out} would be read as a model's answers, as all of {given}; name a file "
                        "elsewhere"
                    )


def _named(value: Any) -> Iterator[str | Path]:
    """The files that an argument may name."""
    if isinstance(value, str | Path):
        yield value
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _named(one)


def _same(out: Path, given: str | Path) -> bool:
    if os.path.exists(out) and os.path.exists(given):
        return os.path.samefile(out, given)
    return isinstance(given, Path) and os.path.realpath(out) == os.path.realpath(given)  # another word is no file
