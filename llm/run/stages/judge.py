"""The second stage of a Step: the responses are judged."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from nashward.errors import NashwardError

from ...oracles import Cache, PairwiseResult, PreferenceOracle, preference_matrices
from ...oracles.ensembles.objectives import Objectives
from ...oracles.fitting.vote_table import VoteTable
from ...oracles.models.network import networks
from ...policy.handles import Sampled, StoredResponses
from ...processes import Tally, processes
from ...store.files import read_shard, shards, write_shard
from ...store.run_folder import RunFolder
from ..inputs.drawn_opponents import DrawnTexts
from ..rollouts import PromptNumbers, table_name
from ..step_tables import Table
from .shards import ShardedStage

CALL_PROMPTS = 16  # prompts whose pairs a network judges together


@dataclass(frozen=True)
class JudgeStage(ShardedStage):
    """Has the oracle judge one policy's responses against another's: a table of win probabilities per prompt.

    Attributes:
        oracle: called where a shard is missing; a network that it returns is on the device.
        cache: the file of judgements.
    """

    oracle: Callable[[], PreferenceOracle]
    cache: Path

    def run(
        self,
        step: Path,
        rows: Sampled,
        columns: Sampled | StoredResponses,
        numbers: PromptNumbers,
        ahead: Iterable[Table] = (),
    ) -> None:
        """Write the shards of ``step`` that are missing.

        Args:
            numbers: its prompts.
            ahead: the tables that the run will have judged after this one: an oracle that is paid says what they cost.
        """
        name = table_name(rows.label, columns.label)
        plan = self.plan(self.rollouts.step_of(rows.label, numbers), numbers)
        missing = self.missing(plan, step / "judgements", name)
        if not missing:
            return
        oracle = self.oracle()
        last = max(missing)
        left = [number for shard in missing.values() for batch in shard for number in batch]
        oracle.expect(self._pairs(rows, columns, left) + sum(self._pairs(*table, numbers) for table in ahead))
        written = processes.tally()
        with open_cache(self.cache, self.home, oracle) as cache:
            policies = {policy.label for policy in (rows, columns) if not isinstance(policy, StoredResponses)}
            for number, shard in self.each(step, "judging", name, plan, missing, numbers, policies):
                first = self.rollouts.texts(rows.label, numbers, number)
                second = None if rows == columns else self._texts(columns, numbers, number, list(first))
                tables = [
                    {"prompt": self.prompts[k].id, "rows": rows.label, "columns": columns.label, **table}
                    for call in _calls(list(itertools.chain(*shard)), oracle)
                    for k, table in zip(call, self._judge(oracle, cache, call, first, second), strict=True)
                ]
                if number == last and self._all_missing(step / "judgements", name, tables, written, len(missing)):
                    raise NashwardError(
                        f"{step.name}: no pair of responses was judged by {oracle.name}{advice(oracle)}"
                    )
                write_shard(step / "judgements", name, number, _with_members(tables))
                written.add(1)

    def _pairs(self, rows: Sampled, columns: Sampled | StoredResponses, numbers: Sequence[int]) -> int:
        """How many pairs a table has on some prompts, in both orders."""
        K = self.config.responses
        if rows == columns:
            return len(numbers) * K * (K - 1)
        if not isinstance(columns, StoredResponses):
            return len(numbers) * 2 * K * K
        texts = columns.texts
        ids = [self.prompts[number].id for number in numbers]
        return 2 * K * sum(texts.count if isinstance(texts, DrawnTexts) else len(texts[key]) for key in ids)

    def _all_missing(
        self, folder: Path, name: str, tables: Sequence[Mapping[str, Any]], written: Tally, count: int
    ) -> bool:
        """Whether judgements are missing, and neither these tables nor the stored ones have any.

        Args:
            written: counts the shards that are written; the others are waited for, to ``count`` with this one.
        """

        def others() -> Iterator[dict[str, Any]]:
            written.wait(count - 1)
            for file in shards(folder, name):
                yield from read_shard(file, ["logits"])

        stored = others()
        missing = False
        for table in itertools.chain(tables, stored):
            logits = np.array(table["logits"], dtype=np.float64)
            if (logits[~np.isnan(logits)] != 0).any():  # 0 is that of equal texts
                return False
            missing = missing or bool(np.isnan(logits).any())
        return missing

    def _texts(
        self, policy: Sampled | StoredResponses, numbers: PromptNumbers, shard: int, in_shard: Sequence[int]
    ) -> dict[int, list[str]]:
        if isinstance(policy, StoredResponses):
            if isinstance(policy.texts, DrawnTexts):
                policy.texts.fetch([self.prompts[number].id for number in in_shard])
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
        results = judge_call(
            oracle,
            cache,
            [self.prompts[number].text for number in call],
            [first[number] for number in call],
            None if second is None else [second[number] for number in call],
        )
        return [
            {
                "P": r.P.tolist(),
                "logits": r.logits.tolist(),
                **({} if r.targets is None else {"targets": r.targets.tolist()}),
                **_of_members(oracle, r),
                **_metadata(r.meta),
            }
            for r in results
        ]


def _of_members(oracle: PreferenceOracle, result: PairwiseResult) -> dict[str, Any]:
    """The tables of several objectives, by name, or of several judges of the same."""
    members = result.members
    if not isinstance(oracle, Objectives):
        if members is None:
            return {}
        return {"members": members.tolist(), "error_factor": oracle.error_factor(len(members))}
    if members is None:  # of one text alone there is no pair
        members = np.broadcast_to(result.P, (len(oracle.members), *result.P.shape))
    return {"objectives": dict(zip(oracle.combination.names, members.tolist(), strict=True))}


def _with_members(tables: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of a shard, all with the same columns: where no pair was judged, each member has the one table."""
    several = next((table for table in tables if "members" in table), None)
    if several is None:
        return tables
    count, factor = len(several["members"]), several["error_factor"]
    return [{"members": [table["P"]] * count, "error_factor": factor, **table} for table in tables]


def _calls(numbers: Sequence[int], oracle: PreferenceOracle) -> list[Sequence[int]]:
    """The prompts of each call of the oracle: few for a network, whose calls are cached whole."""
    size = CALL_PROMPTS if networks(oracle) else len(numbers)
    return [numbers[k : k + size] for k in range(0, len(numbers), size)]


def advice(oracle: PreferenceOracle) -> str:
    """What to do where an oracle judges nothing."""
    if not isinstance(oracle, VoteTable):
        missing = ". Look for a missing return in its code: None is no verdict" if oracle.is_users_code else ""
        return f": there is nothing to learn from{missing}"
    return (
        ": votes judge only texts that equal theirs character by character; fit an oracle to them, which judges any "
        f"text: nashward fit-oracle --pairs {oracle.name}"
    )


def _metadata(meta: Mapping[str, Any]) -> dict[str, float]:
    """An oracle's metadata of a table without how much was cached: after a kill more is."""
    return {key: float(value) for key, value in meta.items() if key not in ("calls", "cached")}


@contextmanager
def open_cache(file: Path, home: RunFolder, oracle: PreferenceOracle) -> Iterator[Cache | None]:
    """The cache of an oracle's judgements; None for an oracle that has none. A damaged one of the run is set aside.

    The processes of one machine share it; each machine has its own, see ``Processes.local``.

    Raises:
        OSError: the cache cannot be written.
    """
    if oracle.cache_key() is None:
        yield None
        return
    kind = AtomicCache if networks(oracle) else Cache
    file = processes.local(file)
    if processes.leads_machine and home.path in file.parents and file.exists() and not is_intact(file):
        for part in sorted(file.parent.glob(f"{file.name}*")):  # its write-ahead log too
            home.quarantine(part, f"{part} is damaged: what it held is judged again where it is needed")
    processes.gather(None)
    with kind(file) as cache:
        oracle.attach_cache(cache)
        processes.gather(None)  # what was paid on all machines is counted before any pays more
        yield cache


class AtomicCache(Cache):
    """A cache of whole calls, each of which is written at once or not at all and looked up by all of its texts.

    What a network computes depends in its last bits on what else is in the batch. A call therefore judges all of its
    pairs or takes all from here, whatever other calls have judged: the tables are the same after a kill, with a cache
    that holds more and without one that was lost.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__(path)
        self._pending: dict[bytes, np.ndarray] = {}
        self._call = b""

    def get(self, keys: Sequence[bytes]) -> dict[bytes, np.ndarray]:
        """The logits of the call with these keys; nothing where one of them is missing."""
        self._call = _hash(b"".join(keys))
        stored = super().get([self._stored(key) for key in keys])
        found = {key: stored[name] for key in keys if (name := self._stored(key)) in stored}
        return found if len(found) == len(set(keys)) else {}

    def put(self, logits: Mapping[bytes, np.ndarray]) -> None:
        self._pending.update({self._stored(key): values for key, values in logits.items()})

    def write(self) -> None:
        super().put(self._pending)
        self._pending = {}

    def _stored(self, key: bytes) -> bytes:
        return _hash(self._call + key)


def judge_call(
    oracle: PreferenceOracle,
    cache: Cache | None,
    prompts: Sequence[str],
    first: Sequence[Sequence[str]],
    second: Sequence[Sequence[str]] | None,
) -> list[PairwiseResult]:
    """The tables of the prompts that one call of the oracle judges; a network's judgements are cached whole."""
    results = preference_matrices(oracle, prompts, first, second, cache=cache)
    if isinstance(cache, AtomicCache):
        cache.write()
    return results


def _hash(content: bytes) -> bytes:
    return blake2b(content, digest_size=16).digest()


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
