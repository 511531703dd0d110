"""Texts without padding: one row holds all texts of a pass, and what several of them begin with only once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from nashward.games.shapes import Float, Int

from ..data.library_errors import first_line
from .decoding import AGREEMENT, HALF_AGREEMENT
from .rows import take_rows

logger = logging.getLogger(__name__)

ATTENTION = "nashward_packed"
PACKING: set[str] = set()  # the attentions that read a layout
KINDS = {"full_attention", "sliding_attention"}  # kinds of layers that may pack

SHARED = 16  # the least common tokens of rows that are computed once

# where each part of a text begins and its length: its prompt and its response, or what it has in common with others
Span: TypeAlias = tuple[int, ...]
Attend: TypeAlias = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Packing:
    """The texts of a pass in one row: each prompt once, followed by the responses to it.

    The last token of a response is left out: its state predicts nothing that is scored.

    Attributes:
        ids, positions: ``[1, N]``; a response's positions go on from its prompt's.
        layout: ``[1, 1, texts, 4]`` int64 in host memory, the ``Span`` of each text.
        states: ``[S]``, the states before the scored tokens.
        targets, texts: ``[S]``, the scored tokens, and the text of each.

    Example:
        >>> packing = Packing.of([[7, 8], [7, 8]], [[1, 2, 3], [4, 5]])
        >>> packing.ids.tolist(), packing.positions.tolist()
        ([[7, 8, 1, 2, 4]], [[0, 1, 2, 3, 2]])
        >>> packing.states.tolist(), packing.targets.tolist()
        ([1, 2, 3, 1, 4], [1, 2, 3, 4, 5])
    """

    ids: Int[Tensor, "1 N"]
    positions: Int[Tensor, "1 N"]
    layout: Int[Tensor, "1 1 texts 4"]
    states: Int[Tensor, " S"]
    targets: Int[Tensor, " S"]
    texts: Int[Tensor, " S"]

    @classmethod
    def of(cls, prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]]) -> Packing:
        """Texts that are next to each other in the row where they have the same prompt."""
        members: dict[tuple[int, ...], list[int]] = {}
        for text, prompt in enumerate(prompts):
            members.setdefault(tuple(prompt), []).append(text)
        ids: list[int] = []
        positions: list[int] = []
        spans: list[Span] = [()] * len(prompts)
        before: list[int] = []
        targets: list[int] = []
        texts: list[int] = []
        for prompt, group in members.items():
            start, length = len(ids), len(prompt)
            ids += prompt
            positions += range(length)
            for text in group:
                response, first = responses[text], len(ids)
                computed = max(0, len(response) - 1)
                spans[text] = (start, length, first, computed)
                ids += response[:computed]
                positions += range(length, length + computed)
                if len(response):
                    before += [start + length - 1, *range(first, first + computed)]
                    targets += response
                    texts += [text] * len(response)
        row = [torch.tensor(values, dtype=torch.long) for values in (ids, positions, spans, before, targets, texts)]
        return cls(row[0][None], row[1][None], row[2][None, None], *row[3:])


@dataclass(frozen=True)
class PackedRows:
    """Rows of tokens in one; what several of them begin with stands in it once.

    The rows are a tree: a beginning that rows share is a part of it from 16 tokens on, and may itself begin with a
    part that others share as well, as a judge's instructions and prompt before each response that is shown first.

    Attributes:
        ids, positions: ``[1, N]``.
        layout: ``[1, 1, R, 2 parts]`` int64 in host memory, the ``Span`` of each row.
        places: ``[R, T]``, where the tokens of each row are; 0 after its end.

    Example:
        >>> shared = list(range(100, 120))
        >>> packed = PackedRows.of([[*shared, 1, 2], [*shared, 3]])
        >>> packed.ids.shape[1], packed.layout[0, 0].tolist()
        (23, [[0, 20, 20, 2], [0, 20, 22, 1]])
        >>> packed.positions[0, -3:].tolist(), packed.places[:, -2:].tolist()
        ([20, 21, 20], [[20, 21], [22, 0]])
    """

    ids: Int[Tensor, "1 N"]
    positions: Int[Tensor, "1 N"]
    layout: Int[Tensor, "1 1 R parts"]
    places: Int[Tensor, "R T"]

    @classmethod
    def of(cls, rows: Sequence[Sequence[int]]) -> PackedRows:
        """Rows in any order; each keeps its number."""
        ids: list[int] = []
        positions: list[int] = []
        spans: list[Span] = [()] * len(rows)

        def part(row: Sequence[int], start: int, stop: int) -> Span:
            first = len(ids)
            ids.extend(row[start:stop])
            positions.extend(range(start, stop))
            return first, stop - start

        # groups of rows, sorted, that are equal up to a token, and the parts that hold what is before it
        groups = [(sorted(range(len(rows)), key=lambda k: list(rows[k])), 0, Span())]
        while groups:
            group, start, span = groups.pop()
            first, last = rows[group[0]], rows[group[-1]]
            if len(group) == 1:
                spans[group[0]] = span + part(first, start, len(first))
                continue
            common = common_beginning(first, last)
            if common - start >= SHARED:
                start, span = common, span + part(first, start, common)
            following: dict[int | None, list[int]] = {}
            for k in group:
                following.setdefault(rows[k][common] if len(rows[k]) > common else None, []).append(k)
            ended = following.pop(None, [])  # rows that are the beginning of the others, or their equals
            groups += [([k], start, span) for k in ended]
            groups += [(own, start, span) for own in reversed(following.values())]
        places = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
        for k, span in enumerate(spans):
            at = [place for s in range(0, len(span), 2) for place in range(span[s], span[s] + span[s + 1])]
            places[k, : len(at)] = torch.tensor(at, dtype=torch.long)
        parts = max(map(len, spans))
        layout = torch.tensor([[*span, *[0] * (parts - len(span))] for span in spans], dtype=torch.long)
        return cls(torch.tensor(ids)[None], torch.tensor(positions)[None], layout[None, None], places)

    @classmethod
    def shared(
        cls, network: Any, input_ids: Int[Tensor, "R T"], attention_mask: Int[Tensor, "R T"]
    ) -> PackedRows | None:
        """A padded batch packed, where its rows share what they begin with and the network packs.

        Args:
            network: a decoder of transformers, with or without a head.
            input_ids, attention_mask: ``[R, T]``, padded on the right.

        Returns:
            The packed rows on the batch's device, the layout in host memory; None where the batch is to be computed as
            it is: with gradients, on the meta device, which has no tokens, or where nothing is shared.
        """
        if torch.is_grad_enabled() or input_ids.is_meta or len(input_ids) < 2 or not packs(network, input_ids.shape[1]):
            return None
        lengths = attention_mask.sum(1).tolist()
        rows = [row[:length] for row, length in zip(input_ids.tolist(), lengths, strict=True)]
        packed = cls.of(rows)
        if packed.ids.shape[1] == sum(lengths):
            return None
        device = input_ids.device
        return cls(packed.ids.to(device), packed.positions.to(device), packed.layout, packed.places.to(device))

    @property
    def inputs(self) -> dict[str, Any]:
        """What the network is called with."""
        return {"input_ids": self.ids, "position_ids": self.positions, "attention_mask": self.layout}

    def states(
        self, hidden: Float[Tensor, "1 N H"], positions: Int[Tensor, "R S"] | None = None
    ) -> Float[Tensor, "R S H"]:
        """The states of the rows at some positions of each, or at all ``[R, T, H]``."""
        return take_rows(hidden[0], self.places if positions is None else self.places.gather(1, positions))


def common_beginning(one: Sequence[int], two: Sequence[int]) -> int:
    """How many tokens two rows begin with alike.

    Example:
        >>> common_beginning([1, 2, 3], [1, 2]), common_beginning([1], [2])
        (2, 0)
    """
    return next((k for k, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), min(len(one), len(two)))


def packed_tokens(prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]]) -> int:
    """The tokens of texts in one row, a prompt that several have counted once.

    Example:
        >>> packed_tokens([[7, 8], [7, 8]], [[1, 2, 3], [4, 5]])
        7
    """
    return sum(map(len, {tuple(prompt) for prompt in prompts})) + sum(map(len, responses))


class _TextsAttention(torch.autograd.Function):
    """Causal attention of each text alone, from the queries, keys and values of a packed row.

    A text's attention is computed again in the backward pass: what is kept is as large as the row, not as the texts.
    """

    @staticmethod
    def forward(ctx: Any, attend: Attend, spans: Sequence[Span], *states: Tensor) -> Tensor:
        ctx.attend, ctx.spans = attend, spans
        ctx.save_for_backward(*states)
        output: Any = None
        seen: set[int] = set()
        for span in spans:
            text = attend(*(_of_text(state, span, 2) for state in states))
            if output is None:
                output = text.new_zeros(1, states[0].shape[2], *text.shape[2:])
            for start, length, at in _parts(span):
                if start not in seen:
                    output[:, start : start + length] = text[:, at : at + length]
                    seen.add(start)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        states: tuple[Tensor, ...] = ctx.saved_tensors
        gradients = [torch.zeros_like(state) for state in states]
        seen: set[int] = set()
        for span in ctx.spans:
            of_text = _of_text(upstream[0], span, 1)
            for start, length, at in _parts(span):
                if start in seen:  # the output of what texts share is that of the first of them
                    of_text[:, at : at + length] = 0
                seen.add(start)
            inputs = [_of_text(state, span, 2).requires_grad_() for state in states]
            with torch.enable_grad():
                output = ctx.attend(*inputs)
            for gradient, part in zip(gradients, torch.autograd.grad(output, inputs, of_text), strict=True):
                for start, length, at in _parts(span):
                    gradient[:, :, start : start + length] += part[:, :, at : at + length]
        return None, None, *gradients


def _parts(span: Span) -> Iterator[tuple[int, int, int]]:
    """Of the parts of a text that have a token: where they begin in the row, their length, where in the text."""
    at = 0
    for start, length in zip(span[::2], span[1::2], strict=True):
        if length:
            yield start, length, at
            at += length


def _of_text(states: Tensor, span: Span, axis: int) -> Tensor:
    return torch.cat([states.narrow(axis, start, length) for start, length, _ in _parts(span)], axis)


def register(name: str, attention: Callable[..., tuple[Tensor, Any]], mask: Callable[..., Any]) -> None:
    """Give transformers an attention that takes a layout in place of a mask too; ``mask`` makes its masks."""

    @wraps(attention)
    def packed(
        module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, *given: Any, **named: Any
    ) -> tuple[Tensor, Any]:
        if attention_mask is None or attention_mask.dtype != torch.int64:
            return attention(module, query, key, value, attention_mask, *given, **named)
        if any(named.get(name) is not None for name in ("softcap", "s_aux", "position_bias")):
            raise NotImplementedError("packed attention with a cap on the scores, sinks or a bias")
        scaling = named.get("scaling")

        def attend(*states: Tensor) -> Tensor:
            return attention(module, *states, None, scaling=scaling, dropout=0.0, is_causal=True)[0]

        spans = [tuple(span) for span in attention_mask[0, 0].tolist()]
        return _TextsAttention.apply(attend, spans, query, key, value), None

    AttentionInterface.register(name, packed)
    AttentionMaskInterface.register(name, mask)
    PACKING.add(name)


register(ATTENTION, sdpa_attention_forward, sdpa_mask)


def packs(network: Any, longest: int) -> bool:
    """Whether a network computes packed texts of up to ``longest`` tokens as it computes them alone.

    Compared once, on short texts; from then on its attention is one that reads a layout as well as a mask. It does not
    pack where a layer has a recurrent state, where attention is computed by another function than torch's
    ``scaled_dot_product_attention``, or where a sliding window is shorter than the texts.
    """
    causal = network.get_base_model() if hasattr(network, "get_base_model") else network
    if causal not in _PACKS:
        _PACKS[causal] = _kinds_pack(causal) and _agrees(causal)
    return _PACKS[causal] and longest <= _window(causal)


_PACKS: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()


def _window(causal: Any) -> float:
    config = causal.config.get_text_config()
    sliding = getattr(config, "sliding_window", None) if getattr(config, "use_sliding_window", True) else None
    return min(size or float("inf") for size in (sliding, getattr(config, "attention_chunk_size", None)))


def _kinds_pack(causal: Any) -> bool:
    config = causal.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ()) - KINDS
    if kinds:
        _explain(f"the model has layers of {', '.join(sorted(kinds))}")
    elif config._attn_implementation not in {"sdpa", *PACKING}:
        _explain(f"the model computes attention by {config._attn_implementation}")
    else:
        return True
    return False


@torch.no_grad()
def _agrees(causal: Any) -> bool:
    config, device = causal.config.get_text_config(), causal.device
    before = config._attn_implementation
    head = causal.get_output_embeddings()  # on the meta device it may have fewer rows; a reward model has none
    size = head.weight.shape[0] if device.type == "meta" and head is not None else config.vocab_size
    prompts = [[k % size for k in range(1, 4)]] * 2 + [[k % size for k in range(9, 11)]]
    responses = [[k % size for k in range(first, last)] for first, last in ((6, 10), (20, 23), (30, 34))]
    config._attn_implementation = before if before in PACKING else ATTENTION
    agrees = False
    try:
        packing = Packing.of(prompts, responses)
        row = packed_states(causal, packing)
        difference = 0.0 if device.type == "meta" else _distance(row, _alone(causal, prompts, responses, packing))
        limit = AGREEMENT.get(row.dtype, HALF_AGREEMENT)
        agrees = difference <= limit
        if not agrees:
            _explain(f"packed together its states would differ by {difference:.2g} of their size, more than {limit:g}")
    except torch.OutOfMemoryError:
        raise
    # what the code of a model raises that cannot take these arguments
    except (RuntimeError, AttributeError, LookupError, TypeError, ValueError) as error:
        _explain(f"{type(error).__name__}: {first_line(error)}")
    finally:
        if not agrees:
            config._attn_implementation = before
    return agrees


def _alone(
    causal: Any, prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]], packing: Packing
) -> Float[Tensor, "S H"]:
    """The states of ``packed_states``, each text computed alone."""
    base, rows = _base(causal), []
    for text in packing.texts.unique_consecutive().tolist():
        ids = torch.tensor([[*prompts[text], *responses[text][:-1]]], device=causal.device)
        states = base(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).last_hidden_state[0]
        rows.append(states[len(prompts[text]) - 1 :])
    return torch.cat(rows)


def _distance(found: Tensor, expected: Tensor) -> float:
    return float((found.float() - expected.float()).norm() / expected.float().norm())


def _base(network: Any) -> Any:
    """What makes the states below a head; a network without a head itself."""
    return getattr(network, network.base_model_prefix, network)


def packed_states(causal: Any, packing: Packing) -> Float[Tensor, "S H"]:
    """The last hidden states before the scored tokens."""
    base = _base(causal)
    inputs = {"input_ids": packing.ids.to(causal.device), "position_ids": packing.positions.to(causal.device)}
    states = base(**inputs, attention_mask=packing.layout, use_cache=False).last_hidden_state[0]
    return take_rows(states, packing.states.to(states.device))


def _explain(reason: str) -> None:
    logger.info(
        "each response is computed with its prompt, in padded batches, which takes longer and changes no result: %s",
        reason,
    )
