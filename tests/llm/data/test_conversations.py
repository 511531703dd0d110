"""Which fields of a row make its prompt, alike in prompts, votes, task texts and answers; disagreements refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nashward.llm import read_prompts
from nashward.llm.data.conversations import prompt_messages
from nashward.llm.data.responses import read_prompts_in_order, read_prompts_with_responses, read_responses
from nashward.llm.oracles.fitting.votes import read_votes
from nashward.llm.run.inputs.opponents import StoredOpponents
from nashward.llm.run.inputs.sft import SFTFile
from nashward.llm.store.run_folder import RunFolder

HI = {"role": "user", "content": "Hi"}
YES = {"role": "assistant", "content": "yes"}
BRIEF = {"role": "system", "content": "Be brief."}

PROMPTS: list[tuple[dict[str, Any], list[tuple[str, str]]]] = [
    # Alpaca and its kin
    ({"instruction": "Translate.", "input": "cat"}, [("user", "Translate.\n\ncat")]),
    ({"instruction": "Translate.", "input": ""}, [("user", "Translate.")]),
    ({"instruction": "Translate.", "input": None}, [("user", "Translate.")]),
    ({"instruction": "Translate.", "input": float("nan")}, [("user", "Translate.")]),
    ({"instruction": "", "input": "cat"}, [("user", "cat")]),
    ({"instruction": "Sum up.", "context": "A text.", "category": "x"}, [("user", "Sum up.\n\nA text.")]),
    ({"instruction": "Say\n", "input": " a\n"}, [("user", "Say\n\n\n a\n")]),
    (
        {"instruction": "And now?", "input": "B", "system": "Be brief.", "history": [["Hi", "Hello"]]},
        [("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello"), ("user", "And now?\n\nB")],
    ),
    ({"instruction": "Hi", "history": []}, [("user", "Hi")]),
    # a question about a text, as reading comprehension has it; written into the prompt already it is not added again
    ({"question": "Who wrote it?", "context": "Emma is by Austen."}, [("user", "Who wrote it?\n\nEmma is by Austen.")]),
    ({"prompt": "Translate.", "input": "cat"}, [("user", "Translate.\n\ncat")]),
    ({"prompt": "Translate: cat", "instruction": "Translate", "input": "cat"}, [("user", "Translate: cat")]),
    ({"prompt": "Name a cat", "input": "a"}, [("user", "Name a cat\n\na")]),
    # a prompt that is the whole text already
    ({"prompt": "Translate: cat", "input": "cat"}, [("user", "Translate: cat")]),
    ({"prompt": "A text.\r\n\r\nSum up.", "context": "A text."}, [("user", "A text.\r\n\r\nSum up.")]),
    ({"prompt": "# Input:\nf(x)\ny \n# Answer:", "input": "f(x)\ny"}, [("user", "# Input:\nf(x)\ny \n# Answer:")]),
    ({"prompt": "Hi", "input": "Hi"}, [("user", "Hi")]),
    ({"prompt": "C\nQ? A:", "question": "Q?", "context": "C"}, [("user", "C\nQ? A:")]),
    ({"prompt": "Put cat in French.", "instruction": "in French.", "input": "cat"}, [("user", "Put cat in French.")]),
    # and one that has the input's letters by chance
    ({"prompt": "Name a cat", "instruction": "Name a cat", "input": "a"}, [("user", "Name a cat\n\na")]),
    ({"prompt": "Is this a word?", "input": "word"}, [("user", "Is this a word?\n\nword")]),
    ({"prompt": "Feed the concat", "input": "cat"}, [("user", "Feed the concat\n\ncat")]),
    ({"prompt": "Hi", "question": "Hi "}, [("user", "Hi")]),
    # a conversation beside the prompt that it begins with
    ({"prompt": "Hi", "messages": [BRIEF, HI, YES]}, [("system", "Be brief."), ("user", "Hi")]),
    ({"prompt": "Hi", "messages": [HI, YES, HI]}, [("user", "Hi")]),
    # system prompts beside the prompt
    ({"question": "Hi", "system": "Be brief."}, [("system", "Be brief."), ("user", "Hi")]),
    ({"question": "Hi", "system_prompt": "Be brief."}, [("system", "Be brief."), ("user", "Hi")]),
    ({"prompt": "Hi", "system_message": "Be brief."}, [("system", "Be brief."), ("user", "Hi")]),
    ({"prompt": "Hi", "system": ""}, [("user", "Hi")]),
    ({"prompt": "Hi", "system": "  \n"}, [("user", "Hi")]),
    ({"prompt": [HI], "system": "Be brief."}, [("system", "Be brief."), ("user", "Hi")]),
    ({"messages": [BRIEF, HI], "system": "Be brief."}, [("system", "Be brief."), ("user", "Hi")]),
    ({"prompt": "Hi", "system": "Be brief.", "system_prompt": "Be brief."}, [("system", "Be brief."), ("user", "Hi")]),
    ({"instruction": "Say", "input": "<noinput>"}, [("user", "Say")]),
    # chat logs
    ({"messages": json.dumps([BRIEF, HI])}, [("system", "Be brief."), ("user", "Hi")]),
    ({"messages": "Hi"}, [("user", "Hi")]),
    # as Parquet writes rows of two kinds
    ({"messages": [{"role": None, "content": None, "from": "human", "value": "Hi"}]}, [("user", "Hi")]),
    ({"messages": [{**HI, "name": None, "tool_calls": None}]}, [("user", "Hi")]),
    ({"conversations": [{"from": "human", "value": "Hi"}]}, [("user", "Hi")]),
    (
        {
            "conversations": [
                {"from": "system", "value": "Be brief."},
                {"from": "human", "value": "Hi"},
                {"from": "gpt", "value": "Hello"},
                {"from": "human", "value": "Why?"},
                {"from": "gpt", "value": "So."},
            ]
        },
        [("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello"), ("user", "Why?")],
    ),
    (
        {"conversations": [{"from": "user", "value": "Hi"}], "system": "Be brief."},
        [("system", "Be brief."), ("user", "Hi")],
    ),
    ({"conversation": [HI, YES]}, [("user", "Hi")]),
    ({"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]}, [("user", "Hi")]),
    # the turns of preference data
    ({"chosen": [BRIEF, HI, YES], "rejected": [BRIEF, HI, YES]}, [("system", "Be brief."), ("user", "Hi")]),
    ({"chosen": [HI, YES], "rejected": [HI, YES], "system": "Be brief."}, [("system", "Be brief."), ("user", "Hi")]),
    ({"prompt": "Hi", "chosen": [BRIEF, HI, YES], "rejected": "no"}, [("system", "Be brief."), ("user", "Hi")]),
    ({"prompt": "Hi", "chosen": 0, "rejected": 1}, [("user", "Hi")]),
    ({"prompt": "Hi", "chosen": ["a", "b"], "rejected": ["c"]}, [("user", "Hi")]),
]  # fmt: skip


@pytest.mark.parametrize(("row", "turns"), PROMPTS)
def test_fields_that_change_the_prompt_are_read(row: dict[str, Any], turns: list[tuple[str, str]]) -> None:
    assert [(message["role"], message["content"]) for message in prompt_messages(row)] == turns
    (prompt,) = read_prompts([row]).kept
    assert [(message["role"], message["content"]) for message in prompt.messages] == turns


@pytest.mark.parametrize(("row", "turns"), PROMPTS)
def test_a_row_is_the_same_prompt_in_every_kind_of_file(
    row: dict[str, Any], turns: list[tuple[str, str]], tmp_path: Path
) -> None:
    row = {name: value for name, value in row.items() if value == value}  # JSON has no NaN
    (prompt,) = read_prompts([row]).kept
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps(row))
    assert read_prompts_in_order(file) == [prompt]
    answered = {**row, "output": "x"}
    assert list(read_prompts_with_responses([answered], "model", None)) == [(prompt, ["x"])]
    assert StoredOpponents({"model": [answered]}).responses == {"model": {prompt.id: ["x"]}}
    task = SFTFile([answered, answered], RunFolder(tmp_path / "run"))
    assert task.texts == [(prompt, "x")] * 2
    if "chosen" not in row:
        compared = [{**row, "a": "x", "b": "y", "winner": "a"}, {**row, "chosen": "x", "rejected": "y"}]
        assert [(vote.prompt, vote.a, vote.b) for vote in read_votes(compared)] == [(prompt.text, "x", "y")] * 2


@pytest.mark.parametrize(
    ("row", "named"),
    [
        ({"instruction": "You are a poet.", "question": "Hi"}, "two prompts, instruction .*question 'Hi'"),
        ({"instruction": "Hi", "question": "H"}, "two prompts"),
        ({"prompt": "Hi", "messages": [BRIEF, HI], "system": "B"}, "two system prompts, 'Be brief.' .*'B'"),
        ({"prompt": "Hi", "system": "A", "system_prompt": "B"}, "two system prompts, 'A'.*'B'"),
        ({"messages": [BRIEF, HI], "system": "B"}, "two system prompts, 'Be brief.' .*'B'"),
        ({"prompt": [BRIEF, HI], "chosen": [{**BRIEF, "content": "B"}, HI, YES], "rejected": ""}, "two system prompts"),
        ({"prompt": "Hi", "system": ["A"]}, "system that is list"),
        ({"instruction": "Hi", "input": {"text": "A"}}, "input that is dict"),
        ({"instruction": "Hi", "history": "A"}, "history"),
        ({"instruction": "Hi", "history": [["A"]]}, "history"),
        ({"messages": [BRIEF]}, "ends with a turn of role system"),
        ({"messages": [HI, BRIEF]}, "ends with a turn of role system"),
        ({"messages": [{"role": "tool", "content": "22"}]}, "without a role"),
        ({"conversations": [{"from": "observation", "value": "22"}]}, "without a role"),
        ({"messages": [HI, {**YES, "tool_calls": [{"id": 1}]}, HI]}, "calls a tool"),
        ({"messages": [{"role": "user", "content": [{"type": "image", "url": "x"}]}]}, "content that is text"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": t} for t in "ab"]}]}, "content that is"),
        ({"messages": [{"role": "user", "content": 22}]}, "content that is text"),
        ({"messages": [{"role": ["user"], "content": "Hi"}]}, "without a role"),
        ({"prompt": {"role": "user", "content": "Hi"}}, "prompt that is dict"),
    ],
)  # fmt: skip
def test_a_row_that_cannot_be_understood_is_refused(row: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=f"^the prompts: row 2 .*{named}") as error:
        read_prompts(["a", row])
    assert "\n" not in str(error.value)


def test_prompts_that_differ_in_a_system_prompt_or_an_input_stay_apart() -> None:
    systems = [{"question": "Hi", "system": text} for text in ("A", "B", "A")]
    inputs = [{"instruction": "Hi", "input": text} for text in ("A", "B", "A")]
    for rows in (systems, inputs):
        assert str(read_prompts(rows)) == "3 prompts read, 2 kept, 1 dropped (1 repeated)"
    votes = read_votes([{**row, "chosen": c, "rejected": r} for row, c, r in zip(systems, "xyx", "yxy", strict=True)])
    assert [vote.prompt for vote in votes] == [f"SYSTEM: {text}\nUSER: Hi" for text in "ABA"]


def test_a_response_may_stand_at_the_end_of_its_conversation(tmp_path: Path) -> None:
    rows = [
        {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "yes"}]},
        {"messages": [HI, YES]},
    ]
    (prompt,) = read_prompts(["Hi"]).kept
    assert list(read_prompts_with_responses(rows, "task", None)) == [(prompt, ["yes"])] * 2
    assert SFTFile(rows, RunFolder(tmp_path / "run")).texts == [(prompt, "yes")] * 2
    (tmp_path / "model.json").write_text(json.dumps(rows))
    assert read_responses(tmp_path) == {"model": ["yes", "yes"]}
    assert list(read_prompts_with_responses([{"talk": [HI, YES]}], "task", "talk")) == [(prompt, ["yes"])]
    assert list(read_prompts_with_responses([{"messages": json.dumps([HI, YES])}], "task", None)) == [(prompt, ["yes"])]
    with pytest.raises(ValueError, match=r"task: row 1 has no response"):
        list(read_prompts_with_responses([{"messages": [HI]}], "task", None))
    # a response of its own comes first: the turn in the log is another model's
    assert list(read_prompts_with_responses([{"messages": [HI, YES], "output": "no"}], "m", None)) == [(prompt, ["no"])]


def test_the_first_field_with_a_response_is_taken() -> None:
    rows = [{"prompt": "Hi", "output": None, "response": "x"}, {"prompt": "Hi", "output": None}]
    assert [texts for _, texts in read_prompts_with_responses(rows, "model", None)] == [["x"], []]
    with pytest.raises(ValueError, match="row 1 has turns before the response in output"):
        list(read_prompts_with_responses([{"prompt": "Hi", "output": [HI, YES]}], "model", None))


def test_fields_that_are_not_read_are_named_once(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    rows = [{"prompt": "a", "choices": ["x"], "topic": k, "empty": None} for k in range(3)]
    read_prompts(rows)
    assert [record.getMessage() for record in caplog.records] == [
        "the prompts: fields that are not read: 'choices', 'topic'"
    ]
    caplog.clear()
    read_votes([{"instruction": "a", "input": "x", "chosen": "b", "rejected": "c", "score": 1}] * 2)
    list(read_prompts_with_responses([{"prompt": "a", "output": "b", "text": "c"}], "model", None))
    named = [record.getMessage().partition("read: ")[2] for record in caplog.records]
    assert named == ["'score'", "'text'"]
    caplog.clear()
    read_prompts([{"ask": "a", "prompt": "b", "system": "c"}], column="ask")
    assert [record.getMessage().partition("read: ")[2] for record in caplog.records] == ["'prompt'"]
    caplog.clear()
    read_prompts([{"prompt": "a", **dict.fromkeys(map(str, range(25)), "x")}])
    assert caplog.messages[0].endswith("'18', '19' and 5 more")
    caplog.clear()
    read_prompts([{"prompt": "a", "system": "b", "weight": 2}, "c"])
    assert caplog.records == []


def test_a_field_without_a_value_is_an_empty_prompt_and_not_another(tmp_path: Path) -> None:
    file = tmp_path / "prompts.csv"
    file.write_text("prompt,weight\na,\n,2\n,\n")
    assert str(read_prompts(file)) == "3 prompts read, 1 kept, 2 dropped (2 empty)"
    assert [prompt.text for prompt in read_prompts_in_order(file)] == ["a", "", ""]
    file.write_text("prompt,question\n,b\na,\n")
    assert [prompt.text for prompt in read_prompts(file).kept] == ["b", "a"]
