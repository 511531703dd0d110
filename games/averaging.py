"""Weights of the played policies in their average."""

from __future__ import annotations


def uniform(t: int) -> float:
    """Every played policy weighs the same in the average.

    Args:
        t: 1, 2, ..., the number of the policy among those that were played.

    Example:
        >>> [uniform(t) for t in (1, 2, 3)]
        [1.0, 1.0, 1.0]
    """
    return 1.0


def linear(t: int) -> float:
    """The t-th played policy weighs t.

    Args:
        t: 1, 2, ..., the number of the policy among those that were played.

    Example:
        >>> [linear(t) for t in (1, 2, 3)]
        [1.0, 2.0, 3.0]
    """
    return float(t)
