"""A p-value in words."""

from __future__ import annotations

import math

LEAST = 1e-9  # what is below it rests on the tail of a distribution


def p_text(p: float, floor: float = 0.0) -> str:
    """A p-value as it is printed.

    Args:
        p: the value.
        floor: the least that the draws of its test can give; at it the p-value is at most that.

    Example:
        >>> p_text(0.0123), p_text(0.0003, floor=0.0003), p_text(3e-20)
        ('p = 0.012', 'p <= 0.0003', 'p < 1e-09')
    """
    if p < LEAST:
        return f"p < {LEAST:g}"
    return f"p {'<=' if math.isclose(p, floor) else '='} {p:.2g}"
