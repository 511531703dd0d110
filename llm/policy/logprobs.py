"""Log-probabilities of stored responses: sums over tokens in float32, without ever holding the logits of a text."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from bitsandbytes.functional import dequantize_4bit
from torch import Tensor
from torch.autograd.function import once_differentiable

from nashward.errors import NashwardError
from nashward.games.shapes import Float, Int

TOKENS, WORDS = 512, 8192  # the tile of logits that is held: 16 MiB in float32


def sequence_logprobs(
    network: Any, prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]], pad_id: int
) -> Float[Tensor, " texts"]:
    """log pi(y | x) = sum_h log pi(y_h | x, y_<h) of each response in nats, ``[B]`` float32.

    The network's own head is applied tile by tile to the states before the scored tokens, see ``token_logprobs``.

    Args:
        network: a causal language model, or a PEFT model of one; gradients flow as its mode says, to everything below
            the head.
        prompts, responses: token ids as they were sampled. They are never decoded and encoded again.
        pad_id: filler on the right; masked by length, so it may equal a stop token.

    Raises:
        ValueError: another number of prompts than of responses, or a prompt that is empty.

    Example:
        >>> from nashward import llm
        >>> model = llm.LanguageModel.from_pretrained(llm.pocket.POLICY)
        >>> with torch.no_grad():
        ...     first, second, both = sequence_logprobs(model.network, [[1], [1, 4], [1]], [[4], [51], [4, 51]], 0)
        >>> bool((first + second - both).abs() < 1e-4)  # log pi(a, b) = log pi(a) + log pi(b | a)
        True
    """
    if not prompts:
        return torch.zeros(0)
    if not all(prompts) or len(prompts) != len(responses):
        raise NashwardError(
            f"{len(prompts)} prompts and {len(responses)} responses; expected one each, no prompt empty"
        )
    causal = network.get_base_model() if hasattr(network, "get_base_model") else network
    device = next(network.parameters()).device
    starts = torch.tensor([len(prompt) for prompt in prompts])[:, None]
    lengths = [len(prompt) + len(response) for prompt, response in zip(prompts, responses, strict=True)]
    ids = torch.full((len(prompts), max(lengths)), pad_id, dtype=torch.long)
    for row, (prompt, response) in enumerate(zip(prompts, responses, strict=True)):
        ids[row, : lengths[row]] = torch.tensor([*prompt, *response], dtype=torch.long)
    positions = torch.arange(max(lengths))
    mask = positions < torch.tensor(lengths)[:, None]
    rows, places = (mask & (positions >= starts)).nonzero().to(device).unbind(1)
    ids = ids.to(device)
    inputs = {"input_ids": ids, "attention_mask": mask.to(device), "use_cache": False}
    # the state at position h - 1 predicts token h
    if tiles_agree(causal):
        states = getattr(causal, causal.base_model_prefix)(**inputs).last_hidden_state
        scored = token_logprobs(states[rows, places - 1], Head.of(causal), ids[rows, places])
    else:
        logits = causal(**inputs).logits[rows, places - 1]
        scored = logits.to(_precise(logits)).log_softmax(-1).gather(1, ids[rows, places][:, None])[:, 0]
    return scored.new_zeros(len(prompts)).index_add(0, rows, scored)


_AGREE: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()


def tiles_agree(causal: Any) -> bool:
    """Whether a model's logits are those that ``Head`` computes, tried once on a short text.

    Where they are not (a head with more layers, a scale of another name) the logits are held: what is
    trained has to be what is sampled from. On the meta device, where nothing can be compared, they are taken to be.
    """
    if causal not in _AGREE:
        _AGREE[causal] = causal.device.type == "meta" or _agrees(causal)
    return _AGREE[causal]


@torch.no_grad()
def _agrees(causal: Any) -> bool:
    try:
        head = Head.of(causal)
        ids = torch.arange(1, 5, device=head.weight.device)[None] % head.size
        states = getattr(causal, causal.base_model_prefix)(input_ids=ids, use_cache=False).last_hidden_state[0]
        first, *_, last = [*_tiles(head.size, WORDS)] * 2
        ours = torch.cat([head.logits(states, head.matrix(words, states.dtype), words) for words in (first, last)], -1)
        own = causal(input_ids=ids, use_cache=False).logits[0]
        if own.shape[-1] != head.size:
            return False
        own = torch.cat([own[:, first], own[:, last]], -1)
    except torch.OutOfMemoryError:
        raise
    except (AttributeError, RuntimeError, TypeError, ValueError):  # no such base model, a weight that is packed
        return False
    rounding = max(1e-4, 4 * torch.finfo(own.dtype).eps)
    return ours.shape == own.shape and bool((ours - own).abs().max() <= rounding * own.abs().max())


@dataclass(frozen=True)
class Head:
    """What a causal language model does with its last states: logits = cap * tanh(scale * (W h + b) / cap).

    Attributes:
        weight: W, ``[V, H]``, or the packed weight of a 4-bit layer of bitsandbytes.
        bias: b, ``[V]``; None: none.
        scale: of the logits (Cohere, Granite).
        cap: of the logits (Gemma 2); None: none.

    Example:
        >>> head = Head(torch.eye(2), scale=100.0, cap=30.0)
        >>> words = slice(0, 2)
        >>> head.logits(torch.tensor([[1.0, 0.0]]), head.matrix(words, torch.float32), words)  # 30 tanh(100 / 30)
        tensor([[29.9237,  0.0000]])
    """

    weight: Tensor
    bias: Float[Tensor, " V"] | None = None
    scale: float = 1.0
    cap: float | None = None

    @staticmethod
    def of(causal: Any) -> Head:
        """That of a model; the settings that change its logits are read from its configuration."""
        layer, config = causal.get_output_embeddings(), causal.config.get_text_config()
        scale = float(getattr(config, "logit_scale", None) or 1.0) / float(getattr(config, "logits_scaling", None) or 1)
        cap = getattr(config, "final_logit_softcapping", None)
        return Head(layer.weight, getattr(layer, "bias", None), scale, cap)

    @property
    def size(self) -> int:
        """V, the number of words."""
        state = getattr(self.weight, "quant_state", None)
        return len(self.weight) if state is None else state.shape[0]

    def matrix(self, words: slice, dtype: torch.dtype) -> Float[Tensor, "W H"]:
        """The rows of W of a tile of words, ``[W, H]``; of a 4-bit head they are unpacked for the moment."""
        state = getattr(self.weight, "quant_state", None)
        return (self.weight[words] if state is None else _unpacked(self.weight, state, words)).to(dtype)

    def logits(self, states: Float[Tensor, "N H"], matrix: Float[Tensor, "W H"], words: slice) -> Float[Tensor, "N W"]:
        """The logits ``[N, W]`` of states ``[N, H]`` from those words' rows ``[W, H]``, rounded as the network's own
        are, then in float32 or better."""
        bias = None if self.bias is None else self.bias[words]
        raw = torch.nn.functional.linear(states, matrix, bias).to(_precise(states))
        if self.scale != 1.0:
            raw = raw * self.scale
        return raw if self.cap is None else self.cap * torch.tanh(raw / self.cap)

    def slope(self, logits: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"] | float:
        """d logits / d (W h + b), ``[...]`` from the logits ``[...]``; one number where there is no cap."""
        return self.scale if self.cap is None else self.scale * (1 - (logits / self.cap) ** 2)


def token_logprobs(states: Float[Tensor, "N H"], head: Head, targets: Int[Tensor, " N"]) -> Float[Tensor, " N"]:
    """log softmax(logits)[target] of each state, ``[N]`` float32; tiles over tokens and words, the gradient exact.

    .. math::  \\log p_y = z_y - \\log \\sum_v e^{z_v}, \\qquad
        \\nabla_h \\log p_y = z'_y W_y - \\sum_v p_v z'_v W_v

    The gradient by a state h is W_target - sum_v p_v W_v (each W_v times the slope of a capped or scaled logit), and
    does not depend on what the result is used for but by a factor: one pass over the words finds both, with a running
    maximum, mass and mean that are rescaled where a word is likelier than all before. What is held is one tile of
    logits and the gradient, as large as the states. ``torch.nn.functional.linear_cross_entropy`` does this too (torch
    2.13), but gives its result in the dtype of the states: a text's sum in bfloat16 is off by nats.

    Args:
        states: ``[N, H]``; may need a gradient.
        head: its weight gets none: it is frozen.
        targets: ``[N]`` token ids.

    Example:
        >>> states = torch.tensor([[1.0, 0.0]], requires_grad=True)
        >>> scored = token_logprobs(states, Head(torch.eye(2)), torch.tensor([0]))  # log sigmoid(1)
        >>> scored.detach(), torch.autograd.grad(scored.sum(), states)[0]
        (tensor([-0.3133]), tensor([[ 0.2689, -0.2689]]))
    """
    return _Tiled.apply(states, head, targets, torch.is_grad_enabled() and states.requires_grad)


class _Tiled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: Tensor, head: Head, targets: Tensor, differentiate: bool) -> Tensor:
        total = torch.empty(len(states), device=states.device, dtype=_precise(states))
        chosen = torch.empty_like(total)
        grown = torch.empty_like(states) if differentiate else None
        for tokens in _tiles(len(states), TOKENS):
            own, wanted = states[tokens], targets[tokens]
            top = torch.full_like(total[tokens], torch.finfo(total.dtype).min)
            others = torch.zeros_like(top)  # the mass of all words but the target, over exp(top)
            mean = torch.zeros_like(own, dtype=total.dtype)  # of slope_v W_v over them, times that mass
            rows = torch.zeros_like(own) if grown is not None else None  # of W, the target's
            for words in _tiles(head.size, WORDS):
                matrix = head.matrix(words, own.dtype)
                logits = head.logits(own, matrix, words)
                inside = (wanted >= words.start) & (wanted < words.stop)
                place = (wanted - words.start).clamp(0, words.stop - words.start - 1)[:, None]
                found = logits.gather(1, place)[:, 0]
                chosen[tokens] = torch.where(inside, found, chosen[tokens])
                slope = head.slope(logits) if differentiate else 1.0
                higher = torch.maximum(top, logits.amax(-1))
                shrink = (top - higher).exp_()
                share = logits.sub_(higher[:, None]).exp_()
                share.scatter_(1, place, share.gather(1, place).masked_fill(inside[:, None], 0.0))
                others = others * shrink + share.sum(-1)
                top = higher
                if rows is not None:
                    rows = torch.where(inside[:, None], matrix[place[:, 0]], rows)
                    share = share if isinstance(slope, float) and slope == 1.0 else share * slope
                    mean.mul_(shrink[:, None]).add_(share.to(own.dtype) @ matrix)
            mass = others + (chosen[tokens] - top).exp()
            total[tokens] = top + mass.log()
            if grown is not None and rows is not None:
                # (1 - p_target) slope W_target - sum of the others': the target's own share never enters, so that a
                # gradient near 0, of a likely word, is as exact as any
                at_target = head.slope(chosen[tokens])
                at_target = at_target[:, None] if isinstance(at_target, Tensor) else at_target
                own_part = others[:, None] * at_target * rows
                grown[tokens] = ((own_part - mean) / mass[:, None]).to(grown.dtype)
        if grown is not None:
            ctx.save_for_backward(grown)
        return chosen - total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, None, None, None]:
        (grown,) = ctx.saved_tensors
        return (gradients[0][:, None] * grown).to(grown.dtype), None, None, None


def _unpacked(weight: Tensor, state: Any, words: slice) -> Float[Tensor, "words H"]:
    """Some rows of a 4-bit matrix ``[V, H]``: its numbers lie row by row, two in a byte, with a scale for each block of
    them; where the scales are in 8 bits, with one more for each block of scales. What is unpacked begins with a block.
    """
    width = state.shape[1]
    block = state.blocksize * (state.state2.blocksize if state.nested else 1)
    first, last = words.start * width, words.stop * width
    start = first // block * block
    part = copy.copy(state)
    part.shape = torch.Size((1, last - start))
    part.absmax = state.absmax[start // state.blocksize : -(-last // state.blocksize)]
    if state.nested:
        part.state2 = copy.copy(state.state2)
        part.state2.absmax = state.state2.absmax[start // block : -(-last // block)]
    packed = weight.data.view(torch.uint8).view(-1, 1)[start // 2 : -(-last // 2)]
    return dequantize_4bit(packed, part).view(-1)[first - start :].view(-1, width)


def _precise(states: Tensor) -> torch.dtype:
    return torch.promote_types(states.dtype, torch.float32)


def _tiles(count: int, size: int) -> Iterator[slice]:
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))
