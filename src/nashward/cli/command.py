"""What a command is: its help, its arguments and what it does."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Command:
    """One command of ``nashward``.

    Attributes:
        example: one worked line.
        add_arguments: declares its arguments.
        run: does it, and returns the exit code.
        first: the options, without dashes, that its ``--help`` shows; ``--help-all`` shows all. Empty: it shows all.
        divides: whether several processes divide its work; else the first one does all of it.
        continues: whether it keeps what it has computed, so that the same command goes on after it was stopped.
        writes: the arguments, by their names, of the files that it writes: none of them may be one that it reads;
            "out/scores.json" is that file in a folder.
        loads: False: it loads no model, and those that it is given may lie on another machine.
    """

    example: str
    add_arguments: Callable[[argparse.ArgumentParser], object]
    run: Callable[[argparse.Namespace], int]
    first: tuple[str, ...] = ()
    divides: bool = False
    continues: bool = False
    writes: tuple[str, ...] = ()
    loads: bool = True


@dataclass(frozen=True)
class Entry:
    """A command in the table of commands.

    Attributes:
        summary: of ``nashward --help``, and at the head of the command's own.
        place: the module under ``commands``, and the name of its ``Command`` there.
    """

    summary: str
    place: str

    @property
    def folder(self) -> str:
        """What the command is for: the folder under ``commands`` that it lies in."""
        return self.place.partition(".")[0]

    def load(self) -> Command:
        """Import the command."""
        module, _, name = self.place.partition(":")
        command: Command = getattr(importlib.import_module(f"nashward.cli.commands.{module}"), name)
        return command
