"""What a person sees of a run while it plays, what ``nashward status`` is told, and where the run may stop."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from tqdm import tqdm

from ..store.files import append_line
from ..store.run_folder import TIMINGS, RunFolder
from ..store.say import warn
from .status import clock, left, recorded

EVERY = 60.0  # seconds between lines where there is no terminal


class Tick(Protocol):
    """Is told how many more are done; ``before``: by a process before this one, in no time of this one's."""

    def __call__(self, count: int, before: bool = False) -> None: ...


class Stopped(Exception):
    """Raised where a run stops before its end because it was asked to, and all that it has done is on disk."""


class Interrupted(Stopped):
    """It was asked while it played, not when it was started."""


class Progress:
    """The phases of a run: a bar for each on a terminal, else a line now and then; both with an estimate for the run.

    Args:
        run: where timings and events are kept.
        iterations: how many the run is to make.
        stop: set by whoever wants the run to stop.
        quiet: no bars and no lines but warnings.
    """

    def __init__(self, run: RunFolder, iterations: int, stop: threading.Event | None = None, quiet: bool = False):
        self.run, self.iterations, self.stop = run, iterations, stop or threading.Event()
        self.quiet = quiet
        self.phase = "start"
        self._timings = recorded(run)

    @contextmanager
    def over(
        self, step: str, phase: str, what: str, total: int, done: int = 0, units: str = "prompts"
    ) -> Iterator[Tick]:
        """A phase of a step; yields what is to be told how many more are done."""
        self.phase = f"{step}: {phase} {what}".rstrip()
        self.check()
        began = last = shown = time.monotonic()
        told = made = 0

        def keep() -> None:
            """What was done since the last time, and how long it took."""
            nonlocal told, made, last
            now = time.monotonic()
            made += told
            if told:
                row = {"step": step, "phase": phase, "what": what, "done": told, "of": total, "seconds": now - last}
                append_line(self.run / TIMINGS, row)
                self._timings.append(row)
            told, last = 0, now

        with tqdm(total=total, initial=done, desc=self.phase, unit=f" {units}", disable=self.quiet or None) as bar:

            def tick(count: int, before: bool = False) -> None:
                nonlocal done, told, shown
                done, told = done + count, told + (0 if before else count)
                bar.update(count)
                now = time.monotonic()
                if now - last > 1 or done == total:
                    keep()
                    bar.set_postfix_str(self._estimate())
                if bar.disable and now - shown > EVERY and done < total:
                    shown = now
                    self.say("; ".join(filter(None, (f"{self.phase}: {done} of {total} {units}", self._estimate()))))

            try:
                yield tick
            finally:
                keep()
        if bar.disable:
            took = clock(time.monotonic() - began)
            self.say("; ".join(filter(None, (f"{self.phase}: {made} {units} in {took}", self._estimate()))))

    def say(self, line: str) -> None:
        """What is good to know and no warning."""
        if not self.quiet:
            tqdm.write(line)

    def _estimate(self) -> str:
        seconds = left(self._timings, self.iterations)
        return "" if seconds is None else f"the run: about {clock(seconds)} left"

    def check(self) -> None:
        """Go on, or stop.

        Raises:
            Interrupted: the run was asked to stop.
        """
        if self.stop.is_set():
            raise Interrupted(f"{self.phase}: stopped as asked")

    def on_event(self, event: dict[str, Any]) -> None:
        """Keep and show what did not fit into memory."""
        try:
            self.run.journal({"at": self.phase, **event})
        except OSError as error:  # the run is worth more than the line
            warn(f"the journal cannot be written: {error}")
        warn(f"{self.phase}: out of memory with {event['at_once']} at once; the half is tried")
