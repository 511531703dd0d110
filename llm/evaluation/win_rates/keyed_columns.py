"""Columns of numbers aligned by prompt, not by row number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from nashward.errors import NashwardError
from nashward.games.shapes import Float

Column: TypeAlias = Mapping[str, float] | Sequence[float] | np.ndarray


def aligned(
    columns: Mapping[str, Column], prompts: Sequence[str] | None = None
) -> dict[str, Float[np.ndarray, " rows"]]:
    """The columns as arrays of equal length whose rows are of the same prompts.

    Args:
        columns: each a mapping from prompt to value (which may hold further prompts), or an array in the order of
            ``prompts``; arrays without ``prompts`` are taken to be in the same order.
        prompts: the prompts of the rows; None: those of the first column.

    Returns:
        for each column an array ``[rows]``.

    Raises:
        ValueError: a prompt that a column lacks, a prompt that occurs twice, columns of different lengths, or mappings
            and arrays together without ``prompts`` to give the order of the arrays.

    Example:
        >>> {k: v.tolist() for k, v in aligned({"a": {"x": 1, "z": 3}, "b": {"z": 30, "y": 20, "x": 10}}).items()}
        {'a': [1.0, 3.0], 'b': [10.0, 30.0]}
    """
    ordered = [name for name, column in columns.items() if not isinstance(column, Mapping)]
    keyed = [name for name in columns if name not in ordered]
    if prompts is None and ordered and keyed:
        raise NashwardError(f"{keyed[0]} is by prompt and {ordered[0]} is not: give prompts, one a row of {ordered[0]}")
    if prompts is None and keyed:
        prompts = list(columns[keyed[0]])  # type: ignore[arg-type]
    if prompts is not None and len(set(prompts)) < len(prompts):
        repeated = next(prompt for k, prompt in enumerate(prompts) if prompt in prompts[:k])
        raise NashwardError(f"the prompt {repeated!r:.60} is there twice; each row needs a prompt of its own")
    arrays = {name: _column(name, column, prompts) for name, column in columns.items()}
    (first, rows), *rest = ((name, len(array)) for name, array in arrays.items())
    for name, count in rest:
        if count != rows:
            raise NashwardError(
                f"{first} has {rows} rows and {name} {count}: which prompt is missing is not known; give both by "
                "prompt (a mapping)"
            )
    return arrays


def _column(name: str, column: Column, prompts: Sequence[str] | None) -> Float[np.ndarray, " rows"]:
    if isinstance(column, Mapping):
        assert prompts is not None
        if missing := [prompt for prompt in prompts if prompt not in column]:
            raise NashwardError(f"{name} has nothing for {len(missing)} prompts, the first {missing[0]!r:.60}")
        values: Any = [column[prompt] for prompt in prompts]
    else:
        values = column
        if prompts is not None and len(values) != len(prompts):
            raise NashwardError(f"{name} has {len(values)} rows for {len(prompts)} prompts; expected one each")
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise NashwardError(f"{name} has shape {array.shape}; expected one number a prompt")
    return array
