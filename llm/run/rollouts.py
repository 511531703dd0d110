"""What a run has sampled and judged, by policy and prompts, read shard by shard."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch

from nashward.games.shapes import Float

from ..data.prompts import Prompt
from ..data.rollouts import COLUMNS, Rollout
from ..store.files import read_shard, shards
from ..store.step_shards import by_prompt, texts_by_prompt

PromptNumbers: TypeAlias = tuple[int, ...]  # the prompts of an iteration, by their numbers


class RolloutStore:
    """Finds the responses and the tables of a run: a Step uses what an earlier one has sampled or judged already.

    Args:
        prompts: all prompts of the run.
    """

    def __init__(self, prompts: Sequence[Prompt]):
        self._numbers = {prompt.id: number for number, prompt in enumerate(prompts)}
        self._responses: dict[tuple[str, PromptNumbers], Path] = {}
        self._tables: dict[tuple[str, str, PromptNumbers], Path] = {}

    def add(self, prompts: Iterable[Prompt]) -> None:
        """Add prompts that were appended to those of the run."""
        for prompt in prompts:
            self._numbers[prompt.id] = len(self._numbers)

    def responses_at(self, label: str, numbers: PromptNumbers, step: Path) -> Path:
        """The step that has a policy's responses: ``step``, unless an earlier one has them."""
        return self._responses.setdefault((label, numbers), step)

    def tables_at(self, rows: str, columns: str, numbers: PromptNumbers, step: Path) -> Path:
        """The step that has the tables of two policies: ``step``, unless an earlier one has them."""
        return self._tables.setdefault((rows, columns, numbers), step)

    def has_tables(self, rows: str, columns: str, numbers: PromptNumbers) -> bool:
        return (rows, columns, numbers) in self._tables

    def step_of(self, label: str, numbers: PromptNumbers) -> Path:
        """The step that sampled a policy's responses."""
        return self._responses[label, numbers]

    def texts(self, label: str, numbers: PromptNumbers, shard: int) -> dict[int, list[str]]:
        """The responses' texts of one shard, by the number of their prompt."""
        (file,) = shards(self.step_of(label, numbers) / "responses", label, shard)
        return {self._numbers[prompt]: texts for prompt, texts in texts_by_prompt([file]).items()}

    def all_texts(self, label: str, numbers: PromptNumbers) -> dict[int, list[str]]:
        """The responses' texts of all shards, by the number of their prompt, in the order of the prompts."""
        files = shards(self.step_of(label, numbers) / "responses", label)
        return dict(sorted((self._numbers[prompt], texts) for prompt, texts in texts_by_prompt(files).items()))

    def tokens(self, labels: Iterable[str], numbers: PromptNumbers, shard: int) -> int:
        """The tokens of the responses of policies in one shard."""
        folders = {label: self.step_of(label, numbers) / "responses" for label in labels}
        files = [file for label, folder in folders.items() for file in shards(folder, label, shard)]
        return sum(len(row["ids"]) for file in files for row in read_shard(file, ["ids"]))

    def rollouts(self, label: str, numbers: PromptNumbers) -> list[Rollout]:
        """A policy's responses to the prompts, in their order, without the texts."""
        folder = self.step_of(label, numbers) / "responses"
        by_number = {number: Rollout.from_rows(rows) for number, rows in self._by_prompt(folder, label, COLUMNS)}
        return [by_number[number] for number in numbers]

    def label_counts(self, label: str, numbers: PromptNumbers, classify: Callable[[str], str | None]) -> Counter[str]:
        """How many of a policy's responses have each label; "none": those that ``classify`` gives none."""
        files = shards(self.step_of(label, numbers) / "responses", label)
        return Counter(classify(row["text"]) or "none" for file in files for row in read_shard(file, ["text"]))

    def tables(
        self, rows: str, columns: str, numbers: PromptNumbers, objective: str | None = None, targets: bool = False
    ) -> Float[torch.Tensor, "N K M"]:
        """The win probabilities of one policy's responses against another's, ``[N, K, M]``; under one objective, by
        name.

        Where the other policy has fewer than M responses to a prompt, NaN stands for the missing ones. With ``targets``
        the table holds what a regression fits instead, where the oracle has given it, see ``PairwiseResult``.
        """
        column = "P" if objective is None else "objectives"

        def table(row: dict[str, Any]) -> Any:
            return row.get("targets", row["P"]) if objective is None else row[column][objective]

        return self._padded(rows, columns, numbers, [column], ["targets"] if targets else [], table)

    def missing(self, rows: str, columns: str, numbers: PromptNumbers) -> tuple[int, int]:
        """How many pairs of one policy's responses and another's have no judgement, and how many pairs there are."""
        first, second, folder = self._judged(rows, columns, numbers)
        missing = pairs = 0
        for _, group in self._by_prompt(folder, table_name(first, second), ["prompt", "P"]):
            P = np.array(group[0]["P"], dtype=np.float64)
            missing += int(np.isnan(P).sum())
            pairs += P.size - (len(P) if rows == columns else 0)
        return missing, pairs

    def _judged(self, rows: str, columns: str, numbers: PromptNumbers) -> tuple[str, str, Path]:
        """The policies of a table as it was judged, and the folder of its shards."""
        first, second = (rows, columns) if self.has_tables(rows, columns, numbers) else (columns, rows)
        return first, second, self._tables[first, second, numbers] / "judgements"

    def members(
        self, rows: str, columns: str, numbers: PromptNumbers
    ) -> tuple[Float[torch.Tensor, "N m K M"], float] | None:
        """The win probabilities by each of m members of an ensemble, ``[N, m, K, M]``, padded as ``tables``, and its
        ``error_factor``.

        None for one oracle and for several objectives.
        """
        factors: list[float] = []

        def table(row: dict[str, Any]) -> Any:
            if "members" not in row:
                return row["P"]
            factors.append(row["error_factor"])
            return row["members"]

        P = self._padded(rows, columns, numbers, ["P"], ["members", "error_factor"], table)
        return (P, factors[0]) if factors else None

    def _padded(
        self,
        rows: str,
        columns: str,
        numbers: PromptNumbers,
        names: Sequence[str],
        optional: Sequence[str],
        table: Callable[[dict[str, Any]], Any],
    ) -> Float[torch.Tensor, "N *m K M"]:
        """One table per prompt, made by ``table`` of the row's columns, of which some are optional; padded with NaN."""
        first, second, folder = self._judged(rows, columns, numbers)
        by_number: dict[int, torch.Tensor] = {}
        for number, group in self._by_prompt(folder, table_name(first, second), ["prompt", *names], optional):
            by_number[number] = torch.tensor(table(group[0]), dtype=torch.float64)
        found = [by_number[number] for number in numbers]
        columns_first = [one.movedim(-1, 0) for one in found]
        P = torch.nn.utils.rnn.pad_sequence(columns_first, batch_first=True, padding_value=torch.nan).movedim(1, -1)
        return P if first == rows else 1 - P.mT

    def spreads(self, spread: Callable[[Float[torch.Tensor, "K K"]], float]) -> dict[int, float]:
        """A measure of the tables of a policy's responses against each other, by the number of the prompt: its mean
        over the tables of the newest step that has any."""
        found: dict[int, tuple[Path, list[float]]] = {}
        for (rows, columns, _), step in self._tables.items():  # in the order in which they were judged
            if rows == columns:
                for number, group in self._by_prompt(step / "judgements", rows, ["prompt", "P"]):
                    if number not in found or found[number][0] != step:
                        found[number] = (step, [])
                    found[number][1].append(spread(torch.tensor(group[0]["P"], dtype=torch.float64)))
        return {number: sum(values) / len(values) for number, (_, values) in found.items()}

    def _by_prompt(
        self, folder: Path, name: str, columns: Sequence[str], optional: Sequence[str] = ()
    ) -> Iterator[tuple[int, list[dict[str, Any]]]]:
        for prompt, rows in by_prompt(shards(folder, name), columns, optional):
            yield self._numbers[prompt], rows


def table_name(rows: str, columns: str) -> str:
    """The file name of the tables of one policy's responses against another's."""
    return rows if rows == columns else f"{rows}~{columns}"
