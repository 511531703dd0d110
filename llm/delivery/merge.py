"""An adapter merged into its base: each changed layer's W becomes W + s B A, rounded once."""

from __future__ import annotations

import warnings
from collections.abc import Collection
from pathlib import Path
from typing import Any, Literal

import torch
from bitsandbytes.functional import dequantize_4bit, quantize_4bit
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from torch import Tensor
from transformers import AutoModelForCausalLM

from nashward.errors import NashwardError
from nashward.games.shapes import Float

from ..policy.adapters.adapter_config import adapter_config
from ..policy.base.checks import network_config
from ..policy.local.names import local_model

Into = Literal["16-bit", "4-bit"]
Arithmetic = Literal["of the run", "stored", "float32"]


def stored_base(source: str | Path) -> Any:
    """A base by plain transformers, its weights in the type that they are stored in, in host memory.

    Raises:
        NashwardError: it is stored in 4 or 8 bits.
    """
    source = local_model(source)
    config = network_config(source)
    if getattr(config, "quantization_config", None) is not None:
        raise NashwardError(
            f"{source} is stored quantised, and an adapter is merged into 16-bit weights; give the model that it was "
            "made from with --policy, or export with --to adapter"
        )
    return AutoModelForCausalLM.from_pretrained(source, config=config, dtype="auto", trust_remote_code=False).eval()


def merged(source: str | Path, adapter: Path, into: Into, quantised: Collection[str] = ()) -> Any:
    """The network of a base with an adapter merged into it, in host memory.

    .. math::  W' = \\text{round}_{16}(W + s B A), \\qquad \\text{or} \\quad \\text{round}_{16}(Q(W) + s B A)

    The sum is made in float32 and rounded once, to the type that the base is stored in, up or down by chance so that
    its mean stays (``stochastically_rounded``): to the nearest, W + s B A is W again where the update is smaller than
    half of the last digit, and most of a short training would be lost. An adapter that was trained on
    4-bit weights saw Q(W), W rounded to NormalFloat: the second sum is nearer to the policy that was trained and has
    the rounding of the base, the first has neither.

    Args:
        source: the base, a folder or a hub id.
        adapter: a folder in PEFT's format.
        into: "16-bit", the weights as they are stored; "4-bit", these rounded to 4 bits first, as the run had them.
        quantised: the names of the layers that the run had in 4 bits, for "4-bit".

    Returns:
        the network, as the one that transformers loads from the base.

    Raises:
        NashwardError: no plain LoRA of this base, a base that is stored quantised, or "4-bit" of a run that had none.

    Source: LoRA arXiv 2106.09685; NormalFloat arXiv 2305.14314; stochastic rounding arXiv 1502.02551.
    """
    adapter_config(adapter, source)
    if into == "4-bit" and not quantised:
        raise NashwardError("the run did not quantise its base: there are no 4-bit weights to merge into")
    base = stored_base(source)
    stored = {name: weight.dtype for name, weight in base.named_parameters()}
    if into == "4-bit":
        round_to_4_bits(base, quantised, torch.float32)  # to 16 bits with the update, once
    network = with_adapter(base, adapter)
    for layer in network.modules():
        if isinstance(layer, LoraLayer):
            weight: Tensor = layer.get_base_layer().weight  # type: ignore[assignment]
            weight.data = weight.data.float() + update(layer)
    network = network.unload()
    generator = torch.Generator().manual_seed(0)
    for name, weight in network.named_parameters():
        if weight.dtype != stored[name]:
            weight.data = stochastically_rounded(weight.data, stored[name], generator)
    return network


def stochastically_rounded(
    values: Float[Tensor, "..."], dtype: torch.dtype, generator: torch.Generator
) -> Float[Tensor, "..."]:
    """Values in a type of 16 bits: one of the two neighbours of each, so that the expectation is the value.

    Args:
        values: in float32, ``[...]``.
        dtype: float16 or bfloat16; any other is rounded to the nearest.
        generator: of the chance.

    Source: arXiv 1502.02551, section 3.

    Example:
        >>> tenth = torch.full((100_000,), 1 + 2.0**-11)  # a sixteenth of the way from 1 to its neighbour in bfloat16
        >>> rounded = stochastically_rounded(tenth, torch.bfloat16, torch.Generator().manual_seed(0))
        >>> sorted(set(rounded.tolist())), round(float((rounded > 1).float().mean()), 2)
        ([1.0, 1.0078125], 0.06)
    """
    near = values.to(dtype)
    if dtype not in (torch.float16, torch.bfloat16):
        return near
    error = values - near.float()
    # the next number in a direction is the next or the last one in the order of the bits without the sign
    signed = torch.where(near == 0, torch.copysign(near, error.to(dtype)), near)
    away = (signed.signbit() == error.signbit()).to(torch.int16)
    other = (signed.view(torch.int16) + (2 * away - 1)).view(dtype)
    share = error.abs() / (other.float() - near.float()).abs()
    chance = torch.rand(values.shape, generator=generator, device="cpu").to(values.device)
    return torch.where((chance < share) & (error != 0), other, near)


def update(layer: Any) -> Float[Tensor, "m n"]:
    """s B A of a layer of PEFT in float32, ``[m, n]`` as its weight."""
    return layer.get_delta_weight("default").float()


def round_to_4_bits(network: Any, names: Collection[str], dtype: torch.dtype | None = None) -> None:
    """Replace the weights of layers by Q(W): in NF4 with double quantisation, and back in a type, or in their own.

    Raises:
        NashwardError: the network has no layer of a name.
    """
    layers = dict(network.named_modules())
    for name in names:
        if name not in layers:
            raise NashwardError(f"the base has no layer {name}, which the run had in 4 bits; is it the run's base?")
        weight = layers[name].weight
        packed, state = quantize_4bit(weight.data.float(), quant_type="nf4", compress_statistics=True)
        weight.data = dequantize_4bit(packed, state).to(dtype or weight.dtype).reshape(weight.shape)


def quantised_layers(network: Any) -> list[str]:
    """The names of a network's layers that are in 4 bits; those of a PEFT model are as in its base.

    Example:
        >>> quantised_layers(torch.nn.Linear(2, 2))
        []
    """
    base = network.get_base_model() if hasattr(network, "get_base_model") else network
    return [
        name.removesuffix(".base_layer")
        for name, module in base.named_modules()
        if getattr(getattr(module, "weight", None), "quant_state", None) is not None
        and not isinstance(module, LoraLayer)
    ]


def load_merged(folder: str | Path) -> Any:
    """A merged folder by plain transformers, as it is served, in host memory."""
    return AutoModelForCausalLM.from_pretrained(folder, dtype="auto", trust_remote_code=False).eval()


def load_adapted(source: str | Path, adapter: Path) -> Any:
    """An adapter by plain peft on its base as that is stored, as it is served, in host memory."""
    return with_adapter(stored_base(source), adapter)


def with_adapter(base: Any, adapter: Path) -> Any:
    """A base with an adapter beside its weights, by plain peft, without dropout."""
    with warnings.catch_warnings():
        # peft asks transformers for a name that transformers 5.23 has renamed
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
        return PeftModel.from_pretrained(base, str(adapter)).eval()


def on_device(network: Any, arithmetic: Arithmetic = "of the run") -> Any:
    """A network on CUDA where it fits with a fifth to spare, else in host memory; in which arithmetic.

    Args:
        network: in the type that its weights are stored in.
        arithmetic: "of the run": float32 on a CPU, that of the stored type on CUDA; or one of both.
    """
    if arithmetic == "float32":
        network = network.float()
    size = sum(weight.numel() * weight.element_size() for weight in network.parameters())
    if torch.cuda.is_available() and torch.cuda.mem_get_info()[0] > 1.2 * size:
        return network.to("cuda")
    return network.float() if arithmetic == "of the run" else network
