"""The maximal lottery and ratings with the bands of their draws."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from ...equilibria.nash import nash
from ...forms.game import PreferenceGame
from ...shapes import Float, Int

WHOLE = 1 - 1e-9  # of a lottery's weight, which is all of it


@dataclass(frozen=True)
class Bands:
    """The maximal lottery and Elo's ratings, with their uncertainty.

    Attributes:
        lottery: [n], of the smoothed table, chosen over classes of clones where there are several (``class_lottery``).
        low, high: [n], the quantiles of the lottery over the bootstrap, and what is beyond one of them: the lottery
            itself and, where it is not the only one, all others of the smoothed table. Of a draw with several lotteries
            the low one has the least weight of a model in two of them, and the high one the largest (``lotteries``).
        elo, elo_low, elo_high: [n], the ratings (``Ratings.elo``) and their quantiles, in the same way.
        share: of the draws that lie between them, for each model.
        whole: [n], the share of the draws whose only lottery is this model alone.

    Example:
        >>> import numpy as np
        >>> from nashward.games.analysis.battles import Battles
        >>> battles = Battles.of_tables(("x", "y"), np.array([[[0.0, 30.0], [10.0, 0.0]]]))
        >>> bands = battles.bands(share=0.9, seed=0)
        >>> bands.lottery.tolist(), bool((bands.elo_low < bands.elo).all()), bands.share
        ([1.0, 0.0], True, 0.9)
        >>> float(bands.whole[0]) > 0.99
        True
    """

    lottery: Float[Tensor, " n"]
    low: Float[Tensor, " n"]
    high: Float[Tensor, " n"]
    elo: Float[Tensor, " n"]
    elo_low: Float[Tensor, " n"]
    elo_high: Float[Tensor, " n"]
    share: float
    whole: Float[Tensor, " n"]


def lotteries(
    tables: Float[np.ndarray, "draws n n"], same: Int[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, "draws n"], Float[np.ndarray, "draws n"]]:
    """The least and the largest weight of each model in the maximal lotteries of each table.

    Where a table has several, they are of two of these, the one found and the one that shows that it is not the only
    one: the ends over all of them need two linear programs for each model and table.

    Args:
        tables: [draws, n, n], win probabilities.
        same: [n], of each model the first one that it is a copy of, itself where it is none (``copies``): copies may
            divide one weight between them in any way.

    Example:
        >>> table = np.array([[[0.5, 0.5, 0.9], [0.5, 0.5, 0.9], [0.1, 0.1, 0.5]]])
        >>> least, most = lotteries(table, np.array([0, 0, 2]))
        >>> least.tolist(), most.tolist()
        ([[0.0, 0.0, 0.0]], [[1.0, 1.0, 0.0]])
    """
    first, classes, sizes = np.unique(same, return_inverse=True, return_counts=True)
    tables = tables[:, first[:, None], first]
    found = nash(PreferenceGame(tables))
    least, most = found.numpy().copy(), found.numpy().copy()
    for k, decision in enumerate(found.decisions):
        if decision.other is not None:
            least[k], most[k] = np.minimum(least[k], decision.other[1]), np.maximum(most[k], decision.other[1])
    return np.where(sizes > 1, 0.0, least)[:, classes], most[:, classes]
