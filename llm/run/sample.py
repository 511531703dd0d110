"""The first stage of a Step: responses are sampled."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..data.rollouts import Rollout
from ..policy.experimental.token_mixture import use_policy
from ..policy.handles import Sampled
from ..policy.model import LanguageModel
from ..policy.sampling import GenerateSource, ResponseSource, seed_of
from ..store.files import write_shard
from .rollouts import PromptNumbers
from .shards import SHARD_PROMPTS, ShardedStage


@dataclass(frozen=True)
class SampleStage(ShardedStage):
    """Draws K responses of a policy to each prompt.

    Attributes:
        model: called where a shard is missing; the model that it returns is on the device.
    """

    model: Callable[[], LanguageModel]

    def run(self, step: Path, policy: Sampled, numbers: PromptNumbers) -> None:
        """Write the shards of ``step`` that are missing; ``numbers`` are its prompts."""
        plan = self.plan(step, numbers)
        missing = self.missing(plan, step / "responses", policy.label)
        if not missing:
            return
        model, source = self.model(), self._source()
        for number, shard in self.each(step, "sampling", policy.label, plan, missing):
            rows = [row for batch in shard for row in self._draw(model, source, step, policy, batch)]
            write_shard(step / "responses", policy.label, number, rows)

    def _draw(
        self, model: LanguageModel, source: ResponseSource, step: Path, policy: Sampled, batch: list[int]
    ) -> list[dict[str, object]]:
        """The rows of the responses to prompts that are sampled together."""
        prompts = [self.prompts[number] for number in batch]
        ids = [model.encode(prompt) for prompt in prompts]
        key = (self.config.seed, step.name, policy.label)
        seeds = [[seed_of(*key, prompt.id, k) for k in range(self.config.responses)] for prompt in prompts]
        with use_policy(model, policy) as network:
            sampler = copy.copy(model)
            sampler.network = network
            responses = source.draw(sampler, ids, seeds)
        return [
            row
            for prompt, prompt_ids, drawn, prompt_seeds in zip(prompts, ids, responses, seeds, strict=True)
            for row in Rollout(prompt.id, prompt_ids, drawn).rows(policy.label, prompt_seeds)
        ]

    def _source(self) -> ResponseSource:
        """The sampler, which draws a whole batch of the plan at once."""
        source = self.source
        if isinstance(source, GenerateSource) and source.batch >= self.config.responses:
            return source.with_batch(self.config.responses * SHARD_PROMPTS)
        return source
