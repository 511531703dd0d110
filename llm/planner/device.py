"""The memory plan of a run for the device of this machine."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any, Literal

from nashward.errors import NashwardError

from ..config.plan import Demand
from ..config.run import RunConfig
from ..oracles.load import oracle_shape
from ..policy.adapters.adapter_config import adapter_config
from ..policy.base.weights import base_size, compute_dtype
from ..policy.memory import host_memory
from ..processes import processes
from .plan import Plan, free_memory, plan

logger = logging.getLogger(__name__)


# A CPU's memory is planned where it is less than so many times the base's weights, as a dry run takes seconds. To train
# a model of 135M takes 3.4 times its weights with passes of 512 tokens and 9 times with 4096 (benchmarks/precision.py),
# a larger one less.
TIGHT = 20


def device_plan(config: RunConfig, policy: Any, adapter: str | Path | None = None, oracle: Any = None) -> Plan | None:
    """The memory plan of a run, batches and placement, for its GPU, or for its CPU where memory is tight.

    Args:
        config: of the run.
        policy: a folder or hub id; for a loaded model there is no plan.
        adapter: a LoRA whose rank is used; None: the rank of ``config``.
        oracle: a folder or hub id of a checkpoint; anything else counts no memory.

    Returns:
        None where ``config`` turns plans off, where the base is small beside the memory of a CPU, and, with a warning,
        where the policy cannot be planned for.

    Raises:
        ValueError: the run does not fit, with any placement.

    See also:
        ``plan.plan``, the plan of any card.
    """
    processes.start()  # each process has its own card
    memory = processes.least(free_memory())  # all of them play with the batches that fit the smallest
    device: Literal["cuda", "cpu"] = "cpu" if memory is None else "cuda"
    supported = isinstance(policy, str | Path) and config.fit.optimiser != "lbfgs"
    if not config.plan or not supported or (device == "cuda" and not config.quantise):
        return None
    if memory is None:
        memory = processes.decided(lambda: host_memory(free=True)) // processes.here
        try:
            if memory > TIGHT * base_size(policy, config.quantise):
                return None
        except (NashwardError, OSError):  # the stages that need the model say so
            return None
    demand = Demand(
        rank=config.lora.rank if adapter is None else adapter_config(adapter).r,
        lora_targets=config.lora.targets if adapter is None else "all",
        optimiser=config.fit.optimiser,
        epochs=config.fit.epochs,
        responses=config.responses,
        iterations=config.iterations,
        prompt_tokens=config.max_prompt_tokens,
        new_tokens=config.sampling.max_new_tokens,
        sampling_batch=config.sampling.batch,
        tokens=config.fit.pass_tokens(device),
        quantise=bool(config.quantise),
        quantise_head=config.quantise_head,
        kv_cache=config.sampling.kv_cache,
    )
    try:
        memory_plan = plan(
            str(policy), memory, demand, oracle=oracle_shape(oracle), placement=config.placement,
            device=device, dtype=compute_dtype(device), windows=os.name == "nt",
        )  # fmt: skip
    except ValueError as error:
        logger.warning(f"without a plan of the memory: {error}")
        return None
    if not memory_plan.fits:
        raise NashwardError(f"{policy} does not fit: {'; '.join(memory_plan.advice)}; --no-plan tries it all the same")
    return memory_plan
