"""The memory plan of a run: the peak of each phase from the configuration alone, and the batches that fit a card."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from transformers import PretrainedConfig

from nashward.errors import NashwardError, UnsupportedModelError
from nashward.shortened import cut

from ..config.placement import Placement
from ..config.plan import Demand
from ..data.library_errors import LIBRARY_ERRORS
from ..data.rollouts import Text
from ..oracles.models.network import OracleShape
from ..policy.base.checks import check_causal, network_config
from ..policy.base.experts import Experts
from ..policy.logprobs import computes_packed
from ..policy.placement import CPU_PLACEMENT, gpu_placement
from ..training.optimize import OPTIMISERS
from . import dry_run
from .dry_run import Footprint
from .live_storage import resident_bytes

GIB = 2**30
CONTEXT_GIB = 0.5  # of a CUDA context with its workspaces, a common value; not measured here
PROCESS_GIB = 0.7  # of a process with torch and transformers before it reads weights, on Linux
# times the live activations of a CPU: the C library keeps what is freed. With glibc and a model of 135M it is 1.7 to
# 2.5 times in float32, in passes of 256 to 4096 tokens, and up to 3.9 in 4 bits (benchmarks/precision.py)
HELD = 2.5
FRAGMENTATION = 0.05  # the fraction of the memory that the allocator leaves unused
SPILLING_GIB = 1.0  # margin on Windows, where drivers move memory that does not fit to the host without an error
MLP_TILE = 512  # tokens of a tile, where MLPs are tiled
# changes to the placement, tried in turn where a single response does not fit
FALLBACK_PLACEMENTS: tuple[dict[str, Any], ...] = (
    {}, {"mlp_tokens": MLP_TILE}, {"layers": "host"}, {"layers": "host", "mlp_tokens": MLP_TILE},
)  # fmt: skip
CPU_FALLBACKS: tuple[dict[str, Any], ...] = (
    {}, {"checkpoints": "device"}, {"checkpoints": "device", "mlp_tokens": MLP_TILE},
)  # fmt: skip
JUDGING_TOKENS = 8192  # of an oracle's forward pass, at most


@dataclass(frozen=True)
class Plan:
    """The memory plan of a run: its peak memory by phase, and the batches and the placement chosen for the card.

    Attributes:
        demand: the run that is planned.
        memory: bytes of the card.
        reserved: bytes that are kept free: CUDA context, fragmentation and, on Windows, a margin against spilling.
        phases: the peaks of "sampling", "judging" (with an oracle), "scoring" and "training", with the chosen batches.
            Policy and oracle are on the card in turn.
        sampling_batch, tokens: the largest that fit, at most those of the demand.
        judging_tokens: of a forward pass of the oracle; None without an oracle.
        placement: what stays on the card.
        parameters: those of the linear layers of the policy's base.
        oracle: the oracle's network, by shape; None without an oracle.
        experts: of a mixture of experts, which are not quantised; among ``phases`` they are weights.
        packed: the responses to a prompt share its computation in scoring and training, see ``policy.packing``.
        advice: what does not fit and what would save memory; empty where the run fits.
    """

    demand: Demand
    memory: int
    reserved: int
    phases: dict[str, Footprint]
    sampling_batch: int
    tokens: int
    judging_tokens: int | None
    placement: Placement
    parameters: int
    oracle: OracleShape | None = None
    experts: Experts = field(default_factory=Experts)
    packed: bool = True
    advice: list[str] = field(default_factory=list)

    @property
    def fits(self) -> bool:
        return not self.advice


def plan(
    source: str | Path | PretrainedConfig,
    memory: int,
    demand: Demand | None = None,
    *,
    oracle: OracleShape | None = None,
    placement: Placement | Mapping[str, Any] | None = None,
    device: Literal["cuda", "cpu"] = "cuda",
    dtype: torch.dtype | None = None,
    windows: bool = False,
) -> Plan:
    """The memory plan of a run on a card or in host memory.

    Each phase runs on the meta device with texts of the maximal lengths (see ``dry_run``); no weights are read. The
    largest batches that fit are chosen, at most those of the demand. Where a single response does not fit, the MLPs are
    tiled, then the layers are streamed from host memory, then both.

    Args:
        source: a folder, a hub id or what else ``local_model`` takes, or a configuration of a causal language model.
        memory: free bytes of the card, or of the host.
        demand: the run; None: the defaults.
        oracle: the oracle's network by shape, from ``oracles.load.oracle_shape``; None: judging counts no memory.
        placement: the only one to try, or the attributes that are fixed; None: the default, then those that save
            memory.
        device: what computes.
        dtype: of the computation: float16 on a card without bfloat16. None: bfloat16 on a card, float32 on a CPU.
        windows: keep a margin against drivers that spill into host memory.

    Returns:
        the plan; where the run does not fit, ``advice`` has the reasons.

    Raises:
        FileNotFoundError: no such folder, or an id that is neither in the cache nor reachable.
        ValueError: no causal language model, one that cannot run on the meta device, or ``memory`` below 1.

    See also:
        ``device.device_plan``, for the GPU of this machine; ``cost.plan_within_budget``, with a limit on time too.
    """
    demand = demand or Demand()
    if memory < 1:
        raise NashwardError(f"memory is {memory}; expected at least 1")
    config = source if isinstance(source, PretrainedConfig) else _config(source)
    card = device == "cuda"
    dtype = dtype or (torch.bfloat16 if card else torch.float32)
    taken = CONTEXT_GIB + (SPILLING_GIB if windows else 0.0) if card else PROCESS_GIB
    reserved = int(taken * GIB + FRAGMENTATION * memory)
    available = memory - reserved
    length = demand.prompt_tokens + demand.new_tokens
    tied = bool(getattr(config.get_text_config(), "tie_word_embeddings", False))
    if tied and demand.quantise_head:
        raise NashwardError(
            "the head is the table of embeddings (tied), which stays in 16 bits; leave quantise_head out"
        )
    fixed = vars(placement) if isinstance(placement, Placement) else dict(placement or {})
    default = (gpu_placement(tied, dtype) if card else CPU_PLACEMENT).but(fixed)
    fallbacks = [
        changes for changes in (FALLBACK_PLACEMENTS if card else CPU_FALLBACKS) if not changes.keys() & fixed.keys()
    ]
    make_optimiser = OPTIMISERS[demand.optimiser]

    def held(peak: Footprint) -> Footprint:
        return peak if card else replace(peak, activations=int(HELD * peak.activations))

    def rows_of_training(rows: int) -> list[Text]:
        return dry_run.texts(demand.prompt_tokens, demand.new_tokens, rows, demand.responses)

    def measure(placement: Placement) -> _Measured:
        network = dry_run.policy(
            copy.deepcopy(config), demand.rank, placement, targets=demand.lora_targets, quantise=demand.quantise,
            quantise_head=demand.quantise_head, dtype=dtype,
        )  # fmt: skip

        def measure_training(rows: int) -> Footprint:
            return held(
                dry_run.training(network, rows_of_training(rows), lambda weights: make_optimiser(weights, 1e-4))
            )

        def measure_sampling(rows: int) -> Footprint:
            padded = rows > demand.responses  # else all rows have one prompt
            return held(
                dry_run.sampling(
                    network, demand.prompt_tokens, demand.new_tokens, rows, padded=padded, kv_cache=demand.kv_cache
                )
            )

        packed, weights = computes_packed(network, length), resident_bytes(network)
        return _Measured(
            placement,
            network,
            packed,
            *_largest_batch(measure_training, demand.rows_of(demand.tokens, packed), available, weights),
            *_largest_batch(measure_sampling, demand.sampling_batch, available, weights),
        )

    for changes in fallbacks:
        try:
            found: _Measured = _on_meta_device(config, partial(measure, default.but(changes)))
        except UnsupportedModelError:
            if changes:  # the model has no such layers: the result before stands
                continue
            raise
        if found.rows and found.batch:
            break
    phases = {"sampling": found.sampling}
    advice = []
    judging_rows, row = None, 0
    if oracle is not None:
        row = oracle.row(demand.prompt_tokens, demand.new_tokens)
        judging_rows, phases["judging"] = _on_meta_device(
            oracle.network,
            lambda: _largest_batch(
                lambda n: held(dry_run.judging(oracle, n, row)), max(1, JUDGING_TOKENS // row), available
            ),
        )
        if not judging_rows:
            advice.append(f"judging one row of {row} tokens takes {phases['judging'].total / GIB:.2f} GiB")
    scoring = dry_run.scoring(found.network, rows_of_training(max(1, found.rows)))
    phases |= {"scoring": held(scoring), "training": found.training}
    if not found.rows:
        advice.append(f"training one response of {length} tokens takes {found.training.total / GIB:.2f} GiB")
    if not found.batch:
        advice.append(f"sampling one response of {demand.new_tokens} tokens takes {found.sampling.total / GIB:.2f} GiB")
    experts = Experts.of(found.network.get_base_model())
    if advice and experts.size:
        advice.append(f"the experts alone take {experts.size / GIB:.2f} GiB, as they are not quantised")
    if advice:
        excess = max(phase.total for phase in phases.values()) - available
        advice.append(
            f"{excess / GIB:.2f} GiB too much: {_memory_hints(found.training, demand, tied, judging_rows == 0)}"
        )
    return Plan(
        demand=demand,
        memory=memory,
        reserved=reserved,
        phases=phases,
        sampling_batch=found.batch,
        tokens=demand.tokens_of(found.rows, found.packed),
        judging_tokens=None if judging_rows is None else judging_rows * row,
        placement=found.placement,
        parameters=_parameters(found.network),
        oracle=oracle,
        experts=experts,
        packed=found.packed,
        advice=advice,
    )


class _Measured(NamedTuple):
    """What fits with a placement: the largest batches, 0 where a single row is too much, and their peaks."""

    placement: Placement
    network: Any
    packed: bool
    rows: int  # of training
    training: Footprint
    batch: int  # of sampling
    sampling: Footprint


def free_memory() -> int | None:
    """Free bytes of the GPU; None without a GPU."""
    return torch.cuda.mem_get_info()[0] if torch.cuda.is_available() else None


def _on_meta_device(config: Any, dry_run: Callable[[], Any]) -> Any:
    try:
        return dry_run()
    except NashwardError:
        raise
    except LIBRARY_ERRORS as error:
        kind = type(config).__name__.removesuffix("Config")
        line = (str(error).splitlines() or [""])[0]
        raise NashwardError(
            f"a {kind} cannot be run by shape alone here ({type(error).__name__}: {cut(line, 100)})"
        ) from error


def _parameters(network: Any) -> int:
    """The parameters of the base's linear layers, from their shapes: streamed matrices are empty until loaded."""
    return sum(
        module.in_features * module.out_features
        for name, module in network.named_modules()
        if isinstance(module, torch.nn.Linear) and "lora_" not in name
    )


def _largest_batch(
    footprint: Callable[[int], Footprint], max_rows: int, available: int, weights: int = 0
) -> tuple[int, Footprint]:
    """The largest number of rows that fits, 0 if none does, and its footprint (of one row, if none does).

    The search assumes that the peak grows with the rows, nearly linearly, and begins at the line's value. A footprint
    takes seconds: where all rows fit no other is made, and where the ``weights`` alone do not, that of one row alone.
    """
    footprint = cache(footprint)
    if weights > available and footprint(1).total > available:
        return 0, footprint(1)
    if footprint(max_rows).total <= available:
        return max_rows, footprint(max_rows)
    if footprint(1).total > available:
        return 0, footprint(1)
    slope = max(1.0, (footprint(max_rows).total - footprint(1).total) / (max_rows - 1))
    rows = min(max_rows - 1, 1 + int((available - footprint(1).total) / slope))
    while footprint(rows).total > available:
        rows -= 1
    return rows, footprint(rows)


def _config(source: str | Path) -> PretrainedConfig:
    """The configuration of a causal language model in 16 bits or NF4.

    Raises:
        FileNotFoundError: no such folder, or an id that is neither in the cache nor reachable.
        ValueError: it cannot be read, is another kind of model, or is stored in another quantisation.
    """
    check_causal(source)
    config = network_config(source)
    stored = getattr(config, "quantization_config", None)
    if stored is not None and not (isinstance(stored, dict) and stored.get("load_in_4bit")):
        raise NashwardError(
            f"{source} is stored in a quantisation of its own, which is not planned; take the 16-bit one"
        )
    return config


def _memory_hints(peak: Footprint, demand: Demand, tied: bool, oracle: bool) -> str:
    hints = []
    if "8bit" not in demand.optimiser and "paged" not in demand.optimiser:
        hints.append(f"an 8-bit optimiser saves about {0.75 * peak.optimiser / GIB:.2f} GiB")
    if demand.rank > 4:
        saved = (peak.gradients + peak.optimiser) * (1 - 4 / demand.rank)
        hints.append(f"--rank 4 in place of {demand.rank} about {saved / GIB:.2f}")
    if demand.quantise and not demand.quantise_head and not tied:
        hints.append("--quantise-head takes the head in 4 bits")
    if demand.kv_cache == "full":
        hints.append("--kv-cache int8 halves keys and values")
    hints.append("shorter texts (--max-prompt-tokens, --max-new-tokens) save activations and keys")
    hints.append("a smaller model saves the rest")
    if oracle:
        hints.append("an oracle in half precision (dtype=torch.bfloat16) saves half of what judging takes")
    return "; ".join(hints)


def read_size(text: str) -> int:
    """Parse a size in bytes, for example "6GiB", "6 GB" or "6000000000".

    GB and GiB are both 2^30 bytes: a card or a memory module that is sold as 8 GB has 8 GiB.

    Raises:
        ValueError: the text has another form, or is a number without a unit that is too small for bytes of a card.
    """
    match = re.fullmatch(r"\s*(\d{1,15}(?:\.\d+)?)\s*(?:([KMGT])i?)?B?\s*", text, re.IGNORECASE)
    if match is None:
        raise NashwardError(f"{text!r} is no size; expected for example 6GiB, 8GB or 12000MiB")
    if match[2] is None and "B" not in text.upper() and float(match[1]) < 2**30:
        raise NashwardError(f"{text!r} has no unit; write for example {match[1]}GiB, or MiB for what nvidia-smi shows")
    return int(float(match[1]) * 1024 ** " KMGT".index((match[2] or " ").upper()))
