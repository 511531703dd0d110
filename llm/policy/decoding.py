"""The next token of rows of different lengths: a cache in which each row has its own length, and CUDA graphs.

The caches of transformers have one length for a batch: prompts are padded on the left, and finished rows stay to its
end. Here each row writes its keys and values at its own position, so that a row can be replaced by another response.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary

import torch
from peft import PeftModel
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface, DynamicCache
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicLayer
from transformers.masking_utils import sdpa_mask

from nashward.games.shapes import Float, Int

from ..data.library_errors import first_line

logger = logging.getLogger(__name__)

ATTENTION = "nashward_rows"
WINDOW = {"cpu": 16, "cuda": 512}  # the positions that attention reads are a multiple of this: a graph has one number
GRAPH_ROWS = 4  # graphs for a quarter, a half, three quarters and all of the rows
PREFILL_TOKENS = 8192  # padded tokens of prompts that are computed together
# relative differences of logits that are due to rounding
AGREEMENT = {torch.float32: 1e-3, torch.float64: 1e-3}
HALF_AGREEMENT = 0.25  # a real model of 135M in bfloat16 is 0.27 from itself in float32

Prefix: TypeAlias = list[tuple[Tensor, Tensor]]  # for each layer the keys and values of a prompt, each [H, P, D]


class RowCache(Cache):
    """Keys and values of all layers, each ``[rows, H, length, D]``.

    Args:
        layers: how many.
        rows, length: the shape of the tensors.
        device: where it is computed.

    Attributes:
        positions: ``[rows]``, where each row's next token is written, and up to which it attends.
        window: the positions that the current step reads; all rows' are below.
    """

    def __init__(self, layers: int, rows: int, length: int, device: torch.device):
        self.rows, self.length, self.window = rows, length, length
        self.positions = torch.zeros(rows, dtype=torch.long, device=device)
        self.indices = torch.arange(rows, device=device)
        self.row_layers = [RowLayer(self) for _ in range(layers)]
        super().__init__(layers=list(self.row_layers))

    def insert(self, row: int, prefix: Prefix) -> None:
        """Begin a row with a prompt; ``prefix`` has all of its tokens but the last."""
        length = prefix[0][0].shape[1] if prefix else 0
        self.positions[row] = length
        for layer, states in zip(self.row_layers, prefix, strict=False):
            if not layer.is_initialized:
                layer.lazy_initialization(*(state[None] for state in states))
            for tensor, state in zip(layer.tensors, states, strict=True):
                tensor[row, :, :length] = state

    def move(self, sources: Sequence[int], targets: Sequence[int], length: int) -> None:
        """Copy rows to the places of others, up to a length."""
        source, target = (torch.tensor(rows, device=self.positions.device) for rows in (sources, targets))
        self.positions[target] = self.positions[source]
        for layer in self.row_layers:
            for tensor in layer.tensors:
                tensor[target, :, :length] = tensor[source, :, :length]

    def grow(self, length: int) -> None:
        """Make room for longer rows."""
        self.length = length
        for layer in self.row_layers:
            if layer.is_initialized:
                layer.grow(length)


class RowLayer(CacheLayerMixin):
    """The keys and values of one layer of a ``RowCache``."""

    def __init__(self, cache: RowCache):
        super().__init__()
        self.cache = cache

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        self.dtype, self.device = key_states.dtype, key_states.device
        shape = (self.cache.rows, key_states.shape[1], self.cache.length)
        # zeros, not garbage: what is masked has weight 0, and 0 times NaN is NaN
        self.keys, self.values = (states.new_zeros(*shape, states.shape[-1]) for states in (key_states, value_states))
        self.is_initialized = True

    def update(
        self, key_states: Float[Tensor, "B H 1 D"], value_states: Float[Tensor, "B H 1 E"], *given: Any, **named: Any
    ) -> tuple[Float[Tensor, "B H longer D"], Float[Tensor, "B H longer E"]]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        count, window = len(key_states), self.cache.window
        rows, positions = self.cache.indices[:count], self.cache.positions[:count]
        keys, values = self.tensors
        keys[rows, :, positions] = key_states[:, :, 0]
        values[rows, :, positions] = value_states[:, :, 0]
        return keys[:count, :, :window], values[:count, :, :window]

    @property
    def tensors(self) -> tuple[Tensor, Tensor]:
        assert self.keys is not None
        assert self.values is not None
        return self.keys, self.values

    def grow(self, length: int) -> None:
        def longer(states: Tensor) -> Tensor:
            larger = states.new_zeros(*states.shape[:2], length, states.shape[3])
            larger[:, :, : states.shape[2]] = states
            return larger

        self.keys = longer(self.tensors[0])
        self.values = longer(self.tensors[1])

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.cache.window, 0

    def get_seq_length(self, *given: Any) -> int:
        return 0

    def get_max_length(self) -> int:
        return self.cache.length

    def get_max_cache_shape(self) -> int:  # its name in older versions
        return self.cache.length


class Decoder:
    """Computes prompts, and the logits of the next token of rows.

    Args:
        network: a PEFT model of a causal language model, in eval mode, with its adapter active; see ``supported``.
        rows: the most rows.
        length: that of the longest text.
        graphs: replay each step as a CUDA graph. A step of a 7B model in 4 bits launches thousands of kernels, which
            takes Python several times as long as the card.

    Attributes:
        tokens: ``[rows, 1]``, the last token of each row.
        cache: the rows' keys and values.
    """

    def __init__(self, network: PeftModel, rows: int, length: int, graphs: bool = False):
        self.causal: Any = network.get_base_model()
        config: Any = self.causal.config
        device = next(network.parameters()).device
        self.unit = WINDOW["cuda" if device.type == "cuda" else "cpu"]
        self.longest = _rounded(length, self.unit)
        self.graphs = graphs
        # what is captured has fixed addresses, so it is allocated at full length
        self.cache = RowCache(
            config.get_text_config().num_hidden_layers, rows, self.longest if graphs else self.unit, device
        )
        self.tokens = torch.zeros(rows, 1, dtype=torch.long, device=device)
        self._places = torch.arange(self.longest, device=device)
        self._embedded: Tensor | None = None
        self._captured: dict[tuple[int, int], tuple[torch.cuda.CUDAGraph, Tensor]] = {}

    def prefixes(self, prompts: Sequence[Sequence[int]]) -> list[Prefix]:
        """The keys and values of prompts but for their last tokens, each computed once.

        They are padded on the right: a token attends to those before it alone, so that the padding changes nothing.
        """
        size = max(1, PREFILL_TOKENS // max(map(len, prompts), default=1))
        parts = [prompts[k : k + size] for k in range(0, len(prompts), size)]
        return [prefix for part in parts for prefix in self._prefixes(part)]

    def _prefixes(self, prompts: Sequence[Sequence[int]]) -> list[Prefix]:
        width = max(map(len, prompts)) - 1
        if width == 0:
            return [[] for _ in prompts]
        ids = torch.tensor([[*prompt[:-1], *[0] * (width + 1 - len(prompt))] for prompt in prompts])
        cache = DynamicCache(config=self.causal.config.get_text_config())
        base = getattr(self.causal, self.causal.base_model_prefix)
        base(input_ids=ids.to(self.tokens.device), past_key_values=cache, use_cache=True)
        layers: Any = cache.layers
        return [
            [(layer.keys[i, :, : len(prompt) - 1], layer.values[i, :, : len(prompt) - 1]) for layer in layers]
            for i, prompt in enumerate(prompts)
        ]

    def insert(self, row: int, token: int, prefix: Prefix) -> None:
        """Begin a row with a prompt, given its last token and the keys and values of the others."""
        if prefix:
            self._make_room(prefix[0][0].shape[1])
        self.cache.insert(row, prefix)
        self.tokens[row] = token

    def append(self, tokens: Int[Tensor, "count 1"]) -> None:
        """Make these the last tokens of the first rows."""
        self.tokens[: len(tokens)] = tokens
        self.cache.positions[: len(tokens)] += 1

    def move(self, sources: Sequence[int], targets: Sequence[int], length: int) -> None:
        """Move rows, of at most ``length`` tokens, to the places of others."""
        self.cache.move(sources, targets, length)
        self.tokens[targets] = self.tokens[sources]

    def _make_room(self, length: int) -> int:
        """Let the cache have room for rows of ``length`` tokens; returns the positions that attention reads."""
        window = min(self.longest, _rounded(length, self.unit))
        if window > self.cache.length:
            self.cache.grow(min(self.longest, max(window, 2 * self.cache.length)))
        return window

    def logits(self, count: int, length: int) -> Float[Tensor, "count V"]:
        """The logits of the next token of the first ``count`` rows, of which the longest has ``length`` tokens."""
        window, rows = self._make_room(length), self.cache.rows
        computed = min(rows, _rounded(count, -(-rows // GRAPH_ROWS))) if self.graphs else count
        embedded = self.causal.get_input_embeddings()(self.tokens[:computed])
        with _attention(self.causal):
            if not self.graphs:
                return self._forward(embedded, window)
            if self._embedded is None:
                self._embedded = embedded.new_zeros(rows, 1, embedded.shape[-1])
            self._embedded[:computed] = embedded
            try:
                graph, logits = self._captured.get((computed, window)) or self._capture(computed, window)
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as error:
                logger.warning("sampling goes on without CUDA graphs, more slowly: %s", first_line(error))
                self.graphs = False
                self._captured.clear()
                return self._forward(embedded[:count], window)
            graph.replay()
            return logits[:count]

    def _forward(self, embedded: Float[Tensor, "B 1 H"], window: int) -> Float[Tensor, "B V"]:
        self.cache.window, count = window, len(embedded)
        positions = self.cache.positions[:count, None]
        mask = (self._places[:window] <= positions)[:, None, None]
        output = self.causal(
            inputs_embeds=embedded, attention_mask=mask, position_ids=positions, past_key_values=self.cache,
            use_cache=True,
        )  # fmt: skip
        return output.logits[:, -1]

    def _capture(self, count: int, window: int) -> tuple[torch.cuda.CUDAGraph, Tensor]:
        assert self._embedded is not None
        embedded = self._embedded[:count]
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            self._forward(embedded, window)  # what libraries allocate at first use must not be captured
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        pool = next(iter(self._captured.values()))[0].pool() if self._captured else None
        with torch.cuda.graph(graph, pool=pool):
            logits = self._forward(embedded, window)
        self._captured[count, window] = graph, logits
        return graph, logits


def _rounded(number: int, unit: int) -> int:
    return -(-number // unit) * unit


def supported(network: Any) -> bool:
    """Whether ``Decoder`` computes a network's own logits; compared once, on two short texts.

    It does not for models with a sliding window, a recurrent state, or attention with more than a mask and a scale.
    """
    if not isinstance(network, PeftModel):
        return False
    causal: Any = network.get_base_model()
    if causal not in _SUPPORTED:
        _SUPPORTED[causal] = _has_plain_cache(causal) and _agrees(network)
    return _SUPPORTED[causal]


_SUPPORTED: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()


def _has_plain_cache(causal: Any) -> bool:
    config = causal.config.get_text_config()
    layers = DynamicCache(config=config).layers
    sliding = getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True)
    plain = not sliding and all(type(layer) is DynamicLayer for layer in layers)
    if not plain:
        _explain("the model keeps a sliding window or a recurrent state")
    return plain


@torch.no_grad()
def _agrees(network: PeftModel) -> bool:
    causal: Any = network.get_base_model()
    device, size = next(network.parameters()).device, causal.get_input_embeddings().weight.shape[0]
    texts = [[k % size for k in range(1, 8)], [k % size for k in range(9, 12)]]
    try:
        decoder = Decoder(network, len(texts), 8)
        for row, (text, prefix) in enumerate(zip(texts, decoder.prefixes([text[:-1] for text in texts]), strict=True)):
            decoder.insert(row, text[-2], prefix)
        decoder.logits(len(texts), 8)
        decoder.append(torch.tensor([[text[-1]] for text in texts], device=device))
        rows = decoder.logits(len(texts), 8)
        alone = torch.stack([causal(input_ids=torch.tensor([t], device=device)).logits[0, -1] for t in texts]).float()
    except torch.OutOfMemoryError:
        raise
    # what a model's code raises if it cannot take these arguments
    except (RuntimeError, AttributeError, LookupError, TypeError, ValueError) as error:
        _explain(f"{type(error).__name__}: {first_line(error)}")
        return False
    # what all logits have in common changes no probability, and would hide a difference where it is large
    centred = alone - alone.mean(-1, keepdim=True)
    difference = float((rows.float() - rows.float().mean(-1, keepdim=True) - centred).norm() / centred.norm())
    limit = AGREEMENT.get(rows.dtype, HALF_AGREEMENT)
    if not difference <= limit:
        _explain(f"its logits would differ by {difference:.2g} of their size, more than {limit:g}")
        return False
    return True


def _explain(reason: str) -> None:
    logger.info("responses are sampled by transformers' generate, which waits for the longest of a batch: %s", reason)


@contextmanager
def _attention(causal: Any) -> Iterator[None]:
    """Compute attention by ``rows_attention``."""
    config = causal.config.get_text_config()
    before = config._attn_implementation
    config._attn_implementation = ATTENTION
    try:
        yield
    finally:
        config._attn_implementation = before


def rows_attention(
    module: Any,
    query: Float[Tensor, "B H 1 D"],
    key: Float[Tensor, "B G longer D"],
    value: Float[Tensor, "B G longer E"],
    mask: Tensor,
    scaling: float | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **unused: Any,
) -> tuple[Float[Tensor, "B 1 H E"], None]:
    """Attention of one token per row. The H / G heads that share a key are queries of one head: no key is copied.

    Raises:
        NotImplementedError: attention with a cap on the scores, or with sinks.
    """
    if softcap is not None or s_aux is not None or query.shape[2] != 1:
        raise NotImplementedError("attention of one token, with a mask and a scale")
    grouped = query.reshape(len(query), key.shape[1], -1, query.shape[-1])
    states = torch.nn.functional.scaled_dot_product_attention(grouped, key, value, mask, scale=scaling)
    return states.reshape(len(query), 1, query.shape[1], -1), None


AttentionInterface.register(ATTENTION, rows_attention)
AttentionMaskInterface.register(ATTENTION, sdpa_mask)
