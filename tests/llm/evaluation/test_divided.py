"""Evaluations and the fit of an oracle by several processes: the same figures to print."""

from __future__ import annotations

import json
import os
import shutil
from functools import partial
from pathlib import Path

import pytest

from nashward import llm
from nashward.cli.main import main

from ..ranks import Ranks

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the processes are forks, which Windows has not")

LENGTH = "nashward.llm.oracles:Length"


@pytest.fixture(scope="module")
def run(two_layers: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("divided")
    (home / "prompts.txt").write_text("".join(f"Tell me {i}{'!' * (i % 5)}\n" for i in range(150)))
    words = [
        "align", "--policy", str(two_layers), "--no-quantise", "--oracle", LENGTH, "--out", str(home / "run"),
        "--prompts", str(home / "prompts.txt"), "--iterations", "2", "--responses", "2", "--max-new-tokens", "6",
        "--epochs", "1", "--rank", "2", "--step", "2", "--solver", "MWU", "--learning-rate", "2e-3", "--quiet",
    ]  # fmt: skip
    assert main(words) == 0
    return home / "run"


def _command(words: list[str], rank: int) -> int:
    return main(words)


def printed(words: list[str], home: Path, capfd: pytest.CaptureFixture[str]) -> list[tuple[int, str]]:
    """The exit code and the output of a command by one process, by two and by three; "OUT" in it is a place of its
    own."""
    found = []
    for count in (1, 2, 3):
        place = home / f"{count}"
        place.mkdir()
        own = [word.replace("OUT", str(place)) for word in words]
        if count == 1:
            capfd.readouterr()
            code = main(own)
            found.append((code, capfd.readouterr().out.replace(str(place), "OUT")))
        else:
            ranks = Ranks(count, partial(_command, own), place / "ranks")
            code = max(ranks.wait())
            assert [ranks.printed(rank) for rank in range(1, count)] == [""] * (count - 1)
            found.append((code, ranks.printed(0).replace(str(place), "OUT")))
    return found


def same(words: list[str], home: Path, capfd: pytest.CaptureFixture[str]) -> str:
    one, *several = printed(words, home, capfd)
    assert one[0] == 0
    for code, output in several:
        assert (code, output) == one
    return one[1]


@pytest.mark.parametrize(
    "command",
    [
        "evaluate",
        pytest.param("exploit --n 3 --against 4", marks=pytest.mark.slow),
        pytest.param("exploit --n 3 --against 4 --train 1", marks=pytest.mark.slow),
    ],
)
def test_an_evaluation_prints_the_same(
    command: str, run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for count in (1, 2, 3):
        shutil.copytree(run, tmp_path / f"{count}" / "run")
        (tmp_path / f"{count}").rename(tmp_path / f"copy-{count}")
    results = []
    for count in (1, 2, 3):
        folder = tmp_path / f"copy-{count}" / "run"
        words = [*command.split(), str(folder), "--quiet"]
        if count == 1:
            capfd.readouterr()
            assert main(words) == 0
            output = capfd.readouterr().out
        else:
            ranks = Ranks(count, partial(_command, words), tmp_path / f"ranks-{count}")
            assert ranks.wait() == [0] * count, ranks.output()
            assert [ranks.printed(rank) for rank in range(1, count)] == [""] * (count - 1)
            output = ranks.printed(0)
        figures = sorted(folder.glob("evaluation.json")) + sorted(folder.glob("evaluation/*.json"))
        results.append((output.replace(str(folder), "RUN"), [json.loads(file.read_text()) for file in figures]))
    assert "beats" in results[0][0]
    assert results[1] == results[2] == results[0]


def test_a_leaderboard_prints_the_same(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    answers = tmp_path / "answers"
    answers.mkdir()
    prompts = [f"Prompt {k}" for k in range(150)]
    (tmp_path / "prompts.txt").write_text("\n".join(prompts))
    for name in "abc":
        rows = [{"prompt": p, "response": name * (1 + (k * ord(name)) % 7)} for k, p in enumerate(prompts)]
        (answers / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["leaderboard", str(answers), "--prompts", str(tmp_path / "prompts.txt"), "--oracle", LENGTH,
             "--cache", "OUT/judgements.sqlite", "--json", "OUT/all.json", "--quiet"]  # fmt: skip
    assert "Condorcet winner" in same(words, tmp_path, capfd)
    contents = [(tmp_path / f"{count}" / "all.json").read_text() for count in (1, 2, 3)]
    assert contents[1] == contents[2] == contents[0]


@pytest.mark.parametrize("rule", ["mean-win-rate", pytest.param("knock-out", marks=pytest.mark.slow)])
def test_best_of_n_chooses_the_same(
    rule: str, tiny_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "prompts.txt").write_text("".join(f"Tell me {i}{'!' * (i % 5)}\n" for i in range(140)))
    words = ["best-of-n", "--policy", str(tiny_folder), "--no-quantise", "--prompts", str(tmp_path / "prompts.txt"),
             "--oracle", LENGTH, "--n", "3", "--max-new-tokens", "5", "--rule", rule, "--out", "OUT/best.jsonl",
             "--quiet"]  # fmt: skip
    assert "win rate against another response" in same(words, tmp_path, capfd)
    contents = [(tmp_path / f"{count}" / "best.jsonl").read_text() for count in (1, 2, 3)]
    assert contents[1] == contents[2] == contents[0]


@pytest.mark.parametrize("train", ["head", *(pytest.param(train, marks=pytest.mark.slow) for train in ("lora", "all"))])
def test_the_fit_of_an_oracle_prints_the_same(train: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    rows = [
        {"prompt": f"Tell me {k}.", "a": "Yes. " * (1 + k % 3), "b": "No.", "wins": 1 + k % 3, "n": 4}
        for k in range(24)
    ]
    (tmp_path / "votes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["fit-oracle", str(tmp_path / "votes.jsonl"), "--base", str(llm.pocket.PAIRRM), "--kind", "pairrm",
             "--train", train, "--folds", "3", "--epochs", "2", "--out", "OUT/oracle", "--quiet"]  # fmt: skip
    assert "held-out log-loss" in same(words, tmp_path, capfd)
    files = [sorted((tmp_path / f"{count}" / "oracle").rglob("*.safetensors")) for count in (1, 2, 3)]
    assert len(files[0]) >= 3
    for other in files[1:]:
        assert [file.read_bytes() for file in other] == [file.read_bytes() for file in files[0]]
