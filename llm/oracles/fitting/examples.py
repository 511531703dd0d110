"""Votes as rows of tokens, with the pairs that are added to them, their folds and their weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nashward.games.shapes import Float, Num

from ...processes import processes
from ..models.network import NetworkOracle, by_length
from . import augment
from .progress import shown
from .settings import FitSettings, fold_key, folds
from .votes import Vote

# The states of rows that some network has read: of token ids and positions.
StatesOfRows = dict[tuple[tuple[int, ...], tuple[int, ...]], Tensor]


@dataclass(frozen=True)
class Example:
    """One order of one pair: its rows of tokens, the target P(first beats second), the index of its vote or -1."""

    rows: tuple[int, ...]
    target: float
    weight: float
    vote: int
    prompt: str
    annotator: str | None


class VoteExamples:
    """Votes and added pairs as examples; equal rows of tokens are one.

    Attributes:
        pairs: how many are labelled, and how many were added by each augmentation.
        rows: the rows of tokens.
        of_vote: the examples of each vote, one an order.
        fold: ``[examples]``, by prompt; those without a weight are spread over no folds, as nothing is learned of them.
        texts, cut: how many prompts and responses the votes have, and how many of these a row had no room for.
    """

    def __init__(self, oracle: NetworkOracle, votes: Sequence[Vote], settings: FitSettings) -> None:
        self.oracle, self.votes = oracle, list(votes)
        self.annotator_weights: dict[str, float] = {}
        rng = np.random.default_rng([settings.seed, 1])
        used = [vote for vote in votes if vote.weight > 0]
        added = [
            (name, make(used, round((getattr(settings, name) or 0.0) * len(used)), rng))
            for name, make in (
                ("near_duplicates", augment.near_duplicates),
                ("length_matched", augment.length_matched),
                ("style_swapped", augment.style_swapped),
            )
        ]
        self.pairs = {"labelled": len(used), **{name: len(extra) for name, extra in added}}
        self.rows: list[tuple[tuple[int, ...], tuple[int, ...]]] = []
        self._places: dict[tuple[tuple[int, ...], tuple[int, ...]], int] = {}
        self.examples: list[Example] = []
        self.texts, self.cut = 3 * len(votes), 0
        for number, vote in enumerate(votes):
            self.cut += self._add(vote, number)
        for _, extra in added:
            for vote in extra:
                self._add(vote, -1)
        self.lengths = [sum(len(self.rows[row][0]) for row in example.rows) for example in self.examples]
        self.of_vote: dict[int, list[int]] = {}
        for place, example in enumerate(self.examples):
            if example.vote >= 0:
                self.of_vote.setdefault(example.vote, []).append(place)
        counted = [example.prompt for example in self.examples if example.weight > 0]
        of = dict(zip(map(fold_key, counted), folds(counted, settings.folds, settings.seed).tolist(), strict=True))
        self.fold = np.array([of.get(fold_key(example.prompt), 0) for example in self.examples])

    def _add(self, vote: Vote, number: int) -> int:
        """Add a vote; returns how many of its texts were cut."""
        encoded, cut = self.oracle.encode(vote.prompt, [vote.a, vote.b])
        p, weight = vote.wins / vote.n, vote.n * vote.weight
        orders = [((0, 1), p)] if self.oracle.symmetric else [((0, 1), p), ((1, 0), 1 - p)]
        for (i, j), target in orders:
            places = []
            for key in self.oracle.keys(i, j):
                ids, positions = self.oracle.row(encoded, key)
                row = (tuple(ids), tuple(positions))
                if row not in self._places:
                    self._places[row] = len(self.rows)
                    self.rows.append(row)
                places.append(self._places[row])
            self.examples.append(
                Example(tuple(places), target, weight / len(orders), number, vote.prompt, vote.annotator)
            )
        return cut

    def weight(self, example: Example) -> float:
        """The comparisons that an example stands for, times the weights of the vote and of its annotator."""
        return example.weight * self.annotator_weights.get(example.annotator or "", 1.0)

    def weights(self, places: Sequence[int]) -> Float[np.ndarray, " examples"]:
        """The weights ``[len(places)]`` of examples."""
        return np.array([self.weight(self.examples[k]) for k in places])

    def counts(self, weighed: bool) -> tuple[Num[np.ndarray, " votes"], Num[np.ndarray, " votes"]]:
        """Wins and comparisons of each vote, times its weight, ``[votes]``; with ``weighed`` its annotator's too."""
        of = self.annotator_weights if weighed else {}
        weight = np.array([vote.weight * of.get(vote.annotator or "", 1.0) for vote in self.votes])
        wins, n = (np.array([getattr(vote, name) for vote in self.votes]) for name in ("wins", "n"))
        return weight * wins, weight * n

    def average(self, votes: Sequence[int], logits: Float[np.ndarray, " examples"]) -> Float[np.ndarray, " votes"]:
        """The log-odds ``[len(votes)]`` that a beats b, from those of all examples, both orders averaged."""
        signs = (1.0, -1.0)
        return np.array(
            [np.mean([s * logits[k] for s, k in zip(signs, self.of_vote[vote], strict=False)]) for vote in votes]
        )

    def loss(self, votes: Sequence[int], predicted: Float[np.ndarray, " votes"]) -> float:
        """The log-loss of some votes, nats a comparison, annotators weighed; infinite where none counts."""
        chosen = [self.votes[vote] for vote in votes]
        wins, n = np.array([v.wins for v in chosen]), np.array([v.n for v in chosen])
        weight = np.array([v.weight * self.annotator_weights.get(v.annotator or "", 1.0) for v in chosen])
        total = float((weight * n).sum())
        return float((weight * cross_entropy(predicted, wins, n)).sum()) / total if total else float("inf")

    @torch.inference_mode()
    def states(self, progress: bool, known: StatesOfRows | None = None) -> Float[Tensor, "rows S H"]:
        """The frozen encoder's states of every row ``[rows, S, H]``, on the host; the longest rows first.

        Args:
            progress: whether it is shown.
            known: states of this encoder that are there already; those of the other rows are added.
        """
        model, known = self.oracle.model, {} if known is None else known
        model.eval()
        missing = [k for k, row in enumerate(self.rows) if row not in known]
        batches = list(by_length(missing, lambda k: len(self.rows[k][0]), self.oracle.padded_budget))
        with shown("encoding", len(missing), "rows", progress and bool(missing)) as advance:

            def read(batch: list[int]) -> Tensor:
                found = model.states(**self.oracle.collate([self.rows[k] for k in batch])).cpu()
                advance(len(batch))
                return found

            for batch, found in zip(batches, processes.map(read, batches), strict=True):
                known.update({self.rows[k]: states for k, states in zip(batch, found, strict=True)})
        return torch.stack([known[row] for row in self.rows])


def cross_entropy(
    logits: Float[np.ndarray, " votes"], wins: Num[np.ndarray, " votes"], n: Num[np.ndarray, " votes"]
) -> Float[np.ndarray, " votes"]:
    """- wins log sigmoid(logit) - (n - wins) log sigmoid(-logit), nats, ``[votes]``."""
    with np.errstate(invalid="ignore", over="ignore"):  # the caller checks for a fit that diverged
        return wins * np.logaddexp(0.0, -logits) + (n - wins) * np.logaddexp(0.0, logits)
