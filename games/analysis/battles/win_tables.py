"""Win probabilities from wins, with the mean of a Beta posterior for each pair."""

from __future__ import annotations

import numpy as np

from ...shapes import Float


def win_tables(wins: Float[np.ndarray, "tables n n"], smoothing: float) -> Float[np.ndarray, "tables n n"]:
    """[tables, n, n], P_ij = (wins_ij + a) / (met_ij + 2 a), and 1/2 where nothing is known of a pair.

    Args:
        wins: [tables, n, n], how often i beat j.
        smoothing: a.

    Example:
        >>> win_tables(np.array([[[0.0, 3.0], [1.0, 0.0]]]), 0.0).tolist()
        [[[0.5, 0.75], [0.25, 0.5]]]
    """
    met = wins + wins.swapaxes(-1, -2) + 2 * smoothing
    P = np.where(met > 0, (wins + smoothing) / np.where(met > 0, met, 1.0), 0.5)
    upper = np.triu(np.ones(P.shape[-2:], dtype=bool))
    P = P.clip(0.0, 1.0)  # at equal style it may be below 0 by rounding
    return np.where(upper, P, 1 - P.swapaxes(-1, -2))  # so that P + P^T = 1 holds after rounding
