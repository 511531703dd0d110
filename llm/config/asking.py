"""Which pairs of responses people are asked to compare."""

from __future__ import annotations

from dataclasses import dataclass

from nashward.errors import NashwardError

from .fields import setting


@dataclass(frozen=True)
class Asking:
    """Which pairs of responses people compare next.

    Attributes:
        random: draw all pairs at random; False: most are those whose vote is expected to change the equilibrium most.
        random_share: of the questions that are drawn at random all the same, so that the accuracy on them is that on
            any pair.
        repeats: the share of the questions that were answered before, by the same person or by another one: what the
            consistency and the agreement are measured on.
        seed: of the draws.

    Raises:
        ValueError: shares that are negative or more than 1 together.

    Example:
        >>> Asking(repeats=0.5, random_share=0.7)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        nashward.errors.NashwardError: random_share 0.7 and repeats 0.5 are shares; expected ...
    """

    random: bool = setting(False, "a plain random sample of pairs, in place of those worth most", "questions")
    random_share: float = setting(0.25, "share of the questions that are drawn at random all the same", "questions")
    repeats: float = setting(0.1, "share of the questions that were answered before, for consistency", "questions")
    seed: int = setting(0, "of the questions and of the sides", "questions")

    def __post_init__(self) -> None:
        if not (self.random_share >= 0 and self.repeats >= 0 and self.random_share + self.repeats <= 1):
            raise NashwardError(
                f"random_share {self.random_share:g} and repeats {self.repeats:g} are shares; expected 0 or more, 1 "
                "at most together"
            )
        if self.seed < 0:
            raise NashwardError(f"seed is {self.seed}; expected a whole number, at least 0")
