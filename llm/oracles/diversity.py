"""Diversity as an oracle: of two responses the one that is less like the other responses to the prompt."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nashward.errors import NashwardError

from .models.embeddings import TextEmbeddings
from .protocol import Pairs, PreferenceOracle


class Diversity(PreferenceOracle):
    """Prefers the response whose n-grams of words are rarer among the responses that are judged with it.

    .. math::
        s_i = \\frac{1}{|G_i|} \\sum_{g \\in G_i} \\frac{\\#\\{j \\ne i : g \\notin G_j\\}}{K - 1}, \\qquad
        L_{ij} = (s_i - s_j) / temperature

    G_i the distinct n-grams of response i of K. It is a game against the policy's own responses: what most of them say
    wins nothing. Copies count each. A judgement depends on the whole set, so it is not cached.

    Args:
        n: the order of the n-grams.
        temperature: a difference in s that makes one logit.

    Raises:
        ValueError: n below 1, a temperature that is not positive.

    Source: distinct n-grams, Li et al. 2016, arXiv 1510.03055; the score is the project's own.

    Example:
        >>> from nashward.llm.oracles import preference_matrices
        >>> texts = ["a b c", "a b c", "x y z"]
        >>> preference_matrices(Diversity(), ["Say it."], [texts])[0].P[2].round(2).tolist()
        [0.99, 0.99, 0.5]
    """

    name, symmetric, transitive, sees_copies = "diversity", True, True, True

    def __init__(self, n: int = 2, temperature: float = 0.1) -> None:
        if n < 1 or not 0 < temperature < float("inf"):
            raise NashwardError(f"diversity needs n >= 1 and a positive temperature, got {n} and {temperature!r}")
        self.n, self.temperature = n, temperature

    def raw_logits(
        self, prompts: Sequence[str], candidates: Sequence[Sequence[str]], pairs: Sequence[Pairs]
    ) -> list[np.ndarray]:
        found = []
        for texts, wanted in zip(candidates, pairs, strict=True):
            grams = [self._grams(text) for text in texts]
            counts = Counter(gram for own in grams for gram in own)
            others = max(1, len(texts) - 1)
            scores = [sum(1 - (counts[g] - 1) / others for g in own) / len(own) if own else 0.0 for own in grams]
            found.append(np.array([(scores[i] - scores[j]) / self.temperature for i, j in wanted]))
        return found

    def _grams(self, text: str) -> set[tuple[str, ...]]:
        """The distinct n-grams; of a shorter text the text itself."""
        words = text.split()
        return {tuple(words[k : k + self.n]) for k in range(max(1, len(words) - self.n + 1))} if words else set()


class SemanticDiversity(PreferenceOracle):
    """Prefers the response whose embedding is farther from those of the responses that are judged with it.

    .. math::
        s_i = \\frac{1}{K - 1} \\sum_{j \\ne i} \\bigl(1 - \\cos(e_i, e_j)\\bigr), \\qquad
        L_{ij} = (s_i - s_j) / temperature

    e the unit embeddings of the K responses; the mean of s is their spread. Unlike with ``Diversity``, the same in
    other words wins little. Copies count each. A judgement depends on the whole set, so it is not cached.

    Args:
        encoder: its folder, or ``real:minilm``, which the extra ``real`` brings.
        temperature: a difference in s that makes one logit.

    Raises:
        ValueError: a temperature that is not positive.
        MissingPackageError: the package of the encoder is not installed.

    Source: mean pairwise distance of embeddings, Tevet & Berant 2021, arXiv 2004.02990; the game is the project's own.

    Example:
        >>> judge = SemanticDiversity("/no/encoder", temperature=0.1)
        >>> judge.name, judge.sees_copies
        ('semantic diversity', True)
    """

    name, symmetric, transitive, sees_copies = "semantic diversity", True, True, True

    def __init__(self, encoder: str | Path = "real:minilm", temperature: float = 0.05) -> None:
        if not 0 < temperature < float("inf"):
            raise NashwardError(f"semantic diversity needs a positive temperature, got {temperature!r}")
        self.embeddings = TextEmbeddings(encoder, self.name)
        self.temperature = temperature

    def truncated(self, prompt: str, candidates: Sequence[str]) -> int:
        return sum(map(self.embeddings.is_cut, candidates))

    def raw_logits(
        self, prompts: Sequence[str], candidates: Sequence[Sequence[str]], pairs: Sequence[Pairs]
    ) -> list[np.ndarray]:
        if any(candidates):
            self.embeddings([text for texts in candidates for text in texts])  # all in few passes
        found = []
        for texts, wanted in zip(candidates, pairs, strict=True):
            scores = self._scores(texts) if texts else np.zeros(0)
            found.append(np.array([(scores[i] - scores[j]) / self.temperature for i, j in wanted]))
        return found

    def _scores(self, texts: Sequence[str]) -> np.ndarray:
        units = self.embeddings(texts)
        return 1 - ((units @ units.sum(0)) - 1) / max(1, len(texts) - 1)
