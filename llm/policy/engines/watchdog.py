"""Runs a command for as long as its parent lives: ``watchdog.py COMMAND...``, with a pipe of the parent as stdin.

However the parent ends, by SIGKILL too, the pipe ends with it; then the command, and what it has started, is ended. A
process of its own, because a process that was killed ends nothing, and the kernel's signal at a parent's death reaches
the command alone and not what it has started. It needs the standard library only.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress

GRACE = 10.0  # seconds between SIGTERM and SIGKILL
GONE = 5.0  # seconds in which what was killed disappears


def watch(command: Sequence[str]) -> int:
    """Run a command until it ends, or until stdin does; returns its exit code, for a signal 128 plus its number."""
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)

    def end() -> None:
        child.terminate()
        with suppress(subprocess.TimeoutExpired):
            child.wait(GRACE)
        _kill(child.pid)

    def until_the_pipe_ends() -> None:
        while os.read(0, 1 << 16):
            pass
        end()

    # a thread: the one that a signal interrupts is the one that waits for the child
    signal.signal(signal.SIGTERM, lambda *signalled: threading.Thread(target=end).start())
    threading.Thread(target=until_the_pipe_ends, daemon=True).start()
    code = child.wait()
    _kill(child.pid)  # a server's own children, which hold a card's memory
    return code if code >= 0 else 128 - code


def _kill(group: int) -> None:
    """End a group of processes, and return when there is none left."""
    until = time.monotonic() + GONE
    with suppress(ProcessLookupError):
        while time.monotonic() < until:
            os.killpg(group, signal.SIGKILL)
            time.sleep(0.02)


if __name__ == "__main__":
    sys.exit(watch(sys.argv[1:]))
