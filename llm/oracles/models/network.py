"""What PairRM, reward models and preference embeddings share: rows of tokens in, states out, a head that compares."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from nashward.errors import NashwardError
from nashward.games.shapes import Float, Int
from nashward.llm.policy.memory import OnEvent, ignore_event, run_in_parts

from ..protocol import Pairs, PreferenceOracle
from . import checkpoint

Module = TypeVar("Module", bound=nn.Module)
Item = TypeVar("Item")
PADDING = 0.1  # the share of padding that a batch may have
Key = tuple[int, ...]  # which of a prompt's candidates a row of tokens holds
Row = tuple[Sequence[int], Sequence[int]]  # token ids, and the positions whose states are read


class Network(Protocol):
    """A module whose head is apart from its encoder: ``states`` runs the encoder, ``compare`` the head."""

    head_names: tuple[str, ...]  # how the names of the head's parameters begin
    reads: int  # how many positions of a row have their states read

    def states(
        self, input_ids: Int[Tensor, "R T"], attention_mask: Int[Tensor, "R T"], positions: Int[Tensor, "R S"]
    ) -> Float[Tensor, "R S H"]:
        """The hidden states ``[R, S, H]`` of R rows of tokens at S positions of each."""

    def compare(self, states: Float[Tensor, "B rows S H"]) -> Float[Tensor, " B"]:
        """Log-odds ``[B]`` that the first response shown is better, from the states ``[B, rows a pair, S, H]``."""


@dataclass(frozen=True)
class Shape:
    """What a plan needs to know of an oracle's network: no weight is read for it.

    Attributes:
        network: a ``Network`` that is an ``nn.Module``, on the meta device, in the dtype that it has on a GPU.
        row: how many tokens a row of a prompt and responses of so many tokens has at most.
        rows: how many rows the table of K responses takes.
        members: bytes of the other members of an ensemble, which are on the device too.
    """

    network: Any
    row: Callable[[int, int], int]
    rows: Callable[[int], int]
    members: int = 0


class NetworkOracle(PreferenceOracle):
    """Base of oracles that are a network: batches by token budget, the longest first, each row of tokens read once.

    Args:
        model: a ``Network`` that is an ``nn.Module``, in evaluation mode, on its device.
        tokenizer: its tokenizer.
        name: what reports call it.
        token_budget: tokens of one forward pass, padding included; a single longer row still runs, alone. None: 8192 on
            a GPU, 1024 on a CPU, which gains nothing from large batches (benchmarks/judge_speed.py).
        members: of an ensemble: for each the tensors in which it differs from ``model``. None given: ``model`` alone.

    Raises:
        ValueError: a token budget below 1; when it judges, a logit that is NaN.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        name: str,
        token_budget: int | None = None,
        members: Sequence[checkpoint.Member] = (),
    ) -> None:
        if token_budget is not None and token_budget < 1:
            raise NashwardError(f"token_budget is {token_budget}; expected the tokens of one forward pass, at least 1")
        self.model, self.tokenizer, self.name = model, tokenizer, name
        self.device = next(model.parameters()).device
        self.token_budget = token_budget or (1024 if self.device.type == "cpu" else 8192)
        self.on_event: OnEvent = ignore_event  # is told where memory ran out
        self.members = [{key: value.to(self.device) for key, value in member.items()} for member in members]

    def offload(self) -> None:
        """Give the device's memory back: the weights wait in host memory until something is to be judged."""
        self._move(torch.device("cpu"))

    def _move(self, device: torch.device) -> None:
        if next(self.model.parameters()).device != device:
            self.model.to(device)
            self.members = [{key: value.to(device) for key, value in member.items()} for member in self.members]

    # What each kind of network says of itself.

    @property
    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """What the answers depend on besides weights and tokenizer, as JSON holds it."""

    @abstractmethod
    def encode(self, prompt: str, candidates: Sequence[str]) -> tuple[Any, int]:
        """What ``row`` needs of a prompt's candidates, and how many of the texts (the prompt is one) were cut."""

    @staticmethod
    @abstractmethod
    def keys(i: int, j: int) -> tuple[Key, ...]:
        """The rows of tokens that the pair (i, j) needs: ((i, j),) if they are read together, ((i,), (j,)) if apart."""

    @abstractmethod
    def row(self, encoded: Any, key: Key) -> Row:
        """One row of tokens, from what ``encode`` returned."""

    @abstractmethod
    def save_pretrained(self, folder: str | Path) -> None:
        """Write the model, without members, in the format that its ``from_pretrained`` reads."""

    # What follows from it.

    @cached_property
    def fingerprint(self) -> str:  # type: ignore[override]
        tensors = list(self.model.state_dict().items())
        for k, member in enumerate(self.members):
            tensors += [(f"member {k} {key}", value) for key, value in member.items()]
        return checkpoint.fingerprint(tensors, self.tokenizer, {"kind": type(self).__name__, **self.settings})

    def collate(self, rows: Sequence[Row]) -> dict[str, Tensor]:
        """Rows of tokens, padded at the end, on the model's device: what ``states`` takes."""
        longest = max(len(ids) for ids, _ in rows)
        fillers = (self.tokenizer.pad_token_id, self.tokenizer.eos_token_id, 0)  # masked: which one does not matter
        padded = torch.full((len(rows), longest), next(filler for filler in fillers if filler is not None))
        mask = torch.zeros_like(padded)
        for number, (ids, _) in enumerate(rows):
            padded[number, : len(ids)] = torch.tensor(ids)
            mask[number, : len(ids)] = 1
        positions = torch.tensor([list(own) for _, own in rows])
        batch = {"input_ids": padded, "attention_mask": mask, "positions": positions}
        return {key: value.to(self.device) for key, value in batch.items()}

    def raw_logits(
        self, prompts: Sequence[str], candidates: Sequence[Sequence[str]], pairs: Sequence[Pairs]
    ) -> list[np.ndarray]:
        """For each prompt one logit a pair (i, j), i shown first: ``sigmoid(logit)`` = P(i beats j).

        Raises:
            ValueError: as ``judge``.
        """
        members = (len(self.members),) if self.members else ()
        found: list[np.ndarray] = [np.empty((*members, len(asked))) for asked in pairs]
        for where, logits in self.judge(prompts, candidates, pairs):
            for (n, k), values in zip(where, np.moveaxis(logits, -1, 0), strict=True):
                found[n][..., k] = values
        return found

    def judge(
        self, prompts: Sequence[str], candidates: Sequence[Sequence[str]], pairs: Sequence[Pairs]
    ) -> Iterator[tuple[list[tuple[int, int]], np.ndarray]]:
        """All logits, those of a forward pass at a time; see ``PreferenceOracle.judge``.

        Raises:
            ValueError: one is NaN: weights that are damaged, or half precision that overflows.
        """
        self._move(self.device)
        encoded = [self.encode(prompt, texts)[0] for prompt, texts in zip(prompts, candidates, strict=True)]
        needs: dict[tuple[int, Key], list[tuple[int, int]]] = {}  # row: the pairs that wait for it
        waiting: dict[tuple[int, int], tuple[tuple[int, Key], ...]] = {}  # pair: its rows
        for n, asked in enumerate(pairs):
            for k, (i, j) in enumerate(asked):
                waiting[n, k] = tuple((n, key) for key in self.keys(i, j))
                for row in waiting[n, k]:
                    needs.setdefault(row, []).append((n, k))
        lengths = {row: len(self.row(encoded[row[0]], row[1])[0]) for row in needs}
        missing = Counter({pair: len(rows) for pair, rows in waiting.items()})
        uses = Counter({row: len(own) for row, own in needs.items()})
        held: list[dict[tuple[int, Key], Tensor]] = [{} for _ in self.members or (None,)]
        for batch in by_length(list(needs), lengths.__getitem__, self.token_budget):
            read = run_in_parts(
                self._states, [self.row(encoded[n], key) for n, key in batch], "row to judge", self.on_event
            )
            ready = []
            for row, states in zip(batch, read, strict=True):
                for own, store in zip(states, held, strict=True):
                    store[row] = own
                for pair in needs[row]:
                    missing[pair] -= 1
                    if not missing[pair]:
                        ready.append(pair)
            if not ready:
                continue

            def compared(part: Sequence[tuple[int, int]]) -> list[Any]:
                rows = [[torch.stack([store[row] for row in waiting[p]]) for p in part] for store in held]
                return list(np.moveaxis(self._compare(rows), -1, 0))

            logits = np.stack(run_in_parts(compared, ready, "pair to judge", self.on_event), -1)
            if np.isnan(logits).any():
                raise NashwardError(
                    f"{self.name} gave NaN for {int(np.isnan(logits).any(0).sum())} of {len(ready)} pairs, as of "
                    f"prompt {prompts[ready[0][0]]!r:.60}: its weights are damaged, or half precision overflows (load "
                    "it with dtype=torch.float32)"
                )
            yield ready, logits
            for pair in ready:
                for row in waiting[pair]:
                    uses[row] -= 1
                    if not uses[row]:
                        for store in held:
                            del store[row]

    @torch.inference_mode()
    def _states(self, rows: Sequence[Row]) -> list[tuple[Tensor, ...]]:
        """The states of each row, one a member; members that differ in the head alone share them."""
        batch = self.collate(rows)
        heads = self.model.head_names
        if all(key.startswith(heads) for member in self.members for key in member):
            states = [self.model.states(**batch)] * max(1, len(self.members))
        else:
            states = []
            for member in self.members:
                with checkpoint.swapped(self.model, member):
                    states.append(self.model.states(**batch))
        return list(zip(*states, strict=True))

    @torch.inference_mode()
    def _compare(self, states: Sequence[Sequence[Tensor]]) -> Float[np.ndarray, "*members B"]:
        """Logits ``[B]``, of an ensemble ``[members, B]``."""
        logits = []
        for own, member in zip(states, self.members or [{}], strict=True):
            with checkpoint.swapped(self.model, member):
                logits.append(self.model.compare(torch.stack(list(own))).double().cpu().numpy())
        return np.stack(logits) if self.members else logits[0]

    def truncated(self, prompt: str, candidates: Sequence[str]) -> int:
        """How many of the prompt and the responses are cut before they are judged."""
        return self.encode(prompt, candidates)[1]


def by_length(items: Sequence[Item], length: Callable[[Item], int], budget: int) -> Iterator[list[Item]]:
    """The items in batches of like length: at most ``budget`` tokens with padding, and at most ``PADDING`` of it.

    The longest come first: if memory is short, it shows at once.

    Example:
        >>> list(by_length(["a", "bbbb", "cccc", "dd"], len, budget=8))
        [['bbbb', 'cccc'], ['dd'], ['a']]
    """
    batch: list[Item] = []
    longest = total = 0
    for item in sorted(items, key=length, reverse=True):
        room = longest * (len(batch) + 1)
        if batch and (room > budget or room - total - length(item) > PADDING * room):
            yield batch
            batch = []
        if not batch:
            longest, total = max(1, length(item)), 0
        batch.append(item)
        total += length(item)
    if batch:
        yield batch


def target_device(device: str | torch.device | None) -> torch.device:
    """The one that was asked for; else "cuda" where there is one, else "cpu".

    Raises:
        ValueError: there is none such.
    """
    try:
        found = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    except RuntimeError:
        raise NashwardError(f"there is no device {device!r}; expected for example cpu, cuda or cuda:1") from None
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise NashwardError(f"there is no device {device} here: torch sees {torch.cuda.device_count()} CUDA devices")
    return found


def freeze(model: Module) -> Module:
    """In evaluation mode, without gradients."""
    model.eval().requires_grad_(False)
    return model
