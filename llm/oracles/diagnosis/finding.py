"""One measure of a judge: its size, its error, and whether it is beyond chance and its limit; or what it lacks."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr

from nashward.games.shapes import Float, Int


@dataclass(frozen=True)
class Finding:
    """One measure of a judge.

    Attributes:
        kind: "order", "flips", "length", "headers", "lists", "bold", "favour", "accuracy", "calibration", "agreement",
            "cycles", "repeat", "truncated" or "missing".
        estimate, standard_error: in the unit of the kind; the error is NaN where the estimate is a count.
        p_value: how likely as much is where the judge has no such error; 0 or 1 where the limit alone decides.
        beyond: whether the estimate is beyond its limit.
        named: whether it is beyond its limit and, given all that was tested, beyond chance.
        text: what was found, a clause with the judge as its subject.
        advice: what to do about it.
        note: what the estimate leaves out, and how large it is with that; empty: nothing.
    """

    kind: str
    estimate: float
    standard_error: float
    p_value: float
    beyond: bool
    text: str
    advice: str = ""
    named: bool = False
    note: str = ""


@dataclass(frozen=True)
class NotMeasured:
    """A measure that the pairs, or the judge, did not allow.

    Attributes:
        kind: as that of a ``Finding``, or "cost".
        needs: what it takes, and what there was.
        text: what is seen all the same but cannot be told from something else, a clause as of a ``Finding``; or empty.
    """

    kind: str
    needs: str
    text: str = ""


def clustered_mean(
    values: Float[np.ndarray, " N"], clusters: Int[np.ndarray, " N"], weights: Float[np.ndarray, " N"] | None = None
) -> tuple[float, float, int]:
    """The mean of values, its standard error over clusters, and how many clusters there are.

    Args:
        values, clusters: each value and the number of its cluster.
        weights: of the values; None: equal ones.

    Example:
        >>> [round(float(x), 3) for x in clustered_mean(np.array([1.0, 1.0, 0.0]), np.array([0, 0, 1]))]
        [0.667, 0.444, 2.0]
    """
    w = np.ones(len(values)) if weights is None else weights
    mean = float(w @ values / w.sum())
    numbers = np.unique(clusters, return_inverse=True)[1]
    sums = np.bincount(numbers, w * (values - mean))
    count = len(sums)
    error = math.sqrt(float((sums**2).sum()) * count / (count - 1)) / float(w.sum()) if count > 1 else math.nan
    return mean, error, count


def two_sided(estimate: float, error: float, clusters: int) -> float:
    """The two-sided p-value of an estimate, by Student's t; 1 where it has no error to compare it with.

    An error of 0 is one: the estimate is the same in each of several clusters.

    Example:
        >>> two_sided(1.5, 0.0, 20), two_sided(0.0, 0.0, 20), two_sided(1.5, math.nan, 1)
        (0.0, 1.0, 1.0)
    """
    if error == 0 and estimate != 0 and clusters > 1:
        return 0.0
    if not error > 0:
        return 1.0
    return float(2 * stdtr(max(clusters - 1, 1), -abs(estimate) / error))
