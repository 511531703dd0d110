"""Where the command begins: Ctrl-C may come while it is being imported, and several times."""

import signal
import sys
import time
from types import FrameType

QUICK = 2.0  # seconds after an interrupt in which more of them change nothing: it is being cleaned up after

_last = -QUICK


def main() -> int:
    """``nashward``; see ``cli.main.main``."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)
    try:
        from .cli import main as command_line
    except KeyboardInterrupt:
        print("\nnashward: interrupted before anything was begun", file=sys.stderr)
        return 130
    return command_line.main()


def _interrupt(number: int, frame: FrameType | None) -> None:
    global _last
    before, _last = _last, time.monotonic()
    if _last - before >= QUICK:
        raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
