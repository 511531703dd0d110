"""SIGINT and SIGTERM request a run to stop where it can go on; a second one stops it at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, NoReturn

from ..processes import processes


@dataclass
class StopRequest:
    """Whether a run is to stop (``event``, for ``SelfPlay.run``), and which signal requested it."""

    event: threading.Event = field(default_factory=threading.Event)
    signal: signal.Signals | None = None

    @property
    def exit_code(self) -> int:
        """130 after SIGINT, 143 after SIGTERM, else 0."""
        return 0 if self.signal is None else 128 + self.signal


_requests: list[StopRequest] = []  # over the blocks that are entered
_loading: list[bool] = []  # an entry for each block of stop_at_once


@contextmanager
def stop_at_once() -> Iterator[None]:
    """A block in which the first signal ends the process, such as the loading of a model, which is long and loses
    nothing.

    Raises:
        KeyboardInterrupt: SIGINT came within the block, or before it.
        SystemExit: the same with SIGTERM.
    """
    for request in _requests:
        if request.signal is not None:
            _end(request.signal)
    _loading.append(True)
    try:
        yield
    finally:
        _loading.pop()


def _write(stream: int, line: bytes) -> None:
    """All of several processes get the signal; the first one says so."""
    if processes.main:
        os.write(stream, line)


def _end(number: int) -> NoReturn:
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    _write(2, b"\nnashward: SIGTERM: stopped while a model was loaded; the same command continues\n")
    raise SystemExit(128 + number)


@contextmanager
def stop_on_signals(
    what: str = "stopping once the part under way is written",
) -> Iterator[StopRequest]:
    """Handle SIGINT and SIGTERM within the block; the handlers before it are restored after it.

    Args:
        what: said when the first one comes.

    Outside the main thread, where Python allows no handler, nothing changes.

    Raises:
        KeyboardInterrupt: a second signal came within the block, and it is SIGINT.
        SystemExit: a second signal came, and it is SIGTERM.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    previous: dict[int, Any] = {}

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    def handle(number: int, frame: FrameType | None) -> None:
        if _loading:
            restore()
            request.signal = signal.Signals(number)
            _end(number)
        if request.signal is not None:
            restore()
            if number == signal.SIGINT:
                signal.raise_signal(number)  # as the handler before has it: that of the command ignores quick ones
                raise KeyboardInterrupt
            raise SystemExit(128 + number)
        request.signal = signal.Signals(number)
        request.event.set()
        # neither print nor logging: the signal may have come within one
        _write(2, f"\n{request.signal.name}: {what}; once more stops at once\n".encode())

    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup and jobs in the background set it
            previous[number] = signal.signal(number, handle)
    _requests.append(request)
    try:
        yield request
    finally:
        _requests.remove(request)
        restore()
