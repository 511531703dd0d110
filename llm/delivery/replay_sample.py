"""Responses that a run has stored and judged, to be replayed: their texts, and what each wins."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nashward.errors import NashwardError
from nashward.games.shapes import Float

from ..data.rollouts import Text
from ..store.files import read_shard, shards
from ..store.run_folder import RunFolder
from ..store.step_shards import by_prompt, shard_names
from ..training.regression import win_rates


@dataclass(frozen=True)
class ReplaySample:
    """N responses of one policy of a run.

    Attributes:
        label: the policy that they were sampled from.
        adapter: its folder.
        prompts: the id of each response's prompt, ``N``.
        texts: prompt and response as token ids.
        weights: of each in the mean over the responses to its prompt: they sum to 1 for each prompt.
        payoffs: the mean win probability of each, ``[N]``: against the other responses to its prompt, or against the
            opponent's where the run compared it with those alone; NaN where it was not judged.
    """

    label: str
    adapter: Path
    prompts: list[str]
    texts: list[Text]
    weights: Float[Tensor, " N"]
    payoffs: Float[Tensor, " N"]


def replay_sample(home: RunFolder, count: int, seed: int = 0) -> ReplaySample:
    """At most ``count`` responses of the newest step that has judged ones of a single adapter; whole prompts, drawn.

    Args:
        home: the run folder.
        count: responses at most, but all of one prompt at least.
        seed: of the draw of prompts.

    Raises:
        NashwardError: the run has no judged responses of an adapter.
    """
    for step in reversed(home.steps()):
        for label in shard_names(step / "responses"):
            adapter = home / label / "adapter"
            payoffs = _payoffs(step / "judgements", label)
            if payoffs and adapter.is_dir():
                return _drawn(step, label, adapter, payoffs, count, seed)
    raise NashwardError(
        f"{home.path} holds no judged responses of an adapter, which the artefact could be held against; run its "
        "stages sample and judge, or export with --no-verify"
    )


def _payoffs(folder: Path, label: str) -> dict[str, Tensor]:
    """The payoffs of a policy's responses by prompt: from its own table, else from the first against another policy."""
    found: dict[str, Tensor] = {}
    own: dict[str, Tensor] = {}
    for file in shards(folder, "*"):
        for row in read_shard(file, ["prompt", "rows", "columns", "P"]):
            P = _tensor(row["P"])
            if row["rows"] == row["columns"] == label:
                own[row["prompt"]] = win_rates(P, P.new_ones(len(P)), torch.arange(len(P)))
            elif label in (row["rows"], row["columns"]):
                P = P if row["rows"] == label else 1 - P.mT
                found.setdefault(row["prompt"], win_rates(P, P.new_ones(P.shape[1])))
    return own or found


def _drawn(step: Path, label: str, adapter: Path, payoffs: dict[str, Tensor], count: int, seed: int) -> ReplaySample:
    groups = dict(by_prompt(shards(step / "responses", label), ["prompt", "prompt_ids", "ids", "weight"]))
    names = [prompt for prompt, group in groups.items() if len(payoffs.get(prompt, ())) == len(group)]
    random.Random(seed).shuffle(names)
    prompts: list[str] = []
    texts: list[Text] = []
    weights: list[float] = []
    values: list[float] = []
    for prompt in names:
        group = groups[prompt]
        if texts and len(texts) + len(group) > count:
            break
        prompts += [prompt] * len(group)
        texts += [(row["prompt_ids"], row["ids"]) for row in group]
        weights += [row["weight"] for row in group]
        values += payoffs[prompt].tolist()
    return ReplaySample(label, adapter, prompts, texts, _tensor(weights), _tensor(values))


def _tensor(values: Sequence[Any]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)
