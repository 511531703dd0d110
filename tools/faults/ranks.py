"""Runs of several processes of which one is killed: the part of ``python -m tools.faults`` with ``--processes``.

A random one gets SIGKILL at a random moment of a phase; the others get SIGTERM, as from torchrun, and have to end by
themselves. The run goes on with as many processes or another number. Counted: finished shards that are lost or made
again, prompts sampled and pairs judged although they were finished, processes that do not end. At the end responses,
judgements and targets of the first step are compared bit by bit with those of one process, and the log-probabilities of
all adapters within 1e-4.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from tests.llm.ranks import Ranks

from nashward.llm.policy.logprobs import sequence_logprobs
from nashward.llm.processes import processes
from nashward.llm.run.progress import Progress
from nashward.llm.run.signals import stop_on_signals
from nashward.llm.store.files import read_shard, shards

from .harness import PHASES, STEPS, Harness
from .logged import append, read

CLOSE = 1e-4  # nats, of the adapters' log-probabilities: the order of a reduction is not that of one process
ENDS, WHOLE = 60.0, 600.0  # seconds in which processes end when they have to, and in which a run is through


class RanksHarness(Harness):
    """Plays one run in several forked processes."""

    def ranks(self, count: int, folder: Path, log: Path) -> Ranks:
        """Start the run in so many processes."""

        def work(rank: int) -> int:
            self._log_phases(log / f"phases-{rank}")
            with stop_on_signals() as received, processes.session():
                self.self_play(folder, log).run(stop=received.event, progress=False)
            return received.exit_code

        return Ranks(count, work, self.home / f"ranks-{time.monotonic_ns()}")

    @staticmethod
    def _log_phases(file: Path) -> None:
        timed = Progress.phase

        @contextmanager
        def logged(self: Progress, step: str, phase: str, *args: Any, **kwargs: Any) -> Iterator[Any]:
            append(file, f"{step} {phase} {time.monotonic()}")
            with timed(self, step, phase, *args, **kwargs) as advance:
                yield advance
            append(file, f"{step} {phase} {time.monotonic()} end")

        Progress.phase = logged  # type: ignore[method-assign]  # of a fork

    def measure(self, count: int) -> None:
        """Play it once undisturbed, and take the times of its phases."""
        log = self.home / f"timed-log-{count}"
        log.mkdir()
        codes = (ranks := self.ranks(count, self.home / f"timed-{count}", log)).wait()
        if any(codes):
            raise RuntimeError(f"the undisturbed run of {count} processes failed:\n{ranks.output()}")
        started: dict[tuple[str, str], float] = {}
        for line in read(log / "phases-0"):
            step, phase, at, *end = line.split()
            if end:
                self.durations[step, phase] = self.durations.get((step, phase), 0.0) + float(at) - started[step, phase]
            else:
                started[step, phase] = float(at)
        self.compare(self.home / f"timed-{count}")

    def go_on(self, count: int, target: tuple[str, str] | None = None) -> bool:
        """Go on with the run; with a target, kill one process in that phase. Returns whether one was killed."""
        before = {name: len(read(self.log / name)) for name in ("prompts", "pairs")}
        finished, stamps = self.finished(), self.stamps()
        for file in self.log.glob("phases-*"):
            file.unlink()
        ranks = self.ranks(count, self.folder, self.log)
        victim = self.random.randrange(count)
        if target is not None:
            until = time.monotonic() + 60
            while time.monotonic() < until and 0 not in ranks.codes:
                if any(tuple(line.split()[:2]) == target for line in read(self.log / f"phases-{victim}")):
                    time.sleep(self.random.random() * self.durations.get(target, 0.1))
                    break
                ranks.look()
                time.sleep(0.002)
            if victim not in ranks.codes:
                ranks.kill(victim, signal.SIGKILL)
        try:
            codes = ranks.wait(WHOLE if target is None else ENDS, terminate=target is not None)
        except TimeoutError as error:
            self.problems.append(f"left over: {error}")
            return True
        killed = codes[victim] == -signal.SIGKILL
        if not killed and any(codes):
            self.problems.append(f"a process failed: {codes}\n{ranks.output()[-2000:]}")
        for name, done in finished.items():
            again = set(read(self.log / name)[before[name] :]) & done
            self.repeated += len(again)
            if again:
                self.problems.append(f"{len(again)} {name} that were finished were made again")
        now = self.stamps()
        if lost := [file for file, stamp in stamps.items() if now.get(file) != stamp]:
            self.problems.append(f"{len(lost)} finished shards were lost or made again, as {lost[0]}")
        self.verify()
        return killed

    def stamps(self) -> dict[str, int]:
        """When each valid shard of responses, judgements and targets was written."""
        files = [file for kind in ("responses", "judgements", "targets") for file in self.shards(kind)]
        return {str(file): file.stat().st_mtime_ns for file in files}

    def compare(self, folder: Path) -> None:
        """Compare a finished run with that of one process."""
        alone = self.home / "undisturbed"
        for step in STEPS:
            # the second step's policy is trained: its last bits are those of a reduction
            for kind in ("responses", "judgements", "targets") if step == STEPS[0] else ():
                names = [sorted(file.name for file in (home / step / kind).glob("*")) for home in (alone, folder)]
                if names[0] != names[1]:
                    self.problems.append(f"{step}/{kind} differs from that of one process")
            distance = float(
                (self.logprobs(alone / step / "adapter") - self.logprobs(folder / step / "adapter")).abs().max()
            )
            if not distance < CLOSE:
                self.problems.append(f"{step}/adapter is {distance:.2g} nats from that of one process")

    def logprobs(self, adapter: Path) -> torch.Tensor:
        """Those of the first responses of the run of one process."""
        (file, *_) = shards(self.home / "undisturbed" / STEPS[0] / "responses", "start")
        rows = read_shard(file)[:60]
        self.model.invalidate()
        with self.model.use_adapter(adapter) as network:
            prompts, responses = [row["prompt_ids"] for row in rows], [row["ids"] for row in rows]
            return sequence_logprobs(network, prompts, responses, self.model.pad_id)

    def kill(self, kills: int, counts: tuple[int, ...]) -> None:
        """Kill so many times, in each phase about as often, with these numbers of processes by turns."""
        hit = {(step, phase): 0 for step in STEPS for phase in PHASES}
        shown = 0
        while self.kills < kills:
            self.reset()
            shutil.rmtree(self.log)
            self.log.mkdir()
            order = sorted(hit, key=lambda target: (hit[target], self.random.random()))[:4]
            for target in sorted(order, key=list(hit).index):
                if self.kills < kills and self.go_on(counts[self.kills % len(counts)], target):
                    self.kills += 1
                    hit[target] += 1
            if self.go_on(self.random.choice((1, *counts))):
                self.problems.append("a process died without a kill")
            self.compare(self.folder)
            print("\n".join([*self.problems[shown:], f"{self.kills} kills, {len(self.problems)} problems"]), flush=True)
            shown = len(self.problems)
        print("killed in: " + ", ".join(f"{' '.join(target)} {n}" for target, n in hit.items()))


def main(home: Path, kills: int, prompts: int, seed: int, most: int) -> int:
    """Runs of 2 to ``most`` processes; returns the exit code."""
    began = time.monotonic()
    os.environ.pop("RANK", None)
    harness = RanksHarness(home, seed, prompts)
    harness.random = random.Random(seed)
    harness.undisturbed()
    counts = tuple(range(2, most + 1))
    for count in counts:
        harness.measure(count)
    harness.kill(kills, counts)
    print(
        f"{harness.kills} kills of {' and '.join(map(str, counts))} processes, {harness.repeated} prompts and pairs "
        f"made twice, {len(harness.problems)} problems, {time.monotonic() - began:.0f} s"
    )
    return 1 if harness.problems else 0
