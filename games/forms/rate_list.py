"""Win rates in a list: two columns of names, and one of how often the first beats the second."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations, permutations

import numpy as np

from nashward.errors import NashwardError
from nashward.text_rows import field_name
from nashward.winners import MODELS

from ..shapes import Float
from .labels_of_csv import not_a_number, number

SHOWN = 3  # pairs in a message


SIDES = (("a", "b"), ("1", "2"), ("0", "1"), ("first", "second"), ("left", "right"))  # how names of columns end


def in_order(lines: Sequence[Sequence[str]]) -> list[list[str]]:
    """The rows of a list with the columns in order: the first name, the second, and the rate.

    The columns of names are told by how their heads end, as ``model_a`` and ``model_b`` do, wherever they stand; the
    index of a data frame, a first column of whole numbers without a head, is left out.

    Args:
        lines: the cells of each row, with a head or without.

    Raises:
        ValueError: the head of the rate ends as that of the second name.

    Example:
        >>> in_order([["", "model_b", "model_a", "win_rate"], ["0", "y", "x", "0.7"]])
        [['model_a', 'model_b', 'win_rate'], ['x', 'y', '0.7']]
    """
    if len(lines) > 1 and not lines[0][0].strip() and all(row[:1] and row[0].strip().isdecimal() for row in lines[1:]):
        index = {row[0].strip() for row in lines[1:]}
        if len(lines[0]) == 4 and index.isdisjoint(cell.strip() for cell in lines[0]):  # no table of numbered actions
            lines = [row[1:] for row in lines]
    head = [field_name(cell) for cell in lines[0]]
    if len(head) != 3 or any(len(row) != 3 for row in lines):
        return [list(row) for row in lines]
    for a, b in SIDES:
        for first, second in permutations(range(3), 2):
            stem = head[first].removesuffix(a)
            if stem and head[first].endswith(a) and head[second] == stem + b:
                rate = 3 - first - second
                if head[rate].endswith(f"_{b}"):
                    raise NashwardError(
                        f"{lines[0][rate].strip()} seems to be of {lines[0][second].strip()}; expected how often "
                        f"{lines[0][first].strip()} wins, 1 less it"
                    )
                return [[row[first], row[second], row[rate]] for row in lines]
    return [list(row) for row in lines]


def is_rate_list(lines: Sequence[Sequence[str]]) -> bool:
    """Whether a text table is a list of pairs: the first two cells of each row are names, and its head is none of them.

    Args:
        lines: the cells of each row, with a head or without, as ``in_order`` has them.

    Example:
        >>> is_rate_list([["model_a", "model_b", "win_rate"], ["x", "y", "0.7"]])
        True
        >>> is_rate_list([["", "x", "y"], ["x", "0.5", "0.7"], ["y", "0.3", "0.5"]])
        False
    """
    body = lines[1:] or lines
    if any(len(row) < 3 for row in lines):
        return False
    if tuple(map(field_name, lines[0][:2])) == MODELS:
        return True
    named = all(cell.strip() and number(cell) is None for row in body for cell in row[:2])
    return named and not {cell.strip() for cell in lines[0][1:]} <= {row[0].strip() for row in body}


def table_of_rates(lines: Sequence[Sequence[str]]) -> tuple[Float[np.ndarray, "n n"], list[str]]:
    """The square table of a list of win rates, and its labels in the order in which they occur.

    Each pair is given in one direction, whose opposite is 1 less it, or in both.

    Args:
        lines: the cells of each row, with a head or without, as ``in_order`` has them.

    Returns:
        [n, n], NaN on the diagonal where a name does not meet itself; and the n names.

    Raises:
        ValueError: other than three columns, a rate that is no number in [0, 1], a pair that is there twice or lacks.

    Example:
        >>> table, names = table_of_rates([["x", "y", "0.75"]])
        >>> names, table.tolist()
        (['x', 'y'], [[nan, 0.75], [0.25, nan]])
    """
    if any(len(row) != 3 for row in lines):
        raise NashwardError(
            f"a list of pairs has the columns {', '.join(cell.strip() for cell in lines[0])}; expected two of names "
            "and one of how often the first beats the second: leave out the others (battles and counts are for "
            "nashward leaderboard)"
        )
    rows = [[cell.strip() for cell in row] for row in (lines if number(lines[0][2]) is not None else lines[1:])]
    names = list(dict.fromkeys(name for row in rows for name in row[:2]))
    rates: dict[tuple[str, str], float] = {}
    for a, b, cell in rows:
        rate = number(cell)
        if rate is None:
            battles = "; a list of battles is for nashward leaderboard" if cell else ""
            raise NashwardError(f"the win rate of {a} against {b} {not_a_number(cell)}{battles}")
        if not 0 <= rate <= 1:
            advice = "divide percents by 100; counts are for nashward leaderboard"
            raise NashwardError(f"the win rate of {a} against {b} is {rate:g}, expected one in [0, 1]: {advice}")
        if (a, b) in rates:
            raise NashwardError(f"the win rate of {a} against {b} is there twice, {rates[a, b]:g} and {rate:g}")
        rates[a, b] = rate
    table = np.full((len(names), len(names)), math.nan)
    for i, a in enumerate(names):
        for j, b in enumerate(names):
            opposite = rates.get((b, a), math.nan)
            table[i, j] = rates.get((a, b), 1 - opposite if i != j else opposite)
    if lacking := [pair for pair in combinations(names, 2) if pair not in rates and pair[::-1] not in rates]:
        shown = ", ".join(f"{a} and {b}" for a, b in lacking[:SHOWN])
        more = f" and {len(lacking) - SHOWN} more" * (len(lacking) > SHOWN)
        raise NashwardError(f"the list has no win rate of {shown}{more}; expected one of each pair")
    return table, names
