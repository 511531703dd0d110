"""A run in a process of its own that is killed at a random moment, or whose newest file is damaged."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tests.llm import tiny
from tqdm import tqdm

from nashward import games, llm
from nashward.errors import CorruptFileError
from nashward.llm import oracles
from nashward.llm.run.progress import Progress
from nashward.llm.run.stages.judge import is_intact
from nashward.llm.store.files import TEMPORARY, read_shard, verify_checksums, verify_shard
from nashward.llm.store.run_folder import QUARANTINE, read_run_json

from .logged import CALL, LoggedOracle, LoggedSource, append, pair_key, read

STEPS = ("iteration-01", "iteration-02")
PHASES = ("sampling", "judging", "scoring", "training", "measuring")
LOGS = ("timings.jsonl", "events.jsonl")
# these may differ from an undisturbed run: the cache's pages, the copy of run.json, the logs
MAY_DIFFER = (".lock", "judgements.sqlite", "judgements.sqlite-wal", "judgements.sqlite-shm", *LOGS)


@dataclass
class Harness:
    """Plays one run in forked processes and compares it with an undisturbed one."""

    home: Path
    seed: int
    size: int = 150  # prompts of the run
    combine: str | None = None  # a second objective, and what is made of both

    def __post_init__(self) -> None:
        self.prompts = [f"Say {i} things{'!' * (i % 7)}" for i in range(self.size)]
        torch.set_num_threads(1)
        self.random = random.Random(self.seed)
        self.policy = tiny.policy(self.home / "policy")
        self.model = llm.LanguageModel.from_pretrained(self.policy, lora=llm.Lora(rank=2), quantise=False)
        self.folder = self.home / "run"
        self.problems: list[str] = []
        self.cached_pairs: set[str] = set()  # of calls that were over when a process died
        self.kills = self.renames = self.damages = self.repeated = 0
        self.hit: Counter[str] = Counter()  # damages of each kind of file
        self.durations: dict[tuple[str, str], float] = {}

    def self_play(self, folder: Path, log: Path) -> llm.SelfPlay:
        oracle: oracles.PreferenceOracle = LoggedOracle(log / "pairs")
        if self.combine is not None:
            names = ("bytes", "short")
            combination = oracles.Combination.read(names, self.combine)
            oracle = oracles.Objectives([oracle, oracles.Length(-1.0)], combination)
        return llm.SelfPlay(
            policy=self.model, oracle=oracle, solver=games.OptimisticMWU(2.0),
            prompts=self.prompts, folder=folder,
            source=LoggedSource(llm.Sampling(max_new_tokens=6, batch=24), str(log / "prompts")),
            config=llm.RunConfig(
                iterations=2, responses=3, lora=llm.Lora(rank=2),
                fit=llm.Fit(learning_rate=2e-3, epochs=1, batch=16, tokens=2000, checkpoint_seconds=0.0),
            ),
        )  # fmt: skip

    def start(self, folder: Path, log: Path, rename: int | None = None, after: bool = False) -> tuple[int, int]:
        """Start the run in a process of its own.

        Args:
            rename, after: kill it before or after this rename, counted from 1.

        Returns:
            The process id, and the reading end of a pipe with a line where each phase begins and ends.
        """
        reading, writing = os.pipe()
        child = os.fork()
        if child:
            os.close(writing)
            return child, reading
        code = 1
        try:
            os.close(reading)
            output = os.open(log / "output", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            os.dup2(output, 1)
            os.dup2(output, 2)
            tqdm.set_lock(threading.RLock())  # its own: forks share the one they inherit, and a killed one keeps it
            self._report_phases(writing)
            self._kill_in_rename(log, rename, after)
            self.self_play(folder, log).run()
            code = 0
        finally:
            if code:
                import traceback

                traceback.print_exc()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def _report_phases(self, pipe: int) -> None:
        timed = Progress.phase

        @contextmanager
        def reported(self: Progress, step: str, phase: str, *args: Any, **kwargs: Any) -> Iterator[Any]:
            os.write(pipe, f"{step} {phase} {time.monotonic()}\n".encode())
            with timed(self, step, phase, *args, **kwargs) as advance:
                yield advance
            os.write(pipe, f"{step} {phase} {time.monotonic()} end\n".encode())

        Progress.phase = reported  # type: ignore[method-assign]

    def _kill_in_rename(self, log: Path, at: int | None, after: bool) -> None:
        calls = 0

        def killing(real: Any) -> Any:
            def rename(path: Path, target: Any) -> Any:
                nonlocal calls
                calls += 1
                append(log / "renames", str(calls))
                if calls == at and not after:
                    os.kill(os.getpid(), signal.SIGKILL)
                result = real(path, target)
                if calls == at:
                    os.kill(os.getpid(), signal.SIGKILL)
                return result

            return rename

        for name in ("rename", "replace"):
            setattr(Path, name, killing(getattr(Path, name)))

    def undisturbed(self) -> None:
        """Play the run that all others are compared with, and time its phases."""
        self.log = self.home / "undisturbed-log"
        self.log.mkdir()
        began = time.monotonic()
        child, pipe = self.start(self.home / "undisturbed", self.log)
        started: dict[tuple[str, str], float] = {}
        with os.fdopen(pipe) as lines:
            for line in lines:
                step, phase, at, *end = line.split()
                if end:
                    duration = float(at) - started[step, phase]
                    self.durations[step, phase] = self.durations.get((step, phase), 0.0) + duration
                else:
                    started[step, phase] = float(at)
        _, status = os.waitpid(child, 0)
        if status:
            raise RuntimeError(f"the undisturbed run failed:\n{(self.log / 'output').read_text()}")
        self.expected = contents(self.home / "undisturbed")
        self.count = len(read(self.log / "renames"))
        print(f"undisturbed: {time.monotonic() - began:.1f} s, {len(self.expected)} files, {self.count} renames")

    def reset(self) -> None:
        """Begin with an empty folder."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.cached_pairs = set()
        self.log = self.home / "log"
        shutil.rmtree(self.log, ignore_errors=True)
        self.log.mkdir()

    def resume(self, target: tuple[str, str] | None = None, rename: int | None = None, after: bool = False) -> bool:
        """Go on with the run, killed at a random moment of a phase of a step (``target``) or in a rename.

        Returns:
            Whether it was killed.
        """
        before = {name: len(read(self.log / name)) for name in ("prompts", "pairs")}
        finished = self.finished()
        child, pipe = self.start(self.folder, self.log, rename, after)
        killed = False
        with os.fdopen(pipe) as lines:
            for line in lines:
                if target is not None and tuple(line.split()[:2]) == target and not killed:
                    time.sleep(self.random.random() * self.durations[target])
                    os.kill(child, signal.SIGKILL)
                    killed = True
        _, status = os.waitpid(child, 0)
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        if not killed and status:
            self.problems.append(f"a process failed:\n{(self.log / 'output').read_text()[-2000:]}")
        for name, done in finished.items():
            again = set(read(self.log / name)[before[name] :]) & (
                done | (self.cached_pairs if name == "pairs" else set())
            )
            self.repeated += len(again)
            if again:
                self.problems.append(f"{len(again)} {name} that were finished were made again")
        *calls, last = " ".join(read(self.log / "pairs")[before["pairs"] :]).split(CALL)
        self.cached_pairs |= set(" ".join(calls if killed else [*calls, last]).split())
        self.verify()
        return killed

    def finished(self) -> dict[str, set[str]]:
        """What need not be done again: prompts in valid shards, pairs in them or in the cache."""
        prompts: set[str] = set()
        pairs: set[str] = set()
        texts: dict[tuple[str, str], list[str]] = {}
        for file in self.shards("responses"):
            for row in read_shard(file):
                texts.setdefault((row["policy"], row["prompt"]), []).append(row["text"])
                if row["response"] == 0:
                    prompts.add(str(row["seed"]))
        by_id = {prompt.id: prompt.text for prompt in llm.read_prompts(self.prompts).kept}
        for file in self.shards("judgements"):
            for row in read_shard(file):
                if row["rows"] == row["columns"]:  # of tables between two policies the cache knows the pairs
                    responses = set(texts.get((row["rows"], row["prompt"]), ()))
                    pairs |= {pair_key(by_id[row["prompt"]], a, b) for a in responses for b in responses if a < b}
        return {"prompts": prompts, "pairs": pairs | self.cached(texts, by_id)}

    def cached(self, texts: dict[tuple[str, str], list[str]], by_id: dict[str, str]) -> set[str]:
        """The pairs of these responses that are in the cache of judgements."""
        files = list(self.folder.glob("judgements.sqlite*"))
        by_prompt: dict[str, set[str]] = {}
        for (_, prompt), responses in texts.items():
            by_prompt.setdefault(prompt, set()).update(responses)
        with tempfile.TemporaryDirectory() as copy:
            for file in files:
                shutil.copy(file, copy)
            file = Path(copy) / "judgements.sqlite"
            if not file.exists() or not is_intact(file):
                return set()
            cached = set()
            with oracles.Cache(file) as cache:
                identity = LoggedOracle(self.log).cache_key()
                assert identity is not None
                for prompt, unordered in by_prompt.items():
                    ordered = sorted(unordered)
                    pairs = [(i, j) for i in range(len(ordered)) for j in range(i + 1, len(ordered))]
                    keys = oracles.Cache.keys(identity, by_id[prompt], ordered, pairs)
                    logits = cache.get(keys)
                    cached |= {
                        pair_key(by_id[prompt], ordered[i], ordered[j])
                        for key, (i, j) in zip(keys, pairs, strict=True)
                        if key in logits
                    }
            return cached

    def shards(self, kind: str) -> list[Path]:
        """The valid shards of responses or judgements."""
        valid = []
        for file in sorted(self.folder.glob(f"iteration-*/{kind}/*.parquet")):
            try:
                verify_shard(file)
                valid.append(file)
            except CorruptFileError:
                continue
        return valid

    def verify(self) -> None:
        """Verify every file with a checksum that is not a temporary one, just after a kill."""
        for file in self.folder.rglob("*"):
            parts = file.relative_to(self.folder).parts
            if not file.is_file() or parts[0] == QUARANTINE or any(TEMPORARY.fullmatch(part) for part in parts):
                continue
            try:
                if file.suffix == ".parquet":
                    verify_shard(file)
                elif file.name in ("run.json", ".run.json"):
                    read_run_json(file)
                elif file.name == "SHA256SUMS":
                    verify_checksums(file.parent)
            except CorruptFileError as error:
                self.problems.append(f"after a kill: {error}")

    def damage(self) -> str:
        """Cut, delete or alter the newest file of the kind that was damaged the least."""
        files = [
            file
            for file in self.folder.rglob("*")
            if file.is_file()
            and file.name not in (".lock", *LOGS)
            and not any(TEMPORARY.fullmatch(part) for part in file.relative_to(self.folder).parts)
            and QUARANTINE not in file.parts
        ]
        steps = sorted(self.folder.glob("iteration-*"))
        # a finished step needs its shards no more: the files of the newest step, and those outside of the steps
        recent = [f for f in files if not any(step in f.parents for step in steps[:-1])]
        kinds: dict[str, Path] = {}
        for file in sorted(recent, key=lambda file: file.stat().st_mtime_ns):
            kinds[file.suffix if file.suffix in (".parquet", ".jsonl") else file.name] = file
        kind = min(kinds, key=lambda kind: (self.hit[kind], self.random.random()))
        self.hit[kind] += 1
        newest = kinds[kind]
        how = ("cut", "deleted", "altered")[self.damages % 3]
        content = newest.read_bytes()
        if how == "cut":
            newest.write_bytes(content[: len(content) // 2])
        elif how == "deleted":
            newest.unlink()
        elif content:
            place = self.random.randrange(len(content))
            newest.write_bytes(content[:place] + bytes([content[place] ^ 255]) + content[place + 1 :])
        self.damages += 1
        if newest.name.startswith("judgements.sqlite"):
            self.cached_pairs = set()  # what was in it may be gone
        return f"{newest.relative_to(self.folder)} {how}"

    def finish(self) -> None:
        """Play to the end and compare the folder with the undisturbed one."""
        if self.resume():
            self.problems.append("a process died without a kill")
        actual = contents(self.folder)
        for name in sorted(actual.keys() | self.expected.keys()):
            if actual.get(name) != self.expected.get(name):
                state = "differs" if name in actual and name in self.expected else "is only in one of the runs"
                self.problems.append(f"{name} {state}")

    def inject(self, kills: int, damages: int) -> None:
        """Inject kills, uniform over the phases but for a fifth in renames, and damages after kills."""
        targets = [(step, phase) for step in STEPS for phase in PHASES]
        hit: dict[tuple[str, str] | str, int] = {**dict.fromkeys(targets, 0), "rename": 0}
        renames = kills // 5
        while self.kills < kills or self.damages < damages or hit["rename"] < renames:
            self.reset()
            while hit["rename"] < renames and self.random.random() < 0.7:
                if not self.resume(rename=self.random.randrange(1, self.count // 3), after=hit["rename"] % 2 == 1):
                    break
                self.kills += 1
                hit["rename"] += 1
            # the phases that were hit the least, a few in one run
            order = sorted(targets, key=lambda target: (hit[target], self.random.random()))
            for target in sorted(order[:4], key=targets.index):
                if (self.kills < kills or self.damages < damages) and self.resume(target):
                    self.kills += 1
                    hit[target] += 1
                    if self.damages < damages and self.random.random() < 0.6:
                        print(f"  {self.damage()}")
            self.finish()
            print(f"{self.kills} kills, {self.damages} damages, {len(self.problems)} problems")
        self.renames = hit["rename"]
        print("killed in: " + ", ".join(f"{' '.join(t) if isinstance(t, tuple) else t} {n}" for t, n in hit.items()))


def contents(folder: Path) -> dict[str, str]:
    """Every file of a run but its logs, by the hash of its content."""
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in folder.rglob("*")
        if file.is_file()
        and file.name not in MAY_DIFFER
        and file.relative_to(folder).parts[0] not in (QUARANTINE, "run.json", ".run.json")
    }
