"""The judge "to the point": a response is better the nearer it is to the prompt, by the embeddings of an encoder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...store.fingerprints import fingerprint
from ..models.embeddings import TextEmbeddings
from ..scalar import ScalarOracle


class ToThePoint(ScalarOracle):
    """The rule "the nearer to the prompt, the better": r = cos(e(prompt), e(response)).

    The embedding e is the mean of an encoder's last hidden states over the tokens of a text, see ``TextEmbeddings``.

    Args:
        encoder: its folder, or ``real:minilm``, which the extra ``real`` brings.
        temperature: of the similarities: at 0.05 one that is 0.05 higher wins 73% of its duels.

    Raises:
        MissingPackageError: the package of the encoder is not installed.

    Source: Reimers & Gurevych 2019 (sentence embeddings by mean pooling); the rule is the project's own.

    Example:
        >>> judge = ToThePoint("/no/encoder", temperature=0.5)
        >>> judge.name, judge.transitive, judge.temperature
        ('to the point', True, 0.5)
    """

    name = "to the point"

    def __init__(self, encoder: str | Path = "real:minilm", temperature: float = 0.05) -> None:
        self.embeddings = TextEmbeddings(encoder, self.name)
        self.temperature = temperature

    def cache_key(self) -> str | None:
        return f"to the point 2, {fingerprint(self.embeddings.folder)}, temperature {float(self.temperature)!r}"

    def truncated(self, prompt: str, candidates: Sequence[str]) -> int:
        return sum(map(self.embeddings.is_cut, (prompt, *candidates)))

    def rewards(self, prompts: Sequence[str], candidates: Sequence[Sequence[str]]) -> list[np.ndarray]:
        self.embeddings([*prompts, *(text for texts in candidates for text in texts)])  # all in few passes
        rows = [self.embeddings([prompt, *texts]) for prompt, texts in zip(prompts, candidates, strict=True)]
        return [row[1:] @ row[0] for row in rows]
