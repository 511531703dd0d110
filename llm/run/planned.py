"""The plan of a run on the card at hand: what ``SelfPlay`` takes of it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from nashward.errors import NashwardError

from ..oracles.load import oracle_shape
from ..planner.plan import Demand, Plan, free_memory, plan
from ..policy.loading import adapter_config
from ..policy.model import compute_dtype
from ..policy.sampling import Sampling
from ..store.say import warn

if TYPE_CHECKING:
    from .selfplay import SelfPlay


def planned(play: SelfPlay) -> Plan | None:
    """What of a run fits on the GPU; None without one, and where nothing can be planned, which is then said.

    Raises:
        ValueError: nothing fits.
    """
    memory = free_memory()
    known = isinstance(play.policy, str | Path) and play.quantise and play.fit.optimiser != "lbfgs"
    if not play.plan or memory is None or not known or not isinstance(play.sampling, Sampling):
        return None
    demand = Demand(
        rank=play.lora.rank if play.adapter is None else adapter_config(play.adapter).r,
        optimiser=play.fit.optimiser,
        epochs=play.fit.epochs,
        responses=play.responses,
        iterations=play.iterations,
        prompt_tokens=play.max_prompt_tokens,
        new_tokens=play.sampling.max_new_tokens,
        sampling_batch=play.sampling.batch,
        tokens=play.fit.tokens,
        quantise_head=play.quantise_head,
        kv_cache=play.sampling.kv_cache,
    )
    try:
        shape = oracle_shape(play.oracle)
        found = plan(
            str(play.policy), memory, demand, oracle=shape, placement=play.placement, dtype=compute_dtype("cuda"),
            windows=os.name == "nt",
        )  # fmt: skip
    except ValueError as error:
        warn(f"without a plan of the memory: {error}")
        return None
    if not found.fits:
        raise NashwardError(f"it does not fit: {'; '.join(found.advice)}; --no-plan tries it all the same")
    return found
