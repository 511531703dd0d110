"""The settings of the planner of memory and time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from nashward.errors import NashwardError

from .fields import check_choice, setting
from .fit import TOKENS, Optimiser
from .sampling import KVCache

MOST = 10**9
SHARD_PROMPTS = 64  # prompts of a shard, which one process samples and judges
RANGES = {"responses": (2, MOST), "prompt_tokens": (1, 2**20), "new_tokens": (1, 2**20)}


@dataclass(frozen=True)
class Demand:
    """The size of a run, as far as it bears on memory and time; the names are those of ``RunConfig`` and its parts.

    Attributes:
        rank, optimiser, epochs: those of the fit.
        lora_targets: the layers of the LoRA, see ``Lora``.
        responses: K, the responses per prompt.
        prompts: how many an iteration has.
        iterations: how many.
        prompt_tokens, new_tokens: lengths of the longest texts.
        sampling_batch, tokens: the most that is wanted, see ``Sampling`` and ``Fit``.
        quantise, quantise_head: whether the base is in 4 bits, and its head too.
        kv_cache: the sampler's.
        processes: how many divide the work, each on a card of its own.

    Raises:
        ValueError: a number out of its range, or an unknown optimiser or cache.

    Example:
        >>> Demand(rank=8).prompts
        1000
    """

    rank: int = setting(16, "rank of the LoRA", "run")
    lora_targets: str = setting("all", "layers of the LoRA: all, attention, mlp, or names with commas", "run")
    optimiser: Optimiser = setting("adamw", "", "run")
    epochs: int = setting(2, "epochs of the fit", "run")
    responses: int = setting(5, "K, responses per prompt", "run")
    prompts: int = setting(1000, "prompts of an iteration", "run", option="prompts-per-iteration")
    iterations: int = setting(3, "iterations of the run", "run")
    prompt_tokens: int = setting(512, "tokens of a prompt", "run", option="max-prompt-tokens")
    new_tokens: int = setting(512, "tokens of a response", "run", option="max-new-tokens")
    sampling_batch: int = 64
    tokens: int = TOKENS["cuda"]
    quantise: bool = True
    quantise_head: bool = setting(False, "the head in 4 bits too", "run")
    kv_cache: KVCache = setting("full", "the sampler's keys and values", "run")
    processes: int = setting(1, "processes that torchrun starts, each on a card of this size", "run")

    @property
    def sampled_each(self) -> int:
        """The prompts of an iteration that one process samples, judges and scores, at the most: whole shards.

        Example:
            >>> Demand(prompts=1000, processes=4).sampled_each
            256
        """
        shards = -(-self.prompts // SHARD_PROMPTS)
        return min(self.prompts, -(-shards // self.processes) * SHARD_PROMPTS)

    def trained_each(self, batch: int) -> float:
        """The prompts of an iteration that one process trains on, at the most, where an optimiser step has ``batch``.

        Example:
            >>> Demand(prompts=1000, processes=3).trained_each(16)
            375.0
        """
        return self.prompts * -(-batch // self.processes) / batch

    def tokens_of(self, rows: int, packed: bool) -> int:
        """The tokens that a pass of training computes over ``rows`` of the longest texts; packed, those to one prompt
        share its computation."""
        prompts = -(-rows // self.responses) if packed else rows
        return prompts * self.prompt_tokens + rows * self.new_tokens

    def rows_of(self, tokens: int, packed: bool) -> int:
        """The most of the longest texts that a pass of so many tokens has, at least 1."""
        rows = tokens // (self.prompt_tokens + self.new_tokens)
        while self.tokens_of(rows + 1, packed) <= tokens:
            rows += 1
        return max(1, rows)

    def __post_init__(self) -> None:
        known = [name for name in get_args(Optimiser) if name != "lbfgs"]
        if self.optimiser not in known:
            raise NashwardError(f"optimiser is {self.optimiser!r}; expected one of {', '.join(known)}")
        check_choice("kv_cache", self.kv_cache, KVCache)
        for name, value in vars(self).items():
            least, most = RANGES.get(name, (1, MOST))
            if not isinstance(value, bool | str) and not least <= value <= most:
                raise NashwardError(f"{name} is {value:g}; expected {least} to {most}")


@dataclass(frozen=True)
class Rates:
    """What a card reaches. The defaults are assumptions about a small one, not measurements.

    Attributes:
        tflops: 10^12 floating-point operations a second, in 16 bits.
        bandwidth: that of its memory, 10^9 bytes a second.
        transfer: from host memory, 10^9 bytes a second.
        step: the least seconds that a token takes in a batch: Python and the launches of its kernels.

    Raises:
        ValueError: a rate that is not positive.

    Example:
        >>> Rates(tflops=100.0).bandwidth
        250.0
    """

    tflops: float = setting(
        20.0, "10^12 operations a second that the card reaches in 16 bits (default: {default}, assumed)", "device"
    )
    bandwidth: float = setting(250.0, "bandwidth of its memory, GB a second (default: {default}, assumed)", "device")
    transfer: float = setting(10.0, "bandwidth from host memory, GB a second (default: {default}, assumed)", "device")
    step: float = 0.05

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0:
                raise NashwardError(f"{name} is {value}; expected a positive number")
