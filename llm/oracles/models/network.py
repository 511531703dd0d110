"""What PairRM, reward models and preference embeddings share: an encoder of rows of tokens, a head that compares."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from nashward.errors import NashwardError
from nashward.games.shapes import Float, Int
from nashward.shortened import quoted

from ...policy.base.weights import default_device
from ...policy.memory import OnEvent, ignore_event, run_in_parts
from ...policy.packing import SHARED, common_beginning, packs
from ..protocol import Pairs, PreferenceOracle
from . import checkpoint

Module = TypeVar("Module", bound=nn.Module)
Item = TypeVar("Item")
MAX_PADDING = 0.1  # the largest share of padding in a batch
WHOLE_PROMPT = 8192  # tokens of a batch, so that the rows of one prompt are seldom split
Key = tuple[int, ...]  # which of a prompt's candidates a row of tokens holds
Row = tuple[Sequence[int], Sequence[int]]  # token ids, and the positions whose states are read
Pair = tuple[int, int]  # which prompt, which of its pairs
RowLength = Callable[[int, int], int]  # tokens of a prompt and of a response -> tokens of a row
RowCount = Callable[[int], int]  # responses -> rows of their table


class Network(Protocol):
    """A module whose head is separate from its encoder: ``states`` runs the encoder, ``compare`` the head."""

    head_names: tuple[str, ...]  # prefixes of the names of the head's parameters
    reads: int  # how many positions of a row have their states read

    def states(
        self, input_ids: Int[Tensor, "R T"], attention_mask: Int[Tensor, "R T"], positions: Int[Tensor, "R S"]
    ) -> Float[Tensor, "R S H"]:
        """The hidden states ``[R, S, H]`` of R rows of tokens at S positions of each."""

    def compare(self, states: Float[Tensor, "B rows S H"]) -> Float[Tensor, " B"]:
        """Log-odds ``[B]`` that the first response shown is better, from the states ``[B, rows per pair, S, H]``."""


@dataclass(frozen=True)
class OracleShape:
    """The size of an oracle's network and of its inputs, for a plan; known without reading a weight.

    Attributes:
        network: a ``Network`` that is an ``nn.Module``, on the meta device, in the dtype that it has on a GPU.
        row: of the tokens of a prompt and of a response, the largest number of tokens of a row.
        rows: of the number K of responses, the rows of their table.
        members: bytes of the other members of an ensemble, which are on the device too.
        others: of several oracles, the networks that judge beside this one; their bytes are among ``members``.
    """

    network: Any
    row: RowLength
    rows: RowCount
    members: int = 0
    others: tuple[OracleShape, ...] = ()

    @property
    def parameters(self) -> int:
        """Of the network; its members are not counted."""
        return sum(p.numel() for p in self.network.parameters())

    @property
    def networks(self) -> tuple[OracleShape, ...]:
        """This one and the others."""
        return (self, *self.others)

    def operations(self, prompt_tokens: int, new_tokens: int, responses: int) -> float:
        """The operations of all networks for the table of one prompt: 2 for each parameter and token."""
        return sum(
            2.0 * one.parameters * one.rows(responses) * one.row(prompt_tokens, new_tokens) for one in self.networks
        )


class NetworkOracle(PreferenceOracle):
    """Base of oracles that are a network: batches by token budget, the longest first, each row of tokens read once.

    Args:
        model: a ``Network`` that is an ``nn.Module``, in evaluation mode, on its device.
        tokenizer: its tokenizer.
        name: shown in reports.
        token_budget: tokens of one forward pass, padding included; a single longer row still runs, alone. None: 8192 on
            a GPU, 1024 on a CPU, which gains nothing from large batches (benchmarks/judge_speed.py); 8192 on both where
            the network is a decoder that computes once what rows of a prompt begin with.
        members: of an ensemble: for each the tensors in which it differs from ``model``. Empty: ``model`` alone.

    Raises:
        ValueError: a token budget below 1; in ``judge``, a logit that is NaN.
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
        self._padded_budget = token_budget or (1024 if self.device.type == "cpu" else WHOLE_PROMPT)
        # of a decoder, which may compute once what rows begin with; else padded rows have their own
        self.token_budget = token_budget or (WHOLE_PROMPT if hasattr(model, "decoder") else self._padded_budget)
        self.on_event: OnEvent = ignore_event  # called when memory runs out
        self.members = [{key: value.to(self.device) for key, value in member.items()} for member in members]

    def error_factor(self, members: int) -> float:
        """(m - 1) / sqrt(m): its members were each fitted without one of m parts of the votes, the jackknife.

        Source: Shao & Tu 1995, "The Jackknife and Bootstrap".
        """
        return (members - 1) / members**0.5

    @property
    def padded_budget(self) -> int:
        """Tokens of one forward pass of rows that are padded."""
        return min(self.token_budget, self._padded_budget)

    def offload(self) -> None:
        """Move the weights to host memory; the next ``judge`` moves them back."""
        self._move(torch.device("cpu"))

    def _move(self, device: torch.device) -> None:
        if next(self.model.parameters()).device != device:
            self.model.to(device)
            self.members = [{key: value.to(device) for key, value in member.items()} for member in self.members]

    # What differs from one kind of network to the next.

    @property
    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """What the logits depend on besides weights and tokenizer; JSON."""

    @abstractmethod
    def encode(self, prompt: str, candidates: Sequence[str]) -> tuple[Any, int]:
        """Tokenise a prompt and its candidates.

        Returns:
            The tokens, as ``row`` takes them, and how many of the texts (the prompt is one) were cut.
        """

    @staticmethod
    @abstractmethod
    def keys(i: int, j: int) -> tuple[Key, ...]:
        """The rows of tokens of the pair (i, j): ((i, j),) if they are read together, ((i,), (j,)) if separately."""

    @abstractmethod
    def row(self, encoded: Any, key: Key) -> Row:
        """One row of tokens, from what ``encode`` returned."""

    @abstractmethod
    def save_pretrained(self, folder: str | Path) -> None:
        """Write the model, without members, in the format that its ``from_pretrained`` reads."""

    # What is the same for all.

    def _save(self, folder: Path, settings: Mapping[str, Any]) -> None:
        """Write a config.json, the tokenizer and all weights, in safetensors."""
        (folder / "config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
        self.tokenizer.save_pretrained(folder)
        state = {key: value.detach().cpu().contiguous() for key, value in self.model.state_dict().items()}
        save_file(state, folder / checkpoint.SAFE, metadata={"format": "pt"})

    @cached_property
    def fingerprint(self) -> str:  # type: ignore[override]
        tensors = list(self.model.state_dict().items())
        for k, member in enumerate(self.members):
            tensors += [(f"member {k} {key}", value) for key, value in member.items()]
        return checkpoint.fingerprint(tensors, self.tokenizer, {"kind": type(self).__name__, **self.settings})

    def collate(self, rows: Sequence[Row]) -> dict[str, Tensor]:
        """Rows of tokens as a batch for ``states``: padded at the end, on the model's device."""
        longest = max(len(ids) for ids, _ in rows)
        pad_ids = (self.tokenizer.pad_token_id, self.tokenizer.eos_token_id, 0)  # masked, so any of them will do
        padded = torch.full((len(rows), longest), next(pad for pad in pad_ids if pad is not None))
        mask = torch.zeros_like(padded)
        for number, (ids, _) in enumerate(rows):
            padded[number, : len(ids)] = torch.tensor(ids)
            mask[number, : len(ids)] = 1
        positions = torch.tensor([list(read) for _, read in rows])
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
        answers: list[np.ndarray] = [np.empty((*members, len(prompt_pairs))) for prompt_pairs in pairs]
        for judged, logits in self.judge(prompts, candidates, pairs):
            for (n, k), values in zip(judged, np.moveaxis(logits, -1, 0), strict=True):
                answers[n][..., k] = values
        return answers

    def judge(
        self, prompts: Sequence[str], candidates: Sequence[Sequence[str]], pairs: Sequence[Pairs]
    ) -> Iterator[tuple[list[tuple[int, int]], np.ndarray]]:
        """All logits, those that a forward pass completes at a time; see ``PreferenceOracle.judge``.

        Raises:
            ValueError: a logit is NaN: weights that are damaged, or half precision that overflows.
        """
        self._move(self.device)
        encoded = [self.encode(prompt, texts)[0] for prompt, texts in zip(prompts, candidates, strict=True)]
        pairs_of: dict[tuple[int, Key], list[Pair]] = {}  # the pairs that need a row
        rows_of: dict[Pair, tuple[tuple[int, Key], ...]] = {}  # the rows that a pair needs
        for n, prompt_pairs in enumerate(pairs):
            for k, (i, j) in enumerate(prompt_pairs):
                rows_of[n, k] = tuple((n, key) for key in self.keys(i, j))
                for row in rows_of[n, k]:
                    pairs_of.setdefault(row, []).append((n, k))
        lengths = {row: len(self.row(encoded[row[0]], row[1])[0]) for row in pairs_of}
        missing = Counter({pair: len(rows) for pair, rows in rows_of.items()})  # rows whose states are not there yet
        uses = Counter({row: len(needed_by) for row, needed_by in pairs_of.items()})  # pairs that still need the states
        states_of: list[dict[tuple[int, Key], Tensor]] = [{} for _ in self.members or (None,)]  # of each member
        for batch in self._batches(encoded, lengths):
            batch_states = run_in_parts(
                self._states, [self.row(encoded[n], key) for n, key in batch], "row to judge", self.on_event
            )
            ready = []
            for row, row_states in zip(batch, batch_states, strict=True):
                for states, stored in zip(row_states, states_of, strict=True):
                    stored[row] = states
                for pair in pairs_of[row]:
                    missing[pair] -= 1
                    if not missing[pair]:
                        ready.append(pair)
            if not ready:
                continue

            def compared(part: Sequence[Pair]) -> list[Any]:
                rows = [[torch.stack([stored[row] for row in rows_of[pair]]) for pair in part] for stored in states_of]
                return list(np.moveaxis(self._compare(rows), -1, 0))

            logits = np.stack(run_in_parts(compared, ready, "pair to judge", self.on_event), -1)
            if np.isnan(logits).any():
                raise NashwardError(
                    f"{self.name} gave NaN for {int(np.isnan(logits).any(0).sum())} of {len(ready)} pairs, as of "
                    f"prompt {quoted(prompts[ready[0][0]], 60)}: its weights are damaged, or half precision overflows "
                    "(load it with dtype=torch.float32)"
                )
            yield ready, logits
            for pair in ready:
                for row in rows_of[pair]:
                    uses[row] -= 1
                    if not uses[row]:
                        for stored in states_of:
                            del stored[row]

    def _batches(self, encoded: Sequence[Any], lengths: Mapping[tuple[int, Key], int]) -> Iterator[list[Any]]:
        """The rows in batches: those of a prompt together where a decoder computes once what they begin with."""
        decoder = getattr(self.model, "decoder", None)
        if decoder is None or len(lengths) < 2 or not packs(decoder, max(lengths.values())):
            yield from by_length(list(lengths), lengths.__getitem__, self.padded_budget)
            return
        rows = {row: list(self.row(encoded[row[0]], row[1])[0]) for row in lengths}
        yield from by_beginning(list(lengths), lambda row: row[0], rows.__getitem__, self.token_budget)

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
                with checkpoint.use_member(self.model, member):
                    states.append(self.model.states(**batch))
        return list(zip(*states, strict=True))

    @torch.inference_mode()
    def _compare(self, states: Sequence[Sequence[Tensor]]) -> Float[np.ndarray, "*members B"]:
        """Logits ``[B]``, of an ensemble ``[members, B]``."""
        logits = []
        for member_states, member in zip(states, self.members or [{}], strict=True):
            with checkpoint.use_member(self.model, member):
                logits.append(self.model.compare(torch.stack(list(member_states))).double().cpu().numpy())
        return np.stack(logits) if self.members else logits[0]

    def truncated(self, prompt: str, candidates: Sequence[str]) -> int:
        """How many of the prompt and the responses are truncated."""
        return self.encode(prompt, candidates)[1]


def by_length(items: Sequence[Item], length: Callable[[Item], int], budget: int) -> Iterator[list[Item]]:
    """The items in batches of like length: at most ``budget`` tokens with padding, and at most ``MAX_PADDING`` of it.

    The longest come first, so that memory that is too small runs out at once.

    Example:
        >>> list(by_length(["a", "bbbb", "cccc", "dd"], len, budget=8))
        [['bbbb', 'cccc'], ['dd'], ['a']]
    """
    batch: list[Item] = []
    longest = total = 0
    for item in sorted(items, key=length, reverse=True):
        room = longest * (len(batch) + 1)
        if batch and (room > budget or room - total - length(item) > MAX_PADDING * room):
            yield batch
            batch = []
        if not batch:
            longest, total = max(1, length(item)), 0
        batch.append(item)
        total += length(item)
    if batch:
        yield batch


def by_beginning(
    items: Sequence[Item], group: Callable[[Item], int], ids: Callable[[Item], Sequence[int]], budget: int
) -> Iterator[list[Item]]:
    """The items in batches of at most ``budget`` tokens, what neighbours begin with counted once.

    Those of a group stay together, sorted by their tokens, where the budget allows; that with the longest comes first.

    Example:
        >>> rows = ["Rhine, yes", "a b", "Rhine, no"]
        >>> list(by_beginning(rows, lambda row: int(row < "a"), lambda row: [ord(c) for c in row], budget=20))
        [['Rhine, no', 'Rhine, yes'], ['a b']]
    """
    groups: dict[int, list[Item]] = {}
    for item in items:
        groups.setdefault(group(item), []).append(item)
    batch: list[Item] = []
    total = 0
    for own in sorted(groups.values(), key=lambda rows: -max(len(ids(row)) for row in rows)):
        own.sort(key=lambda item: list(ids(item)))
        for item in own:
            common = common_beginning(ids(batch[-1]), ids(item)) if batch else 0
            added = len(ids(item)) - (common if common >= SHARED else 0)
            if batch and total + added > budget:
                yield batch
                batch, total, added = [], 0, len(ids(item))
            batch.append(item)
            total += added
    if batch:
        yield batch


def target_device(device: str | torch.device | None) -> torch.device:
    """The device; for None "cuda" where there is one, else "cpu".

    Raises:
        ValueError: no such device here.
    """
    try:
        target = torch.device(device or default_device())
    except RuntimeError:
        raise NashwardError(f"there is no device {device!r}; expected for example cpu, cuda or cuda:1") from None
    if target.type == "cuda" and (target.index or 0) >= torch.cuda.device_count():
        raise NashwardError(f"there is no device {device} here: torch sees {torch.cuda.device_count()} CUDA devices")
    return target


def placement(
    device: str | torch.device | None, dtype: torch.dtype | None, stored: torch.dtype | str
) -> tuple[torch.device, Any]:
    """Device and dtype of a network that is loaded: by default float32 on a CPU, the checkpoint's own on a GPU.

    Args:
        device, dtype: as ``from_pretrained`` was called with.
        stored: the dtype of the checkpoint, or "auto".
    """
    target = target_device(device)
    return target, dtype or (torch.float32 if target.type == "cpu" else stored)


def freeze(model: Module) -> Module:
    """The module in evaluation mode, without gradients."""
    model.eval().requires_grad_(False)
    return model


def networks(oracle: PreferenceOracle) -> list[NetworkOracle]:
    """The networks among an oracle and those that it consults.

    Example:
        >>> from nashward.llm.oracles import Ensemble, Length
        >>> networks(Ensemble([Length(), Length(-1.0)]))
        []
    """
    if isinstance(oracle, NetworkOracle):
        return [oracle]
    return [network for part in oracle.consulted for network in networks(part)]
