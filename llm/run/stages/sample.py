"""The first stage of a Step: responses are sampled."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nashward.errors import NashwardError

from ...config.run import OWN_ENGINE, RunConfig
from ...config.sampling import Sampling
from ...data.rollouts import Rollout
from ...policy.adapters.adapter_config import adapter_config
from ...policy.adapters.lora import LoraShape
from ...policy.engines.child import ChildServer
from ...policy.engines.engine import EngineSource
from ...policy.engines.vllm import SERVED, VLLM, dtype_here, python_with_vllm, served_rank
from ...policy.experimental.token_mixture import use_policy
from ...policy.handles import Sampled
from ...policy.local.names import local_model
from ...policy.model import LanguageModel
from ...policy.sampling import GenerateSource, ResponseSource, is_continuous, seed_of
from ...processes import processes
from ...store.files import write_shard
from ..rollouts import PromptNumbers
from ..signals import stop_at_once
from .shards import SHARD_PROMPTS, Shard, ShardedStage

INSTRUCTION = 128  # the most tokens that a request for a variant of a prompt has beside the prompt


def source_of(config: RunConfig, sampling: Sampling, home: Path, program: VLLM | None) -> ResponseSource:
    """Where the responses of a run come from: an engine, or transformers.

    Args:
        config: the run's configuration.
        sampling: its settings, with the batch that fits here.
        home: the run folder.
        program: see ``vllm_program``.
    """
    if config.engine is None:
        return GenerateSource(sampling)
    if program is None:
        return EngineSource(config.engine, sampling, config.endpoint, config.engine_model)
    log = "vllm.log" if processes.main else f"vllm-{processes.rank}.log"
    endpoint = replace(config.endpoint, concurrency=config.sampling.batch)
    return EngineSource(ChildServer(program, home / log), sampling, endpoint, SERVED)


def vllm_program(config: RunConfig, policy: Any, adapter: str | Path | None) -> VLLM | None:
    """vLLM as it is started for a run; None where another engine draws, or none.

    Args:
        config: the run's configuration.
        policy, adapter: see ``SelfPlay``.

    Raises:
        NashwardError: no Python that has vLLM, an adapter of a rank that it does not serve, a model that is loaded.
    """
    if config.engine != OWN_ENGINE:
        return None
    if not isinstance(policy, str | Path):
        raise NashwardError(
            f"engine {OWN_ENGINE} reads the policy itself: give its folder or hub id, not a loaded model"
        )
    rank = config.lora.rank if adapter is None else LoraShape.of_config(adapter_config(adapter)).rank
    longest = config.max_prompt_tokens + config.sampling.max_new_tokens
    folder = Path(local_model(policy)).expanduser()
    options = {
        "dtype": dtype_here(),
        "max-model-len": longest + (INSTRUCTION if config.augment == "policy" else 0),
        "max-num-seqs": config.sampling.batch,
        "enable-lora": None,
        "max-lora-rank": served_rank(rank),
    }
    model = str(folder.resolve()) if folder.is_dir() else str(policy)
    return VLLM(python_with_vllm(config.engine_python), model, options, config.engine_words)


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
        model = self.model()
        if isinstance(self.source, EngineSource):
            if processes.main:
                self.source.announce(sum(len(batch) for shard in missing.values() for batch in shard))
            with stop_at_once():
                self.source.start()
        for number, shard in self.each(step, "sampling", policy.label, plan, missing, numbers, [policy.label]):
            write_shard(step / "responses", policy.label, number, self._draw(model, step, policy, shard))

    def _draw(self, model: LanguageModel, step: Path, policy: Sampled, shard: Shard) -> list[dict[str, object]]:
        """The rows of the responses to the prompts of a shard."""
        key = (self.config.seed, step.name, policy.label)
        rows = []
        with use_policy(model, policy) as network:
            sampler = copy.copy(model)
            sampler.network = network
            source, batches = self._batches(network, policy, shard)
            for batch in batches:
                prompts = [self.prompts[number] for number in batch]
                ids = [model.encode(prompt) for prompt in prompts]
                seeds = [[seed_of(*key, prompt.id, k) for k in range(self.config.responses)] for prompt in prompts]
                responses = source.draw(sampler, ids, seeds)
                for prompt, prompt_ids, drawn, prompt_seeds in zip(prompts, ids, responses, seeds, strict=True):
                    rows += Rollout(prompt.id, prompt_ids, drawn).rows(policy.label, prompt_seeds)
        return rows

    def _batches(self, network: Any, policy: Sampled, shard: Shard) -> tuple[ResponseSource, list[list[int]]]:
        """The sampler, and the prompts of each of its calls.

        Where finished rows are replaced, the shard is one queue, in as many rows as the plan's first batch has
        responses; else each batch of the plan is sampled whole.
        """
        source = self.source
        if isinstance(source, EngineSource):
            return source.of(policy), shard
        if not isinstance(source, GenerateSource):
            return source, shard
        if is_continuous(source.settings, network):
            rows = min(source.batch, len(shard[0]) * self.config.responses)
            return source.with_batch(rows), [[number for batch in shard for number in batch]]
        if source.batch >= self.config.responses:
            source = source.with_batch(self.config.responses * SHARD_PROMPTS)
        return source, shard
