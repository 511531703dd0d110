"""The models that fought often enough for ratings to be counted from their mean."""

from __future__ import annotations

import numpy as np

from ...shapes import Bool, Float

FEW = 2  # battles with each other model, on average


def settled(met: Float[np.ndarray, "n n"]) -> Bool[np.ndarray, " n"]:
    """[n], the models that met the others more than twice on average; all, where fewer than two are.

    Args:
        met: [n, n], the battles of each pair.

    Example:
        >>> settled(np.array([[0.0, 9.0, 1.0], [9.0, 0.0, 1.0], [1.0, 1.0, 0.0]])).tolist()
        [True, True, False]
    """
    often = met.sum(1) > FEW * (len(met) - 1)
    return often | (often.sum() < 2)
