"""Oracles with an embedding for each response: K forward passes for K x K preferences, cycles included."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from torch import Tensor

from nashward.errors import NashwardError
from nashward.games.shapes import Float

from .protocol import Pairs, PreferenceOracle, as_floats, one_each, texts_in_pairs

Array = TypeVar("Array", np.ndarray, Tensor)


class EmbeddingOracle(PreferenceOracle):
    """Base of oracles with an embedding v in R^d, d even: logit(i, j) = <R v_i, v_j> / temperature.

    R turns every plane (2k, 2k+1) by a right angle, so that the logit is sum_k v_i[2k] v_j[2k+1] - v_i[2k+1] v_j[2k]:
    skew, and with d = 2 already able to hold a cycle (Zhang et al. 2024, arXiv 2410.02197). Subclasses write ``embed``.

    Attributes:
        temperature: of the logits.

    Source: arXiv 2410.02197.

    Example:
        >>> class Clock(EmbeddingOracle):  # each of three hours beats the one before it
        ...     def embed(self, prompts, candidates):
        ...         turns = [2 * np.pi * np.array([int(text) for text in texts]) / 12 for texts in candidates]
        ...         return [np.stack([np.cos(turn), np.sin(turn)], -1) for turn in turns]
        >>> Clock().raw_logits(["Later?"], [["4", "8", "12"]], [[(0, 1), (1, 2), (2, 0)]])[0].round(3)
        array([0.866, 0.866, 0.866])
    """

    symmetric = True
    temperature: float = 1.0

    def cache_key(self) -> str | None:
        return self.fingerprint and f"{self.fingerprint}, temperature {float(self.temperature)!r}"

    @abstractmethod
    def embed(self, prompts: Sequence[str], candidates: Sequence[Sequence[str]]) -> list[np.ndarray]:
        """For each prompt the embeddings ``[K, d]`` of its candidates (``[members, K, d]``: ensembles)."""

    def raw_logits(
        self, prompts: Sequence[str], candidates: Sequence[Sequence[str]], pairs: Sequence[Pairs]
    ) -> list[np.ndarray]:
        needed, indices = texts_in_pairs(candidates, pairs)
        returned = one_each(self.embed(prompts, needed), len(prompts), f"{self.name} returned embeddings", "prompts")
        logits = []
        for n, (values, texts, at) in enumerate(zip(returned, needed, indices, strict=True)):
            v, actual = as_floats(values)
            if v.ndim not in (2, 3) or v.shape[-2] != len(texts) or v.shape[-1] % 2:
                raise NashwardError(
                    f"{self.name} returned embeddings {actual} for prompt {n}; expected ({len(texts)}, d), d even"
                )
            with np.errstate(invalid="ignore"):  # what infinite embeddings leave undefined is missing
                logits.append(skew_product(v[..., at[:, 0], :], v[..., at[:, 1], :]) / self.temperature)
        return logits


def skew_product(v: Float[Array, "*#batch d"], w: Float[Array, "*#batch d"]) -> Float[Array, "*#batch"]:
    """<R v, w> over the last axis ``[..., d]``: sum_k v[2k] w[2k+1] - v[2k+1] w[2k]; also of tensors.

    Example:
        >>> skew_product(np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]]))
        array([1.])
    """
    return (v[..., 0::2] * w[..., 1::2] - v[..., 1::2] * w[..., 0::2]).sum(-1)
