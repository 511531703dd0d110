"""Prompts that cover all others: each prompt of a run has one like it among those that are played on."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from hashlib import blake2b
from itertools import pairwise

import numpy as np

from nashward.games.shapes import Float

from ...data.near_duplicates import words
from ...oracles.models.embeddings import TextEmbeddings

SIZE = 256  # coordinates that n-grams are hashed into
LENGTHS = 16  # coordinates of the length: one for each doubling, in tokens
LENGTH_WEIGHT = 0.25  # of the length in a similarity
BLOCK = 256  # candidates whose similarities with all are held at once
SLACK = 0.1  # of the bound on what is covered


def features(texts: Sequence[str], lengths: Sequence[int], encoder: str | None = None) -> Float[np.ndarray, "n d"]:
    """Unit vectors of prompts, whose products are their similarities.

    Three quarters of a similarity are the cosine of the texts: of an encoder's embeddings, or of their words and pairs
    of words, hashed, each counted by its square root. A quarter is that of the lengths: 1 for equal ones, 0 for those
    that differ by a factor of four or more.

    Args:
        texts: the prompts' texts.
        lengths: in tokens.
        encoder: a folder or ``real:minilm``, see ``TextEmbeddings``; None: n-grams.

    Example:
        >>> f = features(["Name a river.", "Name a river", "Explain quantum field theory in detail"], [4, 4, 16])
        >>> (f @ f.T).round(2).tolist()[0]
        [1.0, 1.0, 0.0]
    """
    content = _hashed(texts) if encoder is None else TextEmbeddings(encoder, "prompt_encoder")(texts)
    place = np.clip(np.log2(np.maximum(np.asarray(lengths, dtype=np.float64), 1.0)), 0, LENGTHS - 1.001)
    below, part = place.astype(int), place % 1
    length = np.zeros((len(texts), LENGTHS))
    rows = np.arange(len(texts))
    length[rows, below], length[rows, below + 1] = 1 - part, part
    length /= np.linalg.norm(length, axis=1, keepdims=True)
    weighted = [np.sqrt(1 - LENGTH_WEIGHT) * content, np.sqrt(LENGTH_WEIGHT) * length]
    return np.concatenate(weighted, 1).astype(np.float32)


def covering(vectors: Float[np.ndarray, "n d"], count: int, size: int, seed: int, slack: float = SLACK) -> list[int]:
    """Prompts that cover all of them, by their numbers, in the order in which a greedy rule takes them.

    .. math::  \\max_{|S| = count} \\sum_i \\max_{j \\in S} \\max(0, \\langle v_i, v_j \\rangle)

    (facility location). Each is the one that raises the sum the most among candidates that are drawn anew for it,
    (n / size) log(1 / slack) of them. For the first ``size`` the expected sum is at least 1 - 1/e - slack of the
    largest possible one, at a cost that does not grow with ``size``. A larger ``count`` begins with the same prompts.

    Args:
        vectors: [n, d], unit vectors.
        count: at most n.
        size: the prompts of one iteration.
        seed: the seed of the candidates.
        slack: in (0, 1).

    Source: Nemhauser, Wolsey and Fisher 1978 (the greedy rule); Mirzasoleiman et al. 2015, arXiv 1409.7938 (candidates
        that are drawn).

    Example:
        >>> covering(np.array([[1.0, 0.0], [0.9, 0.436], [0.0, 1.0], [1.0, 0.0]]), 2, size=1, seed=0)
        [1, 2]
    """
    n = len(vectors)
    drawn, generator = math.ceil(n / size * math.log(1 / slack)), np.random.default_rng(seed)
    covered, left, chosen = np.zeros(n, dtype=vectors.dtype), np.arange(n), list[int]()
    while len(chosen) < count:
        some = left if drawn >= len(left) else np.sort(generator.choice(left, drawn, replace=False))
        gains = np.concatenate([
            np.maximum(vectors @ vectors[some[start : start + BLOCK]].T - covered[:, None], 0).sum(0, dtype=np.float64)
            for start in range(0, len(some), BLOCK)
        ])  # fmt: skip
        best = int(some[gains.argmax()])
        chosen.append(best)
        covered = np.maximum(covered, vectors @ vectors[best])
        left = left[left != best]
    return chosen


def coverage(vectors: Float[np.ndarray, "n d"], chosen: Sequence[int]) -> Float[np.ndarray, " n"]:
    """The similarity of each prompt to the nearest of those that were chosen, [n].

    Example:
        >>> coverage(np.eye(2), [0]).tolist()
        [1.0, 0.0]
    """
    return np.maximum((vectors @ vectors[list(chosen)].T).max(1), 0)


def _hashed(texts: Sequence[str]) -> Float[np.ndarray, "n size"]:
    """Words and pairs of words, each with a sign of its own in a place of its own, as unit vectors."""
    places: dict[tuple[str, ...], tuple[int, int]] = {}
    vectors = np.zeros((len(texts), SIZE))
    for row, text in zip(vectors, texts, strict=True):
        tokens = words(text)
        for gram, times in Counter([*((token,) for token in tokens), *pairwise(tokens)]).items():
            if gram not in places:
                value = int.from_bytes(blake2b("\0".join(gram).encode(errors="replace"), digest_size=8).digest(), "big")
                places[gram] = value // 2 % SIZE, 2 * (value % 2) - 1
            place, sign = places[gram]
            row[place] += sign * np.sqrt(times)
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(norms > 0, norms, 1.0)
