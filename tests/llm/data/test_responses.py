"""Stored responses: matched with the prompts that they name, by order where they name none."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from nashward import llm
from nashward.cli.main import main
from nashward.llm.data.responses import read_prompt_texts, read_responses

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
        (_named((0, 1, 0)), r"row 3 .*Capital of France.*once more"),
        ([*_named((0, 1)), {"output": "Madrid"}], "row 3 does not name its prompt"),
        (["Paris", *_named((1, 2))], "row 1 does not name its prompt"),
        ([{"instruction": "Capital of France? ", "output": "Paris"}], "row 1 .*none of the prompts"),
    ],
)
def test_keys_that_disagree_are_refused(rows: list[Any], named: str, tmp_path: Path) -> None:
    folder = _write(tmp_path / "answers", model=rows)
    with pytest.raises(ValueError, match=rf"model\.jsonl: {named}") as error:
        read_responses(folder, PROMPTS)
    assert "\n" not in str(error.value)


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
