"""Models whose battles are the same: equal responses, under any judge."""

from __future__ import annotations

import numpy as np

from ...shapes import Float, Int
from ..game_ratings import clone_classes


def copies(
    P: Float[np.ndarray, "n n"],
    first: Int[np.ndarray, " battles"],
    second: Int[np.ndarray, " battles"],
    won: Float[np.ndarray, " battles"],
    lost: Float[np.ndarray, " battles"],
    prompt: Int[np.ndarray, " battles"],
) -> Int[np.ndarray, " n"]:
    """[n], of each model the first one that it is a copy of, which is itself where it is none.

    Copies tied whenever they met, and have the same results against each other model on the same prompts.

    Args:
        P: [n, n], win probabilities.
        first, second, won, lost, prompt: of the battles (``Battles``).

    Example:
        >>> table = np.array([[0.5, 0.5, 0.1], [0.5, 0.5, 0.1], [0.9, 0.9, 0.5]])  # the first two lose to the third
        >>> won, lost = np.array([0.5, 0.1, 0.1]), np.array([0.5, 0.9, 0.9])
        >>> copies(table, np.array([0, 0, 1]), np.array([1, 2, 2]), won, lost, np.zeros(3, dtype=int)).tolist()
        [0, 0, 2]
    """
    same = np.arange(len(P))
    alike = clone_classes(P)
    for number in np.flatnonzero(np.bincount(alike) > 1):
        members = np.flatnonzero(alike == number).tolist()
        results = []
        for i in members:
            one, other = first == i, second == i
            there = np.c_[prompt[one], second[one], won[one], lost[one]]
            rows = np.r_[there, np.c_[prompt[other], first[other], lost[other], won[other]]]
            results.append(rows[np.lexsort(rows.T[::-1])])
        for k, i in enumerate(members):
            same[i] = next(j for m, j in enumerate(members[: k + 1]) if j == i or _equal(results[m], results[k], j, i))
    return same


def _equal(a: Float[np.ndarray, "m 4"], b: Float[np.ndarray, "k 4"], i: int, j: int) -> bool:
    """Whether i and j, of these results, met and always tied, and went the same way against the others."""
    met = a[:, 1] == j
    tied = bool(met.any()) and bool((a[met, 2] == a[met, 3]).all())
    return tied and np.array_equal(a[~met], b[b[:, 1] != i])
