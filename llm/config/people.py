"""What a run does with the votes of people, under ``--oracle people:FOLDER``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from nashward.errors import NashwardError

from .choices import check_choice
from .fields import setting
from .oracle_fit import LengthEffect

Kind = Literal["pairrm", "gpm", "bt"]


@dataclass(frozen=True)
class People:
    """How a run waits for people's votes and fits its oracle to them.

    Attributes:
        votes: new ones that each iteration waits for once it has sampled.
        base: the model under the head of the oracle.
        kind: "gpm" embeds each response, and holds cycles; "bt" gives each a reward; "pairrm" reads both together.
        length: "remove" takes the effect of the responses' length out of the oracle, see ``FitSettings``.
        weigh: whether the votes of each annotator are weighed by their reliability.

    Raises:
        ValueError: no votes, an unknown kind or effect of the length.

    Example:
        >>> People(votes=0)
        Traceback (most recent call last):
        nashward.errors.NashwardError: votes is 0; expected at least 1 new vote an iteration
    """

    votes: int = setting(
        40, "new votes an iteration waits for, with --oracle people:FOLDER", "people", option="people-votes"
    )
    base: str = setting(
        "real:minilm",
        "the model under the head of the oracle that is fitted to people's votes",
        "people",
        option="people-base",
    )
    kind: Kind = setting("gpm", "of that oracle, see fit-oracle", "people", option="people-kind")
    length: LengthEffect = setting(
        "keep", "keep the effect of the responses' length on people's votes, or remove it", "people",
        option="people-length",
    )  # fmt: skip
    weigh: bool = setting(False, "weigh each person's votes by their reliability", "people", option="people-weigh")

    def __post_init__(self) -> None:
        if self.votes < 1:
            raise NashwardError(f"votes is {self.votes}; expected at least 1 new vote an iteration")
        check_choice("kind", self.kind, Kind)
        check_choice("length", self.length, LengthEffect)
