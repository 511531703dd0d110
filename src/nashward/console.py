"""The log of nashward on the console, beside the progress bars."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class ConsoleHandler(logging.Handler):
    """Writes warnings to stderr and what is below them to stdout, above the progress bars of tqdm."""

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm  # late: most commands log nothing

        file = sys.stderr if record.levelno >= logging.WARNING else sys.stdout
        tqdm.write(self.format(record), file=file)  # an error ends the run, as one of print does: no handleError


@contextmanager
def console_log(quiet: bool = False, always: bool = False) -> Iterator[None]:
    """Within the block, show what nashward logs: warnings, and unless ``quiet`` also what is good to know.

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
    logger.addHandler(handler)
    logger.setLevel(logging.WARNING if quiet else logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)
