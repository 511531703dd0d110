"""The log of nashward on the console, beside the progress bars."""

from __future__ import annotations

import io
import logging
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

# control characters but for tabs and the ends of lines, and what turns the direction of the text that follows
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202d\u202e]|\r(?!\n)")


def printable(text: str) -> str:
    """A text with a question mark in place of each character that a terminal would obey in place of showing it.

    Example:
        >>> printable("\x1b[31mred.csv"), printable("line 1\\nline 2")
        ('?[31mred.csv', 'line 1\\nline 2')
    """
    return CONTROL.sub("?", text)


SHOWN_BY_ANY = {"by_any_process": True}
"""The ``extra`` of a record that a silent process shows too: what it alone knows."""


class PrintableOutput:
    """A stream of text whose ``write`` makes it ``printable``, and whose errors name it."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with _named():
            return self._stream.write(printable(text))

    def flush(self) -> None:
        with _named():
            self._stream.flush()


@contextmanager
def _named() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OSError(error.errno, error.strerror, "standard output") from None


@contextmanager
def printable_output() -> Iterator[None]:
    """Within the block, what is printed on stdout is ``printable``; what was closed before the process began is not
    written to."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115  # until the process ends
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a label that the terminal's encoding lacks
    with redirect_stdout(PrintableOutput(sys.stdout)):
        yield


class ConsoleHandler(logging.Handler):
    """Writes warnings to stderr and what is below them to stdout, above the progress bars of tqdm."""

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm  # late: most commands log nothing

        file = sys.stderr if record.levelno >= logging.WARNING else sys.stdout
        tqdm.write(
            printable(self.format(record)), file=file
        )  # an error ends the run, as one of print does: no handleError


@contextmanager
def console_log(quiet: bool = False, always: bool = False, silent: bool = False) -> Iterator[None]:
    """Within the block, show what nashward logs: warnings, and unless ``quiet`` also what is good to know; ``silent``:
    only what is ``SHOWN_BY_ANY``, as where another process shows the rest.

    Nothing changes where a handler is configured already, unless ``always``; blocks within each other show a line once.
    After the block the logger is as it was before.

    Example:
        >>> with console_log(always=True):
        ...     logging.getLogger("nashward.example").info("10 prompts in 2 s")
        10 prompts in 2 s
    """
    logger = logging.getLogger("nashward")
    if (logger.hasHandlers() and not always) or any(isinstance(h, ConsoleHandler) for h in logger.handlers):
        yield
        return
    handler, level = ConsoleHandler(), logger.level
    if silent:
        handler.addFilter(lambda record: hasattr(record, *SHOWN_BY_ANY))
    logger.addHandler(handler)
    logger.setLevel(logging.WARNING if quiet else logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)
