"""Votes: every kind of row and of file gives the same votes; what is wrong is named."""

from __future__ import annotations

import csv
import gzip
import json
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

import pytest

from nashward.errors import NashwardError
from nashward.llm import read_prompts
from nashward.llm.oracles.fitting.votes import Vote, read_votes
from nashward.llm.people import read_cast_votes
from nashward.winners import RESPONSES

VOTES = [
    Vote("Name a river.", "The Rhine.", "No.", 2.0, 3.0, "ann", 0.5),
    Vote("Déjà vu, \u4f60\u597d?", 'a "quoted",\nbroken line', "b", 0.25, 1.0),
    Vote("Same.", "x", "x", 1.0, 2.0),
]


def _write(folder: Path, kind: str) -> Path:
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    fields = ("prompt", "a", "b", "wins", "n", "voter", "weight")
    content = [dict(zip(fields, astuple(vote), strict=False)) for vote in VOTES]  # those of no known models
    file = folder / f"votes.{kind}"
    if kind == "jsonl":
        file.write_text("\n".join(json.dumps(row) for row in content), encoding="utf-8")
    elif kind == "json":
        file.write_text(json.dumps(content), encoding="utf-8")
    elif kind == "jsonl.gz":
        file.write_bytes(gzip.compress("\n".join(json.dumps(row) for row in content).encode()))
    elif kind == "csv":
        with file.open("w", encoding="utf-8", newline="") as handle:
            writer = csv.DictWriter(handle, fields)
            writer.writeheader()
            writer.writerows(content)
    else:
        parquet.write_table(arrow.Table.from_pylist(content), file)
    return file


@pytest.mark.parametrize("kind", ["jsonl", "json", "jsonl.gz", "csv", "parquet"])
def test_every_format_gives_the_same_votes(tmp_path: Path, kind: str) -> None:
    assert read_votes(_write(tmp_path, kind)) == VOTES


@pytest.mark.parametrize(
    ("row", "wins", "n"),
    [
        ({"wins": 3, "n": 4}, 3.0, 4.0),
        ({"wins": "0", "n": "1"}, 0.0, 1.0),
        ({"p": 0.2}, 0.2, 1.0),
        ({"winner": "a"}, 1.0, 1.0),
        ({"winner": "b", "wins": None}, 0.0, 1.0),
        ({"winner": "tie"}, 0.5, 1.0),
    ],
)
def test_a_kind_is_told_by_its_fields(row: dict[str, Any], wins: float, n: float) -> None:
    assert read_votes([{"prompt": "p", "a": "x", "b": "y", **row}]) == [Vote("p", "x", "y", wins, n)]
    (known,) = read_votes([{"prompt": "p", "a": "x", "b": "y", "voter": 7, "weight": 2, **row}])
    assert known == Vote("p", "x", "y", wins, n, "7", 2.0)


@pytest.mark.parametrize(
    ("said", "more", "wins"),
    [
        ("left", {}, 1.0), ("Right", {}, 0.0), ("first", {}, 1.0), ("Second response", {}, 0.0), ("A", {}, 1.0),
        ("model_b", {}, 0.0), ("Response A", {}, 1.0), ("Tie", {}, 0.5), ("tie (bothbad)", {}, 0.5),
        ("opt", {"model_a": "gpt", "model_b": "opt"}, 0.0),
        ("a", {"model_a": "b", "model_b": "a"}, 1.0),  # as the votes are exported, whatever the models are called
        ("left", {"shown_first": "a"}, 1.0),
        ("left", {"shown_first": "b"}, None),
        ("A", {"model_a": "B", "model_b": "a"}, None),
        ("model_b", {"model_a": "model_b", "model_b": "gpt"}, None),  # the second, or the model of that name
        ("model_b", {"model_a": "gpt", "model_b": "model_b"}, 0.0),
        ("gpt", {"model_a": "gpt", "model_b": "gpt"}, None),
        ("1", {}, None), ("response_2", {}, None), (1, {}, None), (True, {}, None), ("chosen", {}, None),
    ],
)  # fmt: skip
def test_winners_are_read_as_annotators_write_them_or_refused(
    said: Any, more: dict[str, Any], wins: float | None
) -> None:
    row = {"prompt": "p", "a": "x", "b": "y", "winner": said, **more}
    if wins is None:
        for read in (read_votes, read_cast_votes):
            with pytest.raises(ValueError, match=f"row 1 has winner {said!r}, expected one of a, b, tie"):
                read([row])
        return
    (vote,) = read_votes([row])
    assert (vote.wins, vote.models) == (wins, (more.get("model_a", ""), more.get("model_b", "")))
    (cast,) = read_cast_votes([row])
    assert cast.as_vote() == replace(vote, annotator="imported")
    assert (cast.winner == "both_bad") == ("bad" in said)


USER = {"role": "user", "content": "Hi"}
YES, NO = {"role": "assistant", "content": "yes"}, {"role": "assistant", "content": "no"}
SYSTEM_HI = "SYSTEM: Be brief.\nUSER: Hi"
TALK = [{"role": "system", "content": "Be brief."}, USER, {"role": "assistant", "content": "Hello"}, USER]


@pytest.mark.parametrize(
    ("row", "prompt"),
    [
        ({"prompt": "Hi", "chosen": "yes", "rejected": "no"}, "Hi"),
        ({"prompt": "Hi", "chosen": [YES], "rejected": [NO]}, "Hi"),
        ({"prompt": "Hi", "chosen": [USER, YES], "rejected": [USER, NO]}, "Hi"),
        ({"prompt": [USER], "chosen": [YES], "rejected": "no"}, "Hi"),
        ({"chosen": [USER, YES], "rejected": [USER, NO], "messages": [USER, YES]}, "Hi"),
        ({"prompt": "Hi", "chosen": [TALK[0], USER, YES], "rejected": [TALK[0], USER, NO]}, SYSTEM_HI),
        ({"chosen": [*TALK, YES], "rejected": [*TALK, NO]}, "SYSTEM: Be brief.\nUSER: Hi\nASSISTANT: Hello\nUSER: Hi"),
        (
            {"prompt": TALK, "chosen": [YES], "rejected": [NO]},
            "SYSTEM: Be brief.\nUSER: Hi\nASSISTANT: Hello\nUSER: Hi",
        ),
    ],
)
def test_preference_data_of_texts_and_of_messages(row: dict[str, Any], prompt: str) -> None:
    assert read_votes([row]) == [Vote(prompt, "yes", "no", 1.0, 1.0)]
    if "prompt" in row:  # what a policy is asked is what the table of votes is looked up with
        assert read_prompts([row]).kept[0].text == prompt


GOOD: dict[str, Any] = {"prompt": "p", "a": "x", "b": "y", "wins": 1, "n": 2}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({**GOOD, "wins": 3}, r"has wins 3\.0, expected 0 to n = 2\.0"),
        ({**GOOD, "wins": -1}, r"has wins -1\.0, expected 0 to n"),
        ({**GOOD, "wins": float("nan")}, "has wins nan"),
        ({**GOOD, "wins": "many"}, "has wins 'many', expected a number"),
        ({**GOOD, "wins": 0, "n": 0}, r"has n 0\.0, expected a finite number of comparisons above 0"),
        ({**GOOD, "n": float("inf")}, "has n inf"),
        ({**GOOD, "n": None}, "has no n; it has prompt, a, b, wins, n"),
        ({**GOOD, "weight": -1}, r"has weight -1\.0, expected a finite number, at least 0"),
        ({**GOOD, "weight": float("inf")}, "has weight inf"),
        ({**GOOD, "b": None}, "has no b; it has"),
        ({"prompt": "p", "a": "x", "c": "y", "winner": "a"}, "has no b; it has .*; rename c to b"),
        ({"prompt": "p", "a": "x", "b": "y", "wins": 1, "N": 2}, "has no n; it has .*; N may be n"),
        ({"prompt": "p", "a": "x", "b": "y", "won": 1, "Winner": "a"}, "has no result; .*; Winner may be winner"),
        ({**GOOD, "a": 3}, "has a a that is int, expected text"),
        ({**GOOD, "prompt": None}, "has no prompt or instruction or question or messages"),
        (
            {"Text": "p", "a": "x", "b": "y", "winner": "a", "voter": "ann"},
            "has no prompt or .*; it has Text, a, b, winner, voter; rename Text to prompt$",
        ),
        ({**GOOD, "p": 0.5}, "has wins and p; expected one of wins, p, winner, chosen"),
        ({"prompt": "p", "a": "x", "b": "y"}, "has no result; expected one of .*; it has prompt, a, b"),
        (
            {"prompt": "p", "a": "x", "b": "y", "preference": 1.5},
            "has a preference and no output_1 and output_2, .* rename the responses so, or .* winner",
        ),
        (
            {"prompt": "p", "output_1": "x", "b": "y", "preference": "a"},
            "has a preference and no output_2, .*; rename preference to winner",
        ),
        ({"prompt": "p", "a": "x", "b": "y", "p": 1.5}, r"has p 1\.5, expected a probability"),
        ({"prompt": "p", "a": "x", "b": "y", "winner": "c"}, "has winner 'c', expected one of a, b, tie"),
        ({"prompt": "p", "chosen": "x"}, "has no rejected"),
        ({"chosen": "x", "rejected": "y"}, "has no prompt"),
        ({"chosen": [YES], "rejected": [NO]}, "has no prompt"),
        ({"chosen": [USER, YES], "rejected": [{**USER, "content": "Ho"}, NO]}, "has other turns before the response"),
        (
            {"prompt": "Ho", "chosen": [USER, YES], "rejected": [USER, NO]},
            "has turns in chosen and rejected that are not those",
        ),
        ({"chosen": [USER], "rejected": [USER]}, "has a chosen that does not end with the assistant"),
        ({"prompt": "p", "chosen": 3, "rejected": "y"}, "has a chosen that is int"),
        ("text", "is str, expected an object"),
    ],
)
def test_bad_rows_are_named(row: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^the votes: row 2 {message}") as error:
        read_votes([GOOD, row])
    assert "\n" not in str(error.value)


def test_a_winner_of_two_meanings_says_both() -> None:
    row = {"prompt": "p", "a": "x", "b": "y", "winner": "model_b", "model_a": "model_b", "model_b": "gpt"}
    turns = [USER, YES], [USER, NO]
    battle = {**row, "conversation_a": turns[0], "conversation_b": turns[1]}
    for read in (read_votes, read_cast_votes, lambda rows: read_cast_votes([battle], "battles")):
        with pytest.raises(NashwardError, match=r"second model, 'gpt', or the model 'model_b'; call the model other"):
            read([row])


def test_skips_are_no_votes_and_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    row = {"prompt": "p", "a": "x", "b": "y"}
    skips = [{**row, "winner": winner} for winner in ("Skip", "", None)]
    assert read_votes([{**row, "winner": "a"}, *skips]) == [Vote("p", "x", "y", 1.0, 1.0)]
    (message,) = caplog.messages
    assert "3 rows of 4" in message
    assert read_votes([{**GOOD, "winner": None}]) == [Vote("p", "x", "y", 1.0, 2.0)]
    with pytest.raises(ValueError, match="holds no votes, but 3 skips"):
        read_votes(skips)
    assert read_votes([{**row, "model_a": "skip", "model_b": "opt", "winner": "skip"}])[0].wins == 1.0


@pytest.mark.parametrize("fields", RESPONSES)
def test_responses_have_the_names_that_tools_give_them(
    fields: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    row = {"prompt": "p", fields[0]: "x", fields[1]: "y", "winner": "left", "other": 1}
    assert read_votes([row]) == [Vote("p", "x", "y", 1.0, 1.0)]
    assert "'other'" in caplog.text
    assert repr(fields[0]) not in caplog.text
    with pytest.raises(ValueError, match=f"row 1 has no {fields[1]};"):
        read_votes([row | {fields[1]: None}])


def test_votes_among_the_rows_stay_as_they_are() -> None:
    assert read_votes([VOTES[0], GOOD, VOTES[1]]) == [VOTES[0], Vote("p", "x", "y", 1.0, 2.0), VOTES[1]]


def test_a_vote_made_by_hand_is_checked_too() -> None:
    with pytest.raises(ValueError, match=r"has wins 2\.0"):
        replace(VOTES[2], wins=2.0, n=1.0)


def test_bad_files_are_named(tmp_path: Path) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text(json.dumps(GOOD) + "\n" + json.dumps({**GOOD, "n": -1}))
    with pytest.raises(ValueError, match=r"bad\.jsonl: row 2 has n -1\.0"):
        read_votes(bad)
    (tmp_path / "empty.csv").write_text("prompt,a,b,winner\n")
    with pytest.raises(ValueError, match=r"empty\.csv holds no votes"):
        read_votes(tmp_path / "empty.csv")
    with pytest.raises(FileNotFoundError, match="there is no votes file"):
        read_votes(tmp_path / "none.jsonl")
    (tmp_path / "one.json").write_text(json.dumps(GOOD))
    with pytest.raises(ValueError, match="must hold a list of votes"):
        read_votes(tmp_path / "one.json")


def test_fields_that_pandas_left_empty_are_not_there() -> None:
    nothing = float("nan")
    row = {"prompt": "p", "a": "x", "b": "y", "winner": "b", "p": nothing, "chosen": nothing, "weight": nothing}
    assert read_votes([row]) == [Vote("p", "x", "y", wins=0, n=1)]
    with pytest.raises(NashwardError, match="no result"):
        read_votes([{**row, "winner": nothing, "p": nothing, "a": "z"}, {"prompt": "p", "a": "x", "b": "y"}])
