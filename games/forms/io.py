"""Payoff tables from files."""

from __future__ import annotations

import csv
import math
import zipfile
import zlib
from pathlib import Path

import numpy as np
from numpy.lib.npyio import NpzFile

from nashward.errors import NashwardError
from nashward.shortened import quoted

from ..step import is_finite
from .game import ConstantSumGame, PreferenceGame
from .labels_of_csv import LABELS, Labels, layout, not_a_number, number
from .rate_list import in_order, is_rate_list, table_of_rates

TYPES = (".csv", ".npy", ".npz", ".parquet")


def load(
    path: str | Path, total: float | None = None, labels: Labels | None = None, *, tolerance: float | None = None
) -> PreferenceGame | ConstantSumGame:
    """Read a payoff table.

    - ``.csv``: labels in the first row and column, in one of them, or none at all; or a list of win rates, two columns
      of names and one of how often the first beats the second, each pair in one direction or in both;
    - ``.npy``: an array; ``.npz``: an array ``P`` (or the only array), and optionally ``labels``, or ``row_labels`` and
      ``column_labels``;
    - ``.parquet``: one column per action, and one with labels: the index of the data frame, or the first column; or
      such a list (needs pyarrow, in the ``llm`` extra).

    Of a preference game an entry is how often the action of the row beats that of the column.

    Where rows and columns are the same actions, the diagonal may be empty: it is half of the total. In a ``.csv`` file
    a line whose only cell begins with # is a comment.

    Args:
        path: the file.
        total: None reads a preference game, P + P^T = 1; a number reads the row player's payoffs of a constant-sum
            game whose payoffs sum to it.
        labels: where a ``.csv`` or ``.parquet`` file has labels: "both" (in the first row and column), "columns" (in
            the first row), "rows" (in the first column) or "none". None finds them, and refuses a file in doubt.
        tolerance: how far P + P^T may be from 1 in a table that was rounded, as for ``PreferenceGame`` (default: its
            1e-6).

    Raises:
        FileNotFoundError: no such file.
        ValueError: another file type, a cell that is not a number, ragged rows, repeated labels, labels that cannot be
            told from payoffs, a table that is not a game of this kind, or one with the same actions in rows and
            columns whose diagonal is not half of the total. The entry is named.

    Example:
        >>> from nashward import games
        >>> games.load("tests/games/tables/cycle.csv").labels
        ('rock', 'paper', 'scissors')
    """
    file = Path(path)
    if tolerance is not None and total is not None:
        raise NashwardError(f"{file}: a tolerance (--rounding) is of P + P^T = 1; a table with a total has none")
    if total is not None and not is_finite(total):
        raise NashwardError(
            f"{file}: total must be the number to which the payoffs sum, or None, got {quoted(total, 40)}"
        )
    table, rows, columns = read_table(file, labels, total is None)
    if not table.size:
        raise NashwardError(f"{file} holds an array of the shape {list(table.shape)}; expected at least one number")
    try:
        return _game(table, total, rows, columns, {} if tolerance is None else {"tolerance": tolerance})
    except ValueError as error:
        raise NashwardError(f"{file}: {error}") from None


_Read = tuple[np.ndarray, list[str] | None, list[str] | None]


def read_table(file: Path, labels: Labels | None, symmetric: bool) -> _Read:
    """The numbers in a file, with NaN where the diagonal is empty, and the labels of rows and columns.

    Args:
        file: as for ``load``.
        labels: where its labels are.
        symmetric: the table is of a preference game.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file that cannot be read as a table of numbers.
    """
    if not file.is_file():
        what = "is a folder, not a file" if file.is_dir() else "does not exist"
        raise FileNotFoundError(f"{file} {what}; expected a payoff table ({', '.join(TYPES)})")
    kind = file.suffix.lower()
    if kind not in TYPES:
        raise NashwardError(f"{file} is of an unknown type {file.suffix!r}; expected {', '.join(TYPES)}")
    if labels is not None and labels not in LABELS:
        raise NashwardError(f"labels is {labels!r}; expected {', '.join(LABELS)}, or None to find them")
    try:
        if kind == ".csv":
            return _csv(file, labels, symmetric)
        if kind == ".parquet":
            return _parquet(file, labels, symmetric)
        if labels is not None:
            raise NashwardError(f"labels are stored by name in {kind} files: leave labels out")
        return _npy(file) if kind == ".npy" else _npz(file)
    except ValueError as error:
        told = str(error)
        raise NashwardError(told if told.startswith(str(file)) else f"{file}: {told}") from None


def _game(
    table: np.ndarray, total: float | None, rows: list[str] | None, columns: list[str] | None,
    tolerance: dict[str, float],
) -> PreferenceGame | ConstantSumGame:  # fmt: skip
    square = table.ndim == 2 and table.shape[0] == table.shape[1] > 1 and (rows == columns or None in (rows, columns))
    if square and np.isfinite(table[~np.eye(len(table), dtype=bool)]).all():
        table = _with_diagonal(table, total, rows or columns, rows is not None and columns is not None)
    if table.ndim == 2 and not np.isfinite(table).all():
        i, j = np.argwhere(~np.isfinite(table))[0]
        place = f"{rows[i] if rows else i}, {columns[j] if columns else j}"
        empty = "empty, or " * bool(np.isnan(table[i, j]))
        raise NashwardError(f"entry [{place}] is {empty}not a finite number: {table[i, j]}")
    if total is not None:
        return ConstantSumGame(table, total, rows, columns)
    if rows is not None and columns is not None and len(rows) != len(columns):
        fewer, most, least = ("column", rows, columns) if len(columns) < len(rows) else ("row", columns, rows)
        if set(least) < set(most):
            lacking = next(label for label in most if label not in least)
            raise NashwardError(
                f"no {fewer} {lacking!r} in {len(rows)} x {len(columns)} actions: a preference game has the same in "
                "rows and columns; for a game of two different players give the total of the payoffs (total=, --total)"
            )
    if table.ndim == 2 and table.shape[0] != table.shape[1]:
        raise NashwardError(
            f"a preference game needs a square table, got {table.shape[0]} x {table.shape[1]}; "
            "for a game of two different players give the total of the payoffs (total=, --total)"
        )
    if np.isfinite(table).all() and (table.min() < 0 or table.max() > 1):
        advice = (
            "turn counts into shares, or give the file to nashward leaderboard, which reads counts; "
            "for payoffs give the total of the two players (total=, --total; 0 where one wins what the other loses)"
        )
        raise NashwardError(
            f"a preference game holds win probabilities, got numbers from {table.min():g} to {table.max():g}; {advice}"
        )
    if rows is not None and columns is not None and rows != columns:  # before the payoffs, which are then wrong too
        k = next(k for k, row in enumerate(rows) if row != columns[k])
        raise NashwardError(
            "row and column labels must be the same in the same order, "
            f"got {rows[k]} and {columns[k]} as row and column {k + 1}"
        )
    return PreferenceGame(table, rows, **tolerance)


def _with_diagonal(table: np.ndarray, total: float | None, labels: list[str] | None, labelled: bool) -> np.ndarray:
    """A table of the same actions in rows and columns, with half of the total where its diagonal is empty.

    Args:
        table: [n, n], NaN where a cell is empty.
        total: None for win probabilities.
        labels: of the actions; None where they have none.
        labelled: rows and columns have the same labels, so that no chance has made their pairs sum to the total.

    Raises:
        ValueError: percents, or another diagonal than the total's half where all other pairs sum to the total.
    """
    diagonal, own = table.diagonal(), np.eye(len(table), dtype=bool)
    with np.errstate(over="ignore"):  # of payoffs that the game refuses
        others, pairs = table[~own], (table + table.T)[~own]
    if total is None:
        if np.allclose(pairs, 100) and np.isin(diagonal[~np.isnan(diagonal)], (0.0, 50.0)).all():
            counts = "" if (diagonal == 50).all() else "; counts of 100 battles a pair go to nashward leaderboard"
            raise NashwardError(
                f"a preference game holds win probabilities, got numbers from {others.min():g} to {others.max():g}; "
                f"all pairs sum to 100, so these are percents: divide by 100{counts}"
            )
        filled = 0.5 if others.max() <= 1 else others.min()  # of no win probabilities the range is told
        return np.where(own & np.isnan(table), filled, table)
    exact = np.allclose(pairs, total, rtol=1e-9, atol=1e-9 * np.abs(others).max())
    if not exact or not (labelled or len(table) > 2):
        return table
    half = np.where(np.isnan(diagonal), total / 2, diagonal)
    alike = (others == total / 2).all()  # two players, say one who hides and one who seeks
    if not alike and (wrong := np.flatnonzero(~np.isclose(half, total / 2))).size:
        i = wrong[0]
        name = labels[i] if labels else str(i)
        raise NashwardError(
            f"entry [i, j] and [j, i] sum to {total:g}, as of one set of actions, so [{name}, {name}] is "
            f"{total / 2:g}, but it holds {half[i]:g}: write {total / 2:g} there or leave the diagonal empty (if "
            f"{half[i]:g} is meant, give the columns other labels)"
        )
    filled = table.copy()
    np.fill_diagonal(filled, half)
    return filled


def _csv(file: Path, labels: Labels | None, symmetric: bool) -> _Read:
    try:
        with file.open(newline="", encoding="utf-8-sig") as handle:
            lines = [row for row in csv.reader(handle) if any(cell.strip() for cell in row) and not _is_comment(row)]
    except UnicodeDecodeError as error:
        raise NashwardError(f"{file} cannot be read as CSV in UTF-8: {error}; save it as UTF-8") from None
    except csv.Error as error:
        raise NashwardError(f"{file} cannot be read as CSV: {error}") from None
    if not lines:
        raise NashwardError(f"{file} is empty; expected labels in the first row and column, and numbers")
    if len(lines[0]) == 1 and (other := next((sign for sign in ";\t|" if sign in lines[0][0]), None)):
        raise NashwardError(f"{file}: cells are separated by {other!r}; expected commas, and points in numbers")
    halved = ",".join(lines[0]).split(";")  # 0,5;0,9 of a language whose decimals have commas
    if len(halved) > 1 and any("," in cell for cell in halved) and None not in map(_with_comma, halved[1:]):
        raise NashwardError(f"{file}: cells are separated by ';'; expected commas, and points in numbers")
    if all(len(row) == 1 and len(row[0].split()) > 1 for row in lines):
        raise NashwardError(f"{file}: cells are separated by blanks; expected commas")
    if labels is None and is_rate_list(pairs := in_order(lines)):
        return _listed(pairs, symmetric)
    rows, columns, cells = layout(lines, labels, symmetric)
    width = len(columns) if columns is not None else len(cells[0]) if cells else 0
    if not cells or not width:
        raise NashwardError(f"{file} holds labels only; expected numbers beside them")
    table = np.empty((len(cells), width))
    for i, row in enumerate(cells):
        name = rows[i] if rows else str(i)
        if len(row) != width:
            lacking = f": none in the column {columns[len(row)]!r}" if columns and len(row) < width else ""
            which = name if rows else f"{i + 1} (the first is 1)"
            raise NashwardError(f"{file}: row {which} has {len(row)} numbers, expected {width}{lacking}")
        for j, cell in enumerate(row):
            value = math.nan if i == j and not cell.strip() else number(cell)
            if value is None:
                column = columns[j] if columns else str(j)
                other = _opposite(cells, i, j) if symmetric and not cell.strip() else ""
                own = i == j and (symmetric or (rows is not None and rows == columns))
                raise NashwardError(
                    f"{file}: entry [{name}, {column}] {not_a_number(cell)}{other or _advice(lines, labels, cell, own)}"
                )
            table[i, j] = value
    if symmetric and (rows is None) != (columns is None):  # the same actions in both directions
        rows = columns = rows or columns
    return table, rows, columns


def _listed(lines: list[list[str]], symmetric: bool) -> _Read:
    if not symmetric:
        raise NashwardError("a list of pairs is of win rates; payoffs with a total are read from a table")
    table, names = table_of_rates(lines)
    return table, names, names


def _advice(lines: list[list[str]], labels: Labels | None, cell: str, own: bool) -> str:
    """What to do about a cell that is no number: one of the diagonal, or a label where none was said to be."""
    head, side = lines[0][1:], [row[0] for row in lines[1:]]
    across, down = (len(cells) > 0 and all(number(one) is None for one in cells) for cells in (head, side))
    found = "both" if across and down else "columns" if across else "rows" if down else None
    if labels is not None and found not in (None, labels) and cell in (*head, *side, lines[0][0]):
        return f"; if it is a label, give labels as {found} (--labels {found})"
    if own and cell.strip():
        return "; on the diagonal, where an action meets itself, a cell may be empty"
    return ""


def _is_comment(row: list[str]) -> bool:
    return row[0].lstrip().startswith("#") and not any(cell.strip() for cell in row[1:])


def _with_comma(cell: str) -> float | None:
    return number(cell.replace(",", "."))


def _opposite(cells: list[list[str]], i: int, j: int) -> str:
    """What the win probability of j against i says of an empty cell of i against j."""
    opposite = number(cells[j][i]) if j < len(cells) and i < len(cells[j]) else None
    if opposite is None or not 0 <= opposite <= 1:
        return ""
    return f"; the opposite cell says {opposite:g}, so this one would be {1 - opposite:g}"


def _npy(file: Path) -> _Read:
    try:
        with file.open("rb") as handle:
            table = np.load(handle, allow_pickle=False)
    except (zipfile.BadZipFile, ValueError, EOFError):  # numpy's message is about pickles
        table = None
    if not isinstance(table, np.ndarray):
        raise NashwardError(f"{file} is no .npy file of one plain array; numpy.save writes one")
    return _floats(file, "array", table), None, None


def _floats(file: Path, name: str, table: np.ndarray) -> np.ndarray:
    if table.dtype.kind not in "biuf":
        raise NashwardError(f"{file}: the {name} holds {table.dtype}, expected numbers")
    return table.astype(np.float64)


def _npz(file: Path) -> _Read:
    try:
        with file.open("rb") as handle:
            archive = np.load(handle, allow_pickle=False)
            content = {name: archive[name] for name in archive.files} if isinstance(archive, NpzFile) else None
    except (zipfile.BadZipFile, zlib.error, ValueError, EOFError):  # numpy's message is about pickles
        content = None
    if content is None:
        raise NashwardError(f"{file} is no .npz archive of plain arrays; numpy.savez writes one")
    names = [name for name in content if name not in ("labels", "row_labels", "column_labels")]
    key = "P" if "P" in names else names[0] if len(names) == 1 else None
    if key is None:
        held = ", ".join(content) or "no array"
        raise NashwardError(f"{file} must hold an array P (and optionally labels), it holds {held}")
    found = {name: [str(label) for label in content[name].ravel()] for name in content if name.endswith("labels")}
    both = found.get("labels")
    return _floats(file, f"array {key}", content[key]), found.get("row_labels", both), found.get("column_labels", both)


def _parquet(file: Path, labels: Labels | None, symmetric: bool) -> _Read:
    try:
        import pyarrow
        import pyarrow.parquet as parquet
    except ImportError:
        raise NashwardError(f'{file}: reading parquet needs pyarrow: pip install "nashward[llm]"') from None
    try:
        table = parquet.read_table(file)
    except pyarrow.ArrowInvalid as error:
        raise NashwardError(f"{file} is no Parquet file: {error}") from None
    names = list(table.column_names)
    indices = [name for name in (table.schema.pandas_metadata or {}).get("index_columns", []) if name in names]
    if len(indices) > 1:
        raise NashwardError(f"{file} has an index of {len(indices)} columns; expected one with labels")

    def is_number(name: str) -> bool:
        kind = table.schema.field(name).type
        return pyarrow.types.is_floating(kind) or pyarrow.types.is_integer(kind)

    if labels is None and not indices and len(names) > 2 and not any(map(is_number, names[:2])):
        return _listed([names, *([str(cell) for cell in row.values()] for row in table.to_pylist())], symmetric)
    if not names:
        raise NashwardError(f"{file} has no columns; expected one with labels, then one per action")
    if indices:
        index = indices[0] if labels in (None, "both") else None
        columns = [name for name in names if name != indices[0]]
    elif labels is not None:
        index, columns = (names[0], names[1:]) if labels == "both" else (None, names)
    elif not is_number(names[0]):
        index, columns = names[0], names[1:]
    else:
        texts = [names, *([str(value) for value in row.values()] for row in table.to_pylist())]
        named = layout(texts, None, symmetric, header=True) if table.num_rows else None
        index, columns = (names[0], names[1:]) if named is not None and named.rows is not None else (None, names)
    if labels in ("rows", "none"):
        raise NashwardError(f"{file}: the columns of a Parquet file have names; give labels as both or columns")
    if not columns:
        raise NashwardError(f"{file} has {table.num_columns} columns; expected one with labels, then one per action")
    for name in columns:
        if not is_number(name):
            raise NashwardError(f"{file}: the column {name} holds {table.schema.field(name).type}, expected numbers")
    rows = None if index is None else [str(label) for label in table.column(index).to_pylist()]
    values = np.stack([table.column(c).to_numpy().astype(np.float64) for c in columns], axis=1)
    return values, columns if rows is None and symmetric else rows, columns
