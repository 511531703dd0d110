"""Mixtures of experts: which linear layers a new adapter changes, and what the experts weigh in memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.nn.modules.conv import _ConvNd
from transformers.pytorch_utils import Conv1D


def lora_targets(base: nn.Module) -> str | list[str]:
    """The linear layers of a causal language model that a new adapter changes, as PEFT's ``target_modules``.

    All of them but the head; in a mixture of experts those outside of its blocks, which are the layers of attention:
    experts that are one tensor are no linear layers, PEFT computes W + B A of all of them for each token, and an
    adapter of the router would change which experts are trained. A name that occurs inside of a block too, as
    ``down_proj`` of a first layer without experts, is left out, since PEFT would take it for the experts'.

    Returns:
        "all-linear", or the names, sorted.

    Example:
        >>> lora_targets(nn.Sequential(nn.Linear(2, 2)))
        'all-linear'
    """
    blocks = tuple({_parent(name) for name, module in base.named_modules() if _holds_experts(name, module)})
    if not blocks:
        return "all-linear"
    inside, outside = set(), set()
    for name, module in base.named_modules():
        if name.startswith(tuple(f"{block}." for block in blocks)):
            inside |= {name.rpartition(".")[2]} | {n for n, _ in module.named_parameters(recurse=False)}
        elif isinstance(module, nn.Linear | Conv1D) and module is not base.get_output_embeddings():  # type: ignore[operator]
            outside.add(name.rpartition(".")[2])
    return sorted(outside - inside - _BEFORE_THE_EXPERTS_WERE_ONE_TENSOR)


# PEFT takes these names for the experts of Mixtral, Qwen-MoE and their kin, whichever layer has them
_BEFORE_THE_EXPERTS_WERE_ONE_TENSOR = {"gate", "w1", "w2", "w3", "gate_proj", "up_proj", "down_proj"}


@dataclass(frozen=True)
class Experts:
    """The experts of a network that are tensors ``[experts, out, in]``: no linear layers, so they are not quantised.

    Attributes:
        size: bytes, in the precision of the computation.
        parameters: how many they are.
        share: of the experts that one token passes through.

    Example:
        >>> Experts.of(nn.Linear(2, 2)).size
        0
    """

    size: int = 0
    parameters: int = 0
    share: float = 1.0

    @classmethod
    def of(cls, base: Any) -> Experts:
        """The experts of a causal language model; of size 0 where it has none, or has them as linear layers."""
        weights = [w for module in base.modules() if _fused(module) for w in module.parameters(recurse=False)]
        if not weights:
            return cls()
        config = base.config.get_text_config()
        names = ("num_experts_per_tok", "moe_k", "moe_topk", "top_k_experts", "num_selected_experts")
        chosen = next((k for name in names if (k := getattr(config, name, None))), None)
        every = max(weight.shape[0] for weight in weights)
        share = 1.0 if chosen is None else min(1.0, chosen / every)
        return cls(sum(w.nbytes for w in weights), sum(w.numel() for w in weights), share)

    def read(self, tokens: int) -> float:
        """The bytes that a pass over so many tokens reads, if each takes its experts independently of the others."""
        return self.size * (1 - (1 - self.share) ** tokens)


def _holds_experts(name: str, module: nn.Module) -> bool:
    return name.rpartition(".")[2] == "experts" or _fused(module)


def _fused(module: nn.Module) -> bool:
    weights = [] if isinstance(module, _ConvNd) else list(module.parameters(recurse=False))
    return any(weight.ndim == 3 and weight.is_floating_point() for weight in weights)


def _parent(name: str) -> str:
    return name.rpartition(".")[0]
