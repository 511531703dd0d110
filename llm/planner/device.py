"""The plan of a run for the GPU of this machine."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

from nashward.errors import NashwardError

from ..config.plan import Demand
from ..config.run import RunConfig
from ..oracles.load import oracle_shape
from ..policy.loading import adapter_config
from ..policy.model import compute_dtype
from .plan import Plan, free_memory, plan

logger = logging.getLogger(__name__)


def device_plan(config: RunConfig, policy: Any, adapter: str | Path | None = None, oracle: Any = None) -> Plan | None:
    """The batches and the placement of a run that fit on the GPU of this machine.

    Args:
        config: of the run.
        policy: a folder or hub id; a loaded model is not planned for.
        adapter: a LoRA whose rank is planned for; None: that of ``config``.
        oracle: a checkpoint, whose memory is planned for; anything else takes none.

    Returns:
        None without a GPU, where ``config`` wants no plan, and with a warning where none can be made.

    Raises:
        ValueError: nothing fits.
    """
    memory = free_memory()
    known = isinstance(policy, str | Path) and config.quantise and config.fit.optimiser != "lbfgs"
    if not config.plan or memory is None or not known:
        return None
    demand = Demand(
        rank=config.lora.rank if adapter is None else adapter_config(adapter).r,
        optimiser=config.fit.optimiser,
        epochs=config.fit.epochs,
        responses=config.responses,
        iterations=config.iterations,
        prompt_tokens=config.max_prompt_tokens,
        new_tokens=config.sampling.max_new_tokens,
        sampling_batch=config.sampling.batch,
        tokens=config.fit.tokens,
        quantise_head=config.quantise_head,
        kv_cache=config.sampling.kv_cache,
    )
    try:
        found = plan(
            str(policy), memory, demand, oracle=oracle_shape(oracle), placement=config.placement,
            dtype=compute_dtype("cuda"), windows=os.name == "nt",
        )  # fmt: skip
    except ValueError as error:
        logger.warning(f"without a plan of the memory: {error}")
        return None
    if not found.fits:
        raise NashwardError(f"it does not fit: {'; '.join(found.advice)}; --no-plan tries it all the same")
    return found
