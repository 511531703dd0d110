"""MT-Bench's grades and Arena-Hard's verdicts, by a server with a script."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import logit

from nashward.cli.main import main
from nashward.llm.clients import client as client_module
from nashward.llm.delivery.benchmarks.answer_files import Question, answer_rows
from nashward.llm.delivery.benchmarks.arena_hard import Battle, win_rates
from nashward.llm.delivery.benchmarks.judged_scores import Mean
from nashward.llm.delivery.benchmarks.mt_bench import read_rating
from nashward.llm.oracles.judges.protocols.published import FIVE_POINT

from ...clients.scripted import Script, serve, texts

CATEGORIES = ("writing", "math", "stem")
FIVE = ("A>>B", "A>B", "A=B", "B>A", "B>>A")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(client_module, "FIRST_WAIT", 0.002)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.chdir(tmp_path)


def _lines(file: str, rows: list[dict[str, Any]]) -> str:
    Path(file).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def _mt_answers(file: str, name: str, answers: dict[int, tuple[str, str]]) -> str:
    questions = [Question(key, ("", "")) for key in answers]
    return _lines(file, answer_rows("mt-bench", questions, list(answers.values()), name, 0.0, len))


def _graded(body: dict[str, Any]) -> tuple[str, None]:
    """The number that the graded answer holds; with a reference one more, where the answer is that of the reference."""
    if len(body["messages"]) == 1:
        return "A", None
    user = body["messages"][-1]["content"]
    turn = int(re.findall(r"answer of turn (\d)", body["messages"][0]["content"])[0])
    (answer,) = re.findall(rf"Assistant, turn {turn} =+\n(.*)", user)
    assert f"turn {turn + 1}" not in user
    right = re.findall(rf"Reference answer, turn {turn} =+\n(.*)", user)
    if "nothing" in answer:
        return "I cannot say.", None
    return f"It says [1] much. [[{int(answer.split()[-1]) + (right == [answer])}]] [[1]]", None


@pytest.fixture
def mt_bench() -> Iterator[tuple[Script, list[str]]]:
    questions = [
        {"question_id": 81 + k, "category": category, "turns": [f"First {k}?", f"Second {k}?"]}
        for k, category in enumerate(CATEGORIES)
    ]
    files = [
        "--questions", _lines("question.jsonl", questions), "--answers",
        _mt_answers("base.jsonl", "base", {81: ("I say 5", "or 6"), 82: ("x 2", "y 3"), 83: ("no 4", "nothing")}),
        _mt_answers("mine.jsonl", "mine", {81: ("I say 7", "or 6"), 82: ("x 3", "y 5"), 83: ("no 8", "yes 9")}),
        "--references", _mt_answers("gpt-4.jsonl", "gpt-4", {82: ("x 3", "y 4")}),
    ]  # fmt: skip
    with serve(Script(_graded)) as script:
        yield script, ["benchmark", "--format", "mt-bench", *files, "--judge", "openai:gpt", "--judge-url", script.url]


def test_mt_bench_by_turn_and_category(mt_bench: tuple[Script, list[str]], capsys: pytest.CaptureFixture[str]) -> None:
    script, command = mt_bench
    assert main([*command, "--out", "scores"]) == 0
    out = capsys.readouterr().out
    record = json.loads(Path("scores/scores.json").read_text())
    base, mine = record["scores"]["base"], record["scores"]["mine"]
    assert {row: mean["value"] for row, mean in mine.items()} == {
        "all": 39 / 6, "turn 1": 19 / 3, "turn 2": 20 / 3, "writing": 6.5, "math": 4.5, "stem": 8.5,
    }  # fmt: skip
    assert {row: (mean["value"], mean["count"]) for row, mean in base.items()} == {
        "all": (4.0, 5), "turn 1": (11 / 3, 3), "turn 2": (4.5, 2), "writing": (5.5, 2), "math": (2.5, 2),
        "stem": (4.0, 1),
    }  # fmt: skip
    apart = {"all": (2 + 0 + 2 + 2 + 4) / 5, "turn 1": 8 / 3, "turn 2": 1.0, "math": 2.0}
    for row, value in apart.items():
        assert re.search(rf"^{row} .*\+{value:.2f} ±", out, re.MULTILINE), (row, out)
    assert "base: 1 of 6" in out
    assert record["judge"] == script.model
    rows = [json.loads(line) for line in Path("scores/judgments.jsonl").read_text().splitlines()]
    assert len(rows) == 12
    assert {(row["question_id"], row["turn"]): row["score"] for row in rows if row["model"] == "base"} == {
        (81, 1): 5, (81, 2): 6, (82, 1): 2, (82, 2): 3, (83, 1): 4, (83, 2): -1,
    }  # fmt: skip
    assert [row["judge"][1] for row in rows[:4]] == [
        "single-v1", "single-v1-multi-turn", "single-math-v1", "single-math-v1-multi-turn",
    ]  # fmt: skip
    assert all(body["temperature"] == 0 for body in script.verdicts)


def test_no_grade_is_paid_twice_and_the_budget_counts(
    mt_bench: tuple[Script, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    script, command = mt_bench
    assert main([*command, "--out", "scores", "--judge-budget", "5 calls", "--concurrency", "1"]) == 2
    assert "5 calls" in capsys.readouterr().err
    assert len(script.verdicts) == 5
    assert main([*command, "--out", "scores"]) == 0
    assert len(script.verdicts) == 12
    first = Path("scores/scores.json").read_bytes()
    assert main([*command, "--out", "scores"]) == 0
    assert len(script.verdicts) == 12
    assert Path("scores/scores.json").read_bytes() == first


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (["--references", "base.jsonl", "--limit", "1"], ""),
        (["--references", "none.jsonl"], "none.jsonl"),
        (["--judge", "gpt"], "openai:"),
        (["--answers", "base.jsonl", "base.jsonl"], "base"),
        (["--answers", "gpt-4.jsonl"], "81 --limit"),
        (["--answers", "question.jsonl"], "question.jsonl row 1"),
        (["--baseline", "base.jsonl"], "--baseline mt-bench"),
        (["--style-control"], "--style-control mt-bench"),
        (["--policy", "x"], "--policy"),
        (["--limit", "0"], "--limit 0"),
        (["--judge-budget", "much"], "much"),
    ],
)
def test_what_is_wrong_is_said_before_a_call(
    change: list[str], words: str, mt_bench: tuple[Script, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    script, command = mt_bench
    assert main([*command, "--out", "scores", *change]) == (2 if words else 0)
    err = capsys.readouterr().err
    assert all(word in err for word in words.split()), err
    assert not script.verdicts or not words


def test_a_missing_reference_is_named(mt_bench: tuple[Script, list[str]], capsys: pytest.CaptureFixture[str]) -> None:
    script, command = mt_bench
    assert main([*command[: command.index("--references")], *command[-4:], "--out", "scores"]) == 2
    assert "82" in (err := capsys.readouterr().err)
    assert "--references" in err
    assert not script.verdicts


def test_ratings_are_read_as_fastchat_reads_them() -> None:
    outputs = ["[[5]]", "Rating: [[ 7.5 ]] or [[2]]", "[3]", "[2] then [[9]]", "<think>[[1]]</think>[[4]]"]
    assert [read_rating(output) for output in outputs] == [5, 7.5, 3, 9, 4]
    assert [read_rating(output) for output in ("5", "[[0]]", "[[11]]", "<think>[[5]]", "[[a]]", "")] == [None] * 6


def test_errors_are_over_clusters() -> None:
    x = np.random.default_rng(0).normal(size=40)
    assert Mean.of(x, range(40)).standard_error == pytest.approx(x.std(ddof=1) / math.sqrt(40))
    twice = Mean.of([*x, *x], [*range(40), *range(40)])
    assert twice.standard_error == pytest.approx(x.std(ddof=1) / math.sqrt(40))
    assert math.isnan(Mean.of([1.0, 2.0], "aa").standard_error)


def _arena_answers(file: str, name: str, answers: dict[str, str]) -> str:
    questions = [Question(key, (f"Do {key}.",)) for key in answers]
    return _lines(file, answer_rows("arena-hard", questions, [[text] for text in answers.values()], name, 0.0, len))


def _five_points(body: dict[str, Any]) -> tuple[str, None]:
    """By the lengths: much longer is much better; none where a text says so."""
    if len(body["messages"]) == 1:
        return "A", None
    _, first, second = texts(body)
    if "nothing" in first:  # in one order alone
        return "I cannot say.", None
    apart = len(first) - len(second)
    return (
        f"A>>B it may be. [[{FIVE[2 - int(np.sign(apart)) * (1 + (abs(apart) > 10))]}]]" if apart else "[[A=B]]",
        None,
    )


def test_arena_hard_by_category_over_the_baseline(capsys: pytest.CaptureFixture[str]) -> None:
    questions = [
        {"uid": f"u{k}", "prompt": f"Do u{k}.", "category": "hard_prompt" if k < 4 else "creative_writing"}
        for k in range(6)
    ]
    base = {f"u{k}": "x" * 10 for k in range(6)}
    mine = {"u0": "x" * 30, "u1": "x" * 12, "u2": "y" * 10, "u3": "nothing", "u4": "xx", "u5": "# xxxxxxxxx\n"}
    _lines("question.jsonl", questions)
    _arena_answers("mine.jsonl", "mine", mine)
    _arena_answers("o3.jsonl", "o3-mini", base)
    _arena_answers("flash.jsonl", "flash", base)
    with serve(Script(_five_points)) as script:
        command = [
            "benchmark", "--format", "arena-hard", "--questions", "question.jsonl", "--answers", "mine.jsonl",
            "--judge", "openai:gpt", "--judge-url", script.url, "--baseline", "o3.jsonl", "--baseline",
            "creative_writing=flash.jsonl", "--out", "scores",
        ]  # fmt: skip
        assert main(command) == 0
        out = capsys.readouterr().out
        assert len(script.verdicts) == 12
        assert main([*command, "--style-control"]) == 0
        assert len(script.verdicts) == 12
        assert "hard_prompt, equal style" in capsys.readouterr().out
    scores = json.loads(Path("scores/scores.json").read_text())["scores"]["mine"]
    # u0 wins much in both orders: 6 games; u1 slightly: 2; u2 ties: 1 of 2; u3 lacks one verdict and is left out
    assert scores["hard_prompt"]["rate"]["value"] == pytest.approx((6 + 2 + 1) / 10)
    assert scores["hard_prompt"]["dropped"] == 1
    assert scores["creative_writing"]["rate"]["value"] == pytest.approx(2 / 4)
    assert "mine: 1 of 6" in out
    assert "90.0" in out
    rows = [json.loads(line) for line in Path("scores/judgments.jsonl").read_text().splitlines()]
    assert [game["score"] for game in rows[0]["games"]] == ["B>>A", "A>>B"]
    assert [game["score"] for game in rows[3]["games"]] == ["A>B", None]
    assert [row["baseline"] for row in rows] == ["o3-mini"] * 4 + ["flash"] * 2


def test_a_baseline_is_needed_for_each_category(capsys: pytest.CaptureFixture[str]) -> None:
    _lines("question.jsonl", [{"uid": "u0", "prompt": "Do u0.", "category": "hard_prompt"}])
    _arena_answers("mine.jsonl", "mine", {"u0": "x"})
    command = ["benchmark", "--format", "arena-hard", "--questions", "question.jsonl", "--answers", "mine.jsonl"]
    assert main([*command, "--judge", "openai:gpt", "--judge-url", "http://127.0.0.1:1/v1", "--out", "s"]) == 2
    assert "hard_prompt" in capsys.readouterr().err
    assert main([*command[:1], "--policy", "x", "--out", "s", "--judge", "openai:gpt"]) == 2
    assert "--format" in capsys.readouterr().err


def _battles(strength: float, slope: float, n: int, seed: int) -> list[Battle]:
    """One game of each order, in which longer answers win more often; those of the model are longer."""
    draw = np.random.default_rng(seed)
    found = []
    for k in range(n):
        style = (float(draw.uniform(-0.2, 0.8)), 0.0, 0.0, 0.0)
        won = draw.random(2) < 1 / (1 + math.exp(-strength - slope * style[0]))
        second, first = (
            FIVE_POINT.read(f"[[{'B>A' if won[0] else 'A>B'}]]"),
            FIVE_POINT.read(f"[[{'A>B' if won[1] else 'B>A'}]]"),
        )
        found.append(Battle("mine", "base", Question(k, ("?",), dataset="hard"), (second, first), ("", ""), style))
    return found


def test_equal_style_takes_length_out_and_the_interval_holds_the_rate() -> None:
    true = 0.4
    z, held = list[float](), 0
    for seed in range(60):
        found = win_rates(_battles(logit(true), 1.5, 300, seed), style_control=True)["hard"]
        assert found.equal_style is not None
        z.append((found.equal_style.value - true) / found.equal_style.standard_error)
        marginal = np.mean([1 / (1 + math.exp(-logit(true) - 1.5 * x)) for x in np.linspace(-0.2, 0.8, 1001)])
        held += bool(found.low <= marginal <= found.high)
        assert found.rate.value > found.equal_style.value
    assert abs(np.mean(z)) < 4 / math.sqrt(60) + 0.1
    assert 0.7 < np.std(z) < 1.35
    assert 46 <= held <= 60  # of 60, at 90%
