"""Models whose battles are the same: equal responses, under any judge."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ...shapes import Float, Int
from ..game_ratings import clone_classes

if TYPE_CHECKING:
    from .battles import Battles


def copies(battles: Battles) -> Int[np.ndarray, " n"]:
    """[n], of each model the first one that it is a copy of, which is itself where it is none.

    Copies tied whenever they met, and have the same results against each other model on the same prompts. Models whose
    prompts are not given are no copies: equal counts of theirs are of different battles.

    Example:
        >>> from nashward.games.analysis.battles import Battles
        >>> even, lost = np.full((2, 2), 0.5), np.array([[0.0], [0.0]])
        >>> table = np.block([[even, lost], [1 - lost.T, np.array([[0.5]])]])  # the first two lose to the third
        >>> copies(Battles.of_tables(("x", "also x", "y"), np.stack([table, table]))).tolist()
        [0, 0, 2]
    """
    same = np.arange(len(battles.labels))
    if not battles.by_prompt:
        return same
    alike = clone_classes(battles.game.P.numpy())
    for number in np.flatnonzero(np.bincount(alike) > 1):
        members = np.flatnonzero(alike == number).tolist()
        results = [_results(battles, i) for i in members]
        for k, i in enumerate(members):
            same[i] = next(j for m, j in enumerate(members[: k + 1]) if j == i or _equal(results[m], results[k], j, i))
    return same


def _results(battles: Battles, i: int) -> Float[np.ndarray, "met 4"]:
    """The battles of a model as (prompt, opponent, won, lost), sorted."""
    rows = [
        np.c_[battles.prompt[own == i], other[own == i], won[own == i], lost[own == i]]
        for own, other, won, lost in (
            (battles.first, battles.second, battles.won, battles.lost),
            (battles.second, battles.first, battles.lost, battles.won),
        )
    ]
    found = np.concatenate(rows)
    return found[np.lexsort(found.T[::-1])]


def _equal(a: Float[np.ndarray, "m 4"], b: Float[np.ndarray, "k 4"], i: int, j: int) -> bool:
    """Whether i and j, of these results, met and always tied, and went the same way against the others."""
    met = a[:, 1] == j
    tied = bool(met.any()) and bool((a[met, 2] == a[met, 3]).all())
    return tied and np.array_equal(a[~met], b[b[:, 1] != i])
