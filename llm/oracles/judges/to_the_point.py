"""The judge "to the point": a response is better the nearer it is to the prompt, by the embeddings of an encoder."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nashward.games.shapes import Float

from ...policy.control_tokens import text_ids
from ...policy.local.names import local_model
from ...store.fingerprints import fingerprint
from ..models.chat import replace_surrogates
from ..models.checkpoint import read_tokenizer
from ..scalar import ScalarOracle

LONGEST = 256  # tokens of a text, as MiniLM was trained
BATCH = 32  # texts in one pass


class ToThePoint(ScalarOracle):
    """The rule "the nearer to the prompt, the better": r = cos(e(prompt), e(response)).

    The embedding e is the mean of an encoder's last hidden states over the tokens of a text. The encoder's weights are
    read when they are first needed, and a text is encoded once. Control tokens that a text spells out, as "[SEP]", are
    read as text.

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
        self.folder = Path(local_model(encoder))
        self.temperature = temperature
        self._embeddings: dict[str, Float[np.ndarray, " d"]] = {}

    def cache_key(self) -> str | None:
        return f"to the point 2, {fingerprint(self.folder)}, temperature {float(self.temperature)!r}"

    def truncated(self, prompt: str, candidates: Sequence[str]) -> int:
        return sum(len(self._row(text)) > LONGEST for text in (prompt, *candidates))

    def rewards(self, prompts: Sequence[str], candidates: Sequence[Sequence[str]]) -> list[np.ndarray]:
        self._encode([*prompts, *(text for texts in candidates for text in texts)])
        return [
            np.array([float(self._embeddings[prompt] @ self._embeddings[text]) for text in texts])
            for prompt, texts in zip(prompts, candidates, strict=True)
        ]

    def embeddings(self, texts: Sequence[str]) -> Float[np.ndarray, "n d"]:
        """The embeddings of texts, unit vectors, [n, d]."""
        self._encode(texts)
        return np.array([self._embeddings[text] for text in texts])

    @cached_property
    def _tokenizer(self) -> Any:
        return read_tokenizer(self.folder, self.name)

    def _row(self, text: str) -> list[int]:
        """The token ids of a text, with the special tokens that the encoder has around one."""
        before, after = self._frame
        return [*before, *text_ids(self._tokenizer, replace_surrogates(text)), *after]

    def _cut(self, row: list[int]) -> list[int]:
        """A row of at most ``LONGEST`` tokens, with its last special ones."""
        after = self._frame[1]
        return row if len(row) <= LONGEST else [*row[: LONGEST - len(after)], *after]

    @cached_property
    def _frame(self) -> tuple[list[int], list[int]]:
        """The special tokens before and behind a text."""
        row = self._tokenizer("a", return_special_tokens_mask=True)
        own = [k for k, special in enumerate(row["special_tokens_mask"]) if not special]
        return row["input_ids"][: own[0]], row["input_ids"][own[-1] + 1 :]

    @cached_property
    def _network(self) -> Any:
        from transformers import AutoModel

        return AutoModel.from_pretrained(self.folder, dtype=torch.float32, trust_remote_code=False).eval()

    def _encode(self, texts: Sequence[str]) -> None:
        """Embed the texts that are new, those of like lengths together."""
        new = sorted({text for text in texts if text not in self._embeddings}, key=lambda text: (len(text), text))
        for start in range(0, len(new), BATCH):
            part = new[start : start + BATCH]
            rows = self._tokenizer.pad(
                {"input_ids": [self._cut(self._row(text)) for text in part]}, return_tensors="pt"
            )
            with torch.inference_mode():
                states = self._network(**rows).last_hidden_state
            mask = rows["attention_mask"][..., None].to(states.dtype)
            means = (states * mask).sum(1) / mask.sum(1).clamp_min(1)
            unit = torch.nn.functional.normalize(means, dim=-1).double().numpy()
            self._embeddings.update(zip(part, unit, strict=True))
