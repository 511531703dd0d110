"""Columns of numbers that belong together by their prompt, never by where a row happens to stand."""

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
    """The columns as arrays of one length, row by row of the same prompt.

    Args:
        columns: each by prompt (a mapping, which may hold more prompts than are asked for), or in the order of
            ``prompts``; without mappings the columns are taken to be in one order.
        prompts: the rows; None: the prompts of the first column.

    Raises:
        ValueError: a prompt that a column lacks or that is there twice, columns of different lengths, or some by
            prompt and some not without ``prompts`` to tell which row is whose.

    Example:
        >>> {k: v.tolist() for k, v in aligned({"a": {"x": 1, "z": 3}, "b": {"z": 30, "y": 20, "x": 10}}).items()}
        {'a': [1.0, 3.0], 'b': [10.0, 30.0]}
    """
    plain = [name for name, column in columns.items() if not isinstance(column, Mapping)]
    keyed = [name for name in columns if name not in plain]
    if prompts is None and plain and keyed:
        raise NashwardError(f"{keyed[0]} is by prompt and {plain[0]} is not: give prompts, one a row of {plain[0]}")
    if prompts is None and keyed:
        prompts = list(columns[keyed[0]])  # type: ignore[arg-type]
    if prompts is not None and len(set(prompts)) < len(prompts):
        twice = next(prompt for k, prompt in enumerate(prompts) if prompt in prompts[:k])
        raise NashwardError(f"the prompt {twice!r:.60} is there twice; each row needs a prompt of its own")
    found = {name: _column(name, column, prompts) for name, column in columns.items()}
    (first, rows), *others = ((name, len(column)) for name, column in found.items())
    for name, count in others:
        if count != rows:
            raise NashwardError(
                f"{first} has {rows} rows and {name} {count}: which prompt is missing is not known; give both by "
                "prompt (a mapping)"
            )
    return found


def _column(name: str, column: Column, prompts: Sequence[str] | None) -> Float[np.ndarray, " rows"]:
    if isinstance(column, Mapping):
        assert prompts is not None
        if lacking := [prompt for prompt in prompts if prompt not in column]:
            raise NashwardError(f"{name} has nothing for {len(lacking)} prompts, the first {lacking[0]!r:.60}")
        values: Any = [column[prompt] for prompt in prompts]
    else:
        values = column
        if prompts is not None and len(values) != len(prompts):
            raise NashwardError(f"{name} has {len(values)} rows for {len(prompts)} prompts; expected one each")
    found = np.asarray(values, dtype=np.float64)
    if found.ndim != 1:
        raise NashwardError(f"{name} has shape {found.shape}; expected one number a prompt")
    return found
