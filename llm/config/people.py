"""What people are asked, and how a run's oracle is fitted to their votes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from nashward.errors import NashwardError

from .fields import check_choice, setting
from .oracle_fit import Kind, LengthEffect

VoteFormat = Literal["jsonl", "battles", "label-studio", "argilla"]  # of files of people's votes


@dataclass(frozen=True)
class People:
    """How a run waits for people's votes and fits its oracle to them.

    Attributes:
        votes: the new votes that each iteration waits for once it has sampled.
        base: the model under the head of the oracle.
        kind: "gpm" embeds each response, and holds cycles; "bt" gives each a reward; "hrc" has both parts;
            "pairrm" reads both responses together.
        length: "remove" takes the effect of the responses' length out of the oracle, see ``FitSettings``.
        weigh: whether the votes of each annotator are weighed by their reliability.

    Raises:
        ValueError: no votes, an unknown kind or effect of the length.

    Example:
        >>> People(votes=0)
        Traceback (most recent call last):
        nashward.errors.NashwardError: votes is 0; expected at least 1 new vote per iteration
    """

    votes: int = setting(
        40, "new votes that an iteration waits for, with --oracle people:FOLDER", "people", option="people-votes"
    )
    base: str = setting(
        "real:minilm",
        "the model under the head of the oracle that is fitted to people's votes",
        "people",
        option="people-base",
    )
    kind: Kind = setting("gpm", "kind of that oracle, see fit-oracle", "people", option="people-kind")
    length: LengthEffect = setting(
        "keep", "keep the effect of the responses' length on people's votes, or remove it", "people",
        option="people-length",
    )  # fmt: skip
    weigh: bool = setting(False, "weigh each person's votes by their reliability", "people", option="people-weigh")

    def __post_init__(self) -> None:
        if self.votes < 1:
            raise NashwardError(f"votes is {self.votes}; expected at least 1 new vote per iteration")
        check_choice("kind", self.kind, Kind)
        check_choice("length", self.length, LengthEffect)


@dataclass(frozen=True)
class Asking:
    """Which pairs of responses people compare next.

    Attributes:
        random: draw all pairs at random; False: a share are those that are expected to change the equilibrium most.
        random_share: the share of the questions that are drawn at random all the same, so that the accuracy on them is
            that on any pair. A fit to close pairs alone gets probabilities that say little: see docs/benchmarks.md.
        repeats: the share of the questions that were answered before, by the same person or by another one: what the
            consistency and the agreement are measured on.
        seed: the seed of the draws.

    Raises:
        ValueError: shares that are negative or more than 1 together.

    Example:
        >>> Asking(repeats=0.5, random_share=0.7)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        nashward.errors.NashwardError: random_share 0.7 and repeats 0.5 are shares; expected ...
    """

    random: bool = setting(False, "a plain random sample of pairs, in place of those worth most", "questions")
    random_share: float = setting(0.5, "share of the questions that are drawn at random all the same", "questions")
    repeats: float = setting(0.1, "share of the questions that were answered before, for consistency", "questions")
    seed: int = setting(0, "seed of the questions and of the sides", "questions")

    def __post_init__(self) -> None:
        if not (self.random_share >= 0 and self.repeats >= 0 and self.random_share + self.repeats <= 1):
            raise NashwardError(
                f"random_share {self.random_share:g} and repeats {self.repeats:g} are shares; expected 0 or more, 1 "
                "at most together"
            )
        if self.seed < 0:
            raise NashwardError(f"seed is {self.seed}; expected a whole number, at least 0")
