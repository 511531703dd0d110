"""The first iteration of a run folder as it was sampled and judged, to fit it again in other ways."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nashward.errors import NashwardError
from nashward.games.shapes import Float
from nashward.llm.config.fit import Fit
from nashward.llm.data.rollouts import Rollout
from nashward.llm.policy.model import LanguageModel
from nashward.llm.store.files import read_shard, shards
from nashward.llm.training.batches import MicroBatch, micro_batches
from nashward.llm.training.regression import targets, win_rates


@dataclass(frozen=True)
class StoredIteration:
    """Iteration 1 of a run in self-play: N prompts with K responses of the start, judged against each other.

    Attributes:
        folder: of the run.
        config: of its ``run.json``.
        size: of the Step.
        rollouts: with payoffs and tables, the responses with their texts.
    """

    folder: Path
    config: dict[str, Any]
    size: float
    rollouts: list[Rollout]

    @staticmethod
    def read(folder: Path) -> StoredIteration:
        """
        Raises:
            NashwardError: the folder has no finished first iteration, or one that is no self-play of the start alone.
        """
        step = folder / "iteration-01"
        if not (step / "metrics.jsonl").is_file():
            raise NashwardError(f"{folder} has no finished iteration-01; expected a run folder of `nashward align`")
        metrics = json.loads((step / "metrics.jsonl").read_text().splitlines()[-1])
        if metrics["anchor"] != {"start": 1.0} or metrics["opponent"] != {"start": 1.0}:
            raise NashwardError(
                f"{folder}: iteration-01 plays {metrics['opponent']} from {metrics['anchor']}; expected the start alone"
            )
        config = json.loads((folder / "run.json").read_text())["config"]
        if config["adapter"] is not None:
            raise NashwardError(f"{folder} starts from the adapter {config['adapter']}; expected a new one")
        rows = [row for file in shards(step / "responses", "start") for row in read_shard(file)]
        tables = {
            row["prompt"]: torch.tensor(row["P"], dtype=torch.float64)
            for file in shards(step / "judgements", "start")
            for row in read_shard(file, ["prompt", "P"])
        }
        rollouts = []
        for prompt, own in groupby(rows, key=lambda row: row["prompt"]):
            rollout, P = Rollout.from_rows(list(own)), tables[prompt]
            itself = None if config["self_comparison"] else torch.arange(len(P))
            rollouts.append(replace(rollout, payoffs=win_rates(P, torch.ones(len(P)), itself), table=P))
        return StoredIteration(folder, config, float(metrics["size"]), rollouts)

    @property
    def fit(self) -> Fit:
        """As the run was fitted."""
        return Fit(**self.config["fit"])

    @property
    def start(self) -> Path:
        """The adapter that the run began with."""
        return self.folder / "start" / "adapter"

    @property
    def samples(self) -> str:
        """Identifies model and responses, whoever judged them."""
        texts = [[list(prompt), list(ids)] for rollout in self.rollouts for prompt, ids in rollout.texts]
        return hashlib.sha256(json.dumps([self.config["policy"], texts]).encode()).hexdigest()[:12]

    def targets(self) -> Float[Tensor, "N K"]:
        """Of the responses, in nats."""
        payoffs = torch.stack([rollout.payoffs for rollout in self.rollouts if rollout.payoffs is not None])
        weights = torch.stack([rollout.weights for rollout in self.rollouts])
        return targets(payoffs, self.size, weights, self.fit.baseline)

    def model(self) -> LanguageModel:
        """The policy's network."""
        config = self.config
        return LanguageModel.from_pretrained(
            config["policy"], self.start, quantise=config["quantise"], quantise_head=config["quantise_head"],
            chat_template=config["chat_template"],
        )  # fmt: skip

    def batches(self, model: LanguageModel, numbers: Sequence[int], logprobs: Float[Tensor, "N K"]) -> list[MicroBatch]:
        """Micro-batches of some prompts, by their numbers, with the responses' log-probabilities under the start."""
        fit, place = self.fit, {rollout.prompt: number for number, rollout in enumerate(self.rollouts)}
        chosen = micro_batches([self.rollouts[i] for i in numbers], fit.pass_tokens(model.device.type), fit.batch)
        for batch in chosen:
            batch.start = logprobs[[place[rollout.prompt] for rollout in batch.rollouts]].float()
            batch.anchor = batch.sampler = batch.reference = batch.start
        return chosen
