"""Sampling with transformers: a seed for each prompt and response; token ids and a finished flag are stored."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    TemperatureLogitsWarper,
    TopPLogitsWarper,
)

from nashward.errors import NashwardError
from nashward.games.shapes import Float, Int

from ..config.sampling import Sampling
from ..data.rollouts import Response
from .continuous_batching import ContinuousBatch
from .decoding import Decoder, supported
from .experimental.int8_cache import quantised_cache
from .logprobs import sequence_logprobs
from .memory import check_divisible, one_memory_error, release_memory, run_in_parts
from .model import LanguageModel


class ResponseSource(Protocol):
    """How responses are drawn from a policy.

    Attributes:
        enumerates: whether the responses are the whole distribution, not a sample; then each is also compared with
            itself.
    """

    enumerates: bool

    def draw(
        self, model: LanguageModel, prompts: Sequence[Sequence[int]], seeds: Sequence[Sequence[int]]
    ) -> list[list[Response]]:
        """The responses of the active adapter to each prompt's token ids; a run calls it for each batch of prompts."""
        ...


@dataclass(frozen=True)
class GenerateSource:
    """Responses that transformers' ``generate`` draws from the active adapter.

    Inverse transform sampling, with uniform numbers u from the response's own seed:
    y_h = min {v: sum_{w <= v} pi(w | x, y_<h) > u_h}. A response does not depend on the rest of its batch.

    Attributes:
        settings: those of the sampler.
        enumerates: False, see ``ResponseSource``.

    See also:
        ``Enumerated``, the whole distribution over a finite set.

    Example:
        >>> from nashward import llm
        >>> model = llm.LanguageModel.from_pretrained(llm.pocket.POLICY)
        >>> prompt = model.encode(llm.Prompt(({"role": "user", "content": "Name a river."},)))
        >>> source = GenerateSource(llm.Sampling(max_new_tokens=8))
        >>> (responses,) = source.draw(model, [prompt], seeds=[[0, 1]])
        >>> [(len(response.ids) <= 8, response.weight) for response in responses]
        [(True, 0.5), (True, 0.5)]
    """

    settings: Sampling = field(default_factory=Sampling)
    enumerates = False

    def draw(
        self, model: LanguageModel, prompts: Sequence[Sequence[int]], seeds: Sequence[Sequence[int]]
    ) -> list[list[Response]]:
        """The responses of the active adapter to each prompt's token ids, one per seed, each of weight 1 / K."""
        drawn = sample(model, prompts, seeds, self.settings)
        return [[replace(response, weight=1 / len(row)) for response in row] for row in drawn]

    @property
    def batch(self) -> int:
        """Responses in one batch."""
        return self.settings.batch

    def with_batch(self, batch: int) -> GenerateSource:
        """The same source with another number of responses in one batch."""
        return replace(self, settings=replace(self.settings, batch=batch))


def as_source(source: ResponseSource | Sampling) -> ResponseSource:
    """A source; ``Sampling`` settings become the ``GenerateSource`` with these settings.

    Example:
        >>> as_source(Sampling(top_p=0.9)).enumerates
        False
    """
    return GenerateSource(source) if isinstance(source, Sampling) else source


@dataclass(frozen=True)
class Enumerated:
    """Every response of a finite set, weighted by its probability under the policy (normalised over the set).

    .. math::  w(y) = \\frac{\\pi(y | x)}{\\sum_{y'} \\pi(y' | x)}

    Expectations are exact: with it, a language model over such a set follows the iterates of the tabular solver.

    See also:
        ``GenerateSource``, which samples.

    Attributes:
        responses: token ids, each at least one token.
        enumerates: True, see ``ResponseSource``.

    Example:
        >>> from nashward import llm
        >>> model = llm.LanguageModel.from_pretrained(llm.pocket.POLICY)
        >>> prompt = model.encode(llm.Prompt(({"role": "user", "content": "Name a river."},)))
        >>> (responses,) = Enumerated(((19, 5), (22, 5))).draw(model, [prompt], seeds=[[]])
        >>> [response.ids for response in responses], round(sum(response.weight for response in responses), 6)
        ([[19, 5], [22, 5]], 1.0)
    """

    responses: tuple[tuple[int, ...], ...]
    enumerates = True

    def draw(
        self, model: LanguageModel, prompts: Sequence[Sequence[int]], seeds: Sequence[Sequence[int]]
    ) -> list[list[Response]]:
        """All the responses to each prompt's token ids, with their weights; ``seeds`` are not used."""
        drawn = []
        for prompt in prompts:
            ids = [list(response) for response in self.responses]
            scores = sequence_logprobs(model.network, [prompt] * len(ids), ids, model.pad_id)
            weights = scores.double().softmax(0).tolist()
            drawn.append([Response(y, True, model.decode(y), w) for y, w in zip(ids, weights, strict=True)])
        return drawn


def seed_of(*key: Any) -> int:
    """A seed from a key, the same on every machine and in every process: the first 63 bits of its SHA-256.

    Example:
        >>> seed_of(0, "response", 3) == seed_of(0, "response", 3) != seed_of(0, "response", 4)
        True
    """
    return int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:8], "big") >> 1


def is_continuous(settings: Sampling, network: Any) -> bool:
    """Whether ``sample`` puts other responses in place of finished ones: then all prompts are best drawn in one call.

    See also: ``continuous_batching``.
    """
    return settings.kv_cache == "full" and supported(network)


def sample(
    model: LanguageModel,
    prompts: Sequence[Sequence[int]],
    seeds: Sequence[Sequence[int]],
    settings: Sampling,
    progress: Callable[[int], Any] = lambda done: None,
) -> list[list[Response]]:
    """Draw responses from the active adapter.

    Args:
        model: with the policy's adapter active (``with model.use_adapter(folder): ...``).
        prompts: token ids of each prompt.
        seeds: for each prompt one seed per response: a response depends on its own seed only.
        settings: those of the sampler.
        progress: is called with the number of prompts that a batch finished.

    Returns:
        For each prompt its responses, in the order of the seeds.

    Raises:
        ValueError: a prompt and its response may be longer than the model's ``limit``.
    """
    longest = max(map(len, prompts), default=0)
    if model.limit is not None and longest + settings.max_new_tokens > model.limit.tokens:
        raise NashwardError(
            f"{model.name} {model.limit.reason}, and a prompt has {longest}; leave out the long ones, or lower "
            f"--max-new-tokens ({settings.max_new_tokens})"
        )
    if prompts and is_continuous(settings, model.network):
        return _sample_continuously(model, prompts, seeds, settings, progress)
    results: list[list[Response]] = [[] for _ in prompts]
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))  # similar lengths in a batch: little padding
    count = max((len(s) for s in seeds), default=1)
    size = max(1, settings.batch // max(count, 1))
    for begin in range(0, len(order), size):
        chosen = order[begin : begin + size]
        rows = [(i, seed) for i in chosen for seed in seeds[i]]

        def draw(part: Sequence[tuple[int, int]]) -> list[Response]:
            return _sample_batch(model, [prompts[i] for i, _ in part], [seed for _, seed in part], settings)

        for start in range(0, len(rows), settings.batch):  # one prompt may have more responses than a batch
            part = rows[start : start + settings.batch]
            for (i, _), response in zip(part, run_in_parts(draw, part, "response", model.on_event), strict=True):
                results[i].append(response)
        progress(len(chosen))
    return results


def _sample_continuously(
    model: LanguageModel,
    prompts: Sequence[Sequence[int]],
    seeds: Sequence[Sequence[int]],
    settings: Sampling,
    progress: Callable[[int], Any],
) -> list[list[Response]]:
    """As ``sample``, in the order of the prompts. Where memory runs out all begin again, in half as many rows."""
    uniforms = [_uniforms(row, settings.max_new_tokens) for row in seeds]
    rows = min(settings.batch, sum(map(len, seeds)))
    longest = max(map(len, prompts)) + settings.max_new_tokens
    warpers = _warpers(settings)

    def choose(logits: Float[Tensor, "B V"], points: Float[Tensor, "B 1"]) -> Int[Tensor, "B 1"]:
        # the processors of temperature and top-p read the logits alone
        scores: Any = warpers(None, logits.to(torch.float32, copy=True))  # type: ignore[arg-type]
        return inverse_transform(scores, points)

    while True:
        try:
            graphs = model.device.type == "cuda" and model.stream is None
            with one_memory_error():
                decoder = Decoder(model.network, rows, longest, graphs)
                batch = ContinuousBatch(decoder, prompts, uniforms, model.stop_ids, choose, progress)
                return [[_to_response(model, ids) for ids in responses] for responses in batch.run()]
        except torch.OutOfMemoryError:
            pass
        decoder = batch = None  # type: ignore[assignment]
        release_memory()
        check_divisible(rows, "response")
        model.on_event({"out_of_memory": "response", "at_once": rows})
        rows = -(-rows // 2)


def _uniforms(seeds: Sequence[int], tokens: int) -> Float[Tensor, "K T"]:
    """A number for each response and token, from the response's own seed."""
    numbers = [torch.rand(tokens, generator=torch.Generator().manual_seed(s), dtype=torch.float64) for s in seeds]
    return torch.stack(numbers) if numbers else torch.zeros(0, tokens, dtype=torch.float64)


def _warpers(settings: Sampling) -> LogitsProcessorList:
    processors = LogitsProcessorList()
    if settings.temperature != 1:
        processors.append(TemperatureLogitsWarper(settings.temperature))
    if settings.top_p < 1:
        processors.append(TopPLogitsWarper(settings.top_p))
    return processors


def _sample_batch(
    model: LanguageModel, prompts: list[Sequence[int]], seeds: list[int], settings: Sampling
) -> list[Response]:
    width = max(map(len, prompts))
    ids = torch.tensor([[model.pad_id] * (width - len(p)) + list(p) for p in prompts])
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
    uniforms = _uniforms(seeds, settings.max_new_tokens)
    processors = _warpers(settings)
    processors.append(InverseTransformProcessor(uniforms.to(model.device), width))
    output = model.network.generate(
        input_ids=ids.to(model.device),
        attention_mask=mask.to(model.device),
        generation_config=GenerationConfig(
            do_sample=False,  # the last processor draws: it leaves one token with finite logit
            max_new_tokens=settings.max_new_tokens,
            eos_token_id=model.stop_ids,
            pad_token_id=model.pad_id,
            use_cache=True,
        ),
        logits_processor=processors,
        **({"past_key_values": quantised_cache()} if settings.kv_cache == "int8" else {}),
    )
    return [_to_response(model, row) for row in output[:, width:].tolist()]


def _to_response(model: LanguageModel, ids: list[int]) -> Response:
    end = next((position for position, token in enumerate(ids) if token in model.stop_ids), None)
    if end is None:
        return Response(ids, False, model.decode(ids))
    return Response(ids[: end + 1], True, model.decode(ids[:end]))


def inverse_transform(scores: Float[Tensor, "B V"], uniforms: Float[Tensor, "B 1"]) -> Int[Tensor, "B 1"]:
    """min {v: sum_{w <= v} pi(w) > u}, the token where the cumulative distribution passes a uniform number.

    Args:
        scores: logits ``[B, V]``.
        uniforms: u ``[B, 1]`` in [0, 1).

    Returns:
        tokens ``[B, 1]``.

    Example:
        >>> inverse_transform(torch.tensor([[0.2, 0.3, 0.5]]).log(), torch.tensor([[0.4]], dtype=torch.float64))
        tensor([[1]])
    """
    cumulative = scores.double().softmax(-1).cumsum(-1)
    point = uniforms * cumulative[:, -1:]
    return torch.searchsorted(cumulative, point, right=True).clamp_max(scores.shape[-1] - 1)


class InverseTransformProcessor(LogitsProcessor):
    """Draws each row's next token by inverting its cumulative distribution at the row's uniform number.

    Args:
        uniforms: u ``[B, T]``, a number for each row and new token.
        start: the length of the padded prompts.

    Returns:
        the logits of the drawn tokens: 0 there, -inf elsewhere.
    """

    def __init__(self, uniforms: Float[Tensor, "B most"], start: int):
        self.uniforms, self.start = uniforms, start

    def __call__(self, input_ids: Int[Tensor, "B T"], scores: Float[Tensor, "B V"]) -> Float[Tensor, "B V"]:
        step = input_ids.shape[1] - self.start
        token = inverse_transform(scores, self.uniforms[:, step : step + 1])
        return torch.full_like(scores, -torch.inf).scatter(1, token, 0.0)
