"""The second stage of a Step: the responses are judged."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..oracles import Cache, PreferenceOracle, preference_matrices
from ..oracles.models.network import NetworkOracle
from ..policy.handles import Sampled, StoredResponses
from ..store.files import write_shard
from ..store.run_folder import RunFolder
from .rollouts import PromptNumbers, table_name
from .shards import ShardedStage

CALL_PROMPTS = 16  # whose pairs a network judges together


@dataclass(frozen=True)
class JudgeStage(ShardedStage):
    """Has the oracle judge one policy's responses against another's: a table of win probabilities a prompt.

    Attributes:
        oracle: called where a shard is missing; a network that it returns is on the device.
        cache: the file of judgements.
    """

    oracle: Callable[[], PreferenceOracle]
    cache: Path

    def run(self, step: Path, rows: Sampled, columns: Sampled | StoredResponses, numbers: PromptNumbers) -> None:
        """Write the shards of ``step`` that are missing; ``numbers`` are its prompts."""
        name = table_name(rows.label, columns.label)
        plan = self.plan(self.rollouts.step_of(rows.label, numbers), numbers)
        missing = self.missing(plan, step / "judgements", name)
        if not missing:
            return
        oracle = self.oracle()
        with open_cache(self.cache, self.folder, oracle) as cache:
            for number, shard in self.each(step, "judging", name, plan, missing):
                first = self.rollouts.texts(rows.label, numbers, number)
                second = None if rows == columns else self._texts(columns, numbers, number, list(first))
                tables = [
                    {"prompt": self.prompts[k].id, "rows": rows.label, "columns": columns.label, **table}
                    for call in _calls(list(itertools.chain(*shard)), oracle)
                    for k, table in zip(call, self._judge(oracle, cache, call, first, second), strict=True)
                ]
                write_shard(step / "judgements", name, number, tables)

    def _texts(
        self, policy: Sampled | StoredResponses, numbers: PromptNumbers, shard: int, in_shard: Sequence[int]
    ) -> dict[int, list[str]]:
        if isinstance(policy, StoredResponses):
            return {number: list(policy.texts[self.prompts[number].id]) for number in in_shard}
        return self.rollouts.texts(policy.label, numbers, shard)

    def _judge(
        self,
        oracle: PreferenceOracle,
        cache: Cache | None,
        call: Sequence[int],
        first: Mapping[int, list[str]],
        second: Mapping[int, list[str]] | None,
    ) -> list[dict[str, Any]]:
        """The tables of the prompts that one call of the oracle judges."""
        results = preference_matrices(
            oracle,
            [self.prompts[number].text for number in call],
            [first[number] for number in call],
            None if second is None else [second[number] for number in call],
            cache=cache,
        )
        if isinstance(cache, AtomicCache):
            cache.write()
        return [{"P": r.P.tolist(), "logits": r.logits.tolist(), **_metadata(r.meta)} for r in results]


def _calls(numbers: Sequence[int], oracle: PreferenceOracle) -> list[Sequence[int]]:
    """The prompts of each call of the oracle: few for a network, whose calls are cached whole."""
    size = CALL_PROMPTS if isinstance(oracle, NetworkOracle) else len(numbers)
    return [numbers[k : k + size] for k in range(0, len(numbers), size)]


def _metadata(meta: Mapping[str, Any]) -> dict[str, float]:
    """An oracle's metadata of a table, but for how much of it was cached: a run that was killed had more."""
    return {key: float(value) for key, value in meta.items() if key not in ("calls", "cached")}


@contextmanager
def open_cache(file: Path, run: RunFolder, oracle: PreferenceOracle) -> Iterator[Cache | None]:
    """The cache of an oracle's judgements; None for an oracle that has none. A damaged one of the run is set aside.

    Raises:
        OSError: the cache cannot be written.
    """
    if oracle.cache_key() is None:
        yield None
        return
    kind = AtomicCache if isinstance(oracle, NetworkOracle) else Cache
    try:
        if file.parent == run.path and file.exists() and not is_intact(file):
            for part in sorted(file.parent.glob(f"{file.name}*")):  # its write-ahead log too
                run.quarantine(part, f"{part} is damaged: what it held is judged again where it is needed")
        with kind(file) as cache:
            yield cache
    except sqlite3.Error as error:
        raise OSError(
            f"judgements cannot be cached in {file} ({error}); make room there or repair it, and the same "
            "command continues"
        ) from error


class AtomicCache(Cache):
    """A cache that writes the judgements of one call all together or not at all.

    What a network computes depends in its last bits on what else is in the batch: were a part of a call's pairs
    written, the others would make other batches after a kill.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__(path)
        self._pending: dict[bytes, np.ndarray] = {}

    def put(self, logits: Mapping[bytes, np.ndarray]) -> None:
        self._pending.update(logits)

    def write(self) -> None:
        super().put(self._pending)
        self._pending = {}


def is_intact(file: Path) -> bool:
    """Whether an SQLite file is not damaged."""
    try:
        connection = sqlite3.connect(file)
        try:
            return connection.execute("PRAGMA quick_check").fetchone() == ("ok",)
        finally:
            connection.close()
    except sqlite3.DatabaseError:
        return False
