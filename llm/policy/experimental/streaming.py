"""Streamed layers: frozen matrices stay in host memory and are copied to one of two buffers on the device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from bitsandbytes.functional import dequantize_4bit
from torch import Tensor
from torch.autograd.function import once_differentiable
from transformers.modeling_layers import GradientCheckpointingLayer

from nashward.errors import UnsupportedModelError
from nashward.games.shapes import Num

ALIGNMENT = 256  # bytes at which a tensor begins in its layer's block, as CUDA allocates


def stream_layers(network: torch.nn.Module, device: torch.device) -> LayerStream:
    """Move the frozen matrices of every decoder layer to host memory; each is copied back while its layer computes.

    Matrices are the weights of linear layers, with the scales of 4-bit ones; norms, biases, adapters, embeddings and
    head stay on the device. A layer's matrices are contiguous in one block of (pinned) host memory. Two buffers on the
    device hold the current layer and the next one, which is prefetched on another CUDA stream: the layer above in a
    forward pass, the layer below in a backward pass. The results are those of a network that is wholly on the device.

    Args:
        network: a network of transformers, on the host or the device; changed in place.
        device: where it is computed. On a CPU the buffers are host memory too, which saves nothing.

    Returns:
        the stream, also registered as ``network.layer_stream``.

    Raises:
        UnsupportedModelError: there is no decoder layer with frozen matrices.
    """
    layers = [_Layer.of(layer) for layer in decoder_layers(network)]
    layers = [layer for layer in layers if layer.parts]
    if not layers:
        raise UnsupportedModelError(f"{type(network).__name__} has no decoder layers to stream; take layers = 'device'")
    stream = LayerStream(layers, device)
    network.layer_stream = stream  # a submodule, so that its buffers count among the network's bytes
    for index, layer in enumerate(layers):
        for linear in dict.fromkeys(part.linear for part in layer.parts):
            linear.forward = partial(_linear, linear, linear.forward, partial(stream.ensure_loaded, index))
    return stream


def decoder_layers(network: torch.nn.Module) -> list[torch.nn.Module]:
    """The outermost layers that transformers can checkpoint, in order."""
    layers: list[torch.nn.Module] = []
    nested: set[torch.nn.Module] = set()
    for module in network.modules():
        if isinstance(module, GradientCheckpointingLayer) and module not in nested:
            layers.append(module)
            nested.update(module.modules())
    return layers


@dataclass(frozen=True)
class _StreamedTensor:
    """One tensor that is streamed: the data of a linear layer's weight, or the scales of its 4-bit state."""

    linear: Any
    scales: bool

    @property
    def tensor(self) -> Tensor:
        return self.linear.weight.quant_state.absmax if self.scales else self.linear.weight.data

    def set(self, value: Tensor) -> None:
        if self.scales:
            self.linear.weight.quant_state.absmax = value
        else:
            self.linear.weight.data = value


@dataclass(frozen=True)
class _Layer:
    """The streamed tensors of a layer, and the offset of each in the layer's block."""

    parts: list[_StreamedTensor]
    offsets: list[int] = field(default_factory=list)
    specs: list[tuple[torch.dtype, torch.Size]] = field(default_factory=list)
    size: int = 0

    @staticmethod
    def of(layer: torch.nn.Module) -> _Layer:
        parts = [
            _StreamedTensor(module, scales)
            for name, module in layer.named_modules()
            if isinstance(module, torch.nn.Linear) and "lora_" not in name and not module.weight.requires_grad
            for scales in ((False, True) if getattr(module.weight, "quant_state", None) is not None else (False,))
        ]
        offsets, size = [], 0
        for part in parts:
            offsets.append(size)
            size += -(-part.tensor.nbytes // ALIGNMENT) * ALIGNMENT
        return _Layer(parts, offsets, [(part.tensor.dtype, part.tensor.shape) for part in parts], size)

    def views(self, block: Num[Tensor, " bytes"]) -> list[Tensor]:
        """The layer's tensors as views of a block."""
        return [
            block[offset : offset + shape.numel() * dtype.itemsize].view(dtype).view(shape)
            for offset, (dtype, shape) in zip(self.offsets, self.specs, strict=True)
        ]

    def set_tensors(self, tensors: Sequence[Tensor]) -> None:
        for part, tensor in zip(self.parts, tensors, strict=True):
            part.set(tensor)


class LayerStream(torch.nn.Module):
    """The layers' blocks in host memory, and the two buffers on the device.

    The weights of a layer that is not on the device are empty tensors, so that using them raises an error
    rather than return a wrong number.

    Attributes:
        fetched: the number of blocks copied to the device.
    """

    def __init__(self, layers: Sequence[_Layer], device: torch.device):
        super().__init__()
        self.device, self.layers, self.fetched = device, list(layers), 0
        self._empty = [[torch.empty(0, dtype=dtype, device=device) for dtype, _ in layer.specs] for layer in layers]
        self._blocks = [self._to_host(layer, empty) for layer, empty in zip(layers, self._empty, strict=True)]
        self._buffered: list[int | None] = [None, None]  # the layer in each buffer
        self._current = 0  # the layer that computes
        self._copies = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._ready = [torch.cuda.Event() if device.type == "cuda" else None for _ in self._buffered]
        self.onload()

    def onload(self) -> None:
        """Allocate the two buffers, unless they exist."""
        for slot in range(len(self._buffered)):
            if getattr(self, f"buffer_{slot}", None) is None:
                size = max(layer.size for layer in self.layers)
                empty = torch.empty(size, dtype=torch.uint8, device=self.device)
                self.register_buffer(f"buffer_{slot}", empty, persistent=False)

    def offload(self) -> None:
        """Free the two buffers; ``onload`` allocates them again."""
        if self._copies is not None:
            self._copies.synchronize()
        for slot, layer in enumerate(self._buffered):
            if layer is not None:
                self.layers[layer].set_tensors(self._empty[layer])
            setattr(self, f"buffer_{slot}", None)
        self._buffered = [None, None]

    def _to_host(self, layer: _Layer, empty: Sequence[Tensor]) -> Num[Tensor, " bytes"]:
        host = "meta" if self.device.type == "meta" else "cpu"
        block = torch.empty(layer.size, dtype=torch.uint8, device=host, pin_memory=self.device.type == "cuda")
        for view, part in zip(layer.views(block), layer.parts, strict=True):
            view.copy_(part.tensor)
        layer.set_tensors(empty)  # frees the copied tensors before the next layer is copied
        return block

    def ensure_loaded(self, layer: int) -> None:
        """Copy a layer to the device unless it is there, and prefetch the next one."""
        last = len(self.layers) - 1
        if layer == self._current and layer in self._buffered:
            return
        previous, self._current = self._current, layer
        if layer not in self._buffered:
            self._fetch(layer, keep=previous)
        ready = self._ready[self._buffered.index(layer)]
        if ready is not None:
            torch.cuda.current_stream(self.device).wait_event(ready)
        new_pass = (previous, layer) == (last, 0)  # the next forward pass begins
        following = layer - 1 if layer < previous and not new_pass else layer + 1
        if (
            following > last and not torch.is_grad_enabled()
        ):  # without a backward pass: layer 0 of the next token or text
            following = 0
        if 0 <= following <= last and following not in self._buffered:
            self._fetch(following, keep=layer)

    @torch.no_grad()
    def _fetch(self, layer: int, keep: int) -> None:
        """Copy a layer into the buffer that does not hold ``keep``; uses of the layer it replaces are queued before."""
        slot = 1 if self._buffered[0] == keep else 0
        evicted = self._buffered[slot]
        if evicted is not None:
            self.layers[evicted].set_tensors(self._empty[evicted])
        buffer, block = self.get_buffer(f"buffer_{slot}"), self._blocks[layer]
        target = buffer[: len(block)]
        ready = self._ready[slot]
        if ready is None or self._copies is None:
            target.copy_(block)
        else:
            self._copies.wait_stream(torch.cuda.current_stream(self.device))
            with torch.cuda.stream(self._copies):
                target.copy_(block, non_blocking=True)
                ready.record()
        self._buffered[slot] = layer
        self.layers[layer].set_tensors(self.layers[layer].views(buffer))
        self.fetched += 1


def _linear(linear: Any, forward: Callable[[Tensor], Tensor], load: Callable[[], None], states: Tensor) -> Tensor:
    """The linear layer's forward pass; the weights are loaded before it, and again before the backward pass."""
    load()
    return _Product.apply(states, linear, forward, load)


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: Tensor, linear: Any, forward: Callable[[Tensor], Tensor], load: Any) -> Tensor:
        ctx.linear, ctx.load, ctx.dtype = linear, load, states.dtype
        ctx.folded = states.ndim != 3 or states.is_contiguous()  # torch then computes one product, else one per text
        return forward(states)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        ctx.load()
        (gradient,) = gradients
        weight, state = ctx.linear.weight, getattr(ctx.linear.weight, "quant_state", None)
        if state is not None:  # in the order of operations of bitsandbytes
            gradient = gradient.to(ctx.linear.compute_dtype or gradient.dtype)
            input_gradient = gradient @ dequantize_4bit(weight.data, state).to(gradient.dtype)
        elif ctx.folded:
            input_gradient = (gradient.reshape(-1, gradient.shape[-1]) @ weight).view(*gradient.shape[:-1], -1)
        else:
            input_gradient = gradient.bmm(weight.expand(len(gradient), *weight.shape))
        return input_gradient.to(ctx.dtype), None, None, None
