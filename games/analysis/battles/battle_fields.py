"""The fields of a battle: the name of a model, who won, and counts; and what is said of those that are none."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from nashward.errors import NashwardError
from nashward.shortened import quoted
from nashward.text_rows import as_whole, is_missing
from nashward.winners import two_meanings, winner_of

EMPTY = ("nan", "NaN", "<NA>", "NaT", "None")  # what pandas makes of an empty cell as a text
COUNTS = ("wins_a", "wins_b")
TIES = ("ties", "draws")
ONE_HOT = ("winner_model_a", "winner_model_b", "winner_tie")
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


def counts_of(row: Mapping[Any, Any]) -> tuple[float, float, float] | None:
    """How often either model won, and how often they tied; None where an empty winner says that nobody did.

    Args:
        row: of counts.

    Raises:
        ValueError: a count is no number from 0 on or lacks beside others, there is none, or ties have another name.

    Example:
        >>> counts_of({"wins_a": "3", "wins_b": "1", "ties": "2"}), counts_of({"winner": ""})
        ((3.0, 1.0, 2.0), None)
    """
    field = next((name for name in TIES if not is_missing(row.get(name))), TIES[0])
    won, lost, ties = (count_of(row, name) for name in (*COUNTS, field))
    lacking = [name for name in COUNTS if is_missing(row.get(name))]
    if len(lacking) == 1:
        raise NashwardError(
            f"has no number as {lacking[0]} beside its other count; expected both counts, 0 for none{_likely(row)}"
        )
    if lacking and ties:
        raise NashwardError(
            f"has {field} {ties:g} and no number as {' and '.join(lacking)}; it has {', '.join(map(str, row))}, "
            f"expected both counts beside their ties, 0 for none{_likely(row)}"
        )
    if not lacking and field in row and is_missing(row[field]):
        raise NashwardError(f"has no number as {field}; expected 0 for none, or no such column")
    if lacking and "winner" in row:
        return None
    if not 0 < won + lost + ties < math.inf:
        misnamed = not any(name in row for name in ("winner", *COUNTS, *ONE_HOT))
        likely = _likely(row)
        advice = likely[2:] if likely.startswith(";") else "rename the column" + likely
        raise NashwardError(
            f"has no winner and no counts; it has {', '.join(map(str, row))}, expected winner, or wins_a and wins_b "
            f"(and ties): {advice if misnamed else 'leave out what was skipped'}"
        )
    if is_missing(row.get(field)) and (other := [name for name in _numbers(row) if _LIKE_TIES.fullmatch(name)]):
        raise NashwardError(f"has {other[0]} beside counts; if these are ties, rename the column to ties")
    return won, lost, ties


_LIKE_TIES = re.compile(r"(n|num|number_of|no|count)?_?(ties?|tied|draws?|drawn)(_count)?", re.IGNORECASE)
_LIKE_RATES = re.compile(r"rate|prob|share|fraction|percent", re.IGNORECASE)
_LIKE_WINS = re.compile(r"win|won|loss|lost|lose|beat", re.IGNORECASE)
_OF_THE_SECOND = re.compile(r"loss|lost|lose|(^|_)(b|2)(_|$)", re.IGNORECASE)


def _likely(row: Mapping[Any, Any]) -> str:
    """Which columns may be those that lack, by their names."""
    numbers = _numbers(row)
    found = [name for name in numbers if _LIKE_WINS.search(name)]
    if any(_LIKE_RATES.search(name) for name in numbers):
        return "; win rates of model_a against model_b are no battles: nashward solve reads a list of them"
    found.sort(key=lambda name: bool(_OF_THE_SECOND.search(name)))
    lacking = [name for name in COUNTS if is_missing(row.get(name))]
    if not lacking or len(found) != len(lacking):
        return ""
    renamed = " and ".join(f"{name} to {to}" for name, to in zip(found, lacking, strict=True))
    models = " and of ".join(name.replace("wins", "model") for name in lacking)
    return f" (rename {renamed}, if what it counts is the wins of {models})"


def _numbers(row: Mapping[Any, Any]) -> list[str]:
    """The fields with a number from 0 on, of those that are not known."""
    found = []
    for name, cell in row.items():
        if name in (*COUNTS, *TIES, *ONE_HOT) or is_missing(cell) or isinstance(cell, bool):
            continue
        try:
            if float(cell) >= 0:
                found.append(str(name))
        except (TypeError, ValueError, OverflowError):
            continue
    return found
