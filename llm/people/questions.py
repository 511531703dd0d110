"""What people can compare: the responses of a run, pairs of a file, the responses of several models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nashward.errors import NashwardError
from nashward.winners import MODELS, response_fields

from ..data.conversations import fields_of_prompt
from ..data.responses import read_prompt_keys, read_prompt_texts, read_responses
from ..data.rows import numbered_rows, read_rows
from ..oracles.fitting.votes import compared_texts, models_of_row
from ..run.inputs.augmented_prompts import played_prompts
from ..store.files import read_shard, shards
from ..store.run_folder import RunFolder


@dataclass(frozen=True)
class Responses:
    """The responses to one prompt that are compared with each other.

    Attributes:
        prompt: its text.
        texts: the responses.
        sources: whose each is.
    """

    prompt: str
    texts: list[str]
    sources: list[str]


def of_pairs(file: Path) -> list[Responses]:
    """Pairs of a file with ``prompt``, ``a`` and ``b``, and perhaps ``model_a`` and ``model_b``; no other pairs.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a row without these (it is numbered).
    """
    if not file.is_file():
        raise FileNotFoundError(f"there is no file of pairs {file}")

    def parse(row: Any) -> Responses:
        if not isinstance(row, Mapping):
            raise NashwardError(f"is {type(row).__name__}, expected an object with prompt, a and b")
        prompt, *texts = compared_texts(row)
        return Responses(prompt, texts, list(models_of_row(row)))

    def used(row: Any) -> set[str]:
        return fields_of_prompt(row) | {*response_fields(row), *MODELS}

    return list(numbered_rows(read_rows(file, "pairs"), str(file), parse, used))


def of_answers(folder: Path, prompts: Path, column: str | None = None) -> list[Responses]:
    """The responses of several models, one file a model, see ``read_responses``.

    Raises:
        FileNotFoundError, ValueError: as ``read_responses``.
    """
    texts = read_prompt_texts(prompts, column)
    by_model = read_responses(folder, texts, read_prompt_keys(prompts))
    groups = []
    for k, prompt in enumerate(texts):
        own = {model: text for model, responses in by_model.items() if (text := responses[k]) is not None}
        groups.append(Responses(prompt, list(own.values()), list(own)))
    return groups


def of_run(folder: Path) -> list[Responses]:
    """The responses that the newest step of a run has sampled.

    Raises:
        ValueError: nothing is sampled yet.
    """
    run = RunFolder(folder)
    texts = {prompt.id: prompt.text for prompt in played_prompts(run)}
    for step in reversed(run.steps()):
        files = shards(step / "responses", "*")
        if files:
            rows = (row for file in files for row in read_shard(file, ["prompt", "policy", "text"]))
            return list(_grouped(rows, texts, run.path.name))
    raise NashwardError(f"{folder} has sampled nothing yet; nashward sample draws the responses of its next step")


def drawn_by(run: RunFolder) -> set[tuple[str, str]]:
    """The prompts and responses that a run has drawn, of all its steps."""
    texts = {prompt.id: prompt.text for prompt in played_prompts(run)}
    files = [file for step in run.steps() for file in shards(step / "responses", "*")]
    return {(texts[row["prompt"]], row["text"]) for file in files for row in read_shard(file, ["prompt", "text"])}


def _grouped(rows: Iterable[Mapping[str, Any]], texts: Mapping[str, str], run: str) -> Iterable[Responses]:
    groups: dict[str, Responses] = {}
    for row in rows:
        group = groups.setdefault(row["prompt"], Responses(texts[row["prompt"]], [], []))
        group.texts.append(row["text"])
        group.sources.append(f"{run}/{row['policy']}")
    return groups.values()
