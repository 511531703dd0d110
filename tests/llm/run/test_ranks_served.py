"""Several processes with what is outside of them: a judge with a budget, a serving engine, people, a tracker."""

from __future__ import annotations

import json
import os
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from nashward.cli.main import main
from nashward.errors import BudgetError
from nashward.llm import LanguageModel
from nashward.llm.clients.paid import Budget, Spent
from nashward.llm.processes import processes

from ..clients.scripted import Script, serve, shorter
from ..policy.engines.test_engine import Engine
from ..ranks import Ranks
from .test_ranks import SHARDS, distance, written

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the processes are forks, which Windows has not")

COUNT, BUDGET, AT_ONCE = 3, 120, 2


def align(tiny_folder: Path, home: Path, oracle: str, *more: object, prompts: int = 90) -> list[str]:
    """A command on prompts that make a few shards."""
    file = home / "prompts.txt"
    file.write_text("".join(f"Say {i} things{'!' * (i % 7)}\n" for i in range(prompts)))
    words = ["align", "--policy", tiny_folder, "--no-quantise", "--oracle", oracle, "--prompts", file, "--quiet",
             "--iterations", 1, "--responses", 3, "--max-new-tokens", 6, "--epochs", 1, "--batch", 16, "--rank", 2,
             "--step", 2, "--learning-rate", 1e-3, *more]  # fmt: skip
    return [str(word) for word in words]


def by_ranks(count: int, words: list[str], home: Path) -> Ranks:
    ranks = Ranks(count, lambda rank: main(words), home)
    ranks.wait()
    return ranks


def said(ranks: Ranks, beginning: str) -> list[str]:
    return [line for line in ranks.output().splitlines() if line.startswith(beginning)]


def test_a_budget_is_that_of_all_processes(tmp_path: Path) -> None:
    """Together they pay as much as it allows: no more, and no less."""
    file = tmp_path / "verdicts.sqlite"

    def work(rank: int) -> int:
        with processes.session():
            budget = Budget({"calls": 100.0, "tokens": 1e6}, name="the judge's")
            budget.count(file, Spent(10, 100, 10))  # all open the file of an earlier command
            processes.gather(None)
            held = [budget.reserve(50, 10) for _ in range(30)]
            processes.gather(None)
            with pytest.raises(BudgetError, match="100 calls"):  # 10 are paid, and 90 on their way
                budget.reserve(50, 10)
            processes.gather(None)
            for number, reserved in enumerate(held):
                budget.settle(reserved, Spent(1, 7, 3) if number < 10 else None)  # the others are not answered
            with suppress(BudgetError):  # its only end
                while True:
                    budget.settle(budget.reserve(50, 10), Spent(1, 7, 3))
            processes.gather(None)
            assert budget.spent == Spent(100, 100 + 90 * 7, 10 + 90 * 3)
            return 0

    Ranks(3, work, tmp_path / "ranks").values()


@pytest.mark.slow
def test_a_judge_is_paid_what_its_budget_allows_by_all_together(tiny_folder: Path, tmp_path: Path) -> None:
    with serve(Script(shorter, delay=0.002)) as script:
        words = align(tiny_folder, tmp_path, "openai:judge", "--judge-url", script.url, "--concurrency", AT_ONCE)
        limited = [*words, "--judge-budget", f"{BUDGET} calls", "--out", str(tmp_path / "several")]
        ranks = by_ranks(COUNT, limited, tmp_path / "first")
        assert set(ranks.codes.values()) == {2}
        assert len(said(ranks, "nashward: ")) == 1, ranks.output()
        assert f"{BUDGET} calls is spent" in ranks.output()
        assert ranks.output().count("prompts and responses") == 1  # what is sent, whichever process sends it first
        paid = len(script.verdicts)
        assert BUDGET - COUNT * AT_ONCE <= paid <= BUDGET
        for count in (2, 1):  # what is paid counts in later starts too
            assert set(by_ranks(count, limited, tmp_path / f"again-{count}").codes.values()) == {2}
            assert len(script.verdicts) <= BUDGET
        rest = [word if word != f"{BUDGET} calls" else "100000 calls" for word in limited]
        ranks = by_ranks(COUNT, rest, tmp_path / "rest")
        assert set(ranks.codes.values()) == {0}, ranks.output()
        paid = len(script.verdicts)
        assert max(Counter(json.dumps(body, sort_keys=True) for body in script.verdicts).values()) == 1
        assert main([*words, "--out", str(tmp_path / "one")]) == 0
        assert len(script.verdicts) == 2 * paid
    assert written(tmp_path / "several") == written(tmp_path / "one")


@pytest.mark.slow
def test_an_engine_draws_for_every_process(tiny_folder: Path, tmp_path: Path) -> None:
    folder = tiny_folder
    with serve(Script(shorter, route=Engine(folder))) as script:
        words = [*align(folder, tmp_path, "nashward.llm.oracles:Length", prompts=66),
                 "--engine", script.url, "--concurrency", "2", "--quantise"]  # fmt: skip
        assert main([*words, "--out", str(tmp_path / "one")]) == 0
    engine, loading = Engine(folder), threading.Lock()
    loaded: list[str] = []

    def once(path: str, body: dict[str, Any]) -> tuple[int, Any]:
        """As vLLM: an adapter that is there is not loaded again."""
        if path != "/load_lora_adapter":
            return engine(path, body)
        with loading:
            time.sleep(0.2)  # both processes have looked for it
            if body["lora_name"] in engine.adapters:
                return 400, {"message": "The lora adapter has already been loaded."}
            loaded.append(body["lora_name"])
            return engine(path, body)

    with serve(Script(shorter, route=once)) as script:
        words[words.index("--engine") + 1] = script.url
        ranks = by_ranks(2, [*words, "--out", str(tmp_path / "several")], tmp_path / "ranks")
        assert set(ranks.codes.values()) == {0}, ranks.output()
    assert len(loaded) == len(set(loaded)) == 1  # the start
    assert ranks.output().count("the token ids of") == 1
    several, alone = written(tmp_path / "several"), written(tmp_path / "one")
    first = [f"iteration-01/{kind}" for kind in SHARDS]
    assert {key: several[key] for key in first} == {key: alone[key] for key in first}
    assert len(several["iteration-01/responses"]) == 2
    assert distance(LanguageModel.from_pretrained(folder), tmp_path / "one", tmp_path / "several") < 1e-4


def test_people_judge_for_one_process(tiny_folder: Path, tmp_path: Path) -> None:
    words = align(tiny_folder, tmp_path, f"people:{tmp_path / 'team'}", "--people-base", tiny_folder, prompts=4)
    ranks = by_ranks(2, [*words, "--out", str(tmp_path / "run")], tmp_path / "ranks")
    assert set(ranks.codes.values()) == {2}
    (line,) = said(ranks, "nashward: ")
    assert "people:" in line
    assert "single process" in line
    assert not (tmp_path / "run").exists()  # before anything is sampled


def test_a_tracker_gets_every_number_once(tiny_folder: Path, tmp_path: Path) -> None:
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    words = align(tiny_folder, tmp_path, "nashward.llm.oracles:Length", "--report-to", "tensorboard", prompts=40)
    ranks = by_ranks(2, [*words, "--out", str(tmp_path / "run")], tmp_path / "ranks")
    assert set(ranks.codes.values()) == {0}, ranks.output()
    folder = tmp_path / "run" / "tracking" / "tensorboard"
    assert len(list(folder.glob("events.out.*"))) == 1
    events = event_accumulator.EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    rows = [json.loads(line) for line in (tmp_path / "run" / "iteration-01" / "metrics.jsonl").read_text().splitlines()]
    losses = [row["loss"] for row in rows if "step" in row]
    assert len(losses) > 1
    found = events.Scalars("fit/loss")
    assert [event.step for event in found] == list(range(1, len(losses) + 1))
    assert [event.value for event in found] == pytest.approx(losses, rel=1e-6)
