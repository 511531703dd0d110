"""Models of few battles: whether the maximal lottery leans on them, and battles without them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nashward import winners

from ...shapes import Bool, Float
from ..game_ratings import class_lottery
from .settled_models import FEW

if TYPE_CHECKING:
    from .battles import Battles

MOVED = 0.1  # of the lottery's weight, from which on it leans on them


@dataclass(frozen=True)
class FewBattles:
    """Models of few battles, which change who leads.

    Attributes:
        few: [n], which models have few.
        without: [n], the lottery without them, 0 for them; None: of fewer than two others there is none.
        moved: the share of the lottery's weight that changes.

    Example:
        >>> FewBattles(np.array([False, False, True]), np.array([1.0, 0.0, 0.0]), 0.5).moved
        0.5
    """

    few: Bool[np.ndarray, " n"]
    without: Float[np.ndarray, " n"] | None
    moved: float


def few_battles(battles: Battles) -> FewBattles | None:
    """The models that met the others twice at most on average, where the maximal lottery leans on them; else None.

    Args:
        battles: of all models.

    Example:
        >>> from nashward.games.analysis.battles import Battles
        >>> wins = np.array([[0.0, 30.0, 0.0], [20.0, 0.0, 0.0], [1.0, 1.0, 0.0]])  # the third won one each
        >>> found = few_battles(Battles.of_tables(("x", "y", "new"), wins[None]))
        >>> found.few.tolist(), found.without.tolist(), found.moved
        ([False, False, True], [1.0, 0.0, 0.0], 1.0)
    """
    lottery, n = battles.lottery.policy, len(battles.labels)
    few = battles.met.sum(1) <= FEW * (n - 1)
    rest = np.flatnonzero(~few)
    if not few.any():
        return None
    if len(rest) < 2:
        return FewBattles(few, None, 1.0)
    without = np.zeros(n)
    without[rest] = class_lottery(battles.game.P.numpy()[np.ix_(rest, rest)]).policy
    moved = float(np.abs(lottery - without).sum() / 2)
    return FewBattles(few, without, moved) if moved > MOVED else None


def without_models(battles: Battles, names: Collection[str]) -> Battles:
    """The battles that none of these models fought.

    Args:
        battles: of all models.
        names: of the models to leave out.

    Raises:
        ValueError: no such model, with the nearest; no battles are left.

    Example:
        >>> from nashward.games.analysis.battles import Battles
        >>> wins = np.array([[[0.0, 3.0, 0.0], [2.0, 0.0, 0.0], [1.0, 1.0, 0.0]]])
        >>> without_models(Battles.of_tables(("x", "y", "new"), wins), ["new"]).labels
        ('x', 'y')
    """
    out = np.isin(battles.labels, list(names))
    kept = ~(out[battles.first] | out[battles.second])
    winners.check_left_out(names, battles.labels, bool(kept.any()), "model")
    return battles.of_records(kept).without_idle()
