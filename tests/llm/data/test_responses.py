"""Stored responses: matched with the prompts that they name, by order where they name none."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from nashward import llm
from nashward.cli.main import main
from nashward.llm.data.responses import read_prompt_keys, read_prompt_texts, read_responses

CAPITALS = {"Capital of France?": "Paris", "Capital of Italy?": "Rome", "Capital of Spain?": "Madrid"}
PROMPTS = list(CAPITALS)


def _write(folder: Path, **models: Sequence[Any]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, rows in models.items():
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return folder


def _named(order: Sequence[int], shift: int = 0, field: str = "instruction") -> list[dict[str, str]]:
    texts = list(CAPITALS.values())
    return [{field: PROMPTS[k], "output": texts[(k + shift) % 3]} for k in order]


@pytest.mark.parametrize("field", ["instruction", "prompt", "question"])
@pytest.mark.parametrize("order", [(0, 1, 2), (1, 2, 0), (2, 1, 0)])
def test_responses_are_matched_by_the_prompt_that_they_name(field: str, order: Sequence[int], tmp_path: Path) -> None:
    folder = _write(tmp_path / "answers", good=_named(order, field=field), plain=["a", None, "c"])
    assert read_responses(folder, PROMPTS) == {"good": list(CAPITALS.values()), "plain": ["a", None, "c"]}


def test_a_leaderboard_does_not_depend_on_the_order_of_the_rows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of 10 votes each the right capital has 9: P = (1/2 + 9) / (1 + 10)."""
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("\n".join(json.dumps({"instruction": text}) for text in PROMPTS))
    votes = tmp_path / "votes.jsonl"
    rows = [
        {"prompt": prompt, "a": right, "b": wrong, "wins": 9, "n": 10}
        for prompt, right in CAPITALS.items()
        for wrong in CAPITALS.values()
        if wrong != right
    ]
    votes.write_text("\n".join(map(json.dumps, rows)))
    found = []
    for order in ((0, 1, 2), (1, 2, 0)):
        folder = _write(tmp_path / f"answers-{order[0]}", good=_named(order), bad=_named((0, 1, 2), shift=1))
        table = tmp_path / "table.json"
        command = ["leaderboard", str(folder), "--prompts", str(prompts), "--oracle", str(votes), "--json", str(table)]
        assert main(command) == 0, capsys.readouterr().err
        found.append(json.loads(table.read_text())["models"])
    assert found[0] == found[1]
    assert {row["model"]: round(row["win_rate"], 6) for row in found[0]} == {
        "good": round(9.5 / 11, 6),
        "bad": round(1.5 / 11, 6),
    }


def test_a_conversation_is_matched_as_it_is_written_by_answer(tmp_path: Path) -> None:
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("\n".join(map(json.dumps, [{"messages": chat}, {"instruction": "Say", "input": "x"}])))
    texts = read_prompt_texts(prompts)
    rows = [
        {"instruction": "Say", "input": "x", "output": "b"},
        {"system": "Be brief.", "prompt": "Hi", "output": "a"},
    ]
    folder = _write(tmp_path / "answers", one=rows, two=[{"prompt": text, "output": text} for text in reversed(texts)])
    assert read_responses(folder, texts) == {"one": ["a", "b"], "two": texts}


def test_prompts_that_are_repeated_take_their_responses_in_order(tmp_path: Path) -> None:
    rows = [{"prompt": "b", "output": "1"}, {"prompt": "a", "output": "2"}, {"prompt": "a", "output": "3"}]
    folder = _write(tmp_path / "answers", model=rows)
    assert read_responses(folder, ["a", "b", "a"]) == {"model": ["2", "1", "3"]}


def test_a_prompt_that_is_not_named_has_no_response(tmp_path: Path) -> None:
    folder = _write(tmp_path / "answers", model=_named((2, 0)))
    assert read_responses(folder, PROMPTS) == {"model": ["Paris", None, "Madrid"]}


@pytest.mark.parametrize(
    ("rows", "named"),
    [
        ([*_named((0, 1)), {"instruction": "Capital of Chad?", "output": "N'Djamena"}], r"row 3 .*Capital of Chad"),
        (_named((0, 1, 0)), r"row 3 .*Capital of France.*again"),
        ([*_named((0, 1)), {"output": "Madrid"}], "row 3 does not name its prompt"),
        (["Paris", *_named((1, 2))], "row 1 does not name its prompt"),
        (
            [{"prompt": "Capital of France?", "ouput": "Paris", "model": "m"}],
            "row 1 has no response.*ouput may be output",
        ),
        ([{"prompt": "Capital of France?", "id": "7", "answer": "Paris"}], "row 1 has no response.*rename answer to"),
        ([{"instruction": "Capital of France? ", "output": "Paris"}], "row 1 .*none of the prompts"),
    ],
)
def test_keys_that_disagree_are_refused(rows: list[Any], named: str, tmp_path: Path) -> None:
    folder = _write(tmp_path / "answers", model=rows)
    with pytest.raises(ValueError, match=rf"model\.jsonl: {named}") as error:
        read_responses(folder, PROMPTS)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("key", ["id", "question_id", "prompt_id"])
@pytest.mark.parametrize("written", [int, str])  # CSV has all as text
def test_responses_are_matched_by_the_key_of_the_prompts(key: str, written: type, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("\n".join(json.dumps({"prompt": text, key: 7 + k}) for k, text in enumerate(PROMPTS)))
    right = list(CAPITALS.values())
    rows = [{key: written(7 + k), "output": right[k]} for k in range(3)]
    folder = _write(tmp_path / "answers", ahead=rows, back=rows[::-1], some=rows[:0:-1], plain=["a", None, "c"])
    assert read_responses(folder, read_prompt_texts(prompts), read_prompt_keys(prompts)) == {
        "ahead": right,
        "back": right,
        "some": [None, *right[1:]],
        "plain": ["a", None, "c"],
    }


def test_a_leaderboard_of_responses_with_ids_does_not_depend_on_their_order(tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("\n".join(json.dumps({"prompt": text, "id": k}) for k, text in enumerate(PROMPTS)))
    found = []
    for order in ((0, 1, 2), (2, 0, 1)):
        models: dict[str, list[Any]] = {
            "long": [{"id": k, "output": "x" * (3 * k + 2)} for k in order],
            "short": ["x" * (3 * k) for k in range(3)],
        }
        folder = _write(tmp_path / f"answers-{order[0]}", **models)
        command = ["leaderboard", str(folder), "--prompts", str(prompts), "--oracle", "nashward.llm.oracles:Length"]
        assert main([*command, "--json", str(tmp_path / "table.json")]) == 0
        found.append(json.loads((tmp_path / "table.json").read_text())["models"])
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("keys", "rows", "named"),
    [
        ([1, 2, 3], [1, 2, 4], "row 3 answers '4', which is none of the question_ids of the prompts"),
        ([1, 2, 3], [7, 8, 9], "row 1 answers '7'"),
        ([None, None, None], [2, 1, 3], "row 1 has question_id '2' where first.jsonl has '1'"),
    ],
)
def test_ids_that_disagree_are_refused(keys: list[Any], rows: list[int], named: str, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text(
        "\n".join(json.dumps({"prompt": text, "question_id": key}) for key, text in zip(keys, PROMPTS, strict=True))
    )
    first, other = ([{"question_id": key, "output": "x"} for key in order] for order in ([1, 2, 3], rows))
    folder = _write(tmp_path / "answers", first=first, other=other)
    with pytest.raises(ValueError, match=rf"other\.jsonl: {named}") as error:
        read_responses(folder, read_prompt_texts(prompts), read_prompt_keys(prompts))
    assert "\n" not in str(error.value)


def test_an_id_of_the_responses_own_matches_nothing(tmp_path: Path) -> None:
    rows = {name: [{"id": f"{name}-{k}", "output": str(k)} for k in range(3)] for name in ("one", "two")}
    folder = _write(tmp_path / "answers", **rows)
    texts = ["0", "1", "2"]
    assert read_responses(folder, PROMPTS, {"id": ["7", "8", "9"]}) == {"one": texts, "two": texts}


def test_the_real_responses_name_their_prompts(data: Path) -> None:
    folder = data / "alpacaeval"
    texts = read_prompt_texts(folder / "prompts.json.gz")
    by_order, by_name = read_responses(folder / "outputs"), read_responses(folder / "outputs", texts)
    assert by_name == by_order
    assert len(by_name) > 5


def test_opponents_are_matched_by_the_prompt(tmp_path: Path) -> None:
    from nashward.llm.run.inputs.opponents import StoredOpponents

    prompts = llm.read_prompts(PROMPTS).kept
    responses = StoredOpponents({"model": _named((1, 2, 0))}).responses
    assert responses is not None
    assert [responses["model"][prompt.id] for prompt in prompts] == [["Paris"], ["Rome"], ["Madrid"]]


def test_fields_that_are_not_read_are_named_once_for_all_files(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [row | {"generator": "g", "dataset": "d"} for row in _named((0, 1, 2))]
    read_responses(_write(tmp_path / "answers", one=rows, two=rows, three=rows), PROMPTS)
    (warning,) = caplog.records
    assert warning.getMessage().endswith("'generator', 'dataset'")
