"""The maximal lottery and ratings with the bands of their draws."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ...shapes import Float


@dataclass(frozen=True)
class Bands:
    """The maximal lottery and Elo's ratings, with their uncertainty.

    Attributes:
        lottery: [n], of the smoothed table, chosen over classes of clones where there are several (``class_lottery``).
        low, high: [n], the quantiles of the lottery over the bootstrap, and what is beyond one of them: the lottery
            itself and, where it is not the only one, all others of the smoothed table.
        elo, elo_low, elo_high: [n], the ratings (``Ratings.elo``) and their quantiles, in the same way.
        share: of the draws that lie between them, for each model.
        whole: [n], the share of the draws whose lottery is this model alone.

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
