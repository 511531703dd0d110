"""Which prompts of an optimiser step pass through which of several processes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ..data.rollouts import Rollout
from ..policy.memory import OnEvent
from ..processes import processes
from .batches import SCORES, MicroBatch
from .experience import scored
from .sft import SFTBatch

UNEVEN = 1.1  # multiple of the mean load above which micro-batches are cut


@dataclass
class Division:
    """Divides each optimiser step among the processes: all come to the same division, and each has its own part.

    Whole micro-batches where that is even, else rollouts. A rollout's log-probabilities depend in their last bits (with
    16 bits: in more of them) on what else passes with it. Where a micro-batch is cut, the log-probabilities that its
    parts are compared with are therefore shifted by what the start's change in the part: the first log-ratio is exactly
    0 here too.

    Attributes:
        network: with the weights that the fit starts from when a step is prepared.
        pad_id, on_event: see ``MicroBatch.logprobs``.
    """

    network: Any
    pad_id: int
    on_event: OnEvent
    _parts: dict[tuple[int, tuple[int, ...]], MicroBatch] = field(default_factory=dict)
    _texts_parts: dict[tuple[int, tuple[int, ...]], SFTBatch] = field(default_factory=dict)

    def prepare(self, steps: Sequence[Sequence[MicroBatch]]) -> None:
        """Cut the micro-batches of these steps, at the weights that the fit starts from."""
        if processes.count > 1:
            for step in steps:
                self.own(step, ())

    def own(
        self, step: Sequence[MicroBatch], texts: Sequence[SFTBatch]
    ) -> tuple[Sequence[MicroBatch], Sequence[SFTBatch]]:
        """What this process passes of a step and of its SFT texts."""
        if processes.count == 1:
            return step, texts
        loads = [0.0] * processes.count
        numbers = assigned([[load(rollout) for rollout in batch.rollouts] for batch in step], loads)
        places = [of_texts([len(p) + len(r) for p, r in batch.texts], loads) for batch in texts]
        mine = [(batch, chosen[processes.rank]) for batch, chosen in zip(step, numbers, strict=True)]
        own_texts = [(batch, chosen[processes.rank]) for batch, chosen in zip(texts, places, strict=True)]
        return (
            [self._part(batch, chosen) for batch, chosen in mine if chosen],
            [self._texts_part(batch, chosen) for batch, chosen in own_texts if chosen],
        )

    def _part(self, batch: MicroBatch, numbers: list[int]) -> MicroBatch:
        if len(numbers) == len(batch.rollouts):
            return batch
        key = (id(batch), tuple(numbers))
        if key not in self._parts:
            part = self._parts[key] = batch.part(numbers)
            moved = part.logprobs(self.network, self.pad_id, self.on_event) - scored(part.start, "start")
            for name in SCORES:
                setattr(part, name, scored(getattr(part, name), name) + moved)
        return self._parts[key]

    def _texts_part(self, batch: SFTBatch, places: list[int]) -> SFTBatch:
        """The same part each time: its passes, once they are halved where memory ran out, stay so."""
        key = (id(batch), tuple(places))
        if key not in self._texts_parts:
            self._texts_parts[key] = batch.part(places)
        return self._texts_parts[key]


def load(rollout: Rollout) -> float:
    """The tokens that a rollout's responses take in a pass."""
    return len(rollout.prompt_ids) + sum(len(response.ids) for response in rollout.responses)


def assigned(tokens: Sequence[Sequence[float]], loads: list[float]) -> list[list[list[int]]]:
    """For each micro-batch the rollouts of each process, by their numbers; the processes' loads are added to ``loads``.

    Args:
        tokens: for each micro-batch its rollouts' tokens.

    Example:
        >>> assigned([[4, 4], [3, 3]], [0, 0])
        [[[0], [1]], [[0], [1]]]
        >>> assigned([[4, 4], [4, 4]], [0, 0])
        [[[0, 1], []], [[], [0, 1]]]
    """
    after = list(loads)
    owners = spread([sum(batch) for batch in tokens], after)
    if max(after) <= UNEVEN * sum(after) / len(after):
        loads[:] = after
        return [[list(range(len(batch))) if r == owner else [] for r in range(len(loads))]
                for batch, owner in zip(tokens, owners, strict=True)]  # fmt: skip
    flat = iter(spread([rollout for batch in tokens for rollout in batch], loads))
    return [_by_owner([next(flat) for _ in batch], len(loads)) for batch in tokens]


def of_texts(tokens: Sequence[float], loads: list[float]) -> list[list[int]]:
    """The texts of each process, by their places; the processes' loads are added to ``loads``."""
    return _by_owner(spread(tokens, loads), len(loads))


def spread(tokens: Sequence[float], loads: list[float]) -> list[int]:
    """The process of each item: the heaviest item first, to the one with the least load so far.

    Source: Graham 1969, longest processing time first; its largest load is below 4/3 of the least possible one.

    Example:
        >>> spread([1, 5, 3, 3], [0, 0])
        [0, 0, 1, 1]
    """
    owners = [0] * len(tokens)
    for item in sorted(range(len(tokens)), key=lambda item: (-tokens[item], item)):
        owners[item] = min(range(len(loads)), key=lambda process: (loads[process], process))
        loads[owners[item]] += tokens[item]
    return owners


def _by_owner(owners: Sequence[int], count: int) -> list[list[int]]:
    return [[number for number, owner in enumerate(owners) if owner == process] for process in range(count)]
