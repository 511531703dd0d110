"""Linear heads on pooled states, one for each of a few penalties."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from nashward.games.shapes import Float

from ..models.checkpoint import Member
from ..models.pooled import PooledNetwork
from .convex import regularised_path
from .examples import VoteExamples

PENALTIES = (100.0, 10.0, 3.0, 1.0, 0.5, 0.25, 0.12, 0.06, 0.03, 0.01)  # of the square of a weight, largest first
CYCLIC = (100.0, 10.0, 1.0, 0.1)  # penalties of the cyclic part of an "hrc", as factors of those of its score
LENGTH_PENALTY = 1e-4  # of the lead in length, which is one number
PART = 2048  # pairs whose differences are computed at once


class Heads:
    """The linear heads of a pooled network on its votes.

    Args:
        model: the network; its scale is set by the responses of the votes.
        data: the votes.
        states: of each row, ``[rows, texts, F]``.
    """

    grid: Sequence[
        tuple[float, float]
    ]  # penalties of all entries but the lead in length, and factors of the cyclic ones

    def __init__(self, model: PooledNetwork, data: VoteExamples, states: Float[Tensor, "rows texts F"]) -> None:
        self.model, self.data = model, data
        self.grid = [(p, factor) for factor in (CYCLIC if model.form.kind == "hrc" else (1.0,)) for p in PENALTIES]
        labelled = sorted({row for example in data.examples if example.vote >= 0 for row in example.rows})
        model.standardise(states[labelled].flatten(0, 1))
        rows = torch.tensor([example.rows for example in data.examples])
        device = model.head.weight.device
        with torch.inference_mode():
            parts = [model.differences(states[part].to(device)).cpu() for part in rows.split(PART)]
        self.differences = torch.cat(parts)
        self.target = torch.tensor([example.target for example in data.examples], dtype=torch.float32)

    def path(self, places: Sequence[int], count: int | None = None) -> list[np.ndarray]:
        """The heads of some examples for the first penalties of the grid."""
        chosen = torch.as_tensor(list(places))
        weight = torch.as_tensor(self.data.weights(places), dtype=torch.float32)
        size = self.differences.shape[1]
        penalties = []
        for value, factor in self.grid[:count]:
            penalty = np.full(size, value)
            penalty[0], penalty[self.model.cyclic] = LENGTH_PENALTY, value * factor
            penalties.append(penalty)
        return regularised_path(self.differences[chosen], self.target[chosen], weight, penalties)

    def deployed(self, head: Float[np.ndarray, " D"]) -> Float[np.ndarray, " D"]:
        """A head as the oracle has it: without the lead in length, where that is taken out."""
        return head if self.model.form.length else np.concatenate([[0.0], head[1:]])

    def cyclic_share(self, head: Float[np.ndarray, " D"]) -> float:
        """The share of the cyclic part in the mean square of the votes' log-odds, of it and of the score's."""
        cyclic = self.differences[:, self.model.cyclic] @ torch.as_tensor(head[self.model.cyclic], dtype=torch.float32)
        score = self.differences @ torch.as_tensor(head, dtype=torch.float32) - cyclic
        squares = float(cyclic.square().mean()), float(score.square().mean())
        return squares[0] / sum(squares) if sum(squares) > 0 else 0.0

    def predict(self, votes: Sequence[int], head: Float[np.ndarray, " D"]) -> Float[np.ndarray, " votes"]:
        """The log-odds that a beats b, ``[len(votes)]``."""
        logits = np.zeros(len(self.data.examples))
        places = [place for vote in votes for place in self.data.of_vote[vote]]
        weights = torch.as_tensor(head, dtype=torch.float32)
        logits[places] = (self.differences[places] @ weights).double().numpy()
        return self.data.average(votes, logits)

    def member(self, head: Float[np.ndarray, " D"]) -> Member:
        """A head as the parameter in which a member of an ensemble differs."""
        weight = self.model.head.weight
        return {"head.weight": torch.as_tensor(self.deployed(head), dtype=weight.dtype, device=weight.device)[None]}

    def use(self, head: Float[np.ndarray, " D"]) -> None:
        """Set the network's head."""
        self.model.head.weight.copy_(self.member(head)["head.weight"])
