"""What a run does, logged outside of its folder: the pairs that it judges and the prompts that it samples."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nashward import llm
from nashward.llm import oracles

CALL = "call"  # a call of the oracle begins: the results of the one before it are on disk by then


def append(file: Path, *keys: str) -> None:
    """Append lines in one write, which a kill does not split."""
    handle = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(handle, "".join(key + "\n" for key in keys).encode())
    os.close(handle)


def read(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.exists() else []


def pair_key(prompt: str, a: str, b: str) -> str:
    return hashlib.sha256("\0".join((prompt, a, b)).encode(errors="surrogatepass")).hexdigest()


class LoggedOracle(oracles.PreferenceOracle):
    """Prefers high bytes, costs nothing, and logs every pair that it judges."""

    name, symmetric, fingerprint = "counting", True, "counting 1"
    pairs_per_call = 60

    def __init__(self, log: Path):
        self.log = log

    def raw_logits(self, prompts: Any, candidates: Any, pairs: Any) -> list[np.ndarray]:
        keys = [
            pair_key(prompt, *sorted((texts[i], texts[j])))
            for prompt, texts, indices in zip(prompts, candidates, pairs, strict=True)
            for i, j in indices
        ]
        append(self.log, CALL, *keys)
        time.sleep(0.002)
        scores = [[4.0 * sum(c > "m" for c in t) / max(len(t), 1) for t in texts] for texts in candidates]
        return [np.array([score[i] - score[j] for i, j in ij]) for score, ij in zip(scores, pairs, strict=True)]


@dataclass(frozen=True)
class LoggedSource(llm.GenerateSource):
    """A source that logs the first seed of each prompt, which identifies step, policy and prompt."""

    log: str = ""

    def draw(self, model: Any, prompts: Any, seeds: Sequence[Sequence[int]]) -> Any:
        append(Path(self.log), *(str(row[0]) for row in seeds))
        return super().draw(model, prompts, seeds)
