"""The fields of a battle: the name of a model, who won, and a count; and what is said of those that are none."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from nashward.errors import NashwardError
from nashward.shortened import quoted
from nashward.text_rows import as_whole, is_missing
from nashward.winners import two_meanings, winner_of

EMPTY = ("nan", "NaN", "<NA>", "NaT", "None")  # what pandas makes of an empty cell as a text
EXAMPLE = '{"model_a": "x", "model_b": "y", "winner": "model_a"}'


def name_of(row: Mapping[Any, Any], field: str) -> str:
    """The name of a model, which may be a number.

    Args:
        row: of a battle.
        field: that has it.

    Raises:
        ValueError: there is no such field, or no name in it, as in blanks, or "nan" and what else is an empty cell as
            a text.
    """
    name = row.get(field)
    if isinstance(name, str) and name.strip() in EMPTY:
        raise NashwardError(
            f"has {name!r} as {field}, which is an empty cell that was made a text, as by pandas' astype(str): give "
            "the model's name (one that is called so needs another), or leave the row out"
        )
    if isinstance(name, str) and name.strip():
        return name
    name = None if isinstance(name, str) else as_whole(name)
    if is_missing(name) or isinstance(name, bool) or not isinstance(name, int | float):
        if field in row:
            given = "no name" if is_missing(name) else quoted(name, 40)
            raise NashwardError(f"has {given} as {field}; expected the model's name: give it, or leave the row out")
        columns = ", ".join(map(str, row))
        raise NashwardError(f"has no {field}; it has {columns}, expected for example {EXAMPLE}: rename the column")
    return str(name)


def wins_by(result: Any, a: str, b: str) -> tuple[float, float]:
    """The wins of both models by what is said of the winner.

    Args:
        result: what is said.
        a, b: the models' names.

    Raises:
        ValueError: it has no meaning, or two.

    Example:
        >>> wins_by("gpt", "opt", "gpt"), wins_by("tie", "opt", "gpt")
        ((0.0, 1.0), (0.5, 0.5))
    """
    side = winner_of(result, (a, b))
    if side is not None:
        won = {"a": 1.0, "b": 0.0}.get(side, 0.5)
        return won, 1.0 - won
    if twice := two_meanings(result, (a, b)):
        raise NashwardError(f"has the winner {result!r}, which {twice}")
    raise NashwardError(
        f"has the winner {result!r}; expected model_a, model_b, {a}, {b}, tie or both_bad, also left or first (case, "
        f"blanks and _ do not matter, but in the models' own names), for example {EXAMPLE}"
    )


def count_of(row: Mapping[Any, Any], field: str) -> float:
    """A number of battles, 0 where the field is empty.

    Args:
        row: of a battle.
        field: that has it.

    Raises:
        ValueError: it is no number from 0 on.

    Example:
        >>> count_of({"wins_a": "3"}, "wins_a"), count_of({}, "wins_a")
        (3.0, 0.0)
    """
    value = row.get(field)
    try:
        count = 0.0 if is_missing(value) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        count = -1.0
    if not 0 <= count < math.inf:
        raise NashwardError(f"has {field} {quoted(value, 40)}; expected a number of battles, 0 or more")
    return count
