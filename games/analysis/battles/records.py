"""Records of battles, which may be counts, as battles that went alike."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ...shapes import Float, Int

ONE = 1e-9  # from one battle, a record is of a single one


class Alike(NamedTuple):
    """Battles that went alike.

    Attributes:
        record: [m], the number of the record that they are of.
        outcome: [m], the share of a win that each of them is to the first model.
        times: [m], how many there are.
    """

    record: Int[np.ndarray, " m"]
    outcome: Float[np.ndarray, " m"]
    times: Float[np.ndarray, " m"]


def alike(
    won: Float[np.ndarray, " battles"], lost: Float[np.ndarray, " battles"], ties: Float[np.ndarray, " battles"] | None
) -> Alike:
    """The wins, the losses and the ties of each record; a single battle, whose winner may be uncertain, as it is.

    Args:
        won, lost: [battles], a tie as half a win of both.
        ties: [battles], how many of a record's battles are ties; None: not known, as if all were won or lost.

    Example:
        >>> found = alike(np.array([0.7, 4.0]), np.array([0.3, 2.0]), np.array([0.0, 2.0]))  # 3 won, 1 lost, 2 ties
        >>> found.record.tolist(), found.outcome.tolist(), found.times.tolist()
        ([0, 1, 1, 1], [0.7, 1.0, 0.0, 0.5], [1.0, 3.0, 1.0, 2.0])
    """
    single = np.abs(won + lost - 1) <= ONE
    if single.all():
        return Alike(np.arange(len(won)), won, np.ones(len(won)))
    tied = np.zeros(len(won)) if ties is None else ties
    times = np.stack([won - tied / 2, lost - tied / 2, tied], axis=1)
    outcome = np.tile([1.0, 0.0, 0.5], (len(won), 1))
    times[single], outcome[single, 0] = [1.0, 0.0, 0.0], won[single]
    record, kind = (times > ONE).nonzero()
    return Alike(record, outcome[record, kind], times[record, kind])


class Margins(NamedTuple):
    """Battles that went alike, the smaller number of a pair first.

    Attributes:
        i, j: [m], the pair, i < j.
        margin: [m], of i over j, in [-1/2, 1/2].
        times: [m], how many battles there are of it.
        record: [m], the number of the record that they are of.
    """

    i: Int[np.ndarray, " m"]
    j: Int[np.ndarray, " m"]
    margin: Float[np.ndarray, " m"]
    times: Float[np.ndarray, " m"]
    record: Int[np.ndarray, " m"]


def margins_alike(first: Int[np.ndarray, " battles"], second: Int[np.ndarray, " battles"], of: Alike) -> Margins:
    """The margins of battles that went alike.

    Args:
        first, second: [battles], the models of each record.
        of: what went alike in them.

    Example:
        >>> found = margins_alike(np.array([1]), np.array([0]), alike(np.array([3.0]), np.array([1.0]), None))
        >>> found.i.tolist(), found.margin.tolist(), found.times.tolist()
        ([0, 0], [-0.5, 0.5], [3.0, 1.0])
    """
    a, b = first[of.record], second[of.record]
    margin = np.where(a > b, 0.5 - of.outcome, of.outcome - 0.5)
    return Margins(np.minimum(a, b), np.maximum(a, b), margin, of.times, of.record)


def counted_margins(
    margins: Margins,
) -> tuple[Int[np.ndarray, " k"], Int[np.ndarray, " k"], Float[np.ndarray, " k"], Float[np.ndarray, " k"]]:
    """Each margin of a pair once, with how often it was seen in full: half a win says nothing.

    Args:
        margins: of battles that went alike.

    Returns:
        i, j, margin and times, [k] each.

    Example:
        >>> pair, half = np.zeros(2, dtype=int), np.full(2, 0.5)
        >>> counted_margins(Margins(pair, pair + 1, half, np.array([2.0, 1.5]), pair))[3].tolist()
        [3.0]
    """
    kinds, kind = np.unique(np.stack([margins.i, margins.j, margins.margin]), axis=1, return_inverse=True)
    i, j = kinds[:2].astype(np.int64)
    return i, j, kinds[2], np.floor(np.bincount(kind.reshape(-1), margins.times) + ONE)


def mean_margins(
    n: int, prompt: Int[np.ndarray, " battles"], i: Int[np.ndarray, " battles"], j: Int[np.ndarray, " battles"],
    margin: Float[np.ndarray, " battles"], met: Float[np.ndarray, " battles"],
) -> tuple[Int[np.ndarray, " m"], Int[np.ndarray, " m"], Float[np.ndarray, " m"]]:  # fmt: skip
    """One record a prompt and pair: the pair, and its mean margin.

    Args:
        n: how many models.
        prompt: [battles], the number of the prompt.
        i, j: [battles], the pair.
        margin: [battles], of i over j.
        met: [battles], of how many battles that is the mean.

    Example:
        >>> pair, prompt = np.zeros(3, dtype=int), np.array([0, 0, 1])
        >>> mean_margins(2, prompt, pair, pair + 1, np.array([0.5, -0.5, 0.5]), np.array([3.0, 1.0, 1.0]))[2].tolist()
        [0.25, 0.5]
    """
    keys, record = np.unique((prompt * n + i) * n + j, return_inverse=True)
    record = record.reshape(-1)
    return keys // n % n, keys % n, np.bincount(record, met * margin) / np.bincount(record, met)
