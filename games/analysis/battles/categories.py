"""The battles of one category, compared with all battles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from nashward.errors import NashwardError

from ...shapes import Bool, Float
from ..contextual import ContextualBradleyTerry
from ..ratings import ELO, elo

ENOUGH = 10  # the fewest battles of a model in a category for a rating
LEVEL = 0.05  # of the test against the lottery, over all models and categories


def flags_of(name: str, categories: Mapping[str, Bool[np.ndarray, " battles"]]) -> Bool[np.ndarray, " battles"]:
    """Which battles are of a category; of a language its own name is enough where no other category has it.

    Raises:
        ValueError: no such category.

    Example:
        >>> flags_of("German", {"math": np.array([True, True]), "language German": np.array([True, False])}).tolist()
        [True, False]
    """
    for full in (name, f"language {name}"):
        if full in categories:
            return categories[full]
    known = ", ".join(categories) or "none"
    raise NashwardError(f"there is no category {name!r} among these battles; they have: {known}")


@dataclass(frozen=True)
class InCategory:
    """The battles of one category, compared with all battles.

    Attributes:
        name: the category's name.
        battles: the number of battles.
        elo, elo_error: [n], ratings in the category with standard errors; NaN for models with fewer than ten battles.
        rate, rate_error: [n], each model's win rate in it against the maximal lottery of all battles, and its error.

    Example:
        >>> math = InCategory("math", 90, np.full(2, 1500.0), np.full(2, 9.0), np.array([0.6, 0.5]), np.full(2, 0.02))
        >>> math.beats_most(categories=4)
        (0, True)
    """

    name: str
    battles: float
    elo: Float[np.ndarray, " n"]
    elo_error: Float[np.ndarray, " n"]
    rate: Float[np.ndarray, " n"]
    rate_error: Float[np.ndarray, " n"]

    @classmethod
    def of(
        cls, name: str, fit: ContextualBradleyTerry, P: Float[np.ndarray, "n n"], met: Float[np.ndarray, "n n"],
        lottery: Float[np.ndarray, " n"], smoothing: float,
    ) -> InCategory:  # fmt: skip
        """From a category's fit and table.

        Args:
            name: the category's name.
            fit: the fit of its battles.
            P, met: [n, n], its win probabilities, and how often each pair met.
            lottery: [n], the maximal lottery of all battles.
            smoothing: a of the prior Beta(a, a) in P.
        """
        battles, variance = met.sum(1), P * (1 - P) / (met + 2 * smoothing + 1) * ~np.eye(len(P), dtype=bool)
        few = battles < ENOUGH
        return cls(
            name, float(battles.sum() / 2),
            np.where(few, np.nan, elo(fit.scores)), np.where(few, np.nan, ELO * fit.score_errors),
            P @ lottery, np.sqrt(variance @ lottery**2),
        )  # fmt: skip

    def beats_most(self, categories: int) -> tuple[int, bool]:
        """Who beats the lottery most surely here, and whether that is beyond noise over all models and categories."""
        least = self.rate - ndtri(1 - LEVEL / (len(self.rate) * categories)) * self.rate_error
        return int(least.argmax()), bool(least.max() > 0.5)
