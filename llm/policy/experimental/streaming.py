"""Streamed layers: frozen matrices rest in host memory and pass through two buffers on the device."""

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

ALIGNED = 256  # bytes at which a tensor begins in its layer's block, as CUDA allocates


def stream_layers(network: torch.nn.Module, device: torch.device) -> LayerStream:
    """Take the frozen matrices of every decoder layer off the device; each is there only while its layer computes.

    Matrices are the weights of linear layers, of 4-bit ones with their scales; norms, biases, adapters, embeddings and
    head stay. A layer's matrices lie together in one block of (pinned) host memory. Two buffers on the device hold the
    layer at work and the next one, which is copied meanwhile on a stream of its own: upwards in a forward pass,
    downwards in a backward pass. The numbers are those of a network that is wholly on the device.

    Args:
        network: of transformers, on the host or the device; changed in place.
        device: where it computes. On a CPU the buffers are host memory too, which saves nothing.

    Raises:
        UnsupportedModelError: no decoder layer with frozen matrices is found.
    """
    layers = [_Layer.of(layer) for layer in decoder_layers(network)]
    layers = [layer for layer in layers if layer.parts]
    if not layers:
        raise UnsupportedModelError(f"{type(network).__name__} has no decoder layers to stream; take layers = 'device'")
    stream = LayerStream(layers, device)
    network.layer_stream = (
        stream  # a module of the network, so that whoever counts the network's bytes sees the buffers
    )
    for at, layer in enumerate(layers):
        for linear in dict.fromkeys(part.linear for part in layer.parts):
            linear.forward = partial(_linear, linear, linear.forward, partial(stream.need, at))
    return stream


def decoder_layers(network: torch.nn.Module) -> list[torch.nn.Module]:
    """The layers that transformers can checkpoint, in order; those within another are part of it."""
    found: list[torch.nn.Module] = []
    inside: set[torch.nn.Module] = set()
    for module in network.modules():
        if isinstance(module, GradientCheckpointingLayer) and module not in inside:
            found.append(module)
            inside.update(module.modules())
    return found


@dataclass(frozen=True)
class _Part:
    """One tensor that is streamed: the data of a linear layer's weight, or the scales of its 4-bit state."""

    linear: Any
    scales: bool

    @property
    def tensor(self) -> Tensor:
        return self.linear.weight.quant_state.absmax if self.scales else self.linear.weight.data

    def put(self, value: Tensor) -> None:
        if self.scales:
            self.linear.weight.quant_state.absmax = value
        else:
            self.linear.weight.data = value


@dataclass(frozen=True)
class _Layer:
    """What is streamed of a layer, and where each tensor lies in its block."""

    parts: list[_Part]
    places: list[int] = field(default_factory=list)
    like: list[tuple[torch.dtype, torch.Size]] = field(default_factory=list)
    size: int = 0

    @staticmethod
    def of(layer: torch.nn.Module) -> _Layer:
        parts = [
            _Part(module, scales)
            for name, module in layer.named_modules()
            if isinstance(module, torch.nn.Linear) and "lora_" not in name and not module.weight.requires_grad
            for scales in ((False, True) if getattr(module.weight, "quant_state", None) is not None else (False,))
        ]
        places, size = [], 0
        for part in parts:
            places.append(size)
            size += -(-part.tensor.nbytes // ALIGNED) * ALIGNED
        return _Layer(parts, places, [(part.tensor.dtype, part.tensor.shape) for part in parts], size)

    def views(self, block: Num[Tensor, " bytes"]) -> list[Tensor]:
        """The tensors of the layer in a block that holds it."""
        return [
            block[place : place + shape.numel() * dtype.itemsize].view(dtype).view(shape)
            for place, (dtype, shape) in zip(self.places, self.like, strict=True)
        ]

    def put(self, tensors: Sequence[Tensor]) -> None:
        for part, tensor in zip(self.parts, tensors, strict=True):
            part.put(tensor)


class LayerStream(torch.nn.Module):
    """The layers' blocks in host memory, and the two of them that are on the device.

    What is not on the device is empty there, so that a weight that is used without being asked for is an error, not
    a wrong number.

    Attributes:
        fetched: how many blocks were copied to the device.
    """

    def __init__(self, layers: Sequence[_Layer], device: torch.device):
        super().__init__()
        self.device, self.layers, self.fetched = device, list(layers), 0
        self._empty = [[torch.empty(0, dtype=dtype, device=device) for dtype, _ in layer.like] for layer in layers]
        self._blocks = [self._to_host(layer, empty) for layer, empty in zip(layers, self._empty, strict=True)]
        self._held: list[int | None] = [None, None]  # the layer in each buffer
        self._at = 0  # the layer at work
        self._copies = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._ready = [torch.cuda.Event() if device.type == "cuda" else None for _ in self._held]
        self.onload()

    def onload(self) -> None:
        """Take the two buffers, if they are not there."""
        for slot in range(len(self._held)):
            if getattr(self, f"buffer_{slot}", None) is None:
                size = max(layer.size for layer in self.layers)
                empty = torch.empty(size, dtype=torch.uint8, device=self.device)
                self.register_buffer(f"buffer_{slot}", empty, persistent=False)

    def offload(self) -> None:
        """Give the buffers back, until ``wake``."""
        if self._copies is not None:
            self._copies.synchronize()
        for slot, layer in enumerate(self._held):
            if layer is not None:
                self.layers[layer].put(self._empty[layer])
            setattr(self, f"buffer_{slot}", None)
        self._held = [None, None]

    def _to_host(self, layer: _Layer, empty: Sequence[Tensor]) -> Num[Tensor, " bytes"]:
        host = "meta" if self.device.type == "meta" else "cpu"
        block = torch.empty(layer.size, dtype=torch.uint8, device=host, pin_memory=self.device.type == "cuda")
        for view, part in zip(layer.views(block), layer.parts, strict=True):
            view.copy_(part.tensor)
        layer.put(empty)  # what was copied is freed, before the next layer is
        return block

    def need(self, layer: int) -> None:
        """Have a layer on the device, before its weights are used; the next one is fetched meanwhile."""
        last = len(self.layers) - 1
        if layer == self._at and layer in self._held:
            return
        before, self._at = self._at, layer
        if layer not in self._held:
            self._fetch(layer, keep=before)
        ready = self._ready[self._held.index(layer)]
        if ready is not None:
            torch.cuda.current_stream(self.device).wait_event(ready)
        again = (before, layer) == (last, 0)  # the next pass upwards
        following = layer - 1 if layer < before and not again else layer + 1
        if following > last and not torch.is_grad_enabled():  # no backward pass comes: the next token, or the next text
            following = 0
        if 0 <= following <= last and following not in self._held:
            self._fetch(following, keep=layer)

    @torch.no_grad()
    def _fetch(self, layer: int, keep: int) -> None:
        """Copy a layer over the one that is not to be kept; whatever uses that one is queued before."""
        slot = 1 if self._held[0] == keep else 0
        left = self._held[slot]
        if left is not None:
            self.layers[left].put(self._empty[left])
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
        self._held[slot] = layer
        self.layers[layer].put(self.layers[layer].views(buffer))
        self.fetched += 1


def _linear(linear: Any, forward: Callable[[Tensor], Tensor], need: Callable[[], None], states: Tensor) -> Tensor:
    """The layer's own pass, with its weights there; the backward pass asks for them again, and keeps none."""
    need()
    return _Product.apply(states, linear, forward, need)


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: Tensor, linear: Any, forward: Callable[[Tensor], Tensor], need: Any) -> Tensor:
        ctx.linear, ctx.need, ctx.dtype = linear, need, states.dtype
        ctx.folded = states.ndim != 3 or states.is_contiguous()  # torch then takes one product, else one a text
        return forward(states)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        ctx.need()
        (gradient,) = gradients
        weight, state = ctx.linear.weight, getattr(ctx.linear.weight, "quant_state", None)
        if state is not None:  # as the product of bitsandbytes does it
            gradient = gradient.to(ctx.linear.compute_dtype or gradient.dtype)
            back = gradient @ dequantize_4bit(weight.data, state).to(gradient.dtype)
        elif ctx.folded:
            back = (gradient.reshape(-1, gradient.shape[-1]) @ weight).view(*gradient.shape[:-1], -1)
        else:
            back = gradient.bmm(weight.expand(len(gradient), *weight.shape))
        return back.to(ctx.dtype), None, None, None
