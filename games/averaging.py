"""How the policies that were played are weighed in their average."""

from __future__ import annotations


def uniform(t: int) -> float:
    """Every played policy weighs the same in the average."""
    return 1.0


def linear(t: int) -> float:
    """The t-th played policy weighs t."""
    return float(t)
