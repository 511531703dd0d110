"""How responses are drawn."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from nashward.errors import NashwardError

from .fields import check_choice, setting

KVCache = Literal["full", "int8"]


@dataclass(frozen=True)
class Sampling:
    """How responses are drawn. The theory takes them from the policy itself: temperature 1, the whole support.

    Attributes:
        temperature, top_p: those of the sampler.
        max_new_tokens: a response that is longer is cut, and marked as not finished.
        batch: rows (responses) in one batch. A step of a run that has begun keeps the size that it began with.
        kv_cache: "full" keeps keys and values as they are computed, "int8" rounds them: less memory, another sampler.

    Raises:
        ValueError: a number out of its range, or an unknown cache.

    See also:
        ``policy.sampling.GenerateSource``, which draws with these settings.

    Example:
        >>> Sampling(max_new_tokens=8).batch
        64
    """

    temperature: float = setting(1.0, "temperature of the sampler", "sampling")
    top_p: float = setting(1.0, "probability of the tokens that are drawn from", "sampling")
    max_new_tokens: int = setting(512, "longer responses are cut", "sampling")
    batch: int = setting(64, "responses sampled at once", "sampling", option="sampling-batch")
    kv_cache: KVCache = setting(
        "full",
        "the sampler's keys and values; int8: half of the memory, and nearly the same policy",
        "sampling",
    )

    def __post_init__(self) -> None:
        if not 0 < self.temperature < math.inf:
            raise NashwardError(
                f"the temperature must be a positive number, got {self.temperature:g}; 0, greedy, is for nashward "
                "answer alone"
            )
        if not 0 < self.top_p <= 1:
            raise NashwardError(f"top_p must be in (0, 1], got {self.top_p}")
        check_choice("kv_cache", self.kv_cache, KVCache)
        if self.max_new_tokens < 1 or self.batch < 1:
            raise NashwardError(
                f"max_new_tokens and batch must be at least 1, got {self.max_new_tokens} and {self.batch}"
            )
