"""Training of a Step begins here: its responses are scored under the policies before it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch

from nashward.errors import NashwardError
from nashward.games import Step

from ...config.fit import Baseline
from ...policy.handles import Adapter, Sampled
from ...policy.model import LanguageModel
from ...processes import processes
from ...store.files import read_shard, write_shard
from ...store.run_folder import RunFolder
from ...training.batches import SCORES, MicroBatch
from ...training.experience import scored
from ...training.scoring import score, scored_policies
from ..progress import Progress
from .shards import wait_for_shards

SCORED_PROMPTS = 64  # in a shard of log-probabilities: each costs a switch of adapters, and falls to one process


@dataclass(frozen=True)
class ScoreStage:
    """Computes the log-probabilities of responses under the anchor, the samplers and the start.

    Attributes:
        home: the run folder.
        step_folder: where the Step is written.
        samplers: the policies whose responses are fitted.
        reference: the policy that the run started from.
        baseline: that of the fit, see ``Fit``.
    """

    home: RunFolder
    progress: Progress
    model: LanguageModel
    step_folder: Path
    step: Step
    samplers: Sequence[Sampled]
    reference: Adapter
    baseline: Baseline

    def run(self, batches: Sequence[MicroBatch]) -> None:
        """The log-probabilities of the micro-batches, shard by shard; those of complete shards are read. Of several
        processes each scores its own shards, and reads the others'."""
        folder, parts = self.step_folder / "targets", _shards(batches)
        missing = processes.decided(
            lambda: [number for number, part in enumerate(parts) if not self._read(folder, number, part)]
        )
        anchor = {member.value: weight for member, weight in self.step.anchor.members().items()}
        if missing:
            each = len(scored_policies(anchor, self.samplers, self.reference))  # passes of a micro-batch
            left = each * sum(len(parts[number]) for number in missing)
            total = each * len(batches)
            with self.progress.phase(
                self.step_folder.name, "scoring", "", total, total - left, "pass", "passes", shared=True
            ) as tick:

                def passed(batch: MicroBatch) -> None:
                    tick(1, tokens=batch.tokens)

                for number in processes.share(missing):
                    self.progress.raise_if_stopped()
                    part = parts[number]
                    score(self.model, part, anchor, self.samplers, self.reference, passed)
                    rows = [
                        {"texts": _identity(batch), "passes": batch.passes,
                         **{name: scored(getattr(batch, name), name).tolist() for name in SCORES},
                         "payoffs": batch.payoffs.tolist(), "weights": batch.weights.tolist(),
                         **({} if batch.precision is None else {"precision": batch.precision.tolist()}),
                         "targets": batch.targets(self.step.size, self.baseline).tolist()}
                        for batch in part
                    ]  # fmt: skip
                    write_shard(folder, "anchor", number, rows)
        wait_for_shards(folder, "anchor", range(len(parts)))
        for number, part in enumerate(parts):
            if part[0].anchor is None and not self._read(folder, number, part):
                raise NashwardError(f"{folder} was changed while it was read; the same command continues")

    def _read(self, folder: Path, number: int, batches: Sequence[MicroBatch]) -> bool:
        """Whether a shard has the scores of these micro-batches, which then have them too."""
        file = self.home.shard(folder, "anchor", number)
        if file is None:
            return False
        rows = read_shard(file)
        if [_identity(batch) for batch in batches] != [row.get("texts") for row in rows]:
            self.home.quarantine(file, f"{file} belongs to other micro-batches")
            return False
        for batch, row in zip(batches, rows, strict=True):
            if len(row["passes"]) >= len(batch.passes):  # halved where memory ran out, and never larger than now
                batch.passes = row["passes"]
            for name in SCORES:
                setattr(batch, name, torch.tensor(row[name], dtype=torch.float32))
        return True


def _identity(batch: MicroBatch) -> str:
    """What tells a micro-batch from others: the token ids of its prompts and of their responses that are fitted."""
    texts = [(list(prompt), list(response)) for prompt, response in batch.texts]
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()[:16]


def _shards(batches: Sequence[MicroBatch]) -> list[Sequence[MicroBatch]]:
    """Micro-batches in shards of about ``SCORED_PROMPTS`` prompts."""
    cuts, prompts = [0], 0
    for k, batch in enumerate(batches, 1):
        prompts += len(batch.rollouts)
        if prompts >= SCORED_PROMPTS or k == len(batches):
            cuts.append(k)
            prompts = 0
    return [batches[a:b] for a, b in pairwise(cuts)]
