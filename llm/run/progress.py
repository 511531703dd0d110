"""The progress of a run: bars and log lines, timings, events, and where the run may stop."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, NoReturn, Protocol

from tqdm import tqdm

from nashward.console import printable
from nashward.counted import counted

from ..processes import Tally, processes
from ..store.files import append_jsonl
from ..store.run_folder import TIMINGS, RunFolder
from .status import clock, read_timings, remaining, time_left

logger = logging.getLogger(__name__)

EVERY = 60.0  # seconds between log lines where there is no terminal
TICK = 1.0  # seconds between looks at a phase in which nothing is counted


class Advance(Protocol):
    """Counts what is done: ``count`` more, with ``before`` by an earlier process, which does not enter the timings;
    it has ``tokens`` of responses."""

    def __call__(self, count: int, before: bool = False, tokens: float = 0) -> None: ...


def with_tokens(advance: Advance, each: float) -> Advance:
    """An ``Advance`` for what has ``each`` tokens of responses on average."""

    def counting(count: int, before: bool = False, tokens: float = 0) -> None:
        advance(count, before, tokens + count * each)

    return counting


class Stopped(Exception):
    """A run stops before its end because it is to stop there; all that it has done is on disk."""


class Progress:
    """The phases of a run: on a terminal a bar for each, else log lines; both estimate how long the run still takes.

    With several processes the first one shows and records what all have done.

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
            name: what is sampled or judged, where the phase has several parts.
            total, done: how many there are, and how many an earlier process has done.
            unit, units: what is counted, one and several.
            epochs: how often each is passed; total and done count all passes.
            shared: each of several processes counts what it has done itself, and the phase ends when all have left it.
        """
        self._enter(f"{step}: {phase} {name}".rstrip())
        tally = processes.tally() if shared and processes.count > 1 else None
        with tqdm(
            total=total, initial=done, desc=printable(self.current), unit=f" {units}", disable=self.quiet or None
        ) as bar:
            place = {"step": step, "phase": phase, "what": name}
            under_way = _Phase(self, place, total, done, (unit, units), epochs, tally, bar)
            try:
                with nullcontext() if self.quiet else under_way.shown_meanwhile():
                    yield under_way.advance
                    under_way.gather()
            finally:
                under_way.record()
        if bar.disable:
            self.info(under_way.ended())

    def begin(self, step: str, phase: str, total: int, line: str) -> None:
        """Show a phase as begun, and why nothing of it is done for a while; all processes call it.

        Raises:
            Interrupted: the run is to stop.
        """
        self._enter(f"{step}: {phase}")
        self.info(f"{step}: {line}")
        if processes.main:
            self.add_timing({"step": step, "phase": phase, "what": "", "done": 0, "of": total, "seconds": 0.0})

    def _enter(self, current: str) -> None:
        """Begin a phase, unless the run is to stop."""
        self.current = current
        processes.stop = self.stop
        processes.at(current)
        self.raise_if_stopped()

    def add_timing(self, row: dict[str, Any]) -> None:
        """Record how long a part of a phase took."""
        append_jsonl(self.home / TIMINGS, row)
        self._timings.append(row)

    def info(self, line: str) -> None:
        """Log a line of level INFO, unless the run is to be quiet."""
        if not self.quiet:
            logger.info(line)

    def estimate(self) -> str:
        """The time left of the run; in its first iteration, before later phases were timed, that of this phase."""
        left = remaining(self._timings, self.iterations)
        if left is None:
            return ""
        of, seconds = ("this phase", left.iteration) if left.run is None else ("the run", left.run)
        words = time_left(seconds)
        return f"{of}: {words}" if words else ""

    def raise_if_stopped(self) -> None:
        """Stop here where the run is to stop: to be called where it can be continued from.

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
            logger.warning("%s: out of memory with %s at once; half as many are tried", event["at"], event["at_once"])


class _Phase:
    """A phase under way: counts what is done, records how long it took, and shows it.

    Args:
        progress: that of the run.
        place: step, phase and name, for the rows of the timings.
        total, done: how many there are and how many are done, over all passes.
        units: what is counted, one and several.
        epochs: how often each is passed.
        tally: what all processes have done, where each counts its own.
        bar: the bar on a terminal.
    """

    def __init__(
        self,
        progress: Progress,
        place: dict[str, str],
        total: int,
        done: int,
        units: tuple[str, str],
        epochs: int,
        tally: Tally | None,
        bar: tqdm[NoReturn],
    ):
        self.progress, self.place, self.bar, self.tally = progress, place, bar, tally
        self.total, self.done, self.units, self.epochs = total, done, units, epochs
        self.began = self.recorded = self.shown = time.monotonic()
        self.pending = self.made = 0
        self.tokens = 0.0
        self.seen = (0, 0)  # of the tally

    def advance(self, count: int, before: bool = False, tokens: float = 0) -> None:
        """See ``Advance``."""
        if self.tally is None:
            self._count(count, before, tokens)
        else:
            self.tally.add(count, tokens)
            self._look()

    def gather(self) -> None:
        """Wait for all processes where each counts its own, and count what they do meanwhile."""
        if self.tally is not None:
            processes.gather(None, idle=self._look)
            self._look()
            for event in processes.received():
                self.progress.on_event(event)

    @contextmanager
    def shown_meanwhile(self) -> Iterator[None]:
        """A block in which the phase is shown although nothing is counted: a part of it may take minutes."""
        over = threading.Event()

        def show() -> None:
            while not over.wait(TICK):
                if not self.bar.disable:
                    self.bar.refresh()  # the time that has passed
                elif time.monotonic() - self.shown >= EVERY:
                    self._show(f"; {clock(time.monotonic() - self.began)} so far")

        showing = threading.Thread(target=show, daemon=True)
        showing.start()
        try:
            yield
        finally:
            over.set()
            showing.join()

    def record(self) -> None:
        """Write a row of what was done since the last one, and how long it took."""
        now = time.monotonic()
        self.made += self.pending
        if self.pending and processes.main:
            row = {**self.place, "done": self.pending, "of": self.total, "seconds": now - self.recorded}
            self.progress.add_timing(row)
        self.pending, self.recorded = 0, now

    def ended(self) -> str:
        """What was done, and in what time."""
        duration = clock(time.monotonic() - self.began)
        return self._line(f"{self.progress.current}: {self._amount(self.made)} in {duration}")

    def _look(self) -> None:
        """Count what all processes have done since the last look."""
        if self.tally is not None and processes.main:
            before, self.seen = self.seen, self.tally.total
            if self.seen != before:
                self._count(self.seen[0] - before[0], False, self.seen[1] - before[1])

    def _count(self, count: int, before: bool, tokens: float) -> None:
        self.done += count
        if not before:
            self.pending += count
            self.tokens += tokens
        self.bar.update(count)
        now = time.monotonic()
        if now - self.recorded > 1 or self.done == self.total:
            self.record()
            self.bar.set_postfix_str(self._line())
        if self.bar.disable and now - self.shown > EVERY and self.done < self.total:
            self._show()

    def _show(self, more: str = "") -> None:
        """Log how far the phase is."""
        self.shown = time.monotonic()
        state = f"{self.progress.current}: {self._number(self.done)} of {self._amount(self.total)}"
        self.progress.info(self._line(state + more))

    def _line(self, state: str = "") -> str:
        """The state with the speed and the time that is left, as far as they are known."""
        rate = self.tokens / (time.monotonic() - self.began)
        speed = f"{rate:.{0 if rate >= 10 else 2}f} tokens a second" if self.tokens else ""
        return "; ".join(filter(None, (state, speed, self.progress.estimate())))

    def _amount(self, count: int) -> str:
        """So many in words; with several epochs, how many epochs they are."""
        if self.epochs == 1:
            return counted(count, *self.units)
        each = counted(self.total // self.epochs, *self.units)
        return f"{counted(float(self._number(count)), 'epoch')} of {each}"

    def _number(self, count: int) -> str:
        return str(count) if self.epochs == 1 else f"{self.epochs * count / self.total:.3g}"
