"""Mixtures of experts: where they are in a network, and what they weigh in memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.nn.modules.conv import _ConvNd


@dataclass(frozen=True)
class Experts:
    """The experts of a network that are tensors ``[experts, out, in]``, not linear layers, so that they are not
    quantised.

    Attributes:
        size: bytes, in the precision of the computation.
        parameters: how many they are.
        share: the part of the experts that one token passes through.

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


def blocks_of_experts(base: nn.Module) -> tuple[str, ...]:
    """The names of the modules that hold experts; none in a dense model.

    Example:
        >>> blocks_of_experts(nn.Sequential(nn.Linear(2, 2)))
        ()
    """
    holding = {name.rpartition(".")[0] for name, module in base.named_modules() if _holds_experts(name, module)}
    return tuple(sorted(holding))


def _holds_experts(name: str, module: nn.Module) -> bool:
    return name.rpartition(".")[2] == "experts" or _fused(module)


def _fused(module: nn.Module) -> bool:
    weights = [] if isinstance(module, _ConvNd) else list(module.parameters(recurse=False))
    return any(weight.ndim == 3 and weight.is_floating_point() for weight in weights)
