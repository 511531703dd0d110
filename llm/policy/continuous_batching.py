"""Sampling by continuous batching: a prompt is computed once for its responses, and finished rows leave the batch."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nashward.games.shapes import Float

from .decoding import Decoder, Prefix

REFILL = 16  # rows enter when a 16th of all are free: prompts that enter together are computed together


@dataclass
class _Row:
    """A response that is being drawn."""

    prompt: int
    number: int  # its place among the prompt's
    start: int  # tokens of the prompt
    drawn: int = 0  # tokens

    @property
    def length(self) -> int:
        """Tokens of the text so far."""
        return self.start + self.drawn


class ContinuousBatch:
    """Draws responses of any number of prompts in a batch of a fixed number of rows.

    The rows in use are the first; where one finishes, the last takes its place. The order of the prompts and the number
    of rows determine which rows are computed together, and so the result to the last bit.

    Args:
        decoder: computes the logits; its rows are the batch.
        prompts: token ids, in the order in which they enter.
        uniforms: for each prompt ``[K, T]``, a number for each response and token.
        stop_ids: the tokens that end a response.
        choose: the next tokens ``[n, 1]`` from the logits ``[n, V]`` and uniform numbers ``[n, 1]``.
        progress: is called with the number of prompts whose responses are finished.

    Source: iteration-level scheduling, as in Orca (Yu et al., OSDI 2022).
    """

    def __init__(
        self,
        decoder: Decoder,
        prompts: Sequence[Sequence[int]],
        uniforms: Sequence[Float[Tensor, "K T"]],
        stop_ids: Sequence[int],
        choose: Callable[[Tensor, Tensor], Tensor],
        progress: Callable[[int], Any],
    ):
        self.decoder, self.prompts, self.uniforms = decoder, prompts, uniforms
        self.choose, self.progress = choose, progress
        self.size = decoder.cache.rows
        self.most = uniforms[0].shape[1]
        self.device = decoder.tokens.device
        self.stop_ids = torch.tensor(list(stop_ids), device=self.device)
        self.waiting = deque((i, k) for i, numbers in enumerate(uniforms) for k in range(len(numbers)))
        self.unfinished = [len(numbers) for numbers in uniforms]
        self.prefixes: dict[int, Prefix] = {}
        self.rows: list[_Row] = []
        self.numbers = torch.zeros(self.size, self.most, dtype=torch.float64, device=self.device)
        self.drawn = torch.zeros(self.size, self.most, dtype=torch.long, device=self.device)
        self.results: list[list[list[int]]] = [[[] for _ in numbers] for numbers in uniforms]

    def run(self) -> list[list[list[int]]]:
        """The token ids of the responses to each prompt, with their stop tokens."""
        while self.rows or self.waiting:
            free = self.size - len(self.rows)
            if self.waiting and (not self.rows or free * REFILL >= self.size):
                self._admit(free)
            self._step()
        return self.results

    def _admit(self, free: int) -> None:
        entering = [self.waiting.popleft() for _ in range(min(free, len(self.waiting)))]
        new = [i for i in dict.fromkeys(i for i, _ in entering) if i not in self.prefixes]
        self.prefixes |= dict(zip(new, self.decoder.prefixes([self.prompts[i] for i in new]), strict=True))
        for i, k in entering:
            row = len(self.rows)
            self.decoder.insert(row, self.prompts[i][-1], self.prefixes[i])
            self.numbers[row] = self.uniforms[i][k].to(self.device)
            self.rows.append(_Row(i, k, len(self.prompts[i])))
        waiting = {i for i, _ in self.waiting}
        self.prefixes = {i: prefix for i, prefix in self.prefixes.items() if i in waiting}

    def _longest(self) -> int:
        return max(row.length for row in self.rows)

    def _step(self) -> None:
        count = len(self.rows)
        logits = self.decoder.logits(count, self._longest())
        rows = torch.arange(count, device=self.device)
        steps = torch.tensor([row.drawn for row in self.rows], device=self.device)
        tokens = self.choose(logits, self.numbers[rows, steps][:, None])
        self.drawn[rows, steps] = tokens[:, 0]
        self.decoder.append(tokens)
        stopped = torch.isin(tokens[:, 0], self.stop_ids).tolist()
        finished = []
        for place, (row, stop) in enumerate(zip(self.rows, stopped, strict=True)):
            row.drawn += 1
            if stop or row.drawn == self.most:
                finished.append(place)
        if finished:
            self._retire(finished)

    def _retire(self, finished: Sequence[int]) -> None:
        """Store finished rows, and move the last rows into their places."""
        ids = self.drawn[torch.tensor(finished, device=self.device)].tolist()
        done = 0
        for place, tokens in zip(finished, ids, strict=True):
            row = self.rows[place]
            self.results[row.prompt][row.number] = tokens[: row.drawn]
            self.unfinished[row.prompt] -= 1
            done += self.unfinished[row.prompt] == 0
        gone = set(finished)
        left = len(self.rows) - len(finished)
        targets = [place for place in finished if place < left]
        sources = [place for place in range(left, len(self.rows)) if place not in gone]
        if sources:
            self.decoder.move(sources, targets, self._longest())
            source, target = (torch.tensor(places, device=self.device) for places in (sources, targets))
            for state in (self.numbers, self.drawn):
                state[target] = state[source]
            for one, other in zip(sources, targets, strict=True):
                self.rows[other] = self.rows[one]
        del self.rows[left:]
        if done:
            self.progress(done)
