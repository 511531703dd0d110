"""``nashward diagnose``: the first line, the page, JSON, the exit codes, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from nashward.cli.main import main

LENGTH = ["--oracle", "nashward.llm.oracles:Length"]


@pytest.fixture(autouse=True)
def _pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    rows = []
    for k in range(60):
        a, b = ("word " * int(random.integers(2, 40)) + side for side in "ab")
        rows.append({"prompt": f"Prompt {k}.", "a": a, "b": b, "winner": "ab"[int(random.integers(2))]})
    Path("pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    Path("prompts.txt").write_text("\n".join(row["prompt"] for row in rows))
    Path("answers").mkdir()
    for side in "ab":
        Path("answers", f"model-{side}.json").write_text(json.dumps([row[side] for row in rows]))


def test_a_biased_judge_is_named_and_the_exit_code_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diagnose", *LENGTH, "--labels", "pairs.jsonl", "--json", "found.json"]) == 3
    begun, first = capsys.readouterr().out.splitlines()[:2]
    assert begun.startswith("length: 60 pairs")
    assert "0 responses" not in begun
    assert first.startswith("length: ")
    assert "problems found on 60 prompts" in first
    assert "prefers longer responses" in first
    found = json.loads(Path("found.json").read_text())
    assert {"length", "accuracy"} <= set(found["problems"])
    assert "The judge length" in Path("diagnosis.html").read_text()


def test_a_page_replaces_its_own_kind_only_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    Path("notes.html").write_text("<title>My notes</title>")
    judge = ["diagnose", *LENGTH, "--labels", "pairs.jsonl"]
    assert main([*judge, "--report", "notes.html"]) == 2
    assert "notes.html" in capsys.readouterr().err
    assert Path("notes.html").read_text() == "<title>My notes</title>"
    last = []
    for _ in range(2):
        assert main(judge) == 3
        last.append(capsys.readouterr().out.splitlines()[-1])
    assert ["earlier" in line for line in last] == [False, True]


def test_labels_that_length_decides_alone_accuse_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        {"prompt": f"Say {k}.", "chosen": "word " * (1 + k % 7), "rejected": "word " * (9 + k % 5)} for k in range(40)
    ]
    Path("separated.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Path("brief.py").write_text("from nashward.llm.oracles import Length\n\nbrief = Length(-0.1)\n", encoding="utf-8")
    assert main(["diagnose", "--oracle", "brief:brief", "--labels", "separated.jsonl"]) == 0
    out = capsys.readouterr().out
    assert "no problem found on 40 prompts" in out
    assert "not measured: length" in out
    assert "not measured: calibration" in out


@pytest.mark.parametrize("other", [False, True])
def test_a_correction_that_was_fitted_to_the_pairs_is_said(other: bool, capsys: pytest.CaptureFixture[str]) -> None:
    rows = Path("pairs.jsonl").read_text()
    Path("fitted.jsonl").write_text(rows.replace('"prompt": "', '"prompt": "Not the same. ') if other else rows)
    main(["diagnose", *LENGTH, "--labels", "pairs.jsonl", "--correct", "style:pairs=fitted.jsonl"])
    assert ("in-sample: style:pairs=fitted.jsonl" in capsys.readouterr().out) == (not other)


def test_limits_decide(capsys: pytest.CaptureFixture[str]) -> None:
    responses = ["--responses", "answers", "--prompts", "prompts.txt", "--report", "judge.html"]
    assert main(["diagnose", *LENGTH, *responses]) == 3
    assert main(["diagnose", *LENGTH, *responses, "--most-style", "5"]) == 0
    assert "no problem found on 60 prompts" in capsys.readouterr().out
    assert main(["diagnose", *LENGTH, *responses, "--limit", "9", "--most-style", "5"]) == 0
    assert "no problem found on 9 prompts" in capsys.readouterr().out


def test_several_judges_are_examined_as_one(capsys: pytest.CaptureFixture[str]) -> None:
    both = [*LENGTH, "--oracle", "nashward.llm.oracles:Plain", "--combine", "probability"]
    assert main(["diagnose", *both, "--labels", "pairs.jsonl"]) in (0, 3)
    assert "probability of length, plain" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], ["--labels", "--responses"]),
        (["--responses", "answers"], ["--prompts"]),
        (["--labels", "none.jsonl"], ["none.jsonl"]),
        (["--labels", "pairs.jsonl", "--limit", "0"], ["--limit", "0"]),
        (["--labels", "pairs.jsonl", "--report", "answers"], ["answers", "judge.html"]),
        (["--labels", "pairs.jsonl", "--beside", "nashward.llm.oracles:Plain"], ["--beside", "two"]),
        (["--labels", "pairs.jsonl", "--most-miscalibration", "1"], ["calibration", "above 1"]),
    ],
)
def test_what_is_refused(arguments: list[str], named: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diagnose", *LENGTH, *arguments]) == 2
    error = capsys.readouterr().err
    assert all(name in error for name in named)
    assert error.count("\n") == 1
