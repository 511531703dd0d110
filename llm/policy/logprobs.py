"""Log-probabilities of stored responses: sums over tokens in float32, with one tile of logits in memory at a time."""

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

from nashward.counted import counted
from nashward.errors import NashwardError
from nashward.games.shapes import Float, Int

from .base.text_limit import rotary_limit
from .packing import Packing, packed_states, packs
from .rows import take_rows

TOKEN_TILE, WORD_TILE = 512, 8192  # a tile of logits [tokens, vocabulary]: 16 MiB in float32


def sequence_logprobs(
    network: Any, prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]], pad_id: int
) -> Float[Tensor, " texts"]:
    """log pi(y | x) = sum_h log pi(y_h | x, y_<h) of each response, in nats.

    The network's own head is applied tile by tile to the states before the scored tokens, see ``token_logprobs``.

    Args:
        network: a causal language model, or a PEFT model of one; gradients flow as its mode says, to everything below
            the head.
        prompts, responses: token ids as they were sampled, not decoded and encoded again.
        pad_id: padding on the right; masked by length, so it may equal a stop token.

    Returns:
        ``[B]`` float32.

    Raises:
        ValueError: the numbers of prompts and responses differ, a prompt is empty, or a text is longer than
            ``rotary_limit``: its log-probability would not be that with which it was sampled.

    See also:
        ``token_logprobs``, of single tokens from hidden states.

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
            f"{counted(len(prompts), 'prompt')} and {counted(len(responses), 'response')}; expected one each, "
            "no prompt empty"
        )
    causal = network.get_base_model() if hasattr(network, "get_base_model") else network
    device = next(network.parameters()).device
    longest = max(len(prompt) + len(response) for prompt, response in zip(prompts, responses, strict=True))
    if (limit := rotary_limit(causal.config)) is not None and longest > limit.tokens:
        raise NashwardError(f"{type(causal).__name__} {limit.reason}, and a text has {longest}; leave it out")
    if len(prompts) > 1 and computes_packed(network, longest):
        packing = Packing.of(prompts, responses)
        scored = token_logprobs(packed_states(causal, packing), Head.of(causal), packing.targets.to(device))
        return _sum_by_text(scored, packing.texts.to(device), len(prompts))
    starts = torch.tensor([len(prompt) for prompt in prompts])[:, None]
    lengths = [len(prompt) + len(response) for prompt, response in zip(prompts, responses, strict=True)]
    ids = torch.full((len(prompts), longest), pad_id, dtype=torch.long)
    for row, (prompt, response) in enumerate(zip(prompts, responses, strict=True)):
        ids[row, : lengths[row]] = torch.tensor([*prompt, *response], dtype=torch.long)
    positions = torch.arange(longest)
    mask = positions < torch.tensor(lengths)[:, None]
    rows, positions_scored = (mask & (positions >= starts)).nonzero().to(device).unbind(1)
    ids = ids.to(device)
    inputs = {"input_ids": ids, "attention_mask": mask.to(device), "use_cache": False}
    # the state at position h - 1 predicts token h
    if tiles_agree(causal):
        states = getattr(causal, causal.base_model_prefix)(**inputs).last_hidden_state
        before = take_rows(states.flatten(0, 1), rows * states.shape[1] + positions_scored - 1)
        scored = token_logprobs(before, Head.of(causal), ids[rows, positions_scored])
    else:
        logits = causal(**inputs).logits
        logits = take_rows(logits.flatten(0, 1), rows * logits.shape[1] + positions_scored - 1)
        scored = (
            logits.to(_accumulation_dtype(logits)).log_softmax(-1).gather(1, ids[rows, positions_scored][:, None])[:, 0]
        )
    return _sum_by_text(scored, rows, len(prompts))


def _sum_by_text(scored: Float[Tensor, " S"], texts: Int[Tensor, " S"], count: int) -> Float[Tensor, " texts"]:
    # index_put adds in a fixed order on a GPU too, where index_add does not
    return scored.new_zeros(count).index_put((texts,), scored, accumulate=True)


_TILES_AGREE: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()


def computes_packed(network: Any, longest: int) -> bool:
    """Whether ``sequence_logprobs`` packs texts of up to ``longest`` tokens, the prompts that they share once."""
    causal = network.get_base_model() if hasattr(network, "get_base_model") else network
    return tiles_agree(causal) and packs(network, longest)


def tiles_agree(causal: Any) -> bool:
    """Whether a model's logits are those that ``Head`` computes; compared once, on a short text.

    Where they differ (a head with more layers, a scale of another name) ``sequence_logprobs`` takes the network's
    logits ``[B, T, V]`` as a whole: the policy that is trained must be the one that is sampled from. On the meta device
    there are no values to compare, and the answer is True.
    """
    if causal not in _TILES_AGREE:
        _TILES_AGREE[causal] = causal.device.type == "meta" or _matches_network(causal)
    return _TILES_AGREE[causal]


@torch.no_grad()
def _matches_network(causal: Any) -> bool:
    try:
        head = Head.of(causal)
        ids = torch.arange(1, 5, device=head.weight.device)[None] % head.size
        states = getattr(causal, causal.base_model_prefix)(input_ids=ids, use_cache=False).last_hidden_state[0]
        first, *_, last = [*_tiles(head.size, WORD_TILE)] * 2
        tiled = torch.cat([head.logits(states, head.matrix(words, states.dtype), words) for words in (first, last)], -1)
        logits = causal(input_ids=ids, use_cache=False).logits[0]
        if logits.shape[-1] != head.size:
            return False
        logits = torch.cat([logits[:, first], logits[:, last]], -1)
    except torch.OutOfMemoryError:
        raise
    except (AttributeError, RuntimeError, TypeError, ValueError):  # no attribute of that name, or a packed weight
        return False
    rounding = max(1e-4, 4 * torch.finfo(logits.dtype).eps)
    return tiled.shape == logits.shape and bool((tiled - logits).abs().max() <= rounding * logits.abs().max())


@dataclass(frozen=True)
class Head:
    """The output layer of a causal language model, logits = cap * tanh(scale * (W h + b) / cap), h the last states.

    Attributes:
        weight: W, ``[V, H]``, or the packed weight of a 4-bit layer of bitsandbytes.
        bias: b, ``[V]``; None: none.
        scale: what multiplies the logits (Cohere, Granite).
        cap: the soft cap of the logits (Gemma 2); None: none.

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
        """The head of a model; scale and cap of the logits are read from its configuration."""
        layer, config = causal.get_output_embeddings(), causal.config.get_text_config()
        scale = float(getattr(config, "logit_scale", None) or 1.0) / float(getattr(config, "logits_scaling", None) or 1)
        cap = getattr(config, "final_logit_softcapping", None)
        return Head(layer.weight, getattr(layer, "bias", None), scale, cap)

    @property
    def size(self) -> int:
        """V, the size of the vocabulary."""
        state = getattr(self.weight, "quant_state", None)
        return len(self.weight) if state is None else state.shape[0]

    def matrix(self, words: slice, dtype: torch.dtype) -> Float[Tensor, "W H"]:
        """The rows of W of a tile of the vocabulary, ``[W, H]``; those of a 4-bit head are dequantised."""
        state = getattr(self.weight, "quant_state", None)
        return (self.weight[words] if state is None else _dequantised_rows(self.weight, state, words)).to(dtype)

    def logits(self, states: Float[Tensor, "N H"], matrix: Float[Tensor, "W H"], words: slice) -> Float[Tensor, "N W"]:
        """The logits ``[N, W]`` of states ``[N, H]`` for a tile of the vocabulary, from its rows ``[W, H]`` of W.

        The product is rounded as the network rounds it; the result is in float32 or float64.
        """
        bias = None if self.bias is None else self.bias[words]
        raw = torch.nn.functional.linear(states, matrix, bias).to(_accumulation_dtype(states))
        if self.scale != 1.0:
            raw = raw * self.scale
        return raw if self.cap is None else self.cap * torch.tanh(raw / self.cap)

    def slope(self, logits: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"] | float:
        """d logits / d (W h + b), ``[...]`` from the logits ``[...]``; one number where there is no cap."""
        return self.scale if self.cap is None else self.scale * (1 - (logits / self.cap) ** 2)


def token_logprobs(states: Float[Tensor, "N H"], head: Head, targets: Int[Tensor, " N"]) -> Float[Tensor, " N"]:
    """log softmax(logits)[target] of each state, in tiles over tokens and vocabulary; the gradient is exact.

    .. math::  \\log p_y = z_y - \\log \\sum_v e^{z_v}, \\qquad
        \\nabla_h \\log p_y = z'_y W_y - \\sum_v p_v z'_v W_v

    The gradient by a state h is W_target - sum_v p_v W_v (each W_v times the slope of a capped or scaled logit), and
    depends on the upstream gradient by a factor only: one pass over the vocabulary computes both, with a running
    maximum, sum and mean that are rescaled where a logit is larger than all before (online softmax). In memory there
    are one tile of logits and the gradient, as large as the states. ``torch.nn.functional.linear_cross_entropy`` does
    this too (torch 2.13), but gives its result in the dtype of the states: a text's sum in bfloat16 is off by nats.

    Args:
        states: ``[N, H]``; may need a gradient.
        head: frozen: its weight gets no gradient.
        targets: ``[N]`` token ids.

    Returns:
        ``[N]`` float32, or float64 for states in float64.

    See also:
        ``sequence_logprobs``, of whole responses.

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
        total = torch.empty(len(states), device=states.device, dtype=_accumulation_dtype(states))
        chosen = torch.empty_like(total)
        gradient = torch.empty_like(states) if differentiate else None
        for tokens in _tiles(len(states), TOKEN_TILE):
            hidden, target = states[tokens], targets[tokens]
            top = torch.full_like(total[tokens], torch.finfo(total.dtype).min)
            others = torch.zeros_like(top)  # sum of exp(z_v - top) over all v but the target
            mean = torch.zeros_like(hidden, dtype=total.dtype)  # of slope_v W_v over the same v, times that sum
            rows = torch.zeros_like(hidden) if gradient is not None else None  # W_target
            for words in _tiles(head.size, WORD_TILE):
                matrix = head.matrix(words, hidden.dtype)
                logits = head.logits(hidden, matrix, words)
                inside = (target >= words.start) & (target < words.stop)
                index = (target - words.start).clamp(0, words.stop - words.start - 1)[:, None]
                target_logit = logits.gather(1, index)[:, 0]
                chosen[tokens] = torch.where(inside, target_logit, chosen[tokens])
                slope = head.slope(logits) if differentiate else 1.0
                new_top = torch.maximum(top, logits.amax(-1))
                rescale = (top - new_top).exp_()
                exponentials = logits.sub_(new_top[:, None]).exp_()
                exponentials.scatter_(1, index, exponentials.gather(1, index).masked_fill(inside[:, None], 0.0))
                others = others * rescale + exponentials.sum(-1)
                top = new_top
                if rows is not None:
                    rows = torch.where(inside[:, None], matrix[index[:, 0]], rows)
                    exponentials = exponentials if isinstance(slope, float) and slope == 1.0 else exponentials * slope
                    mean.mul_(rescale[:, None]).add_(exponentials.to(hidden.dtype) @ matrix)
            mass = others + (chosen[tokens] - top).exp()
            total[tokens] = top + mass.log()
            if gradient is not None and rows is not None:
                # (1 - p_target) slope W_target - the sum over the others: 1 - p_target is not computed as a
                # difference, so that a gradient near 0, of a likely token, keeps its relative precision
                at_target = head.slope(chosen[tokens])
                at_target = at_target[:, None] if isinstance(at_target, Tensor) else at_target
                target_part = others[:, None] * at_target * rows
                gradient[tokens] = ((target_part - mean) / mass[:, None]).to(gradient.dtype)
        if gradient is not None:
            ctx.save_for_backward(gradient)
        return chosen - total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return (gradients[0][:, None] * gradient).to(gradient.dtype), None, None, None


def _dequantised_rows(weight: Tensor, state: Any, words: slice) -> Float[Tensor, "words H"]:
    """Rows of a 4-bit matrix ``[V, H]``, dequantised.

    It is stored row by row, two numbers in a byte, with a scale for each block of numbers; with double quantisation the
    scales are in 8 bits, with a scale for each block of scales. Dequantisation therefore begins at a block boundary.
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


def _accumulation_dtype(states: Tensor) -> torch.dtype:
    return torch.promote_types(states.dtype, torch.float32)


def _tiles(count: int, size: int) -> Iterator[slice]:
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))
