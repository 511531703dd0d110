"""Small tables: checks, and removal of rounding in P + P^T; compiled where numba is loaded, else by numpy."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..shapes import Float

_LARGEST = 64  # actions; for larger tables torch's arithmetic in pieces that fit the cache is as fast
_FLOAT64 = np.dtype(np.float64)


def exact_sums(table: Float[Tensor, "*batch n n"], tolerance: float) -> Float[Tensor, "*batch n n"] | None:
    """The table with P + P^T = 1 to the last bit, equal bit by bit to what ``PreferenceGame`` makes of large tables.

    numba is not imported for this: its import takes longer than many tables. numpy calls cost less than torch's.

    Args:
        table: square.
        tolerance: how far P + P^T may be from 1.

    Returns:
        None where the table is large, in float32, not on the CPU, or needs a gradient; also where an entry is out of
        [0, 1] or a sum is not 1, so that the caller names it.
    """
    usual = table.dtype == torch.float64 and table.device.type == "cpu" and not table.requires_grad
    if table.shape[-1] > _LARGEST or not usual:
        return None
    found = exact_sums_of(np.ascontiguousarray(table.numpy()), tolerance)
    return None if found is None else torch.from_numpy(found)


def exact_sums_of(given: Float[np.ndarray, "*batch n n"], tolerance: float) -> Float[np.ndarray, "*batch n n"] | None:
    """``exact_sums`` of a ``plain`` array."""
    n = given.shape[-1]
    found = np.empty(given.shape)
    compute = _compiled(_sums) if "numba" in sys.modules else _by_numpy
    if given.ndim != 3:
        return found if compute(given.reshape(-1, n, n), found.reshape(-1, n, n), tolerance) else None
    return found if compute(given, found, tolerance) else None


def plain(values: Any) -> bool:
    """Whether the values are a small table, or a batch of them, that a tensor can share: a writable float64 array.

    Args:
        values: anything.
    """
    return (
        type(values) is np.ndarray
        and values.dtype is _FLOAT64
        and values.ndim >= 2
        and values.flags.carray
        and 0 < values.shape[-1] <= _LARGEST
        and 0 < values.shape[-2] <= _LARGEST
        and values.size > 0
    )


def largest_size(given: Float[np.ndarray, "*batch n m"]) -> float:
    """The largest absolute entry of a ``plain`` array; NaN if an entry is NaN."""
    return float(_compiled(_largest)(given.reshape(-1)) if "numba" in sys.modules else np.abs(given).max())


@cache
def _compiled(loop: Callable[..., Any]) -> Callable[..., Any]:
    import numba

    # Without fastmath: 1 - (1/2 - h) is not 1/2 + h in its last bit, and that bit makes the margins skew.
    return numba.njit(cache=True, error_model="numpy")(loop)


def _largest(given: NDArray[np.float64]) -> float:
    largest = 0.0
    for value in given:
        if value != value:
            return value
        largest = max(largest, abs(value))
    return largest


def _by_numpy(given: Float[np.ndarray, "games n n"], found: Float[np.ndarray, "games n n"], tolerance: float) -> bool:
    turned = given.transpose(0, 2, 1)
    total = given + turned
    if not (given.min() >= 0 and given.max() <= 1 and 1 - total.min() <= tolerance and total.max() - 1 <= tolerance):
        return False
    half = (given - turned) / 2
    found[...] = np.where(half < 0, 1 - (0.5 - half), 0.5 + half)
    return True


def _sums(given: NDArray[np.float64], found: NDArray[np.float64], tolerance: float) -> bool:  # [games, n, n]
    for k in range(given.shape[0]):
        for i in range(given.shape[1]):
            for j in range(given.shape[1]):
                p, q = given[k, i, j], given[k, j, i]
                total = p + q
                if not (0.0 <= p <= 1.0 and 1 - total <= tolerance and total - 1 <= tolerance):
                    return False
                half = (p - q) / 2
                found[k, i, j] = 1 - (0.5 - half) if half < 0 else 0.5 + half
    return True
