"""SIGINT and SIGTERM ask a run to stop where it can go on; a second one stops it at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any


@dataclass
class Asked:
    """Whether a run was asked to stop (``event``, for ``SelfPlay.run``), and by which signal."""

    event: threading.Event = field(default_factory=threading.Event)
    signal: signal.Signals | None = None

    @property
    def code(self) -> int:
        """The exit code that says so: 130 after SIGINT, 143 after SIGTERM, else 0."""
        return 0 if self.signal is None else 128 + self.signal


@contextmanager
def signals() -> Iterator[Asked]:
    """Listen to SIGINT and SIGTERM within the block; what listened before listens again after it.

    Outside the main thread, where Python lets nobody listen, nothing changes.

    Raises:
        KeyboardInterrupt: a second signal came within the block, and it is SIGINT.
        SystemExit: a second signal came, and it is SIGTERM.
    """
    asked = Asked()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before: dict[int, Any] = {}

    def hear(number: int, frame: FrameType | None) -> None:
        if asked.signal is not None:
            for one, handler in before.items():
                signal.signal(one, handler)
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            raise SystemExit(128 + number)
        asked.signal = signal.Signals(number)
        asked.event.set()
        # not print: the signal may have come within one
        os.write(2, f"\n{asked.signal.name}: stopping after this shard; once more stops at once\n".encode())

    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as of nohup, and of jobs in the background
            before[number] = signal.signal(number, hear)
    try:
        yield asked
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
