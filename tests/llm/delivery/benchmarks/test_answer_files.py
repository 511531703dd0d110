"""Answer files of AlpacaEval, MT-Bench and Arena-Hard: the fields and the order that their own programs read."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from nashward.cli.main import main
from nashward.errors import NashwardError
from nashward.llm import pocket
from nashward.llm.delivery.benchmarks import answer_files
from nashward.llm.delivery.benchmarks.answer_files import (
    GREEDY,
    Question,
    answer_rows,
    read_answers,
    read_questions,
    style,
)

FILES: dict[str, list[dict[str, Any]]] = {
    "alpaca-eval": [
        {"instruction": "Name a river.", "output": "The Rhine.", "generator": "x", "dataset": "helpful_base"},
        {"instruction": "Name a tree.", "output": "Oak.", "generator": "x", "dataset": "koala"},
    ],
    "mt-bench": [
        {"question_id": 81, "category": "writing", "turns": ["Write of rain.", "Shorter."]},
        {"question_id": 111, "category": "math", "turns": ["What is 2 and 2?", "And 3?"], "reference": ["4", "5"]},
    ],
    "arena-hard": [
        {"uid": "a1", "category": "hard_prompt", "subcategory": "coding", "prompt": "Sort a list."},
        {"uid": "b2", "category": "creative_writing", "subcategory": "x", "prompt": "Write of trees."},
    ],
}


def _questions(folder: Path, form: str) -> Path:
    file = folder / ("set.json" if form == "alpaca-eval" else "question.jsonl")
    rows = FILES[form]
    file.write_text(json.dumps(rows) if file.suffix == ".json" else "".join(json.dumps(row) + "\n" for row in rows))
    return file


def _answer(folder: Path, form: str, name: str = "mine.jsonl", *more: str) -> list[dict[str, Any]]:
    out = folder / name
    command = ["answer", "--policy", str(pocket.POLICY), "--prompts", str(_questions(folder, form)), "--out", str(out)]
    assert main([*command, "--format", form, "--max-new-tokens", "12", *more]) == 0
    text = out.read_text()
    return json.loads(text) if out.suffix == ".json" else [json.loads(line) for line in text.splitlines()]


def test_alpaca_eval_is_a_list_in_the_order_of_its_set(tmp_path: Path) -> None:
    rows = _answer(tmp_path, "alpaca-eval", "mine.json")
    assert [list(row) for row in rows] == [["instruction", "output", "generator", "dataset"]] * 2
    assert [(row["instruction"], row["dataset"]) for row in rows] == [
        (row["instruction"], row["dataset"]) for row in FILES["alpaca-eval"]
    ]
    assert {row["generator"] for row in rows} == {"mine"}
    assert rows == _answer(tmp_path, "alpaca-eval", "mine.jsonl")
    (tmp_path / "board").mkdir()
    for name in ("one", "two"):  # our own reader of such files takes them
        shutil.copy(tmp_path / "mine.json", tmp_path / "board" / f"{name}.json")
    board = ["leaderboard", str(tmp_path / "board"), "--prompts", str(tmp_path / "set.json")]
    assert main([*board, "--oracle", str(pocket.PAIRRM)]) == 0


def test_alpaca_evals_own_reader_takes_the_file(tmp_path: Path) -> None:
    utils = pytest.importorskip("alpaca_eval.utils")
    _answer(tmp_path, "alpaca-eval", "mine.json")
    frame = utils.load_or_convert_to_dataframe(tmp_path / "mine.json")
    assert list(frame["output"]) == [row["output"] for row in json.loads((tmp_path / "mine.json").read_text())]


def test_mt_bench_has_both_turns_and_the_second_knows_the_first(tmp_path: Path) -> None:
    rows = _answer(tmp_path, "mt-bench")
    assert [row["question_id"] for row in rows] == [81, 111]
    for row in rows:
        assert list(row) == ["question_id", "answer_id", "model_id", "choices", "tstamp"]
        (choice,) = row["choices"]
        assert choice["index"] == 0
        assert len(choice["turns"]) == 2
        assert all(isinstance(turn, str) for turn in choice["turns"])
    assert len({row["answer_id"] for row in rows}) == 2
    again = _answer(tmp_path, "mt-bench", "other-seed.jsonl", "--seed", "7")
    greedy, sampled = ([one["choices"][0]["turns"] for one in (rows[k], again[k])] for k in (1, 0))
    assert greedy[0] == greedy[1]  # math is answered at temperature 0
    assert sampled[0] != sampled[1]
    hot = _answer(tmp_path, "mt-bench", "hot.jsonl", "--seed", "7", "--temperature", "1.5")
    assert hot[1]["choices"][0]["turns"] != greedy[0]  # one that is given counts more


def test_the_second_turn_is_encoded_after_the_answer_to_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nashward.llm import LanguageModel

    spoken = []
    encode = LanguageModel.encode

    def kept(model: LanguageModel, prompt: Any) -> list[int]:
        spoken.append([(message["role"], message["content"]) for message in prompt.messages])
        return encode(model, prompt)

    monkeypatch.setattr(LanguageModel, "encode", kept)
    rows = _answer(tmp_path, "mt-bench")
    second = [turns for turns in spoken if len(turns) == 3]
    for row, question in zip(rows, FILES["mt-bench"], strict=True):
        first = row["choices"][0]["turns"][0]
        expected = [("user", question["turns"][0]), ("assistant", first), ("user", question["turns"][1])]
        assert expected in second


def test_arena_hard_has_its_metadata(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer_files, "token_counter", lambda: lambda text: len(text.split()))
    rows = _answer(tmp_path, "arena-hard", "mine.jsonl", "--name", "our model")
    assert [row["uid"] for row in rows] == ["a1", "b2"]
    for row, question in zip(rows, FILES["arena-hard"], strict=True):
        assert list(row) == ["uid", "ans_id", "model", "messages", "tstamp", "metadata"]
        assert row["model"] == "our model"
        assert row["messages"][0] == {"role": "user", "content": question["prompt"]}
        answer = row["messages"][1]["content"]["answer"]
        assert row["metadata"]["token_len"] == len(answer.split())
        assert list(row["metadata"]) == ["token_len", "header_count", "list_count", "bold_count"]


def test_the_counts_of_markdown_leave_code_out() -> None:
    text = "# One\n## Two\n##Not\n\n- a\n  * b\n+ c\n1. d\n 22. e\n**bold** and **more** __under__\n"
    text += "```python\n# no\n- no\n**no**\n```\n"
    assert style(text) == {
        "header_count": {"h1": 1, "h2": 1, "h3": 0, "h4": 0, "h5": 0, "h6": 0},
        "list_count": {"ordered": 2, "unordered": 3},
        "bold_count": {"**": 2, "__": 1},
    }


def test_the_real_evaluation_set_is_read(data: Path) -> None:
    with gzip.open(data / "alpacaeval" / "prompts.json.gz", "rt") as handle:
        rows = json.load(handle)
    questions = read_questions(data / "alpacaeval" / "prompts.json.gz", "alpaca-eval")
    assert len(questions) == len(rows) == 805
    written = answer_rows("alpaca-eval", questions, [["x"]] * 805, "m", 0.0, len)
    assert [row["instruction"] for row in written] == [row["instruction"] for row in rows]


@pytest.mark.parametrize(
    ("form", "row", "told"),
    [
        ("mt-bench", {"question_id": 1, "category": "poetry", "turns": ["a"]}, "poetry"),
        ("mt-bench", {"question_id": 1, "category": "math", "turns": []}, "turns"),
        ("mt-bench", {"prompt": "a"}, "category"),
        ("arena-hard", {"question_id": 1, "prompt": "a"}, "uid"),
        ("arena-hard", {"uid": "1", "prompt": " "}, "prompt"),
        ("alpaca-eval", {"prompt": "a"}, "instruction"),
        ("alpaca-eval", "a", "expected an object, got 'a'"),
    ],
)
def test_what_is_no_question_is_refused(form: Any, row: Any, told: str, tmp_path: Path) -> None:
    file = tmp_path / "q.jsonl"
    file.write_text(json.dumps(FILES[form][0]) + "\n" + json.dumps(row) + "\n")
    with pytest.raises(NashwardError, match=told) as error:
        read_questions(file, form)
    assert "row 2" in str(error.value)


def test_a_question_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "q.jsonl"
    file.write_text(2 * (json.dumps(FILES["mt-bench"][0]) + "\n"))
    with pytest.raises(NashwardError, match="81"):
        read_questions(file, "mt-bench")


def test_temperatures_are_those_of_the_categories(tmp_path: Path) -> None:
    found = read_questions(_questions(tmp_path, "mt-bench"), "mt-bench")
    assert found == [
        Question(81, ("Write of rain.", "Shorter."), 0.7, "writing"),
        Question(111, ("What is 2 and 2?", "And 3?"), GREEDY, "math"),
    ]


def test_arena_hard_without_tiktoken_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(answer_files, "find_spec", lambda name: None)
    file = _questions(tmp_path, "arena-hard")
    command = ["answer", "--policy", str(pocket.POLICY), "--prompts", str(file), "--out", str(tmp_path / "o.jsonl")]
    assert main([*command, "--format", "arena-hard"]) == 2
    assert "tiktoken" in capsys.readouterr().err
    assert main([*command, "--name", "x"]) == 2
    assert "--format" in capsys.readouterr().err


def test_counts_of_style_are_read_by_their_names(tmp_path: Path) -> None:
    """Programs that sort the keys of JSON put the tokens last."""
    row = answer_rows("arena-hard", [Question("u", ("?",))], [["# A\n- b\n- c\n**d** e"]], "mine", 0.0, len)[0]
    (tmp_path / "sorted.jsonl").write_text(json.dumps(row, sort_keys=True) + "\n")
    assert read_answers(tmp_path / "sorted.jsonl", "arena-hard").style == {"u": (19, 1, 2, 1)}
