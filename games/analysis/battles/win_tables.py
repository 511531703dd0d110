"""Tables of wins: their sums over battles, and the win probabilities that they show."""

from __future__ import annotations

import numpy as np

from ...shapes import Float, Int


def summed(
    n: int,
    i: Int[np.ndarray, " m"],
    j: Int[np.ndarray, " m"],
    won: Float[np.ndarray, " m"],
    lost: Float[np.ndarray, " m"],
) -> Float[np.ndarray, "n n"]:
    """[n, n], the sums over records: ``won`` of i over j and ``lost`` of j over i.

    Args:
        n: how many models.
        i, j, won, lost: [m], the models of each record, and the wins of both.

    Example:
        >>> one, other = np.array([0, 1]), np.array([1, 0])
        >>> summed(2, one, other, np.array([2.0, 1.0]), np.array([0.0, 1.0])).tolist()
        [[0.0, 3.0], [1.0, 0.0]]
    """
    there, back = np.bincount(i * n + j, won, n * n), np.bincount(j * n + i, lost, n * n)
    return (there + back).reshape(n, n)


def smoothed(wins: Float[np.ndarray, "tables n n"], smoothing: float) -> Float[np.ndarray, "tables n n"]:
    """Win probabilities (wins + a) / (met + 2 a), 1/2 where that is 0 / 0.

    Args:
        wins: [tables, n, n], how often i beat j.
        smoothing: a, of the prior Beta(a, a).

    Example:
        >>> smoothed(np.array([[[0.0, 2.5], [1.5, 0.0]]]), 0.5)[0].tolist()
        [[0.5, 0.6], [0.4, 0.5]]
    """
    met = wins + wins.swapaxes(-1, -2) + 2 * smoothing
    P = np.where(met > 0, (wins + smoothing) / np.where(met > 0, met, 1.0), 0.5)
    upper = np.triu(np.ones(P.shape[-2:], dtype=bool))
    P = P.clip(0.0, 1.0)  # at equal style it may be below 0 by rounding
    return np.where(upper, P, 1 - P.swapaxes(-1, -2))  # so that P + P^T = 1 holds after rounding
