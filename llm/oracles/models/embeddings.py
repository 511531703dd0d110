"""Embeddings of texts by a frozen encoder: the means of its states over the tokens."""

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
from .chat import replace_surrogates
from .checkpoint import read_tokenizer

LONGEST = 256  # tokens of a text, as MiniLM was trained
BATCH = 32  # texts in one pass


class TextEmbeddings:
    """Unit vectors e(text), the mean of an encoder's last hidden states over the tokens of the text, normalised.

    The encoder's weights are read when they are first needed, and a text is encoded once. Of a longer text the first
    ``LONGEST`` tokens are read. Control tokens that a text spells out, as "[SEP]", are read as text.

    Args:
        encoder: its folder, or ``real:minilm``, which the extra ``real`` brings.
        name: what errors call it.

    Raises:
        MissingPackageError: the package of the encoder is not installed.

    Source: Reimers & Gurevych 2019 (sentence embeddings by mean pooling).
    """

    def __init__(self, encoder: str | Path, name: str) -> None:
        self.folder = Path(local_model(encoder))
        self.name = name
        self._known: dict[str, Float[np.ndarray, " d"]] = {}

    def __call__(self, texts: Sequence[str]) -> Float[np.ndarray, "k d"]:
        """The embeddings of the texts, a row each."""
        self._encode(texts)
        return np.stack([self._known[text] for text in texts])

    def is_cut(self, text: str) -> bool:
        """Whether the text is longer than what is read of it."""
        return len(self._row(text)) > LONGEST

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
        new = sorted({text for text in texts if text not in self._known}, key=lambda text: (len(text), text))
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
            self._known.update(zip(part, unit, strict=True))
