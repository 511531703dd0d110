"""Payoffs as numbers, read from arrays, fractions, text or data frames."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nashward.errors import NashwardError
from nashward.shortened import quoted
from nashward.text_rows import is_missing

from ..shapes import Float
from .keyed import counts_rows


def is_frame(values: Any) -> bool:
    """Whether an object is a data frame: pandas', or one that acts like it. pandas is not imported.

    Args:
        values: anything.

    Example:
        >>> is_frame([[0.5]])
        False
    """
    return all(hasattr(values, name) for name in ("columns", "index", "to_numpy")) and getattr(values, "ndim", 0) == 2


def labels_of(values: Any) -> tuple[list[str] | None, list[str] | None]:
    """The row and column labels of a data frame; None for default labels, or if it is not a data frame.

    Args:
        values: anything.

    Example:
        >>> import pandas as pd
        >>> labels_of(pd.DataFrame([[0.5, 0.9], [0.1, 0.5]], columns=["a", "b"]))
        (None, ['a', 'b'])
    """
    values = _of_pandas(values)
    if not is_frame(values):
        return None, None
    columns = values.columns
    counted = type(columns).__name__ == "RangeIndex" and columns.start == 0 and columns.step == 1
    rows = None if counts_rows(values) else [str(label) for label in values.index]
    return rows, None if counted else [str(label) for label in columns]


def numbers(values: Any, own: bool = False) -> np.ndarray:
    """The values as an array of float64 (of float32 if they came so).

    Python's integers of any size, fractions and decimals, text that is a number, longdouble, and the columns of data
    frames that may hold missing values are read.

    Args:
        values: nested lists, an array, or a data frame.
        own: a cell of the diagonal, where an action meets itself, may be empty; it is NaN.

    Raises:
        ValueError: rows of different lengths, masked entries, or an entry that is not a real number (it is named).

    Example:
        >>> from fractions import Fraction
        >>> numbers([[Fraction(1, 4), "0.5"], [10**30, 1]]).tolist()
        [[0.25, 0.5], [1e+30, 1.0]]
    """
    values = _of_pandas(values)
    names = labels_of(values)
    if np.ma.isMaskedArray(values) and np.ma.is_masked(values):
        where = ", ".join(str(int(k[0])) for k in np.nonzero(np.ma.getmaskarray(values)))
        raise NashwardError(f"entry [{where}] of the payoff table is masked; fill it with a payoff")
    if is_frame(values):
        values = values.to_numpy(dtype=object) if len({str(kind) for kind in values.dtypes}) > 1 else values.to_numpy()
    try:
        array = np.asarray(values)
    except ValueError:
        raise NashwardError(
            "the rows of a payoff table have different lengths; expected one payoff per column"
        ) from None
    if array.dtype.kind == "b":
        raise NashwardError("a payoff table holds real numbers, got truth values")
    if array.dtype.kind == "c":
        raise NashwardError(f"a payoff table holds real numbers, got {array.dtype}")
    if array.dtype.kind in "iuf":
        return array if array.dtype == np.float32 else array.astype(np.float64, copy=False)
    found = np.empty(array.shape, dtype=np.float64)
    for place in np.ndindex(array.shape):
        empty = own and len(place) > 1 and place[-1] == place[-2] and is_missing(array[place])
        found[place] = math.nan if empty else _number(array[place], place, names)
    return found


def as_floats(values: Any) -> Float[Tensor, "..."]:
    """Numbers as a tensor: of float32 or float64 if they came so, else of float64, as Python's own are.

    Args:
        values: a tensor, an array or nested lists.

    Raises:
        ValueError: not numbers.

    Example:
        >>> as_floats([0.1]).dtype, as_floats(np.ones(1, dtype=np.float32)).dtype
        (torch.float64, torch.float32)
    """
    try:
        found = torch.as_tensor(values if hasattr(values, "dtype") else np.asarray(values, dtype=np.float64))
    except (TypeError, ValueError, RuntimeError):
        raise NashwardError(f"expected numbers in a tensor, an array or lists, got {quoted(values, 60)}") from None
    return found if found.is_floating_point() else found.to(torch.float64)


def _of_pandas(values: Any) -> Any:
    """An Arrow table as a data frame; anything else unchanged."""
    return values.to_pandas() if hasattr(values, "to_pandas") else values


def placed(where: Sequence[int], rows: Sequence[str] | None, columns: Sequence[str] | None) -> str:
    """The place of an entry, by its labels where there are some.

    Args:
        where: its indices.
        rows, columns: the labels; None: there are none.

    Example:
        >>> placed((0, 1), ["a", "b"], None), placed((3, 0, 1), None, None)
        ('a, 1', '3, 0, 1')
    """
    labels = [*[None] * (len(where) - 2), rows, columns]
    return ", ".join(str(k) if names is None else str(names[k]) for k, names in zip(where, labels, strict=False))


def _number(value: Any, where: tuple[int, ...], names: tuple[Sequence[str] | None, Sequence[str] | None]) -> float:
    value = value.item() if isinstance(value, np.generic) else value
    wrong = isinstance(value, bool | np.bool_ | complex | bytes) or value is None
    try:
        found = math.nan if wrong else float(value)
    except (TypeError, ValueError, OverflowError):
        found, wrong = math.nan, True
    if not where:
        form = "; give its toarray()" if hasattr(value, "toarray") else ""
        raise NashwardError(
            f"a payoff table is nested lists, an array or a data frame, got {type(value).__name__}{form}"
        )
    if wrong or not math.isfinite(found):
        raise NashwardError(
            f"entry [{placed(where, *names)}] of the payoff table is not a finite number: {quoted(value, 40)}"
        )
    return found
