"""Columns of numbers aligned by prompt, not by row number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from nashward.counted import counted
from nashward.errors import NashwardError
from nashward.games.forms.keyed import by_key, counts_rows, is_series
from nashward.games.shapes import Float
from nashward.shortened import quoted

Column: TypeAlias = Mapping[str, float] | Sequence[float] | np.ndarray


def aligned(
    columns: Mapping[str, Column], prompts: Sequence[str] | None = None
) -> dict[str, Float[np.ndarray, " rows"]]:
    """The columns as arrays of equal length whose rows are of the same prompts.

    A pandas Series is by the prompts of its index, as a mapping is, unless the index only counts the rows and no other
    Series has another one. Where ``prompts`` is a Series too, a Series with the same index is by that index.

    Args:
        columns: each a mapping from prompt to value (which may hold further prompts), or an array in the order of
            ``prompts``; arrays without ``prompts`` are taken to be in the same order.
        prompts: the prompts of the rows; None: those of the first column.

    Returns:
        for each column an array ``[rows]``.

    Raises:
        ValueError: a prompt that a column lacks, a prompt that occurs twice, columns of different lengths, mappings
            and arrays together without ``prompts`` to give the order of the arrays, or a value that is no number.

    Example:
        >>> {k: v.tolist() for k, v in aligned({"a": {"x": 1, "z": 3}, "b": {"z": 30, "y": 20, "x": 10}}).items()}
        {'a': [1.0, 3.0], 'b': [10.0, 30.0]}
    """
    columns = {name: _plain(name, column) for name, column in _by_prompt(columns, prompts).items()}
    ordered = [name for name, column in columns.items() if not isinstance(column, Mapping)]
    keyed = [name for name in columns if name not in ordered]
    if prompts is None and ordered and keyed:
        raise NashwardError(f"{keyed[0]} is by prompt and {ordered[0]} is not: give prompts, one a row of {ordered[0]}")
    if prompts is None and keyed:
        prompts = list(columns[keyed[0]])  # type: ignore[arg-type]
    prompts = None if prompts is None else list(prompts)
    if prompts is not None and len(set(prompts)) < len(prompts):
        repeated = next(prompt for k, prompt in enumerate(prompts) if prompt in prompts[:k])
        raise NashwardError(f"the prompt {quoted(repeated, 60)} is there twice; each row needs a prompt of its own")
    arrays = {name: _column(name, column, prompts) for name, column in columns.items()}
    (first, rows), *rest = ((name, len(array)) for name, array in arrays.items())
    for name, count in rest:
        if count != rows:
            raise NashwardError(
                f"{first} has {counted(rows, 'row')} and {name} {count}: which prompt is missing is not known; "
                "give both by "
                "prompt (a mapping)"
            )
    return arrays


def _by_prompt(columns: Mapping[str, Any], prompts: Any) -> dict[str, Any]:
    """The columns, each Series that names its rows as a mapping, and each whose rows are those of ``prompts`` as a list
    in their order."""
    series = {name: column for name, column in columns.items() if is_series(column)}
    rows = list(by_key("prompts", prompts)) if is_series(prompts) else None
    plain = prompts is not None or all(map(counts_rows, series.values()))
    found = dict(columns)
    for name, column in series.items():
        values = by_key(name, column)
        if rows is not None and set(values) == set(rows):
            found[name] = [values[row] for row in rows]
        else:
            found[name] = list(values.values()) if plain and counts_rows(column) else values
    return found


def _plain(name: str, column: Any) -> Column:
    """The column as a mapping, or an array that numpy made of it."""
    if isinstance(column, Mapping):
        return column
    if isinstance(column, str) or (hasattr(column, "columns") and hasattr(column, "iloc")):
        raise NashwardError(
            f"{name} is a {type(column).__name__}; expected one number a prompt, as an array or a mapping"
        )
    return _numbers(name, column)


def _column(name: str, column: Column, prompts: Sequence[str] | None) -> Float[np.ndarray, " rows"]:
    if isinstance(column, Mapping):
        assert prompts is not None
        if missing := [prompt for prompt in prompts if prompt not in column]:
            raise NashwardError(
                f"{name} has nothing for {counted(len(missing), 'prompt')}, the first {quoted(missing[0], 60)}"
            )
        return _numbers(name, [column[prompt] for prompt in prompts])
    if prompts is not None and len(column) != len(prompts):
        raise NashwardError(
            f"{name} has {counted(len(column), 'row')} for {counted(len(prompts), 'prompt')}; expected one each"
        )
    return _numbers(name, column)


def _numbers(name: str, values: Any) -> Float[np.ndarray, " rows"]:
    if isinstance(values, list | tuple):  # pandas' own missing value is no float
        values = [np.nan if value is None or type(value).__name__ == "NAType" else value for value in values]
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise NashwardError(f"{name} holds something that is no number; expected one number a prompt") from None
    if array.ndim != 1:
        raise NashwardError(f"{name} has shape {array.shape}; expected one number a prompt")
    return array
