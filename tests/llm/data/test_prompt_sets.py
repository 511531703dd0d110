"""Prompts by the name of their set, read through datasets; prompts that belong to an iteration."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import pytest
from datasets.exceptions import DatasetNotFoundError

from nashward.errors import NashwardError
from nashward.llm import Prompt, RunConfig, read_prompts
from nashward.llm.data.prompt_sets import PROMPT_SETS
from nashward.llm.run.inputs.prompt_selection import PromptSelector
from nashward.llm.run.rollouts import RolloutStore
from nashward.llm.store.run_folder import RunFolder

from .. import tiny_run


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """In place of the hub: each split has two prompts of its own and one that all splits have."""
    asked: list[tuple[str, str]] = []

    def load(name: str, split: str) -> list[dict[str, Any]]:
        asked.append((name, split))
        texts = [f"{split} one", f"{split} two", "the same"]
        if name.endswith("dolly-15k"):
            return [{"instruction": text, "context": "C", "response": "R", "category": "qa"} for text in texts]
        return [
            {"prompt": text, "chosen": [{"role": "assistant", "content": "no"}], "prompt_id": "x"} for text in texts
        ]

    monkeypatch.setattr(datasets, "load_dataset", load)
    return asked


def test_the_thirds_of_the_paper_are_played_one_an_iteration(hub: list[tuple[str, str]]) -> None:
    found = read_prompts("ultrafeedback-sppo")
    assert hub == [("snorkelai/Snorkel-Mistral-PairRM-DPO-Dataset", f"train_iteration_{t}") for t in (1, 2, 3)]
    assert (found.read, len(found.kept), found.dropped["repeated"]) == (9, 7, 2)
    assert [prompt.iteration for prompt in found.kept] == [1, 1, 1, 2, 2, 3, 3]


@pytest.mark.parametrize("name", ["ultrafeedback", "no-robots", "dolly"])
def test_a_set_of_one_split_is_for_every_iteration(name: str, hub: list[tuple[str, str]], caplog: Any) -> None:
    found = read_prompts(name)
    assert hub == [(PROMPT_SETS[name].dataset, PROMPT_SETS[name].splits[0])]
    assert {prompt.iteration for prompt in found.kept} == {None}
    assert found.kept[0].text.endswith("one\n\nC" if name == "dolly" else "one")
    assert "not read" not in caplog.text


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (DatasetNotFoundError("Dataset 'x' is a gated dataset on the Hub."), "hf auth login"),
        (ConnectionError("offline"), "hf download"),
    ],
)
def test_gated_and_offline_sets_say_what_to_do(error: Exception, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str, split: str) -> Any:
        raise error

    monkeypatch.setattr(datasets, "load_dataset", load)
    with pytest.raises(FileNotFoundError, match=told):
        read_prompts("ultrafeedback-sppo")


def test_a_file_of_that_name_is_read_as_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("prompts.csv").write_text("prompt,iteration\nA,2\nB,\nC,1\n")
    assert [prompt.iteration for prompt in read_prompts("prompts.csv").kept] == [2, None, 1]
    # as a data frame writes whole numbers beside empty cells
    Path("prompts.csv").write_text("prompt,iteration\nA,2.0\nB,\nC,1.0\n")
    assert [prompt.iteration for prompt in read_prompts("prompts.csv").kept] == [2, None, 1]
    assert read_prompts([{"prompt": "A", "iteration": 10.0}]).kept[0].iteration == 10


@pytest.mark.parametrize("value", [0, -1, 1.5, "two", True])
def test_an_iteration_is_a_whole_number(value: Any) -> None:
    with pytest.raises(NashwardError, match="row 1 has an iteration"):
        read_prompts([{"prompt": "A", "iteration": value}])


def _numbers(iterations: Sequence[int | None], size: int | None, count: int) -> list[list[int]]:
    prompts = [
        Prompt(({"role": "user", "content": str(k)},), iteration=iteration) for k, iteration in enumerate(iterations)
    ]
    config = RunConfig(prompts_per_iteration=size)
    selector = PromptSelector(RunFolder("run"), prompts, [1] * len(prompts), config, RolloutStore(prompts), print)
    return [list(selector.numbers(t, Path("iteration"))) for t in range(count)]


def test_each_iteration_plays_on_its_own_prompts_and_on_those_of_all() -> None:
    assert _numbers([1, 1, 2, None, 3], None, 4) == [[0, 1, 3], [2, 3], [3, 4], [0, 1, 3]]
    assert _numbers([1, 1, 2, None, 3], 20000, 2) == [[0, 1, 3], [2, 3]]


def test_fewer_prompts_an_iteration_go_through_each_part_in_turn() -> None:
    found = _numbers([1] * 4 + [2] * 4, 2, 4)
    assert sorted(found[0] + found[2]) == [0, 1, 2, 3]
    assert sorted(found[1] + found[3]) == [4, 5, 6, 7]


def test_a_run_keeps_which_iteration_a_prompt_is_for(tiny_folder: Path, tmp_path: Path) -> None:
    rows = [{"prompt": f"Say {k}", "iteration": 1 + k % 2} for k in range(8)]
    play = tiny_run.quick_run(tiny_folder, tmp_path / "run", prompts=rows)
    play.run(progress=False)
    kept = read_prompts(tmp_path / "run" / "prompts.jsonl").kept
    assert [prompt.iteration for prompt in kept] == [row["iteration"] for row in rows]
    assert [row["prompts"] for row in play.run(progress=False).metrics] == [4, 4]
    with pytest.raises(NashwardError, match="prompts"):
        tiny_run.changed(play, prompts=[row["prompt"] for row in rows]).run(progress=False)
