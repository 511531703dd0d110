"""Rows of files: cells that hold conversations, line breaks, what would be dropped or merged without a word."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from nashward.llm import read_prompts
from nashward.llm.data.rows import read_rows
from nashward.llm.oracles.fitting.votes import read_votes

CHAT = [{"role": "user", "content": 'Hi, "you"\n\u4f60'}]


def _table(folder: Path, kind: str, rows: list[dict[str, Any]]) -> Path:
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    file = folder / f"rows.{kind}"
    if kind == "parquet":
        parquet.write_table(arrow.Table.from_pylist(rows), file)
        return file
    with file.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.DictWriter(handle, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return file


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize("written", [json.dumps, repr, lambda chat: json.dumps(chat, indent=1)])
@pytest.mark.parametrize("field", ["messages", "prompt", "conversations"])
def test_a_cell_that_holds_a_list_of_messages_is_a_conversation(
    kind: str, written: Any, field: str, tmp_path: Path
) -> None:
    file = _table(tmp_path, kind, [{field: written(CHAT)}, {field: "plain"}])
    (chat, plain) = read_prompts(file).kept
    assert (chat.messages, plain.text) == (tuple(CHAT), "plain")


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_responses_in_cells(kind: str, tmp_path: Path) -> None:
    chosen, rejected = (json.dumps([{"role": "assistant", "content": text}]) for text in "AB")
    file = _table(tmp_path, kind, [{"prompt": "Q", "chosen": chosen, "rejected": rejected}])
    (vote,) = read_votes(file)
    assert (vote.prompt, vote.a, vote.b) == ("Q", "A", "B")
    file = _table(tmp_path, kind, [{"prompt": "Q", "a": chosen, "b": rejected, "winner": "a"}])
    assert [(vote.a, vote.b) for vote in read_votes(file)] == [("A", "B")]


@pytest.mark.parametrize(
    "text", ["[1, 2]", "[]", '["a"]', "[not JSON", '[{"a": 1}]', '{"role": "user", "content": "x"}']
)
def test_a_cell_that_only_looks_like_a_list_is_a_text(text: str, tmp_path: Path) -> None:
    assert [prompt.text for prompt in read_prompts(_table(tmp_path, "csv", [{"prompt": text}])).kept] == [text]


def test_an_empty_cell_is_missing_and_not_an_empty_response(tmp_path: Path) -> None:
    file = _table(tmp_path, "csv", [{"prompt": "Q", "chosen": "A", "rejected": ""}])
    with pytest.raises(ValueError, match=r"rows\.csv: row 1 has no rejected"):
        read_votes(file)
    for kind in ("csv", "parquet"):
        file = _table(tmp_path, kind, [{"prompt": "Q", "a": "A", "b": None, "winner": "a"}])
        with pytest.raises(ValueError, match="row 1 has no b"):
            read_votes(file)
    # where a format has both, an empty text is a text
    assert read_votes([{"prompt": "Q", "chosen": "A", "rejected": ""}])[0].b == ""
    assert read_votes(_table(tmp_path, "parquet", [{"prompt": "Q", "chosen": "A", "rejected": ""}]))[0].b == ""


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_line_breaks_inside_of_a_cell_stay(end: str, mark: str, tmp_path: Path) -> None:
    file = tmp_path / "prompts.csv"
    content = end.join(["prompt,topic", '"one\ntwo",a', '"one\r\ntwo",b', '"one\u2028two",c', "onetwo,d", ""])
    file.write_bytes((mark + content).encode())
    assert [prompt.text for prompt in read_prompts(file).kept] == ["one\ntwo", "one\r\ntwo", "one\u2028two", "onetwo"]


@pytest.mark.parametrize("character", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_separators_inside_of_a_line_of_json_stay(character: str, end: str, tmp_path: Path) -> None:
    text = f"one{character}two"
    for name in ("prompts.jsonl", "prompts.json"):
        file = tmp_path / name
        lines = [json.dumps({"prompt": t}, ensure_ascii=False) for t in (text, "b")]
        file.write_bytes(("\ufeff" + end.join(lines).replace("\\u000b", "\x0b")).encode())
        if ord(character) > 0x1F:  # JSON writes control characters as escapes
            assert character in file.read_text(encoding="utf-8")
            assert [prompt.text for prompt in read_prompts(file).kept] == [text, "b"]


def test_lines_of_json_in_a_file_called_json(tmp_path: Path) -> None:
    file = tmp_path / "prompts.json"
    file.write_text('{"prompt":"a"}\n{"prompt":"b"}\n')
    assert [prompt.text for prompt in read_prompts(file).kept] == ["a", "b"]
    for content in ('{"prompt":"a"}\n{"prompt":', "", '[{"prompt": "a"}\n{"prompt": "b"}]'):
        file.write_text(content)
        with pytest.raises(ValueError, match=r"prompts\.json is not valid JSON"):
            read_prompts(file)


@pytest.mark.parametrize(
    ("name", "content", "named"),
    [
        ("a.csv", "prompt,prompt\na,b\n", "two fields that are called prompt"),
        ("a.jsonl", '{"prompt": "a", "prompt": "b"}', "two fields that are called prompt"),
        ("a.json", '[{"messages": [{"role": "user", "content": "a", "content": "b"}]}]', "called content"),
        ("a.csv", "prompt\nHello, world\n", "row 1 has more cells than the header"),
        ("a.csv", 'prompt,topic\n"never closed,x\nb,y\n', "cannot be read as text"),
        ("a.csv", "prompt;topic\na;b;c\n", "row 1 has more cells than the header; put a text with ';'"),
        ("a.json", '{"prompt": {"0": "a", "1": "b"}}', 'orient="records"'),
    ],
)
def test_what_would_be_dropped_or_merged_is_refused(name: str, content: str, named: str, tmp_path: Path) -> None:
    file = tmp_path / name
    file.write_text(content)
    with pytest.raises(ValueError, match=named):
        read_prompts(file)


@pytest.mark.parametrize("sign", [";", "\t", "|"])
def test_spreadsheets_of_many_countries_separate_cells_by_other_signs(sign: str, tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text(f'\ufeff"Nr"{sign}"Prompt"\n1{sign}"Hello, world{sign}"\n2{sign}\n3{sign}Why?\n', encoding="utf-8")
    assert [row["prompt"] for row in read_rows(file)] == [f"Hello, world{sign}", None, "Why?"]


def test_parquet_with_a_name_twice_is_refused(tmp_path: Path) -> None:
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    table = arrow.Table.from_arrays([arrow.array(["a"]), arrow.array(["b"])], names=["prompt", "prompt"])
    parquet.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r"a\.parquet has two fields that are called prompt"):
        read_prompts(tmp_path / "a.parquet")


def test_commas_at_the_end_of_lines_are_no_cells(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("prompt,weight,,\na,2,,,\nb,,,\n")
    assert [(prompt.text, prompt.weight) for prompt in read_prompts(file).kept] == [("a", 2), ("b", 1)]
    assert next(iter(read_rows(file)))["weight"] == "2"


def test_a_file_in_utf_16_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes('{"prompt": "Hi"}'.encode("utf-16"))
    with pytest.raises(ValueError, match=r"a\.jsonl cannot be read .*save it as UTF-8"):
        read_prompts(tmp_path / "a.jsonl")


def test_data_frames_are_rows() -> None:
    pandas = pytest.importorskip("pandas")
    votes = [{"prompt": "Name a river.", "a": "The Rhine.", "b": "No.", "winner": winner} for winner in ("a", "b", "a")]
    assert read_votes(pandas.DataFrame(votes)) == read_votes(votes)
    assert read_prompts(pandas.DataFrame(votes[:1])[["prompt"]]).kept == read_prompts(["Name a river."]).kept


@pytest.mark.parametrize("first", ["How do I get out a stain?", "Name a river in Europe"])
def test_a_file_without_a_line_of_names_is_told_apart_from_a_wrong_name(first: str, tmp_path: Path) -> None:
    file = tmp_path / "prompts.csv"
    file.write_text(f"{first}\nWhy?\n")
    with pytest.raises(ValueError, match="seems to be a text: write a line prompt above it"):
        read_prompts(file)
    file.write_text(f"prompt\n{first}\nWhy?\n")
    assert [prompt.text for prompt in read_prompts(file).kept] == [first, "Why?"]
