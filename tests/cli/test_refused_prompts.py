"""Prompts that a chat template does not take: every command drops and counts them, as ``align`` does."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

import pytest

from nashward.cli.main import main
from nashward.llm import pocket
from nashward.llm.data.responses import read_prompts_in_order, read_prompts_with_responses, read_responses
from nashward.llm.policy.mixture import Mixture

LENGTH = ["--oracle", "nashward.llm.oracles:Length"]
REFUSES = "{% if messages[0].role == 'system' %}{{ raise_exception('no system turn') }}{% endif %}"
COUNTED = "1 refused by the chat template"
ROWS = [
    {"prompt": "Name a river."},
    {"question": "Name a tree.", "system": "Be brief."},
    {"instruction": "Say it.", "input": "bread"},
    {"messages": [{"role": r, "content": c} for r, c in (("user", "Hi"), ("assistant", "Hello"), ("user", "Why?"))]},
]


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base whose template refuses system turns, prompts of which one has such a turn, and a run."""
    here = tmp_path_factory.mktemp("refused")
    shutil.copytree(pocket.POLICY, here / "base")
    template = here / "base" / "chat_template.jinja"
    template.write_text(REFUSES + template.read_text())
    (here / "prompts.jsonl").write_text("\n".join(map(json.dumps, ROWS)))
    (here / "refused.jsonl").write_text(json.dumps(ROWS[1]))
    small = shlex.split("--iterations 1 --responses 2 --max-new-tokens 4 --epochs 1 --batch 4 --rank 2 --quiet")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        command = ["align", "--policy", "base", *LENGTH, "--prompts", "prompts.jsonl", "--out", "run", *small]
        assert main(command) == 0
    return here


@pytest.fixture(autouse=True)
def _inside(here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(here)
    capsys.readouterr()


COMMANDS = {
    "best-of-n": ["best-of-n", "--policy", "base", *LENGTH, "--n", "2", "--max-new-tokens", "4", "--out", "best.jsonl"],
    "evaluate": ["evaluate", "run"],
    "exploit": ["exploit", "run", "--n", "2", "--against", "2"],
    "mix": ["mix", "run", "--weights", "nash", "--policy", "base", *LENGTH, "--max-new-tokens", "4", "--out", "m.json"],
    "answer": ["answer", "--policy", "base", "--max-new-tokens", "4", "--out", "answers.jsonl"],
}


def test_an_empty_line_of_prompts_is_not_answered(capsys: pytest.CaptureFixture[str]) -> None:
    Path("lines.txt").write_text("Name a river.\n \nWhy?\n")
    assert main([*COMMANDS["answer"], "--prompts", "lines.txt"]) == 0
    assert "2 answers" in (out := capsys.readouterr().out)
    assert "1 empty" in out
    rows = [json.loads(line) for line in Path("answers.jsonl").read_text().splitlines()]
    assert [row["output"] is None for row in rows] == [False, True, False]
    Path("answers.jsonl").unlink()


@pytest.mark.parametrize("row", [{"prompt": None}, {"prompt": ""}, {"messages": []}])
def test_a_prompt_of_null_is_empty(row: object, capsys: pytest.CaptureFixture[str]) -> None:
    Path("null.jsonl").write_text(f"{json.dumps(ROWS[0])}\n{json.dumps(row)}\n")
    assert main([*COMMANDS["answer"], "--prompts", "null.jsonl"]) == 0
    assert "1 answers: answers.jsonl; prompts without an answer (null): 1 empty" in capsys.readouterr().out
    rows = [json.loads(line) for line in Path("answers.jsonl").read_text().splitlines()]
    assert [(row["prompt"], row["output"] is None) for row in rows] == [("Name a river.", False), ("", True)]
    Path("answers.jsonl").unlink()


def test_a_mixture_is_weighed_on_prompts_that_say_something(capsys: pytest.CaptureFixture[str]) -> None:
    Path("named.csv").write_text("q\nName a river.\n \nName a river.\nWhy?\n")
    assert main([*COMMANDS["mix"], "--prompts", "named.csv", "--prompt-field", "q"]) == 0
    assert "4 prompts read, 2 kept, 2 dropped (1 empty, 1 repeated)" in capsys.readouterr().out


def test_the_field_that_holds_the_prompt_is_named_as_for_a_run(capsys: pytest.CaptureFixture[str]) -> None:
    Path("named.jsonl").write_text('{"q": "Name a river.", "n": 1}\n{"q": "Why?", "n": 2}\n')
    rows = [{"q": "Why?", "responses": ["So.", "Because."]}, {"q": "Name a river.", "responses": ["Po.", "The Rhine."]}]
    Path("ready.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert main([*COMMANDS["answer"], "--prompts", "named.jsonl"]) == 2
    assert "give --prompt-field q" in capsys.readouterr().err
    assert main([*COMMANDS["answer"], "--prompts", "named.jsonl", "--prompt-field", "q"]) == 0
    answers = [json.loads(line)["prompt"] for line in Path("answers.jsonl").read_text().splitlines()]
    assert answers == ["Name a river.", "Why?"]
    Path("answers.jsonl").unlink()
    best = ["best-of-n", *LENGTH, "--responses", "ready.jsonl", "--prompt-field", "q", "--out", "ready-best.jsonl"]
    assert main(best) == 0
    chosen = [json.loads(line)["prompt"] for line in Path("ready-best.jsonl").read_text().splitlines()]
    assert chosen == ["Why?", "Name a river."]


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_a_refused_prompt_is_dropped_and_counted(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command, "--prompts", "prompts.jsonl"]) == 0, capsys.readouterr().err
    told = capsys.readouterr()
    assert told.out.count(COUNTED) == 1
    assert "Traceback" not in told.err
    if command[0] != "answer":
        assert "4 prompts read, 3 kept, 1 dropped" in told.out


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_where_all_are_refused_one_line_says_so(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    Path("best.jsonl").unlink(missing_ok=True)
    assert main([*command, "--prompts", "refused.jsonl"]) == 2
    told = capsys.readouterr()
    assert told.err.splitlines()[-1].startswith("nashward: no prompt ")
    assert COUNTED in told.err.splitlines()[-1]
    assert "Traceback" not in told.err


def test_answers_keep_the_place_and_the_turns_of_their_prompts() -> None:
    assert main([*COMMANDS["answer"], "--prompts", "prompts.jsonl"]) == 0
    rows = [json.loads(line) for line in Path("answers.jsonl").read_text().splitlines()]
    assert [row["output"] is None for row in rows] == [False, True, False, False]
    assert rows[2]["prompt"] == "Say it.\n\nbread"
    prompts = read_prompts_in_order("prompts.jsonl")
    assert read_prompts_in_order("answers.jsonl") == prompts
    found = list(read_prompts_with_responses("answers.jsonl", "answers", None))
    assert [(prompt.id, len(texts)) for prompt, texts in found] == [(p.id, p is not prompts[1]) for p in prompts]
    Path("models").mkdir(exist_ok=True)
    Path("models/it.jsonl").write_text("\n".join(map(json.dumps, reversed(rows))))
    assert read_responses("models", [prompt.text for prompt in prompts]) == {"it": [row["output"] for row in rows]}


def test_prompts_of_others_are_held_to_the_length_of_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    Path("long.jsonl").write_text(json.dumps({"prompt": "bread " * 600}) + "\n" + json.dumps(ROWS[0]))
    assert main([*COMMANDS["exploit"], "--prompts", "long.jsonl"]) == 0
    assert "2 prompts read, 1 kept, 1 dropped (1 longer than 512 tokens)" in capsys.readouterr().out


def test_a_mixture_is_written_of_the_answers_that_there_are() -> None:
    assert main([*COMMANDS["mix"], "--prompts", "prompts.jsonl"]) == 0
    assert sum(weight for _, weight in Mixture.load("m.json").members) == pytest.approx(1)
