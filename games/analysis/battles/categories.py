"""The battles of one category, compared with all battles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import ndtri

from ...shapes import Float
from ..ratings import ELO, elo

if TYPE_CHECKING:
    from .battles import Battles

ENOUGH = 10  # the fewest battles of a model in a category for a rating
LEAST = 30  # the fewest battles of a category
ROUNDING = 1e-9  # of a win rate
LEVEL = 0.05  # of the test against the lottery, over all models and categories


@dataclass(frozen=True)
class InCategory:
    """The battles of one category, compared with all battles.

    Attributes:
        name: the category's name.
        battles: the number of battles.
        elo, elo_error: [n], ratings in the category with standard errors; NaN for models with fewer than ten battles.
            The mean of the others is that of their ratings in all battles.
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
        cls, name: str, own: Battles, P: Float[np.ndarray, "n n"], lottery: Float[np.ndarray, " n"],
        overall: Float[np.ndarray, " n"], style: bool = False,
    ) -> InCategory:  # fmt: skip
        """From a category's battles and table.

        Args:
            name: the category's name.
            own: its battles.
            P: [n, n], its win probabilities.
            lottery: [n], the maximal lottery of all battles.
            overall: [n], the ratings in all battles. Those of the models that have one here have the same mean there.
            style: rate at equal style.
        """
        battles, known = own.met.sum(1), own.compared if own.by_prompt else own.met  # those of a prompt repeat it
        variance = P * (1 - P) / (known + 2 * own.smoothing + 1) * ~np.eye(len(P), dtype=bool)
        fought, enough = battles > 0, battles >= ENOUGH
        ratings, errors = np.full((2, len(P)), np.nan)
        fit = own.without_idle().scores(style, prior=True)
        ratings[fought], errors[fought] = elo(fit.scores), ELO * fit.score_errors
        if enough.any():
            ratings += (overall - ratings)[enough].mean()
        return cls(
            name, float(battles.sum() / 2), np.where(enough, ratings, np.nan), np.where(enough, errors, np.nan),
            P @ lottery, np.sqrt(variance @ lottery**2),
        )  # fmt: skip

    def beats_most(self, categories: int) -> tuple[int | None, bool]:
        """Who beats the lottery most surely here, and whether that is beyond noise over all models and categories.

        Of those that win against it: a sure loser may have the highest lower end, and a lottery of one model draws with
        itself for sure. None: nobody does.
        """
        least = self.rate - ndtri(1 - LEVEL / (len(self.rate) * categories)) * self.rate_error
        wins = self.rate > 0.5 + ROUNDING
        surest = int(np.where(wins, least, -np.inf).argmax())
        return surest if wins.any() else None, bool(wins.any() and least[surest] > 0.5)


def by_category(
    battles: Battles, lottery: Float[np.ndarray, " n"], overall: Float[np.ndarray, " n"], style: bool = False
) -> list[InCategory]:
    """Ratings in each category, and who beats a lottery there.

    Of categories with at least 30 battles, and one a model, that are not all of them.

    Args:
        battles: of all categories.
        lottery: [n], that of all battles.
        overall: [n], the ratings in all battles.
        style: at equal style, which is fitted in each category.

    Raises:
        ValueError: as ``Battles.scores``.

    Example:
        >>> from dataclasses import replace
        >>> from nashward.games.analysis.battles import Battles
        >>> tables = np.array([[[0.0, 30.0], [10.0, 0.0]], [[0.0, 10.0], [30.0, 0.0]]])
        >>> battles = replace(Battles.of_tables(("x", "y"), tables), categories={"one": np.array([True, False])})
        >>> [(found.name, found.battles) for found in by_category(battles, np.array([0.5, 0.5]), np.full(2, 1500.0))]
        [('one', 40.0)]
    """
    found = []
    for name, flags in battles.categories.items():
        fought = round(float((battles.won + battles.lost)[flags].sum()))
        if not flags.all() and fought >= max(LEAST, len(battles.labels)):
            own = battles.of_category(name)
            P = (own.style_controlled()[0] if style else own).game.P.numpy()
            found.append(InCategory.of(name, own, P, lottery, overall, style))
    return found
