"""Counts of battles: from a square table, where the model of a row beat that of a column, and what are no counts."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nashward.errors import NashwardError
from nashward.text_rows import field_name

from ..shapes import Float, Int

NAMED = 5  # models in a message

logger = logging.getLogger(__name__)


def pairs_of_counts(rows: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """A row for each pair that met, where rows are a square table of counts; else the rows as they are.

    In a square table the first column has the names of the others, in any order. What is on its diagonal does not
    count (a warning says so), and a pair with two empty cells never met.

    Args:
        rows: of a text file, the names of their columns as ``field_name`` has them.

    Raises:
        ValueError: a cell that is no count, or a table that is square but for some names.

    Example:
        >>> pairs_of_counts([{"": "X", "x": None, "y": "3"}, {"": "Y", "x": "1", "y": None}])
        [{'model_a': 'X', 'model_b': 'Y', 'wins_a': 3.0, 'wins_b': 1.0}]
    """
    names = list(rows[0]) if rows else []
    by_column = {field_name(str(row[names[0]])): row for row in rows}
    if len(rows) < 2 or sorted(names[1:]) != sorted(by_column):
        if len(shared := by_column.keys() & set(names[1:])) >= max(2, len(rows) / 2):
            other = sorted({str(name) for name in by_column.keys() ^ set(names[1:])}) or ["a row that is there twice"]
            raise NashwardError(
                f"is a table of counts that is not square: {len(shared)} models are rows and columns, and not "
                f"{', '.join(other[:NAMED])}; give each model a row and a column, and leave out totals"
            )
        return rows
    pairs: list[dict[str, Any]] = []
    columns = list(by_column)
    for i, a in enumerate(columns):
        for b in columns[i + 1 :]:
            first, second = (str(by_column[one][names[0]]) for one in (a, b))
            won, lost = by_column[a][b], by_column[b][a]
            if won is None and lost is None:
                continue
            counts = {"wins_a": _count(won, first, second), "wins_b": _count(lost, second, first)}
            if any(counts.values()):
                pairs.append({"model_a": first, "model_b": second, **counts})
    if own := [str(row[names[0]]) for name, row in by_column.items() if _is_count(row[name])]:
        more = ", ..." * (len(own) > NAMED)
        logger.warning(
            "of %s the table has a number against itself, which does not count", ", ".join(own[:NAMED]) + more
        )
    return pairs


def _is_count(cell: Any) -> bool:
    """Whether a cell has a number above 0 that is not 1/2, which tables of win probabilities have on the diagonal."""
    try:
        return float(cell) > 0 and float(cell) != 0.5
    except (TypeError, ValueError):
        return False


def _count(cell: Any, winner: str, loser: str) -> float:
    try:
        count = float(cell)
    except (TypeError, ValueError):
        count = math.nan
    if not 0 <= count < math.inf:
        raise NashwardError(
            f"has {cell or 'nothing'} where {winner} beat {loser}; expected how often it did, 0 for never"
        )
    return count


def check_counts(
    pairs: Int[np.ndarray, "rows 2"], won: Float[np.ndarray, " rows"], lost: Float[np.ndarray, " rows"],
    ties: Float[np.ndarray, " rows"],
) -> None:  # fmt: skip
    """Refuse win rates and percents where numbers of battles are expected: some are no multiple of 1/2.

    Of rows that give each pair once, or once in each direction; others may be of battles one by one, whose winner is
    not certain. Where all sum to 100, and where ties are half wins, a warning says how they are read.

    Args:
        pairs: [rows, 2], the numbers of the models.
        won, lost: [rows], the wins of both, a tie as half a win of each.
        ties: [rows], how many of these were told.

    Raises:
        ValueError: win rates or percents.

    Example:
        >>> check_counts(np.array([[0, 1]]), np.array([0.7]), np.array([0.3]), np.array([0.0]))
        Traceback (most recent call last):
        nashward.errors.NashwardError: these are win probabilities, not how often each model won: nashward solve reads \
them, in a square table or a list of model_a, model_b and win_rate
    """
    if len(np.unique(pairs, axis=0)) < len(pairs):
        return
    given = {(*map(int, pair), *record) for pair, *record in zip(pairs, won, lost, ties, strict=True)}
    if all((b, a, y, x, t) in given for a, b, x, y, t in given):
        logger.warning(
            "each pair is there in both directions with the same counts, and counts twice: if these are the same "
            "battles, leave one direction out"
        )
    counts = np.stack([won - ties / 2, lost - ties / 2, ties])
    fractions = bool((np.abs(2 * counts - np.round(2 * counts)) > 1e-9).any())
    met = won + lost
    if fractions and (np.abs(met - 1) < 1e-6).all():
        raise NashwardError(
            "these are win probabilities, not how often each model won: nashward solve reads them, in a square table "
            "or a list of model_a, model_b and win_rate"
        )
    if fractions and counts.max() <= 1:
        raise NashwardError(
            f"these are shares of battles (as {counts[0, 0]:.3g} and {counts[1, 0]:.3g}), not how often each model "
            "won: multiply each by how often its pair met; win probabilities, which sum to 1, are for nashward solve"
        )
    if (np.abs(met - 100) < 1e-6).all():
        if fractions:
            raise NashwardError("these are percents, not how often each model won: divide by 100 for nashward solve")
        logger.warning(
            "all pairs sum to 100: read as 100 battles each; percents, divided by 100, are for nashward solve"
        )
    elif ((np.abs(counts % 1 - 0.5) < 1e-9).any(0) & (met > 1)).any() and not ties.any():
        logger.warning(
            "half wins are ties, whose number is not known: bands and tests take all battles as won or lost, and are "
            "wider; rows with wins_a, wins_b and ties tell it"
        )
