"""A policy's responses to a prompt, from sampling over judging to training: one container for all three."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, TypeAlias

import torch
from torch import Tensor

from nashward.games.shapes import Float

TokenIds: TypeAlias = Sequence[int]
Text: TypeAlias = tuple[TokenIds, TokenIds]  # a prompt and a response to it
COLUMNS = ("prompt", "prompt_ids", "ids", "finished", "weight")  # what a fit reads of stored responses


@dataclass(frozen=True, slots=True)
class Response:
    """One response.

    The weights of a prompt's responses sum to 1: each sample weighs the same, an enumerated response its probability.

    Attributes:
        ids: token ids as they were sampled, with the stop token where there is one. Read from a file they are an array
            of 4 bytes each: a run holds all responses of a step while it trains.
        finished: it ended with a stop token.
        text: for judges and readers; empty where it was not read from the file.
        weight: how much it counts in expectations under the policy and, once it is selected for a fit, in the loss.
    """

    ids: TokenIds
    finished: bool = True
    text: str = ""
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Rollout:
    """The responses to one prompt, with what a judge finds once they are judged.

    Attributes:
        prompt: its id, see ``Prompt.id``.
        prompt_ids: its token ids, with the chat template.
        responses: R of them, of one policy or of several.
        payoffs: G(y) = sum_j c_j P(y beats rho_j) of each, ``[R]``, NaN where it was not judged; None: not judged yet.
        table: P[i, j], response i against response j, ``[R, R]``, where the loss needs it.
        precision: how much each counts in the loss beside its weight, ``[R]``, see ``regression.precisions``; None: 1.

    Example:
        >>> rollout = Rollout("a5316a70", [1, 4], [Response([5, 6], True, "Rhine", 0.5), Response([7], weight=0.5)])
        >>> rollout.weights.tolist(), rollout.texts[1]
        ([0.5, 0.5], ([1, 4], [7]))
        >>> Rollout.from_rows(rollout.rows("start", seeds=[8, 9])).responses[0]
        Response(ids=array('i', [5, 6]), finished=True, text='Rhine', weight=0.5)
    """

    prompt: str
    prompt_ids: TokenIds
    responses: Sequence[Response]
    payoffs: Float[Tensor, " R"] | None = None
    table: Float[Tensor, "R R"] | None = None
    precision: Float[Tensor, " R"] | None = None

    @property
    def weights(self) -> Float[Tensor, " R"]:
        return torch.tensor([response.weight for response in self.responses], dtype=torch.float64)

    @property
    def texts(self) -> list[Text]:
        """Each response with the prompt, as token ids."""
        return [(self.prompt_ids, response.ids) for response in self.responses]

    def rows(self, policy: str, seeds: Sequence[int]) -> list[dict[str, Any]]:
        """The rows of a file of responses, one per response; ``seeds`` are those of the first ones, the others have
        none."""
        return [
            {"prompt": self.prompt, "policy": policy, "response": k, "seed": seed, "weight": response.weight,
             "prompt_ids": self.prompt_ids, "ids": response.ids, "finished": response.finished, "text": response.text}
            for k, (response, seed) in enumerate(zip_longest(self.responses, seeds[: len(self.responses)]))
        ]  # fmt: skip

    @classmethod
    def from_rows(cls, rows: Sequence[dict[str, Any]]) -> Rollout:
        """The inverse of ``rows``; of the columns only ``COLUMNS`` are needed."""
        return cls(
            rows[0]["prompt"],
            array("i", rows[0]["prompt_ids"]),
            [Response(array("i", r["ids"]), r["finished"], r.get("text", ""), r["weight"]) for r in rows],
        )
