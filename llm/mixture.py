"""A mixture of adapters: choose one for each response, answer with it. What the average of iterates is for a model."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .folder import write_json
from .model import LanguageModel
from .sampling import Response, Source, seed_of


@dataclass(frozen=True)
class Mixture:
    """A linear mixture of policies on one base.

    Attributes:
        members: the adapters' folders and their weights, which are not negative and sum to 1.

    Raises:
        ValueError: no members, or weights that are no distribution.
    """

    members: tuple[tuple[Path, float], ...]

    def __post_init__(self) -> None:
        weights = [weight for _, weight in self.members]
        if not weights or min(weights) < 0 or abs(sum(weights) - 1) > 1e-6:
            raise ValueError(f"the weights of a mixture must be at least 0 and sum to 1, got {weights}")

    def sample(
        self,
        model: LanguageModel,
        prompts: Sequence[Sequence[int]],
        count: int,
        source: Source,
        seed: int,
    ) -> list[list[Response]]:
        """``count`` responses to each prompt's token ids, each from a member drawn anew; grouped by member, so that
        an adapter is loaded once.

        Returns:
            for each prompt its responses.
        """
        weights = [weight for _, weight in self.members]
        drawn = [
            random.Random(seed_of(seed, "member", i)).choices(range(len(self.members)), weights, k=count)
            for i in range(len(prompts))
        ]
        results: list[list[Response | None]] = [[None] * count for _ in prompts]
        for number, (folder, _) in enumerate(self.members):
            places = {i: [k for k in range(count) if row[k] == number] for i, row in enumerate(drawn)}
            asked = [i for i, slots in places.items() if slots]
            seeds = [[seed_of(seed, "response", i, k) for k in places[i]] for i in asked]
            with model.acting(folder):
                answers = source.draw(model, [prompts[i] for i in asked], seeds)
            for i, row in zip(asked, answers, strict=True):
                for k, answer in zip(places[i], row, strict=True):
                    results[i][k] = answer
        return [[answer for answer in row if answer is not None] for row in results]

    def save(self, file: Path) -> None:
        """Write the mixture as JSON; the folders are kept relative to the file, so that a run can be moved."""
        home = file.parent.resolve()
        write_json(
            file,
            {
                "members": [
                    {"adapter": os.path.relpath(folder.resolve(), home), "weight": weight}
                    for folder, weight in self.members
                ]
            },
        )

    @classmethod
    def load(cls, file: str | Path) -> Mixture:
        """Read what ``save`` wrote."""
        file = Path(file)
        members = json.loads(file.read_text(encoding="utf-8"))["members"]
        return cls(tuple(((file.parent / m["adapter"]).resolve(), float(m["weight"])) for m in members))
