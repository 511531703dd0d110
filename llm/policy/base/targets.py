"""Which linear layers a new adapter changes."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence

from torch import nn
from transformers.pytorch_utils import Conv1D

from nashward.errors import NashwardError

from .experts import blocks_of_experts

ATTENTION = re.compile("attn|attention")
# PEFT takes these names for the experts of Mixtral, Qwen-MoE and their kin, whichever layer has them
_BEFORE_THE_EXPERTS_WERE_ONE_TENSOR = {"gate", "w1", "w2", "w3", "gate_proj", "up_proj", "down_proj"}


def lora_targets(base: nn.Module, targets: str = "all") -> str | list[str]:
    """The linear layers of a causal language model that a new adapter changes, as PEFT's ``target_modules``.

    The head never is. In a mixture of experts only the layers outside of its blocks are, those of attention: experts
    that are one tensor are no linear layers, PEFT computes W + B A of all of them for each token, and an adapter of the
    router would change which experts are trained. A name that also occurs inside a block, such as ``down_proj`` of a
    first layer without experts, is left out, since PEFT would take it for the experts'. In a mixer of Mamba only
    ``in_proj`` is: kernels that fuse the others read their weights and pass over the adapter, where it would be trained
    to nothing, or take effect in sampling alone.

    Args:
        base: the model.
        targets: "all" of these; "attention", those inside a module with such a name (``self_attn``,
            ``attention``, ...); "mlp", the others; or names with commas, each the end of the full name of a layer:
            "q_proj,v_proj", "mlp.c_proj".

    Returns:
        "all-linear", or the sorted names, with the parent's where layers that are not meant have the same name.

    Raises:
        NashwardError: the model has no such layer.

    Example:
        >>> network = nn.ModuleDict({"attn": nn.ModuleDict({"out": nn.Linear(2, 2)}), "up": nn.Linear(2, 2)})
        >>> lora_targets(network), lora_targets(network, "attention"), lora_targets(network, "mlp")
        ('all-linear', ['out'], ['up'])
    """
    blocks = tuple(f"{block}." for block in blocks_of_experts(base))
    mixers = tuple(f"{name}." for name, module in base.named_modules() if _is_mamba(module))
    if targets == "all" and not blocks and not mixers:
        return "all-linear"
    head = getattr(base, "get_output_embeddings", lambda: None)()
    linear = [n for n, m in base.named_modules() if isinstance(m, nn.Linear | Conv1D) and m is not head]
    names = [name for name, _ in (*base.named_modules(), *base.named_parameters())]
    in_blocks = {_last(name) for name in names if name.startswith(blocks)}
    in_blocks |= _BEFORE_THE_EXPERTS_WERE_ONE_TENSOR if blocks else set()
    eligible = [name for name in linear if _last(name) not in in_blocks]
    eligible = [name for name in eligible if not name.startswith(mixers) or _last(name) == "in_proj"]
    groups = {
        "all": eligible,
        "attention": [name for name in eligible if ATTENTION.search(name)],
        "mlp": [name for name in eligible if not ATTENTION.search(name)],
    }
    wanted = groups.get(targets) or _named(eligible, targets)
    return _endings(wanted, set(linear) - set(wanted))


def _is_mamba(module: nn.Module) -> bool:
    """Whether it is a selective state space (Gu and Dao 2023): the logarithm of A and the skip D are its parameters."""
    return {"A_log", "D"} <= {name for name, _ in module.named_parameters(recurse=False)}


def _named(eligible: Sequence[str], targets: str) -> list[str]:
    """The layers that names with commas are the ends of."""
    found = {end: [name for name in eligible if _ends(name, end)] for end in map(str.strip, targets.split(","))}
    if missing := [end for end, layers in found.items() if not layers]:
        there = ", ".join(sorted({*map(_last, eligible)}))
        raise NashwardError(
            f"the LoRA targets are {targets}, and the model has no linear layer {', '.join(missing)} that an adapter "
            f"can change; it has {there}"
        )
    return [name for layers in found.values() for name in layers]


def _endings(layers: Iterable[str], others: Collection[str]) -> list[str]:
    """The shortest ends of names that no other names have."""
    found = set()
    for layer in layers:
        parts = layer.split(".")
        ends = (".".join(parts[-length:]) for length in range(1, len(parts) + 1))
        found.add(next(end for end in ends if not any(_ends(other, end) for other in others)))
    return sorted(found)


def _ends(name: str, end: str) -> bool:
    return f".{name}".endswith(f".{end}")


def _last(name: str) -> str:
    return name.rpartition(".")[2]
