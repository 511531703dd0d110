"""The progress of a run: bars and log lines, timings, events, and where the run may stop."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from tqdm import tqdm

from nashward.console import printable
from nashward.counted import counted

from ..processes import processes
from ..store.files import append_jsonl
from ..store.run_folder import TIMINGS, RunFolder
from .status import clock, read_timings, remaining, time_left

logger = logging.getLogger(__name__)

EVERY = 60.0  # seconds between log lines where there is no terminal


class Advance(Protocol):
    """Counts what is done: ``count`` more, with ``before`` by an earlier process, which does not enter the timings;
    ``tokens`` of responses are in it."""

    def __call__(self, count: int, before: bool = False, tokens: float = 0) -> None: ...


def with_tokens(advance: Advance, each: float) -> Advance:
    """An ``Advance`` for what has ``each`` tokens of responses on average."""

    def counting(count: int, before: bool = False, tokens: float = 0) -> None:
        advance(count, before, tokens + count * each)

    return counting


class Stopped(Exception):
    """A run stops before its end because it is to stop there; all that it has done is on disk."""


class Progress:
    """The phases of a run: on a terminal a bar for each, else log lines; both with an estimate for the run.

    Of several processes the first one shows and records them, with what all have done.

    Args:
        home: the run folder, which keeps timings and events.
        iterations: how many the run is to make.
        stop: the run stops at the next place where it can when this is set.
        quiet: no bars, and nothing is logged but warnings.
    """

    def __init__(self, home: RunFolder, iterations: int, stop: threading.Event | None = None, quiet: bool = False):
        self.home, self.iterations, self.stop = home, iterations, stop or threading.Event()
        self.quiet = quiet or not processes.main
        self.current = "start"  # the phase, as it is shown
        self._timings = read_timings(home)

    @contextmanager
    def phase(
        self,
        step: str,
        phase: str,
        name: str,
        total: int,
        done: int = 0,
        unit: str = "prompt",
        units: str = "prompts",
        shared: bool = False,
        epochs: int = 1,
    ) -> Iterator[Advance]:
        """Time a phase of a step and show its progress; yields the function that counts what is done.

        Args:
            name: of what is sampled or judged, where the phase has several parts.
            total, done: how many there are, and how many an earlier process has done.
            unit, units: what is counted, one and several.
            epochs: how often each is passed; total and done count all passes.
            shared: each of several processes counts what it has done itself, and the phase ends when all have left it.
        """
        self.current = f"{step}: {phase} {name}".rstrip()
        processes.stop = self.stop
        processes.at(self.current)
        self.raise_if_stopped()
        began = recorded = shown = time.monotonic()
        pending = made = 0
        counted_tokens = 0.0
        tally = processes.tally() if shared and processes.count > 1 else None
        seen = (0, 0)  # of the tally

        def record() -> None:
            """Write a row of what was done since the last one, and how long it took."""
            nonlocal pending, made, recorded
            now = time.monotonic()
            made += pending
            if pending and processes.main:
                row = {"step": step, "phase": phase, "what": name, "done": pending, "of": total,
                       "seconds": now - recorded}  # fmt: skip
                append_jsonl(self.home / TIMINGS, row)
                self._timings.append(row)
            pending, recorded = 0, now

        def speed() -> str:
            rate = counted_tokens / (time.monotonic() - began)
            return f"{rate:.{0 if rate >= 10 else 2}f} tokens a second" if counted_tokens else ""

        def number(count: int) -> str:
            """So many; of several epochs, how many epochs they are."""
            return str(count) if epochs == 1 else f"{epochs * count / total:.3g}"

        def amount(count: int) -> str:
            """So many in words."""
            each = counted(total // epochs, unit, units)
            return counted(count, unit, units) if epochs == 1 else f"{counted(float(number(count)), 'epoch')} of {each}"

        with tqdm(
            total=total, initial=done, desc=printable(self.current), unit=f" {units}", disable=self.quiet or None
        ) as bar:

            def advance(count: int, before: bool = False, tokens: float = 0) -> None:
                if tally is None:
                    count_done(count, before, tokens)
                else:
                    tally.add(count, tokens)
                    look()

            def look() -> None:
                """Count what all processes have done since the last look."""
                nonlocal seen
                if tally is not None and processes.main:
                    before, seen = seen, tally.total
                    if seen != before:
                        count_done(seen[0] - before[0], False, seen[1] - before[1])

            def count_done(count: int, before: bool, tokens: float) -> None:
                nonlocal done, pending, shown, counted_tokens
                done, pending = done + count, pending + (0 if before else count)
                counted_tokens += 0 if before else tokens
                bar.update(count)
                now = time.monotonic()
                if now - recorded > 1 or done == total:
                    record()
                    bar.set_postfix_str("; ".join(filter(None, (speed(), self._estimate()))))
                if bar.disable and now - shown > EVERY and done < total:
                    shown = now
                    state = f"{self.current}: {number(done)} of {amount(total)}"
                    self.info("; ".join(filter(None, (state, speed(), self._estimate()))))

            try:
                yield advance
                if tally is not None:
                    processes.gather(None, idle=look)
                    look()
                    for event in processes.received():
                        self.on_event(event)
            finally:
                record()
        if bar.disable:
            duration = clock(time.monotonic() - began)
            state = f"{self.current}: {amount(made)} in {duration}"
            self.info("; ".join(filter(None, (state, speed(), self._estimate()))))

    def info(self, line: str) -> None:
        """Log what is good to know, unless the run is to be quiet."""
        if not self.quiet:
            logger.info(line)

    def _estimate(self) -> str:
        """The time left of the run; of its first iteration, where later phases were not timed yet, of this phase."""
        left = remaining(self._timings, self.iterations)
        if left is None:
            return ""
        of, seconds = ("this phase", left.iteration) if left.run is None else ("the run", left.run)
        words = time_left(seconds)
        return f"{of}: {words}" if words else ""

    def raise_if_stopped(self) -> None:
        """Call where the run can be continued from.

        Raises:
            Interrupted: the run is to stop, here or in another process.
        """
        processes.stop = self.stop
        processes.raise_if_stopped()

    def stopping(self) -> bool:
        """Whether the run is to stop, here or in another process; in step with all others."""
        if processes.any(self.stop.is_set()):
            self.stop.set()
        return self.stop.is_set()

    def pause(self, seconds: float) -> None:
        """Wait for something from outside the run.

        Raises:
            Interrupted: the run is to stop; it stops at once.
        """
        self.stop.wait(seconds)
        self.raise_if_stopped()

    def on_event(self, event: dict[str, Any]) -> None:
        """Record an event of the run, with the phase in which it happened; warn where memory ran out."""
        event = {**event, "at": event.get("at", self.current)}
        if not processes.main:
            processes.send(event)
            return
        try:
            self.home.journal(event)
        except OSError as error:  # the run is worth more than the line
            logger.warning("the journal cannot be written: %s", error)
        if "out_of_memory" in event:
            logger.warning("%s: out of memory with %s at once; the half is tried", event["at"], event["at_once"])
