"""The memory plan of a run: the peak of each phase from the configuration alone, and the batches that fit a card."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping, Sequence
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
from .traffic import Traffic

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
        traffic: the bytes of the policy's weights that a pass moves.
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
    traffic: Traffic
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
    dtype = dtype or (torch.bfloat16 if device == "cuda" else torch.float32)
    reserved = _reserved(memory, device, windows)
    tied = bool(getattr(config.get_text_config(), "tie_word_embeddings", False))
    if tied and demand.quantise_head:
        raise NashwardError(
            "the head is the table of embeddings (tied), which stays in 16 bits; leave quantise_head out"
        )
    dry_runs = _DryRuns(config, demand, device, dtype, available=memory - reserved)
    batches = dry_runs.first_fitting(_placements(placement, gpu_placement(tied, dtype), device))
    phases = {"sampling": batches.sampling}
    judging_tokens = None
    if oracle is not None:
        judging_tokens, phases["judging"] = dry_runs.largest_judging(oracle)
    phases |= {"scoring": dry_runs.scoring(batches), "training": batches.training}
    experts = Experts.of(batches.network.get_base_model())
    chosen = Plan(
        demand=demand,
        memory=memory,
        reserved=reserved,
        phases=phases,
        sampling_batch=batches.sampling_rows,
        tokens=demand.tokens_of(batches.training_rows, batches.packed),
        judging_tokens=judging_tokens,
        placement=batches.placement,
        parameters=_parameters(batches.network),
        traffic=Traffic.of(batches.network, experts.size),
        oracle=oracle,
        experts=experts,
        packed=batches.packed,
    )
    return replace(chosen, advice=_advice(chosen, tied))


def _reserved(memory: int, device: str, windows: bool) -> int:
    """The bytes of ``memory`` that are kept free."""
    spilling = SPILLING_GIB if windows else 0.0
    fixed = CONTEXT_GIB + spilling if device == "cuda" else PROCESS_GIB
    return int(fixed * GIB + FRAGMENTATION * memory)


def _placements(given: Placement | Mapping[str, Any] | None, on_gpu: Placement, device: str) -> list[Placement]:
    """The placements to try in turn: the default, then those that save memory, all with the attributes ``given``."""
    fixed = vars(given) if isinstance(given, Placement) else dict(given or {})
    default, fallbacks = (on_gpu, FALLBACK_PLACEMENTS) if device == "cuda" else (CPU_PLACEMENT, CPU_FALLBACKS)
    default = default.but(fixed)
    return [default.but(changes) for changes in fallbacks if not changes.keys() & fixed.keys()]


class _Batches(NamedTuple):
    """What fits with a placement: the largest batches, 0 where a single row is too much, and their peaks."""

    placement: Placement
    network: Any
    packed: bool
    training_rows: int
    training: Footprint
    sampling_rows: int
    sampling: Footprint


@dataclass(frozen=True)
class _DryRuns:
    """The peak of each phase of a run by shape alone, and the largest batches within ``available`` bytes."""

    config: PretrainedConfig
    demand: Demand
    device: Literal["cuda", "cpu"]
    dtype: torch.dtype
    available: int

    def first_fitting(self, placements: Sequence[Placement]) -> _Batches:
        """The batches of the first placement with which a row fits; of the last one if there is none."""
        for placement in placements:
            try:
                batches: _Batches = _on_meta_device(self.config, partial(self.largest_batches, placement))
            except UnsupportedModelError:
                if placement is placements[0]:
                    raise
                continue  # the model has no such layers: the result before stands
            if batches.training_rows and batches.sampling_rows:
                break
        return batches

    def largest_batches(self, placement: Placement) -> _Batches:
        demand = self.demand
        network = dry_run.policy(
            copy.deepcopy(self.config), demand.rank, placement, targets=demand.lora_targets, quantise=demand.quantise,
            quantise_head=demand.quantise_head, dtype=self.dtype,
        )  # fmt: skip
        packed = computes_packed(network, demand.prompt_tokens + demand.new_tokens)
        weights = resident_bytes(network)
        training_rows, training = _largest_batch(
            partial(self.training, network), demand.rows_of(demand.tokens, packed), self.available, weights
        )
        sampling_rows, sampling = _largest_batch(
            partial(self.sampling, network), demand.sampling_batch, self.available, weights
        )
        return _Batches(placement, network, packed, training_rows, training, sampling_rows, sampling)

    def largest_judging(self, oracle: OracleShape) -> tuple[int, Footprint]:
        """The most tokens of a forward pass of the oracle that fit, 0 where a single row is too much; and its peak."""
        row = oracle.row(self.demand.prompt_tokens, self.demand.new_tokens)

        def judging(rows: int) -> Footprint:
            return self._allocated(dry_run.judging(oracle, rows, row))

        most = max(1, JUDGING_TOKENS // row)
        rows, peak = _on_meta_device(oracle.network, lambda: _largest_batch(judging, most, self.available))
        return rows * row, peak

    def training(self, network: Any, rows: int) -> Footprint:
        make_optimiser = OPTIMISERS[self.demand.optimiser]
        return self._allocated(
            dry_run.training(network, self._texts(rows), lambda weights: make_optimiser(weights, 1e-4))
        )

    def sampling(self, network: Any, rows: int) -> Footprint:
        demand = self.demand
        padded = rows > demand.responses  # else all rows have one prompt
        return self._allocated(
            dry_run.sampling(
                network, demand.prompt_tokens, demand.new_tokens, rows, padded=padded, kv_cache=demand.kv_cache
            )
        )

    def scoring(self, batches: _Batches) -> Footprint:
        """Of a batch of the size of training's."""
        return self._allocated(dry_run.scoring(batches.network, self._texts(max(1, batches.training_rows))))

    def _texts(self, rows: int) -> list[Text]:
        return dry_run.texts(self.demand.prompt_tokens, self.demand.new_tokens, rows, self.demand.responses)

    def _allocated(self, live: Footprint) -> Footprint:
        """What a process holds where these bytes are live."""
        return live if self.device == "cuda" else replace(live, activations=int(HELD * live.activations))


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


def _advice(chosen: Plan, tied: bool) -> list[str]:
    """What does not fit and what would save memory; empty where all fits."""
    demand, phases = chosen.demand, chosen.phases
    advice = []
    if chosen.oracle is not None and not chosen.judging_tokens:
        row = chosen.oracle.row(demand.prompt_tokens, demand.new_tokens)
        advice.append(f"judging one row of {row} tokens takes {phases['judging'].total / GIB:.2f} GiB")
    if not chosen.tokens:
        length = demand.prompt_tokens + demand.new_tokens
        advice.append(f"training one response of {length} tokens takes {phases['training'].total / GIB:.2f} GiB")
    if not chosen.sampling_batch:
        taken = phases["sampling"].total / GIB
        advice.append(f"sampling one response of {demand.new_tokens} tokens takes {taken:.2f} GiB")
    if not advice:
        return []
    if chosen.experts.size:
        advice.append(f"the experts alone take {chosen.experts.size / GIB:.2f} GiB, as they are not quantised")
    excess = max(phase.total for phase in phases.values()) - (chosen.memory - chosen.reserved)
    hints = _memory_hints(phases["training"], demand, tied, oracle=chosen.judging_tokens == 0)
    return [*advice, f"{excess / GIB:.2f} GiB too much: {hints}"]


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
