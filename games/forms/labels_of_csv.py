"""Which cells of a text table are labels and which are payoffs."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeAlias, get_args

from nashward.errors import NashwardError

Labels: TypeAlias = Literal["both", "columns", "rows", "none"]
LABELS: tuple[Labels, ...] = get_args(Labels)
WHOLE = re.compile(r"\s*[+-]?\d+\s*")


class Layout(NamedTuple):
    """Labels and the cells between them; None where a side has no labels."""

    rows: list[str] | None
    columns: list[str] | None
    cells: list[list[str]]


def number(cell: str) -> float | None:
    """The number in a cell, or None.

    Args:
        cell: a cell of a text table.

    Example:
        >>> number(" 0.5"), number("a")
        (0.5, None)
    """
    try:
        return None if "_" in cell else float(cell)  # to Python 0_5 is 5
    except ValueError:
        return None


def not_a_number(cell: str) -> str:
    """What is wrong with a cell that should hold a number, and what to write.

    Args:
        cell: as the file has it.

    Example:
        >>> not_a_number("1/4")
        "is not a number: '1/4'; write fractions as decimals"
    """
    if not cell.strip():
        return "is empty"
    advice = "; divide percents by 100" if cell.strip().endswith("%") else ""
    if re.fullmatch(r"\s*\d+\s*/\s*\d+\s*", cell):
        advice = "; write fractions as decimals"
    return f"is not a number: {cell!r}{advice}"


def layout(lines: list[list[str]], labels: Labels | None, symmetric: bool, header: bool = False) -> Layout:
    """Find the labels of a table: in the first row and column, in the first row, in the first column, or nowhere.

    Cells that are not numbers decide, then the shape: a preference game is square, and a reading in which a player has
    a single action is the last choice. A first row 0, 1, 2, ... that leaves as many rows as columns is a header, as of
    data frames without labels. A first row or column of whole numbers that could be labels or payoffs is refused, and
    so is one that is partly numbers, unless both hold the same labels.

    Args:
        lines: at least one, the cells of each row.
        labels: where the labels are; None finds them.
        symmetric: the table is of a preference game.
        header: the first row is known to hold labels.

    Raises:
        ValueError: labels and payoffs cannot be told apart.

    Example:
        >>> layout([["0", "1"], ["3", "-1"], ["-2", "4"]], None, symmetric=False).columns
        ['0', '1']
    """
    possible: list[Labels] = ["both", "columns"] if header else [labels] if labels is not None else _possible(lines)
    if len(possible) == 1:
        return _cut(lines, possible[0])
    shapes = {one: _shape(lines, one) for one in possible}
    fitting = [one for one in possible if shapes[one] is not None and min(shapes[one] or (0,)) > 0]
    if symmetric:
        fitting = [one for one in fitting if len(set(shapes[one] or ())) == 1 and _agree(_cut(lines, one))]
        if "none" in possible:  # all cells are numbers
            fitting = [one for one in fitting if _could_be_labels(_cut(lines, one))]
    if not fitting:  # report the error of the likeliest reading
        return _cut(lines, "none" if "none" in possible else possible[0])
    larger = [one for one in fitting if min(shapes[one] or (0,)) > 1]
    fitting = larger or fitting
    if symmetric and len(fitting) > 1:
        fitting = [one for one in fitting if _halves(_cut(lines, one))] or fitting
    return _cut(lines, _plausible(lines, fitting, shapes))


def _possible(lines: list[list[str]]) -> list[Labels]:
    """The readings that the first row and column allow, the likeliest first."""
    corner, head, side = lines[0][0].strip(), lines[0][1:], [line[0] for line in lines[1:] if line]
    numeric = number(corner) is not None
    if not head or not side:  # a single column or row
        if numeric or not corner:
            return ["none"] if not all(_all_numbers(cells) for cells in (head, side)) else list(LABELS)
        return ["rows"] if _all_numbers(head) and head else ["columns"]
    names = [cell.strip() for cell in head]
    same = len(names) == len(set(names) - {""}) > 1 and names == [cell.strip() for cell in side]
    across, down = _all_labels(head), _all_labels(side)
    if across and down and numeric and not same:  # the corner is a payoff, so the cells beside it are
        raise _in_doubt(head[0], "first row", 2, "both")
    if (across and down) or (same and (not _all_numbers(head) or not corner)):
        return ["both"]
    if not corner and (across or down) and all(cell.strip() for cell in head + side):
        return ["both"]
    if _all_numbers(head) and _all_numbers(side):
        if numeric:
            return list(LABELS)
        inside = [line[1:] for line in lines[1:]]
        counted = same or (_like_labels(head, inside) and _like_labels(side, inside))
        if counted and not re.match(r"[-+.]*\d", corner):
            return ["both"]
        if not corner and len(lines) == len(lines[0]):  # the diagonal may be empty
            return ["none"]
        raise _in_doubt(lines[0][0], "first row and column", 1, "columns, rows or both")
    if corner and not numeric and across and _all_numbers(side):
        return ["both", "columns"]
    if corner and not numeric and down and _all_numbers(head):
        return ["both", "rows"]
    where, cells, options = "first row", head, "columns or both"
    if _all_numbers(head) or (across and not numeric):
        where, cells, options = "first column", side, "rows or both"
    wrong = [k for k, cell in enumerate(cells) if number(cell) is None]
    if not numeric and len(wrong) == len(cells):  # labels, one of which is lacking
        wrong = [k for k in wrong if not cells[k].strip()]
    raise _in_doubt(cells[wrong[0]], where, wrong[0] + 2, options)


def _in_doubt(cell: str, where: str, place: int, options: str) -> NashwardError:
    return NashwardError(
        f"cell {place} of the {where} {not_a_number(cell)}; correct it or, if these are labels, give labels as "
        f"{options} (--labels)"
    )


def _all_numbers(cells: Sequence[str]) -> bool:
    return all(number(cell) is not None for cell in cells)


def _all_labels(cells: Sequence[str]) -> bool:
    return all(cell.strip() and number(cell) is None for cell in cells)


def _could_be_labels(cut: Layout) -> bool:
    return all(side is None or _like_labels(side, cut.cells) for side in (cut.rows, cut.columns))


def _plausible(lines: list[list[str]], fitting: list[Labels], shapes: dict[Labels, tuple[int, int] | None]) -> Labels:
    """The likeliest of several ways to read a table, if there is just one."""
    plain = next((one for one in ("none", "columns", "rows", "both") if one in fitting), fitting[0])
    for more in [one for one in fitting if one != plain]:
        known, own = _cut(lines, plain), _cut(lines, more)
        doubts = []
        for before, labels in ((known.rows, own.rows), (known.columns, own.columns)):
            if before is None and labels is not None:
                doubts.append(_like_labels(labels, own.cells))
        if not all(doubts):
            continue
        rows, columns = shapes[more] or (0, 0)
        counting = known.columns is None and own.columns == [str(k) for k in range(columns)]
        if counting and rows == columns:
            return more
        column = own.columns is None or known.columns is not None  # the side in doubt
        where, shown = (
            "first column" if column else "first row",
            ", ".join(((own.rows if column else own.columns) or [])[:4]),
        )
        raise NashwardError(
            f"the {where} ({shown}) may be labels or payoffs, which cannot be told apart here; give labels as "
            f"{more} or {plain} (--labels)"
        )
    return plain


def _like_labels(labels: Sequence[str], cells: Sequence[Sequence[str]]) -> bool:
    """Whether numbers could be meant as labels: they count, or they are different whole numbers above fractions."""
    if not all(WHOLE.fullmatch(label) for label in labels):
        return False
    values = [int(label) for label in labels]
    if len(values) > 1 and values in (list(range(len(values))), list(range(1, len(values) + 1))):
        return True
    below = [cell for row in cells for cell in row]
    return len(set(values)) == len(values) > 1 and not any(WHOLE.fullmatch(cell) for cell in below)


def _cut(lines: list[list[str]], labels: Labels) -> Layout:
    across, down = labels in ("both", "columns"), labels in ("both", "rows")
    cells = [line[down:] for line in lines[across:]]
    rows = [(line[0] if line else "").strip() for line in lines[across:]] if down else None
    return Layout(rows, [cell.strip() for cell in lines[0][down:]] if across else None, cells)


def _shape(lines: list[list[str]], labels: Labels) -> tuple[int, int] | None:
    """The numbers of rows and columns that are left; None where the rows differ in length."""
    cut = _cut(lines, labels)
    widths = {len(row) for row in cut.cells} | ({len(cut.columns)} if cut.columns is not None else set())
    return (len(cut.cells), widths.pop()) if len(widths) == 1 else None


def _agree(cut: Layout) -> bool:
    return cut.rows is None or cut.columns is None or cut.rows == cut.columns


def _halves(cut: Layout) -> bool:
    """Whether the diagonal is that of win probabilities, 1/2."""
    return all(math.isclose(number(row[k]) or math.nan, 0.5, abs_tol=1e-6) for k, row in enumerate(cut.cells))
