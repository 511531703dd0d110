"""Will it fit? The peak of each phase of a run from a configuration alone, and the batches that a card takes."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, PretrainedConfig

from .dry_run import Footprint, policy, sampling, training
from .fit import OPTIMISERS
from .offload import Placement

GIB = 2**30
CONTEXT = 0.5  # GiB of a CUDA context with its workspaces, as commonly seen; not measured here
FRAGMENTS = 0.05  # the share of the peak that an allocator leaves unused
SPILLING = 1.0  # GiB: where drivers move what does not fit to host memory without a word (Windows), keep away from it
TILE = 512  # tokens of an MLP at once, where memory is short


@dataclass(frozen=True)
class Plan:
    """What a run takes and what was chosen for it.

    Attributes:
        memory: bytes of the card.
        reserved: bytes of it that are left alone: context, fragments and, on Windows, a distance to spilling.
        phases: the peak of "sampling" and "training", with the batches that were chosen.
        sampling_batch, tokens: the largest that fit, up to what was asked for.
        placement: what lives on the card.
        flops: of an iteration, 2 for each parameter and token that passes forward and as many again for each of the
            two parts of a backward pass with checkpoints (recomputation and gradient).
        advice: what to do where it does not fit; empty where it does.
    """

    memory: int
    reserved: int
    phases: dict[str, Footprint]
    sampling_batch: int
    tokens: int
    placement: Placement
    flops: float
    advice: list[str] = field(default_factory=list)

    @property
    def fits(self) -> bool:
        return not self.advice


def plan(
    source: str | Path | PretrainedConfig,
    memory: int,
    *,
    rank: int = 16,
    optimiser: str = "adamw",
    responses: int = 5,
    prompts: int = 1000,
    prompt_tokens: int = 512,
    new_tokens: int = 512,
    epochs: int = 2,
    sampling_batch: int = 64,
    tokens: int = 4096,
    windows: bool = False,
) -> Plan:
    """Plan a run of a policy in 4 bits on a card.

    Each phase is run on the meta device with the longest texts: the real modelling code, by shape alone (see
    ``dry_run``). No weight is read. The largest batches up to those asked for are looked for; where a single response
    does not fit, the MLPs are tiled.

    Args:
        source: a folder, a hub id, or a configuration of a causal language model.
        memory: bytes of the card that are free.
        rank, optimiser, responses, epochs: as of the run; ``responses`` is K.
        prompts: of an iteration.
        prompt_tokens, new_tokens: of the longest texts.
        sampling_batch, tokens: the most that is wanted, see ``Sampling`` and ``Fit``.
        windows: keep a distance to where drivers spill into host memory.

    Raises:
        ValueError: a setting that makes no sense, or no causal language model.
    """
    if optimiser not in OPTIMISERS:
        raise ValueError(f"optimiser is {optimiser!r}; expected one of {', '.join(OPTIMISERS)}")
    sizes = {"rank": rank, "responses": responses, "prompts": prompts, "prompt_tokens": prompt_tokens}
    sizes |= {"new_tokens": new_tokens, "sampling_batch": sampling_batch, "tokens": tokens, "memory": memory}
    for name, value in sizes.items():
        if value < 1:
            raise ValueError(f"{name} is {value}; expected at least 1")
    if epochs < 1 or optimiser == "lbfgs":
        raise ValueError(
            f"epochs is {epochs} and the optimiser {optimiser}; expected at least 1, and another than lbfgs"
        )
    config = source if isinstance(source, PretrainedConfig) else _config(source)
    reserved = int((CONTEXT + (SPILLING if windows else 0.0)) * GIB + FRAGMENTS * memory)
    room = memory - reserved
    length = prompt_tokens + new_tokens

    def trained(network: Any, rows: int) -> Footprint:
        state = OPTIMISERS[optimiser]
        return training(network, [prompt_tokens] * rows, [new_tokens] * rows, lambda weights: state(weights, 1e-4))

    def run(dry: Callable[[], Any]) -> Any:
        try:
            return dry()
        except (RuntimeError, AttributeError, KeyError, TypeError, IndexError, NotImplementedError) as error:
            kind = type(config).__name__.removesuffix("Config")
            line = (str(error).splitlines() or [""])[0]
            raise ValueError(
                f"a {kind} cannot be run by shape alone here ({type(error).__name__}: {line:.100})"
            ) from error

    tied = bool(getattr(config.get_text_config(), "tie_word_embeddings", False))
    placement = Placement(embeddings="device" if tied else "host")
    network = run(partial(policy, copy.deepcopy(config), rank, placement))
    most = max(1, tokens // length)
    rows, peak = _largest(lambda n: run(lambda: trained(network, n)), most, room)
    if not rows:
        placement = replace(placement, mlp_tokens=TILE)
        network = run(partial(policy, copy.deepcopy(config), rank, placement))
        rows, peak = _largest(lambda n: run(lambda: trained(network, n)), most, room)
    batch, drawn = _largest(
        lambda n: run(lambda: sampling(network, prompt_tokens, new_tokens, n)), sampling_batch, room
    )
    advice = []
    if not rows:
        advice.append(f"training one response of {length} tokens takes {peak.total / GIB:.2f} GiB")
    if not batch:
        advice.append(f"sampling one response of {new_tokens} tokens takes {drawn.total / GIB:.2f} GiB")
    if advice:
        over = max(peak.total, drawn.total) - room
        advice.append(f"{over / GIB:.2f} GiB too much: {_less(peak, optimiser, rank)}")
    base = [weight for name, weight in network.named_parameters() if "lora_" not in name]
    parameters = sum(weight.numel() * (2 if weight.dtype == torch.uint8 else 1) for weight in base)  # two in a byte
    sampled = prompts * responses * new_tokens
    fitted = prompts * responses * length * epochs
    # sampling forward; anchor and reference forward once; training forward, again, and the gradient to the inputs
    flops = 2.0 * parameters * (sampled + prompts * prompt_tokens + 2 * prompts * responses * length + 3 * fitted)
    phases = {"sampling": drawn, "training": peak}
    return Plan(memory, reserved, phases, batch, rows * length, placement, flops, advice)


def _largest(footprint: Any, most: int, room: int) -> tuple[int, Footprint]:
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
        ValueError: it cannot be read, is of another kind, or is stored in another quantisation.
    """
    try:
        config = AutoConfig.from_pretrained(source)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(
            f"the configuration of {source} cannot be read ({str(error).splitlines()[0]:.100}); expected a folder or "
            "hub id of a causal language model"
        ) from None
    heads = config.architectures or []
    if heads and not any("CausalLM" in head or "LMHead" in head for head in heads):
        raise ValueError(f"{source} is a {heads[0]}, not a causal language model")
    stored = getattr(config, "quantization_config", None)
    if stored is not None and not (isinstance(stored, dict) and stored.get("load_in_4bit")):
        raise ValueError(f"{source} is stored in a quantisation of its own, which is not planned; take the 16-bit one")
    return config


def _less(peak: Footprint, optimiser: str, rank: int) -> str:
    hints = []
    if "8bit" not in optimiser and "paged" not in optimiser:
        hints.append(f"an 8-bit optimiser saves about {0.75 * peak.optimiser / GIB:.2f} GiB")
    if rank > 4:
        saved = (peak.gradients + peak.optimiser) * (1 - 4 / rank)
        hints.append(f"--rank 4 in place of {rank} about {saved / GIB:.2f}")
    hints.append("shorter texts (--max-prompt-tokens, --max-new-tokens) save activations and keys")
    hints.append("a smaller model saves the rest")
    return "; ".join(hints)


def read_size(text: str) -> int:
    """Bytes of "6GiB", "6 GB" or "6000000000".

    Raises:
        ValueError: if it reads otherwise.
    """
    found = re.fullmatch(r"\s*(\d{1,15}(?:\.\d+)?)\s*(?:([KMGT])(i?))?B?\s*", text, re.IGNORECASE)
    if found is None:
        raise ValueError(f"{text!r} is no size; expected for example 6GiB, 8GB or 12000MiB")
    unit = 1024 if found[3] else 1000
    return int(float(found[1]) * unit ** " KMGT".index((found[2] or " ").upper()))
