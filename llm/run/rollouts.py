"""What a run has drawn and judged, found again by policy and prompts and read shard by shard."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import torch

from nashward.games.shapes import Float

from ..data.prompts import Prompt
from ..store.files import read_shard, shards
from ..store.tokens import Stretch, Tokens

Chosen = tuple[int, ...]  # the prompts of an iteration, by their numbers


@dataclass
class Answers:
    """A policy's responses to the chosen prompts, in their order: what a fit needs of them. ``weights`` is [N, K]."""

    prompts: list[Sequence[int]]
    ids: list[list[Stretch]]
    weights: Float[torch.Tensor, "N K"]
    finished: int = 0
    labels: dict[str, int] = field(default_factory=dict)

    @property
    def lengths(self) -> list[int]:
        return [len(own) for row in self.ids for own in row]


class Stored:
    """Where the responses and the tables of a run are; which step drew or judged them first is told to ``drawn`` and
    ``judged``."""

    def __init__(self, prompts: Sequence[Prompt]):
        self.numbers = {prompt.id: number for number, prompt in enumerate(prompts)}
        self.drawn: dict[tuple[str, Chosen], Path] = {}
        self.judged: dict[tuple[str, str, Chosen], Path] = {}

    def texts(self, label: str, chosen: Chosen, number: int) -> dict[int, list[str]]:
        """The responses' texts of one shard, by the number of their prompt."""
        (file,) = shards(self.drawn[label, chosen] / "responses", label, number)
        found: dict[int, list[str]] = {}
        for row in read_shard(file, ["prompt", "text"]):
            found.setdefault(self.numbers[row["prompt"]], []).append(row["text"])
        return found

    def answers(self, label: str, chosen: Chosen, kind: Callable[[str], str | None] | None) -> Answers:
        """The responses of a policy; ``kind`` counts them by what it says of their texts."""
        columns = ["prompt", "prompt_ids", "ids", "finished", "weight", *(["text"] if kind is not None else [])]
        place = {number: k for k, number in enumerate(chosen)}
        folder = self.drawn[label, chosen] / "responses"
        tokens, found = Tokens(folder), Answers([()] * len(chosen), [[] for _ in chosen], torch.zeros(len(chosen), 0))
        weights: list[list[float]] = [[] for _ in chosen]
        for number, group in self._by_prompt(folder, label, columns):
            own = place[number]
            found.prompts[own] = tokens.add(group[0]["prompt_ids"])
            found.ids[own] = [tokens.add(row["ids"]) for row in group]
            weights[own] = [row["weight"] for row in group]
            found.finished += sum(row["finished"] for row in group)
            for name in ((kind(row["text"]) or "none") for row in group) if kind is not None else ():
                found.labels[name] = found.labels.get(name, 0) + 1
        found.weights = torch.tensor(weights, dtype=torch.float64)
        return found

    def tables(self, a: str, b: str, chosen: Chosen) -> Float[torch.Tensor, "N K M"]:
        """The win probabilities of a's responses against b's, [N, K, M]; NaN where b has fewer than M."""
        swap = (a, b, chosen) not in self.judged
        first, second = (b, a) if swap else (a, b)
        folder = self.judged[first, second, chosen] / "judgements"
        tables: dict[int, Any] = {}
        for number, group in self._by_prompt(folder, versus(first, second), ["prompt", "P"]):
            tables[number] = torch.tensor(group[0]["P"], dtype=torch.float64)
        columns = [tables[number].mT for number in chosen]
        P = torch.nn.utils.rnn.pad_sequence(columns, batch_first=True, padding_value=torch.nan).mT
        return 1 - P.mT if swap else P

    def _by_prompt(self, folder: Path, name: str, columns: Sequence[str]) -> Iterator[tuple[int, list[dict[str, Any]]]]:
        for file in shards(folder, name):
            for prompt, rows in groupby(read_shard(file, columns), key=lambda row: row["prompt"]):
                yield self.numbers[prompt], list(rows)


def versus(a: str, b: str) -> str:
    """The name of the tables of a's responses against b's."""
    return a if a == b else f"{a}~{b}"
