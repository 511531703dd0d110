"""What a command is: its name, its help, its arguments and what it does."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Command:
    """One command of ``nashward``.

    Attributes:
        name: as it is typed.
        summary: of ``nashward --help``, and at the head of the command's own.
        example: one worked line.
        add_arguments: declares its arguments.
        run: does it, and returns the exit code.
    """

    name: str
    summary: str
    example: str
    add_arguments: Callable[[argparse.ArgumentParser], object]
    run: Callable[[argparse.Namespace], int]
