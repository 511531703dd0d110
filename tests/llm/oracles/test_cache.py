"""The cache of judgements: nothing finished is judged twice, whatever was killed in between."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nashward.llm.oracles import Cache, Function, Length, PairRM, RewardFunction, preference_matrices
from nashward.llm.oracles.fingerprint import oracle_fingerprint
from nashward.llm.pocket import PAIRRM

PROMPTS = [f"prompt {n}" for n in range(40)]
CANDIDATES = [[f"{'long ' * (k * n % 7)}answer {k}" for k in range(4)] for n in range(40)]


class Counted(Function):
    """P depends on the texts alone; it counts what it is asked, and may stop."""

    def __init__(self, stop: int | None = None) -> None:
        self.asked: list[tuple[str, str, str]] = []
        self.stop = stop
        super().__init__(self.answer, name="counted", fingerprint="counted 1")

    def answer(self, prompt: str, a: str, b: str) -> float:
        if len(self.asked) == self.stop:
            raise ConnectionError("the judge went away")
        self.asked.append((prompt, a, b))
        return (1 + len(a)) / (2 + len(a) + len(b))


def test_a_second_judging_asks_nothing_and_finds_the_same(tmp_path):
    oracle, file = Counted(), tmp_path / "deep" / "judgements.sqlite"
    first = preference_matrices(oracle, PROMPTS, CANDIDATES, cache=file)
    asked = len(oracle.asked)
    second = preference_matrices(oracle, PROMPTS, CANDIDATES, cache=file)
    assert asked == len(oracle.asked) == sum(result.meta["calls"] for result in first) == 40 * 12
    assert [result.meta["cached"] for result in second] == [12] * 40
    assert [result.meta["calls"] for result in second] == [0] * 40
    for one, two in zip(first, second, strict=True):
        np.testing.assert_array_equal(one.P, two.P)
        np.testing.assert_array_equal(one.logits, two.logits)


def test_what_is_cached_needs_no_tokenizer(tmp_path, monkeypatch):
    oracle = PairRM.from_pretrained(PAIRRM, device="cpu")
    candidates = [[f"{'long ' * (300 * k)}answer {n} {k}" for k in range(3)] for n in range(4)]
    first = preference_matrices(oracle, PROMPTS[:4], candidates, cache=tmp_path / "c")
    assert first[0].meta["truncated"] == 2
    monkeypatch.setattr(oracle, "encode", lambda prompt, texts: 1 / 0)
    second = preference_matrices(oracle, PROMPTS[:4], candidates, cache=tmp_path / "c")
    assert [r.meta["truncated"] for r in second] == [r.meta["truncated"] for r in first]


def test_a_symmetric_oracle_is_asked_once_whichever_text_comes_first(tmp_path):
    oracle = Length()
    one = preference_matrices(oracle, ["p"], [["a", "bb"]], cache=tmp_path / "c")[0]
    two = preference_matrices(oracle, ["p"], [["bb", "a"]], cache=tmp_path / "c")[0]
    assert (one.meta["calls"], two.meta["calls"]) == (1, 0)
    np.testing.assert_array_equal(two.P, one.P[::-1, ::-1])


def test_settings_of_an_oracle_are_part_of_the_key(tmp_path):
    sharp, soft, contrary = Length(), Length(), Length(-1.0)
    soft.temperature = 2.0
    found = [preference_matrices(o, ["p"], [["a", "bb"]], cache=tmp_path / "c")[0] for o in (sharp, soft, contrary)]
    assert [result.meta["calls"] for result in found] == [1, 1, 1]
    assert len({float(result.P[0, 1]) for result in found}) == 3


JUDGE = """
import os, sys
from nashward.llm.oracles import Function, preference_matrices
log = open(sys.argv[2], "a")
def answer(prompt, a, b):
    print(prompt, a, b, sep="|", file=log, flush=True)
    os.fsync(log.fileno())
    return 0.25
texts = [[f"answer {k}" for k in range(4)]] * 3000
oracle = Function(answer, name="slow", fingerprint="slow 1")
preference_matrices(oracle, [f"p{n}" for n in range(int(sys.argv[3]))], texts[: int(sys.argv[3])], cache=sys.argv[1])
"""


@pytest.mark.slow
def test_a_judging_that_is_killed_and_started_again_repeats_no_finished_pair(tmp_path):
    log = tmp_path / "asked.txt"
    command = [sys.executable, "-c", JUDGE, str(tmp_path / "c.sqlite"), str(log)]
    kills = 0
    for wait in (300, 900):  # killed when so many pairs have been asked
        process = subprocess.Popen([*command, "3000"])
        while process.poll() is None and (not log.exists() or log.read_text().count("\n") < wait):
            time.sleep(0.002)
        kills += process.poll() is None
        process.kill()
        process.wait(30)
    assert kills == 2
    prompts = max(int(line[1:].split("|")[0]) for line in log.read_text().splitlines() if line.count("|") == 2) + 1
    assert subprocess.run([*command, str(prompts)], check=False).returncode == 0
    asked = Counter(line for line in log.read_text().splitlines() if line.count("|") == 2)
    assert len(asked) == 12 * prompts
    # a prompt's 12 pairs are one answer: no more than the one that was on its way at each kill is asked twice
    assert sum(count - 1 for count in asked.values()) <= 12 * kills
    assert max(asked.values()) <= 1 + kills


def test_what_was_answered_before_a_failure_is_not_asked_again(tmp_path):
    file = tmp_path / "judgements.sqlite"
    broken = Counted(stop=100)
    with pytest.raises(ConnectionError):
        preference_matrices(broken, PROMPTS, CANDIDATES, cache=file)
    again = Counted()
    preference_matrices(again, PROMPTS, CANDIDATES, cache=file)
    # a call of Function is one prompt: 8 prompts of 12 pairs were returned, 4 answers were on the way
    assert len(again.asked) == 480 - 96
    assert not set(again.asked) & set(broken.asked[:96])


def test_a_network_loses_no_more_than_the_forward_pass_that_failed(tmp_path):
    oracle = PairRM.from_pretrained(PAIRRM, device="cpu", token_budget=400)
    whole = oracle.model.states
    rows: list[int] = []

    def stop(**batch):
        if len(rows) == 5:
            raise RuntimeError("out of memory")
        rows.append(len(batch["input_ids"]))
        return whole(**batch)

    oracle.model.states = stop
    with pytest.raises(RuntimeError):
        preference_matrices(oracle, PROMPTS[:10], CANDIDATES[:10], cache=tmp_path / "c.sqlite")
    finished = sum(rows)
    oracle.model.states = whole
    results = preference_matrices(oracle, PROMPTS[:10], CANDIDATES[:10], cache=tmp_path / "c.sqlite")
    assert sum(result.meta["cached"] for result in results) == finished > 0
    plain = preference_matrices(oracle, PROMPTS[:10], CANDIDATES[:10])
    for one, two in zip(results, plain, strict=True):
        np.testing.assert_allclose(one.P, two.P, atol=1e-6)


WRITER = """
import sys, time, numpy as np
from nashward.llm.oracles import Cache
file, first, count, pause = sys.argv[1], *map(int, sys.argv[2:4]), float(sys.argv[4])
with Cache(file) as cache:
    for k in range(first, first + count, 10):
        texts = [f"text {n}" for n in range(k, k + 11)]
        keys = Cache.keys("f", "p", texts, [(n, n + 1) for n in range(10)])
        cache.put({key: np.array([float(k + n)]) for n, key in enumerate(keys)})
        print(k, flush=True)
        time.sleep(pause)
"""


def _stored(file, first, count):
    texts = [f"text {n}" for n in range(first, first + count + 1)]
    keys = Cache.keys("f", "p", texts, [(n, n + 1) for n in range(count)])
    with Cache(file) as cache:
        found = cache.get(keys)
    return [float(found[key][0]) if key in found else None for key in keys]


def test_two_processes_that_write_lose_nothing(tmp_path):
    file = str(tmp_path / "shared.sqlite")
    command = [sys.executable, "-c", WRITER, file]
    writers = [subprocess.Popen([*command, str(first), "2000", "0"], stdout=subprocess.DEVNULL) for first in (0, 2000)]
    assert [writer.wait(120) for writer in writers] == [0, 0]
    assert _stored(file, 0, 4000) == [float(k) for k in range(4000)]


def test_what_was_written_survives_a_kill(tmp_path):
    file = str(tmp_path / "killed.sqlite")
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, file, "0", "100000", "0.001"], stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    lines = [writer.stdout.readline() for _ in range(30)]
    os.kill(writer.pid, signal.SIGKILL)
    writer.wait(30)
    lines += writer.stdout.read().splitlines()
    writer.stdout.close()
    told = int(lines[-1].strip() or lines[-2]) + 10
    assert told >= 300
    assert _stored(file, 0, told) == [float(k) for k in range(told)]


def test_keys_tell_oracles_prompts_texts_and_orders_apart():
    keys = [
        *Cache.keys("f", "p", ["a", "b"], [(0, 1), (1, 0)]),
        *Cache.keys("g", "p", ["a", "b"], [(0, 1)]),
        *Cache.keys("f", "q", ["a", "b"], [(0, 1)]),
        *Cache.keys("f", "pa", ["", "b"], [(0, 1)]),  # no text runs into the next
        *Cache.keys("f", "p", ["ab", ""], [(0, 1)]),
        *Cache.keys("f", "p", ["\ud800", "b"], [(0, 1)]),  # half of a surrogate pair, as broken JSON has it
    ]
    assert len(set(keys)) == len(keys)
    assert {len(key) for key in keys} == {16}
    assert Cache.keys("f", "p", ["b", "a"], [(1, 0)])[0] == keys[0]  # what counts are the texts


def test_a_pair_takes_few_bytes_and_values_are_exact(tmp_path):
    values = np.random.default_rng(0).normal(size=20_000) * 10.0 ** np.arange(20_000).clip(max=300)[::-1].astype(float)
    values[:3] = [np.inf, -np.inf, 0.0]
    keys = Cache.keys("f", "p", [str(n) for n in range(20_001)], [(n, n + 1) for n in range(20_000)])
    with Cache(tmp_path / "c.sqlite") as cache:
        cache.put({key: np.array([value]) for key, value in zip(keys, values, strict=True)})
        found = cache.get(keys)
        assert len(cache) == 20_000
    np.testing.assert_array_equal([found[key][0] for key in keys], values)
    assert (tmp_path / "c.sqlite").stat().st_size / 20_000 <= 200


def test_members_of_an_ensemble_and_missing_answers(tmp_path):
    class Ensemble(Counted):
        def raw_logits(self, prompts, candidates, pairs):
            logits = super().raw_logits(prompts, candidates, pairs)
            return [np.stack([own, own + 1.0, own - 2.0]) for own in logits]

    oracle = Ensemble()
    one = preference_matrices(oracle, PROMPTS[:2], CANDIDATES[:2], cache=tmp_path / "c.sqlite")
    two = preference_matrices(oracle, PROMPTS[:2], CANDIDATES[:2], cache=tmp_path / "c.sqlite")
    assert one[0].std is not None
    np.testing.assert_array_equal(one[1].std, two[1].std)
    assert two[1].meta["calls"] == 0

    silent = Function(lambda p, a, b: None if "1" in a else 0.25, name="silent", fingerprint="silent")
    first, second = (preference_matrices(silent, ["p"], [["a0", "a1", "a2"]], cache=tmp_path / "d")[0] for _ in "ab")
    assert first.meta["missing"] == second.meta["missing"] == second.meta["calls"] == 2  # asked again
    assert second.meta["cached"] == 4
    np.testing.assert_array_equal(first.P, second.P)


def test_an_ensemble_that_changed_is_told(tmp_path):
    oracle = Counted()
    preference_matrices(oracle, ["p"], [["a", "b"]], cache=tmp_path / "c")
    oracle.raw_logits = lambda prompts, candidates, pairs: [np.zeros((3, len(own))) for own in pairs]  # type: ignore[method-assign]
    with pytest.raises(ValueError, match="changing number of members"):
        preference_matrices(oracle, ["p"], [["a", "b", "c"]], cache=tmp_path / "c")


def test_a_file_that_is_something_else_and_an_oracle_without_a_fingerprint(tmp_path):
    (tmp_path / "notes.txt").write_text("no database " * 100)
    with pytest.raises(ValueError, match=r"notes\.txt is no cache of judgements .*name another file"):
        Cache(tmp_path / "notes.txt")
    for path, error, message in (
        (tmp_path, ValueError, "is a folder; name a file in it"),
        (tmp_path / "notes.txt" / "c.sqlite", OSError, "judgements cannot be kept in .*no folder can be made there"),
        (tmp_path / ("long" * 100), (OSError, ValueError), "long"),
    ):
        with pytest.raises(error, match=message) as caught:
            Cache(path)
        assert "\n" not in str(caught.value)
    other = sqlite3.connect(tmp_path / "other.sqlite")
    other.execute("CREATE TABLE judgement (x)")
    other.close()
    with pytest.raises(ValueError, match="no cache of judgements"):
        Cache(tmp_path / "other.sqlite")
    nameless = Function(lambda p, a, b: 0.5, name="nameless")
    with pytest.raises(ValueError, match="nameless cannot be cached: it has no fingerprint"):
        preference_matrices(nameless, ["p"], [["a", "b"]], cache=tmp_path / "c")


def test_fingerprints_tell_models_apart():
    one, two = (PairRM.from_pretrained(PAIRRM, device="cpu") for _ in range(2))
    assert one.fingerprint == two.fingerprint
    assert one.fingerprint != PairRM.from_pretrained(PAIRRM, device="cpu", prompt_format="conversation").fingerprint
    parameter = next(two.model.parameters())
    parameter.data = parameter.data + 1e-3
    del two.fingerprint
    assert one.fingerprint != two.fingerprint


def test_a_cache_is_opened_when_another_process_lets_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two that make the table at once: SQLite refuses the second at once, whatever time it is given to wait."""
    refused: list[str] = []

    class Busy(sqlite3.Connection):
        def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
            if statement.startswith("CREATE") and len(refused) < 3:
                refused.append(statement)
                error = sqlite3.OperationalError("database is locked")
                error.sqlite_errorcode = sqlite3.SQLITE_BUSY | (2 << 8)  # SQLITE_BUSY_SNAPSHOT
                raise error
            return super().execute(statement, *values)

    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *given, **named: connect(*given, **named, factory=Busy))
    with Cache(tmp_path / "judgements.sqlite") as cache:
        cache.put({b"k" * 16: np.array([1.0])})
        assert len(cache) == 1
    assert len(refused) == 3


def test_partial_functions_are_told_apart_by_what_is_bound() -> None:
    def longer(completions: list[str], scale: float) -> list[float]:
        return [scale * len(text) for text in completions]

    def shorter(completions: list[str], scale: float) -> list[float]:
        return [-scale * len(text) for text in completions]

    def found(function: Any, scale: float) -> str | None:
        return oracle_fingerprint(RewardFunction(partial(function, scale=scale)))

    assert len({found(longer, 1.0), found(longer, 2.0), found(shorter, 1.0)}) == 3
    assert found(longer, 1.0) == found(longer, 1.0)
