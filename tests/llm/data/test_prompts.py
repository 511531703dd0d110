"""Prompts: every format gives the same prompts; what is dropped is counted; what is wrong is named."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from nashward.errors import NashwardError
from nashward.llm import read_prompts

TEXTS = ["Name a river.", "What is 2 + 2?\nSay why.", "Déjà vu, \u4f60\u597d?"]


def _write(folder: Path, kind: str) -> Path:
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    file = folder / f"prompts.{kind}"
    rows = [{"prompt": text} for text in TEXTS]
    if kind == "jsonl":
        file.write_text("\n".join(json.dumps(row) for row in rows) + "\n\n", encoding="utf-8")
    elif kind == "json":
        file.write_text(json.dumps(rows), encoding="utf-8")
    elif kind == "json.gz":
        file.write_bytes(gzip.compress(json.dumps([{"instruction": text} for text in TEXTS]).encode()))
    elif kind == "csv":
        file.write_text("n,prompt\n" + "".join(f'{i},"{text}"\n' for i, text in enumerate(TEXTS)), encoding="utf-8")
    else:
        parquet.write_table(arrow.Table.from_pylist(rows), file)
    return file


@pytest.mark.parametrize("kind", ["jsonl", "json", "json.gz", "csv", "parquet"])
def test_every_format_gives_the_same_prompts(tmp_path: Path, kind: str) -> None:
    prompts = read_prompts(_write(tmp_path, kind))
    assert [prompt.text for prompt in prompts.kept] == TEXTS
    assert [prompt.id for prompt in prompts.kept] == [prompt.id for prompt in read_prompts(TEXTS).kept]
    assert prompts.read == 3


def test_text_has_one_prompt_a_line_and_drops_are_counted(tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text("a\n\nb\na\n   \n")
    prompts = read_prompts(file)
    assert str(prompts) == "5 prompts read, 2 kept, 3 dropped (2 empty, 1 repeated)"


def test_chat_messages_keep_their_turns_but_not_the_answer() -> None:
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi None"},
        {"role": "assistant", "content": "Hello"},
    ]
    (prompt,) = read_prompts([{"messages": turns}]).kept
    assert prompt.messages == tuple(turns[:2])
    assert prompt.text == "SYSTEM: Be brief.\nUSER: Hi None"
    assert read_prompts([{"prompt": turns}]).kept == [prompt]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "holds no prompts"),
        (["", " "], r"holds no prompts: 2 rows read \(2 empty\)"),
        ([{"text": "a", "id": "b"}], "row 1 has no prompt .*; it has text, id; .*--prompt-field"),
        ([{"text": "a"}], "row 1 has no prompt or instruction or question or messages or .*--prompt-field text"),
        ([{"id": "x", "promt": "a"}], "row 1 .*; it has id, promt; promt may be prompt"),
        (["a", 3], "row 2 is int"),
        (["a", 3, {"text": "b"}, 4, "c", 5, 6], r"row 2 is int.* \(and rows 4, 6 and 1 more\); row 3 has no prompt"),
        ([{"messages": [{"role": "robot", "content": "a"}]}], "row 1 has a message without a role"),
    ],
)
def test_bad_rows_are_named(rows: list[object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_prompts(rows)


def test_turns_of_null_are_dropped_and_responses_at_the_end_counted() -> None:
    """One such row ended the reading of a file, where an empty one was counted."""
    asked, said = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}
    bad = [{**asked, "content": None}], [{"role": "system", "content": None}, asked]
    prompts = read_prompts([{"messages": turns} for turns in ([asked, said], [asked], *bad)])
    assert [prompt.text for prompt in prompts.kept] == ["Hi"]
    assert prompts.dropped == {"with a turn of null": 2, "repeated": 1}
    assert prompts.answered == 1
    with pytest.raises(ValueError, match="calls a tool"):
        read_prompts([{"messages": [asked, {**said, "tool_calls": [{"id": "1"}]}, asked]}])
    with pytest.raises(ValueError, match="content that is text"):
        read_prompts([{"messages": [asked, {**said, "content": None, "tool_calls": [{"id": "1"}]}, asked]}])


def test_another_column_can_be_named() -> None:
    assert read_prompts([{"ask": "a", "prompt": "b"}], column="ask").kept[0].text == "a"
    with pytest.raises(ValueError, match="row 1 has no ask"):
        read_prompts([{"prompt": "b"}], column="ask")


def test_bad_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no prompts file"):
        read_prompts(tmp_path / "none.jsonl")
    (tmp_path / "blank.txt").write_text("\n")
    with pytest.raises(NashwardError, match=r"1 line read \(1 empty\)"):
        read_prompts(tmp_path / "blank.txt")


def test_faults_of_rows_and_of_lines_are_named_together(tmp_path: Path) -> None:
    file = tmp_path / "bad.jsonl"
    file.write_text('{"prompt": "a"}\n3\n{"prompt": \n{"prompt": "b"}\n[\n')
    with pytest.raises(NashwardError, match=r"row 2 is int.*line 3: .*line 5: "):
        read_prompts(file)
    with pytest.raises(ValueError, match="is a folder"):
        read_prompts(tmp_path)
    for name, content, message in (
        ("a.xml", "x", r"unknown type '\.xml'"),
        ("a.json", "{", "not valid JSON"),
        ("b.json", '{"prompt": "a"}', "must hold a list"),
        ("a.parquet", "x", "is no Parquet file"),
        ("a.json.gz", "x", "cannot be read as text"),
    ):
        (tmp_path / name).write_text(content)
        with pytest.raises(ValueError, match=message):
            read_prompts(tmp_path / name)


def test_the_real_prompts(data: Path) -> None:
    prompts = read_prompts(data / "alpacaeval" / "prompts.json.gz")
    assert (prompts.read, len(prompts.kept)) == (805, 805)
    assert any("None" in prompt.text for prompt in prompts.kept)  # some tools cut prompts there


def test_a_prompt_may_have_a_weight() -> None:
    rows = [{"prompt": "a", "weight": 2}, {"prompt": "b", "weight": "0.5"}, {"prompt": "c", "weight": ""}, "d"]
    assert [prompt.weight for prompt in read_prompts(rows).kept] == [2, 0.5, 1, 1]
    for weight in (0, -1, "much", float("nan"), [1]):
        with pytest.raises(ValueError, match=r"row 2 has a weight"):
            read_prompts(["a", {"prompt": "b", "weight": weight}])
