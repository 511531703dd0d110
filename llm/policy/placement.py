"""What stays on the device: checkpoints and embeddings in host memory, adapters without float32 copies, tiled MLPs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor
from torch.autograd.graph import save_on_cpu, saved_tensors_hooks
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from nashward.errors import NashwardError, UnsupportedModelError
from nashward.games.shapes import Float, Int

from ..config.placement import Placement
from .experimental.streaming import LayerStream, stream_layers

CPU_PLACEMENT = Placement("none", "device", "float32")  # host and device are one: nothing moves


def default_placement(network: Any, device: str, dtype: torch.dtype) -> Placement:
    """The placement that saves memory at little cost in time.

    In float16 an adapter's first updates would underflow, so adapters stay in float32 there.

    See also:
        ``gpu_placement``, the same without a network.
    """
    if device == "cpu":
        return CPU_PLACEMENT
    return gpu_placement(tied(network), dtype)


def gpu_placement(tied: bool, dtype: torch.dtype) -> Placement:
    """The default on a GPU, for a model with tied or untied embeddings."""
    return Placement(embeddings="device" if tied else "host", adapters="float32" if dtype == torch.float16 else "input")


def apply_placement(network: Any, placement: Placement, device: torch.device) -> LayerStream | None:
    """Apply a placement to a PEFT model of a causal language model, and move it to the device.

    On the meta device the parts in host memory are meta tensors too.

    Returns:
        the stream of the layers; None where they are not streamed.

    Raises:
        ValueError: as ``embeddings_to_host``, ``checkpoint_layers``, ``tile_mlps`` and ``stream_layers``.
    """
    base = network.get_base_model()
    if placement.embeddings == "host":
        embeddings_to_host(base)
    if placement.adapters == "input":
        adapters_in_input_dtype(base)
    if placement.mlp_tokens is not None:
        tile_mlps(base, placement.mlp_tokens)
    if placement.checkpoints == "host":
        checkpoint_layers(base, offloaded_checkpoint)
    elif placement.checkpoints == "device":
        checkpoint_layers(base, partial(checkpoint, use_reentrant=False))
    stream = stream_layers(base, device) if placement.layers == "host" else None
    network.to(device)
    return stream


def offloaded_checkpoint(function: Callable[..., Any], *inputs: Tensor) -> Any:
    """``function(*inputs)``, a checkpoint whose inputs wait for the backward pass in host memory.

    torch's ``checkpoint`` saves its inputs through autograd, so saved-tensor hooks around it see the inputs only;
    tensors that are saved inside are dropped and recomputed.
    """
    with offload_saved_tensors(inputs[0].device):
        return checkpoint(function, *inputs, use_reentrant=False)


def offload_saved_tensors(device: torch.device) -> saved_tensors_hooks:
    """Hooks that keep the tensors saved by autograd in host memory until the backward pass.

    For an accelerator the memory is pinned and the copies run on the compute stream; on a CPU tensors stay where they
    are. On the meta device, which has no data, only shape and dtype are kept.
    """
    if device.type == "meta":
        return saved_tensors_hooks(
            lambda tensor: (tensor.shape, tensor.dtype),
            lambda spec: torch.empty(spec[0], dtype=spec[1], device="meta"),
        )
    return save_on_cpu(pin_memory=device.type != "cpu", device_type=device.type)


def checkpoint_layers(network: torch.nn.Module, function: Callable[..., Any]) -> None:
    """Pass every decoder layer through ``function(layer, states)``.

    As transformers' ``gradient_checkpointing_enable`` (renamed in 5.23), without the hook that makes the embeddings
    require a gradient, which only reentrant checkpoints need.

    Raises:
        UnsupportedModelError: the network's layers do not support it.
    """
    layers: list[Any] = [module for module in network.modules() if hasattr(module, "gradient_checkpointing")]
    if not layers:
        raise UnsupportedModelError(f"{type(network).__name__} has no layers to checkpoint; take checkpoints = 'none'")
    for layer in layers:
        layer._gradient_checkpointing_func = partial(_in_eval_mode, layer, function)
        layer.gradient_checkpointing = True


def _in_eval_mode(layer: Any, function: Callable[..., Any], forward: Callable[..., Any], *inputs: Any) -> Any:
    def quiet(*states: Any) -> Any:
        layer.training = False
        try:
            return forward(*states)
        finally:
            layer.training = True

    return function(quiet, *inputs)


def begin_training(network: torch.nn.Module) -> None:
    """Let a network checkpoint its layers, in eval mode otherwise: a base may have dropout or noise in its routers.

    transformers checkpoints a layer in train mode alone; within the checkpoint the layer is in eval mode too.
    """
    network.eval()
    for module in network.modules():
        if isinstance(module, GradientCheckpointingLayer) and module.gradient_checkpointing:
            module.training = True


class HostEmbedding(torch.nn.Module):
    """An embedding whose table stays in host memory; the looked-up rows go to the device of the ids.

    The table is frozen and not registered as a submodule: ``parameters`` and ``to`` skip it, and the first parameter of
    a network still has the network's device.
    """

    def __init__(self, table: torch.nn.Module):
        super().__init__()
        host = "meta" if next(table.parameters()).is_meta else "cpu"
        self._table = (table.to(host).requires_grad_(False),)

    @property
    def weight(self) -> Any:
        """``[V, H]``, in host memory."""
        return self._table[0].weight

    def forward(self, ids: Int[Tensor, "B T"]) -> Float[Tensor, "B T H"]:
        """``[B, T]`` to ``[B, T, H]`` on the device of the ids."""
        return self._table[0](ids.to(self.weight.device)).to(ids.device)

    def extra_repr(self) -> str:
        return f"{self._table[0]} in host memory"


def tied(network: Any) -> bool:
    """Whether the input embeddings and the head are one matrix."""
    head = network.get_output_embeddings()
    return head is not None and head.weight is network.get_input_embeddings().weight


def embeddings_to_host(network: Any) -> None:
    """Move the input embeddings of a causal language model to host memory.

    Raises:
        ValueError: the embeddings are tied to the head, which stays on the device.
    """
    if tied(network):
        raise NashwardError(
            f"the input embeddings of {type(network).__name__} are its head too (tied), which stays on the device; "
            "take embeddings = 'device'"
        )
    network.set_input_embeddings(HostEmbedding(network.get_input_embeddings()))


class _InputDtypeLinear(torch.nn.Linear):
    """A linear layer that rounds its float32 weights to the dtype of its input."""

    def forward(self, states: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias.to(states.dtype)
        return torch.nn.functional.linear(states, self.weight.to(states.dtype), bias)


def adapters_in_input_dtype(network: torch.nn.Module) -> None:
    """Multiply LoRA weights in the dtype of the layer's input, without PEFT's float32 copy of the input."""
    for layer in network.modules():
        if isinstance(layer, LoraLayer):
            layer.cast_input_dtype_enabled = False
            for slots in (layer.lora_A, layer.lora_B):
                for slot in list(slots):
                    linear: Any = slots[slot]
                    replacement = _InputDtypeLinear(1, 1, bias=linear.bias is not None, device="meta")
                    replacement.in_features, replacement.out_features = linear.in_features, linear.out_features
                    replacement.weight, replacement.bias = (
                        linear.weight,
                        linear.bias,
                    )  # the same parameters under the same names
                    slots[slot] = replacement


def tile_mlps(network: torch.nn.Module, tokens: int) -> None:
    """Let each layer's MLP compute ``tokens`` tokens at a time, with a checkpoint for each tile.

    Raises:
        UnsupportedModelError: the layers have no ``mlp``.
    """
    mlps: list[Any] = [m.mlp for m in network.modules() if isinstance(getattr(m, "mlp", None), torch.nn.Module)]
    if not mlps:
        raise UnsupportedModelError(
            f"the layers of {type(network).__name__} have no mlp to tile; take mlp_tokens = None"
        )
    for mlp in mlps:
        mlp.forward = partial(_tiled_forward, mlp.forward, tokens)


def _tiled_forward(layer: Callable[[Tensor], Tensor], tokens: int, states: Tensor) -> Tensor:
    if states.shape[-2] <= tokens:
        return layer(states)
    return torch.cat([checkpoint(layer, tile, use_reentrant=False) for tile in states.split(tokens, -2)], -2)
