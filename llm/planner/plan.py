"""Will it fit? The peak of each phase of a run from a configuration alone, and the batches that a card takes."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, PretrainedConfig

from nashward.errors import NashwardError, UnsupportedModelError

from ..config.placement import Placement
from ..config.plan import Demand
from ..data.library_errors import first_line, translated_errors
from ..oracles.models.network import OracleShape
from ..policy.loading import check_causal
from ..policy.placement import gpu_placement
from ..training.optimize import OPTIMISERS
from .dry_run import Footprint, judging, policy, sampling, scoring, training

GIB = 2**30
CONTEXT = 0.5  # GiB of a CUDA context with its workspaces, as commonly seen; not measured here
FRAGMENTS = 0.05  # the share of the peak that an allocator leaves unused
SPILLING = 1.0  # GiB: where drivers move what does not fit to host memory without a word (Windows), keep away from it
TILE = 512  # tokens of an MLP at once, where memory is short
# what is tried in turn, where a single response does not fit
LADDER: tuple[dict[str, Any], ...] = (
    {}, {"mlp_tokens": TILE}, {"layers": "host"}, {"layers": "host", "mlp_tokens": TILE},
)  # fmt: skip
JUDGED = 8192  # tokens of an oracle's forward pass, where there is room


@dataclass(frozen=True)
class Plan:
    """What a run takes and what was chosen for it.

    Attributes:
        demand: what was asked.
        memory: bytes of the card.
        reserved: bytes of it that are left alone: context, fragments and, on Windows, a distance to spilling.
        phases: the peaks of "sampling", "judging" (where an oracle was given), "scoring" and "training", with the
            batches that were chosen. Policy and oracle are on the card by turns.
        sampling_batch, tokens: the largest that fit, up to what was asked for.
        judging_tokens: of a forward pass of the oracle; None without one.
        placement: what lives on the card.
        parameters: of the policy's base, and of the oracle (0 without one).
        oracle: what judges.
        advice: what to do where it does not fit; empty where it does.
    """

    demand: Demand
    memory: int
    reserved: int
    phases: dict[str, Footprint]
    sampling_batch: int
    tokens: int
    judging_tokens: int | None
    placement: Placement
    parameters: tuple[int, int]
    oracle: OracleShape | None = None
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
    dtype: torch.dtype = torch.bfloat16,
    windows: bool = False,
) -> Plan:
    """Plan a run of a policy in 4 bits on a card.

    Each phase is run on the meta device with the longest texts: the real modelling code, by shape alone (see
    ``dry_run``). No weight is read. The largest batches up to those asked for are looked for. Where a single response
    does not fit, the MLPs are tiled, then the layers streamed from host memory, then both.

    Args:
        source: a folder, a hub id, or a configuration of a causal language model.
        memory: bytes of the card that are free.
        demand: what is asked; None: the defaults.
        oracle: of a checkpoint, from ``oracles.oracle_shape``.
        placement: the only one to try, or what of it is fixed; None: the usual one, and those that take less.
        dtype: of the computation: float16 on a card without bfloat16.
        windows: keep a distance to where drivers spill into host memory.

    Raises:
        FileNotFoundError: no such folder, or an id that is neither in the cache nor reachable.
        ValueError: no causal language model, one that cannot be run by shape, or no memory.
    """
    demand = demand or Demand()
    if memory < 1:
        raise NashwardError(f"memory is {memory}; expected at least 1")
    config = source if isinstance(source, PretrainedConfig) else _config(source)
    reserved = int((CONTEXT + (SPILLING if windows else 0.0)) * GIB + FRAGMENTS * memory)
    room = memory - reserved
    length = demand.prompt_tokens + demand.new_tokens
    most = max(1, demand.tokens // length)
    tied = bool(getattr(config.get_text_config(), "tie_word_embeddings", False))
    if tied and demand.quantise_head:
        raise NashwardError(
            "the head is the table of embeddings (tied), which stays in 16 bits; leave quantise_head out"
        )
    fixed = vars(placement) if isinstance(placement, Placement) else dict(placement or {})
    usual = gpu_placement(tied, dtype).but(fixed)
    free = [less for less in LADDER if not less.keys() & fixed.keys()]
    state = OPTIMISERS[demand.optimiser]

    def attempt(placement: Placement) -> tuple[Any, int, Footprint, int, Footprint]:
        network = policy(copy.deepcopy(config), demand.rank, placement, quantise_head=demand.quantise_head, dtype=dtype)

        def trained(rows: int) -> Footprint:
            texts = [demand.prompt_tokens] * rows, [demand.new_tokens] * rows
            return training(network, *texts, lambda weights: state(weights, 1e-4))

        def drawn(rows: int) -> Footprint:
            padded = rows > demand.responses  # else they are one prompt's
            return sampling(
                network, demand.prompt_tokens, demand.new_tokens, rows, padded=padded, kv_cache=demand.kv_cache
            )

        return network, *_largest(trained, most, room), *_largest(drawn, demand.sampling_batch, room)

    for less in free:
        chosen = usual.but(less)
        try:
            network, rows, trained, batch, drawn = _by_shape(config, partial(attempt, chosen))
        except UnsupportedModelError:
            if less:  # a model without such layers: what was found before stands
                continue
            raise
        placed = chosen
        if rows and batch:
            break
    texts = [demand.prompt_tokens] * max(1, rows), [demand.new_tokens] * max(1, rows)
    phases = {"sampling": drawn}
    advice = []
    judged, row = None, 0
    if oracle is not None:
        row = oracle.row(demand.prompt_tokens, demand.new_tokens)
        judged, phases["judging"] = _by_shape(
            oracle.network, lambda: _largest(lambda n: judging(oracle, n, row), max(1, JUDGED // row), room)
        )
        if not judged:
            advice.append(f"judging one row of {row} tokens takes {phases['judging'].total / GIB:.2f} GiB")
    phases |= {"scoring": scoring(network, *texts), "training": trained}
    if not rows:
        advice.append(f"training one response of {length} tokens takes {trained.total / GIB:.2f} GiB")
    if not batch:
        advice.append(f"sampling one response of {demand.new_tokens} tokens takes {drawn.total / GIB:.2f} GiB")
    if advice:
        over = max(phase.total for phase in phases.values()) - room
        advice.append(f"{over / GIB:.2f} GiB too much: {_less(trained, demand, tied, judged == 0)}")
    return Plan(
        demand,
        memory,
        reserved,
        phases,
        batch,
        rows * length,
        None if judged is None else judged * row,
        placed,
        (_parameters(network), 0 if oracle is None else sum(p.numel() for p in oracle.network.parameters())),
        oracle,
        advice,
    )


def free_memory() -> int | None:
    """Bytes that are free on the GPU; None without one."""
    return torch.cuda.mem_get_info()[0] if torch.cuda.is_available() else None


def _by_shape(config: Any, dry: Callable[[], Any]) -> Any:
    try:
        return dry()
    except (RuntimeError, AttributeError, KeyError, TypeError, IndexError, NotImplementedError) as error:
        kind = type(config).__name__.removesuffix("Config")
        line = (str(error).splitlines() or [""])[0]
        raise NashwardError(
            f"a {kind} cannot be run by shape alone here ({type(error).__name__}: {line:.100})"
        ) from error


def _parameters(network: Any) -> int:
    """Of the base; streamed matrices are empty until they are needed, so they are counted by their layers' shapes."""
    return sum(
        module.in_features * module.out_features
        for name, module in network.named_modules()
        if isinstance(module, torch.nn.Linear) and "lora_" not in name
    )


def _largest(footprint: Callable[[int], Footprint], most: int, room: int) -> tuple[int, Footprint]:
    """The largest number of rows that fits, 0 if none does, and its footprint (of one row, if none does).

    Peaks grow with the rows, nearly in proportion: two of them tell where to look.
    """
    one = footprint(1)
    if one.total > room or most == 1:
        return (0 if one.total > room else 1), one
    whole = footprint(most)
    if whole.total <= room:
        return most, whole
    slope = max(1.0, (whole.total - one.total) / (most - 1))
    rows = min(most - 1, 1 + int((room - one.total) / slope))
    found = footprint(rows)
    while found.total > room:
        rows = rows - 1
        found = footprint(rows) if rows > 1 else one
    return rows, found


def _config(source: str | Path) -> PretrainedConfig:
    """The configuration of a causal language model, which will be loaded in 4 bits.

    Raises:
        FileNotFoundError: no such folder, or an id that is neither in the cache nor reachable.
        ValueError: it cannot be read, is of another kind, or is stored in another quantisation.
    """
    check_causal(source)
    told, expected = f"the configuration of {source} cannot be read", "a folder or hub id of a causal language model"
    with translated_errors(lambda error: NashwardError(f"{told} ({first_line(error):.100}); expected {expected}")):
        config = AutoConfig.from_pretrained(source)
    stored = getattr(config, "quantization_config", None)
    if stored is not None and not (isinstance(stored, dict) and stored.get("load_in_4bit")):
        raise NashwardError(
            f"{source} is stored in a quantisation of its own, which is not planned; take the 16-bit one"
        )
    return config


def _less(peak: Footprint, demand: Demand, tied: bool, oracle: bool) -> str:
    hints = []
    if "8bit" not in demand.optimiser and "paged" not in demand.optimiser:
        hints.append(f"an 8-bit optimiser saves about {0.75 * peak.optimiser / GIB:.2f} GiB")
    if demand.rank > 4:
        saved = (peak.gradients + peak.optimiser) * (1 - 4 / demand.rank)
        hints.append(f"--rank 4 in place of {demand.rank} about {saved / GIB:.2f}")
    if not demand.quantise_head and not tied:
        hints.append("--quantise-head takes the head in 4 bits")
    if demand.kv_cache == "full":
        hints.append("--kv-cache int8 halves keys and values")
    hints.append("shorter texts (--max-prompt-tokens, --max-new-tokens) save activations and keys")
    hints.append("a smaller model saves the rest")
    if oracle:
        hints.append("an oracle in half precision (dtype=torch.bfloat16) saves half of what judging takes")
    return "; ".join(hints)


def read_size(text: str) -> int:
    """Bytes of "6GiB", "6 GB" or "6000000000".

    Raises:
        ValueError: if it reads otherwise.
    """
    found = re.fullmatch(r"\s*(\d{1,15}(?:\.\d+)?)\s*(?:([KMGT])(i?))?B?\s*", text, re.IGNORECASE)
    if found is None:
        raise NashwardError(f"{text!r} is no size; expected for example 6GiB, 8GB or 12000MiB")
    unit = 1024 if found[3] else 1000
    return int(float(found[1]) * unit ** " KMGT".index((found[2] or " ").upper()))
