"""How long work of many like units still takes, by the time that those before took."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from ..processes import processes
from .progress import EVERY
from .status import time_left


class Remaining:
    """The time that is left of units that take about the same each; of several processes each does its share.

    Args:
        total: units.

    Example:
        >>> left = Remaining(total=100)
        >>> left.text
        ''
        >>> left.add(40, seconds=60.0)
        >>> left.text
        'about 1 min 30 s left'
    """

    def __init__(self, total: int) -> None:
        self.total, self.done, self.seconds = total, 0, 0.0
        self._shown = time.monotonic()

    def skip(self, count: int) -> None:
        """So many are done already, by an earlier process."""
        self.total -= count

    def add(self, count: int, seconds: float) -> None:
        """So many were done in so many seconds."""
        self.done, self.seconds = self.done + count * processes.count, self.seconds + seconds

    @contextmanager
    def timed(self, count: int) -> Iterator[None]:
        """So many are done in the block."""
        began = time.monotonic()
        yield
        self.add(count, time.monotonic() - began)

    @property
    def text(self) -> str:
        """The time that is left in words; empty before any unit is done, and after the last."""
        return time_left(self.seconds / self.done * (self.total - self.done) if self.done else None)

    def due(self) -> bool:
        """Whether it is time for another line."""
        now = time.monotonic()
        if now - self._shown < EVERY:
            return False
        self._shown = now
        return True
