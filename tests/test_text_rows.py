"""Text files as both readers of rows see them: battles, and prompts or votes."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest

from nashward.errors import NashwardError
from nashward.games.analysis.leaderboard import Battles, read_battles
from nashward.llm.data.prompts import read_prompts
from nashward.llm.oracles.fitting.votes import read_votes
from nashward.text_rows import csv_rows

SEPARATORS = ["\u2028", "\u2029", "\u0085", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e"]


@pytest.mark.parametrize(
    ("line", "told"), [('{"a": "x"', "line 1: it ends before"), ('{"a": "x" 3}', "at character 11")]
)
def test_of_a_line_that_is_no_json_the_place_is_told(tmp_path: Path, line: str, told: str) -> None:
    (tmp_path / "rows.jsonl").write_text(line + "\n")
    with pytest.raises(NashwardError, match=told):
        read_prompts(tmp_path / "rows.jsonl")


def _battles(prompts: list[str]) -> list[dict[str, str]]:
    """x beats y on the first prompt and loses on the others."""
    return [
        {"model_a": "x", "model_b": "y", "winner": "model_b" if k else "model_a", "prompt": prompt}
        for k, prompt in enumerate(prompts)
    ]


def _write(file: Path, rows: list[dict[str, Any]], end: str = "\n") -> Path:
    if file.suffix == ".csv":
        with file.open("w", encoding="utf-8", newline="") as handle:
            writer = csv.DictWriter(handle, list(rows[0]), lineterminator=end, quoting=csv.QUOTE_ALL)
            writer.writeheader()
            writer.writerows(rows)
        return file
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    file.write_bytes("".join(line + end for line in lines).encode())
    return file


def _is_two_prompts(battles: Battles) -> bool:
    return battles.labels == ("x", "y") and np.array_equal(battles.wins, [[[0, 1], [0, 0]], [[0, 0], [1, 0]]])


@pytest.mark.parametrize("name", ["b.jsonl", "b.json", "b.csv"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("character", SEPARATORS, ids=ascii)
def test_separators_end_no_battle(name: str, end: str, character: str, tmp_path: Path) -> None:
    prompts = [f"one{character}two", f"one{character}three"]
    assert _is_two_prompts(read_battles(_write(tmp_path / name, _battles(prompts), end)))


@pytest.mark.parametrize("character", ["\u2028", "\u0085"], ids=ascii)
@pytest.mark.parametrize("name", ["b.jsonl", "b.csv"])
def test_a_separator_in_the_name_of_a_model_stays(name: str, character: str, tmp_path: Path) -> None:
    rows = [{"model_a": f"x{character}1", "model_b": "y", "winner": f"x{character}1"}]
    assert read_battles(_write(tmp_path / name, rows)).labels == (f"x{character}1", "y")


@pytest.mark.parametrize("mark", ["\n", "\r\n", "\r"], ids=ascii)
def test_a_line_break_inside_of_a_cell_ends_no_battle(mark: str, tmp_path: Path) -> None:
    assert _is_two_prompts(read_battles(_write(tmp_path / "b.csv", _battles([f"a{mark}b", f"a{mark}c"]))))


def test_lines_of_json_in_a_file_called_json_are_battles(tmp_path: Path) -> None:
    rows = _battles(["p", "q"])
    file = _write(tmp_path / "b.json", rows)
    assert _is_two_prompts(read_battles(file))
    file.write_text(json.dumps(rows, indent=1))
    assert _is_two_prompts(read_battles(file))
    file.write_text('{"model_a": "x"}\n{"model_b":')
    with pytest.raises(NashwardError, match=r"b\.json"):
        read_battles(file)


@pytest.mark.parametrize("length", [131_072, 131_073, 300_000])
def test_cells_of_any_length_are_read(length: int, tmp_path: Path) -> None:
    limit, long = csv.field_size_limit(), "x" * length
    assert _is_two_prompts(read_battles(_write(tmp_path / "b.csv", _battles([f"{long}a", f"{long}b"]))))
    votes = [{"prompt": long, "chosen": f"{long}c", "rejected": "d"}]
    (vote,) = read_votes(_write(tmp_path / "v.csv", votes))
    assert (len(vote.prompt), len(vote.a)) == (length, length + 1)
    assert csv.field_size_limit() == limit


@pytest.mark.parametrize("read", [read_battles, lambda file: [*read_votes(file)]], ids=["battles", "votes"])
@pytest.mark.parametrize("name", ["b.jsonl", "b.json"])
@pytest.mark.parametrize("sign", ["", "-"])
def test_an_integer_of_5001_digits_is_refused_by_its_line(
    read: Callable[[Path], Any], name: str, sign: str, tmp_path: Path
) -> None:
    file = tmp_path / name
    counts = '"n": 1, "wins": {0}, "wins_a": {0}, "wins_b": 1'
    row = '{{"model_a": "x", "model_b": "y", "prompt": "p", "a": "x", "b": "y", ' + counts + "}}"
    file.write_text(f"{row.format(1)}\n{row.format(sign + '1' * 5001)}\n")
    with pytest.raises(NashwardError, match=rf"{name}.* 4300 digits") as raised:
        read(file)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 1000
    assert "line 2" in str(raised.value)


@pytest.mark.parametrize(
    ("name", "content", "named"),
    [
        ("b.jsonl", '{"model_a": "x", "model_b": "y", "winner": "x"}\n\n{"model_a"\n', "line 3"),
        ("b.jsonl", '{"model_a": "x", "model_a": "y"}\n', "model_a"),
        ("b.csv", "model_a,model_b,winner,winner\nx,y,x,y\n", "winner"),
        ("b.csv", "model_a,model_b,winner\nx,y,x\nx,y,x,more\n", "row 2"),
        ("b.csv", 'model_a,model_b,winner\nx,"y,x\nx,y,x\n', "b.csv"),
        ("b.json", "{}", "list of battles"),
        ("b.json", "", "b.json"),
        ("b.jsonl", "[" * 100_000, "b.jsonl"),
    ],
)
def test_what_would_be_dropped_or_merged_is_refused(name: str, content: str, named: str, tmp_path: Path) -> None:
    file = tmp_path / name
    file.write_text(content)
    with pytest.raises(NashwardError) as raised:
        read_battles(file)
    assert name in str(raised.value)
    assert named in str(raised.value)


def test_a_mark_of_byte_order_and_lines_of_a_lone_return_are_read(tmp_path: Path) -> None:
    file = _write(tmp_path / "b.jsonl", _battles(["p", "q"]), "\r")
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert _is_two_prompts(read_battles(file))


def test_a_csv_header_is_read_as_people_write_it(tmp_path: Path) -> None:
    file = tmp_path / "battles.csv"
    file.write_text("Model A, MODEL B ,Winner,Voter\nx,y,Model A,ann\nx,y,model_b,ann\nx,y,x,bob\n")
    battles = read_battles(file, smoothing=1e-9)
    assert battles.labels == ("x", "y")
    assert battles.total.tolist() == [[0, 2], [1, 0]]
    votes = tmp_path / "votes.csv"
    votes.write_text("Prompt,Response A, response_b,Winner,Voter\nWhy?,So.,No.,Response A,ann\n")
    (vote,) = read_votes(votes)
    assert (vote.prompt, vote.a, vote.b, vote.wins, vote.annotator) == ("Why?", "So.", "No.", 1, "ann")
    prompts = tmp_path / "prompts.csv"
    prompts.write_text("My Text,note\nWhy?,n\n")
    for column in ("My Text", "my_text"):  # as in the file, or as it is read
        assert [prompt.text for prompt in read_prompts(prompts, column).kept] == ["Why?"]
    file.write_text("winner,Winner\na,b\n")
    with pytest.raises(NashwardError, match="two fields that are called winner"):
        read_battles(file)


def test_annotations_of_alpaca_eval_are_battles_and_votes(tmp_path: Path) -> None:
    """Its preference is 1 for the first output and 2 for the second, 1.5 (once 0) for none."""
    row = {"output_1": "One.", "generator_1": "base", "output_2": "Two.", "generator_2": "new", "annotator": "gpt4"}
    preferences = (1.0, 1.25, 1.5, 0, 2, None)
    rows = [{"instruction": f"Q{k}", **row, "preference": p} for k, p in enumerate(preferences)]
    file = tmp_path / "annotations.json"
    file.write_text(json.dumps(rows))
    first = [1.0, 0.75, 0.5, 0.5, 0.0]
    votes = read_votes(file)
    assert [vote.wins for vote in votes] == first  # the last one has no preference
    assert {(vote.a, vote.b, vote.models, vote.annotator) for vote in votes} == {
        ("One.", "Two.", ("base", "new"), "gpt4")
    }
    assert [vote.prompt for vote in votes] == [f"Q{k}" for k in range(5)]
    battles = read_battles(file)
    assert (battles.labels, battles.by_prompt, battles.prompts) == (("base", "new"), True, 5)
    assert battles.total.tolist() == [[0, sum(first)], [5 - sum(first), 0]]
    file.write_text(json.dumps([{**rows[0], "preference": 3}]))
    for read in (read_votes, read_battles):
        with pytest.raises(NashwardError, match="preference 3"):
            read(file)
    beside = {"prompt": "Why?", "a": "So.", "b": "No.", "winner": "b", "preference": "strong"}  # another one's field
    assert read_votes([beside])[0].wins == 0


def test_the_index_of_a_data_frame_is_no_field(tmp_path: Path) -> None:
    """``to_csv`` writes it unless it is told not to."""
    frame = pandas.DataFrame({"prompt": ["Why?", "Who?", "How?"], "b": ["1", "2", "3"]})
    for rows in (frame, frame[1:], frame[::-1]):
        rows.to_csv(tmp_path / "rows.csv")
        with (tmp_path / "rows.csv").open(newline="") as handle:
            assert csv_rows(handle, tmp_path / "rows.csv") == rows.to_dict("records")


@pytest.mark.parametrize(
    "text",
    [",0,1\n0,,3\n1,4,\n", ",x,y\nx,,3\ny,4,\n", ",a\nWhy?,b\n", "a,\nx,1\n"],
    ids=["counts of models 0 and 1", "counts of names", "texts", "last"],
)
def test_another_column_without_a_name_stays(text: str) -> None:
    assert all("" in row for row in csv_rows(io.StringIO(text), Path("rows.csv")))
