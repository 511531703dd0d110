"""Payoff tables from files."""

from __future__ import annotations

import csv
import zipfile
import zlib
from pathlib import Path

import numpy as np
from numpy.lib.npyio import NpzFile

from nashward.errors import NashwardError

from .game import ConstantSumGame, PreferenceGame
from .labels_of_csv import LABELS, Labels, layout, number

TYPES = (".csv", ".npy", ".npz", ".parquet")


def load(
    path: str | Path, total: float | None = None, labels: Labels | None = None
) -> PreferenceGame | ConstantSumGame:
    """Read a payoff table.

    - ``.csv``: labels in the first row and column, in one of them, or none at all;
    - ``.npy``: an array; ``.npz``: an array ``P`` (or the only array), and optionally ``labels``, or ``row_labels`` and
      ``column_labels``;
    - ``.parquet``: one column per action, and one with labels: the index of the data frame, or the first column (needs
      pyarrow, in the ``llm`` extra).

    Args:
        path: the file.
        total: None reads a preference game, P + P^T = 1; a number reads the row player's payoffs of a constant-sum
            game whose payoffs sum to it.
        labels: where a ``.csv`` or ``.parquet`` file has labels: "both" (in the first row and column), "columns" (in
            the first row), "rows" (in the first column) or "none". None finds them, and refuses a file in doubt.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another file type, a cell that is not a number, ragged rows, repeated labels, labels that cannot be
            told from payoffs, or a table that is not a game of this kind. The entry is named.

    Example:
        >>> from nashward import games
        >>> games.load("tests/games/tables/cycle.csv").labels
        ('rock', 'paper', 'scissors')
    """
    file = Path(path)
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
            table, rows, columns = _csv(file, labels, total is None)
        elif kind == ".parquet":
            table, rows, columns = _parquet(file, labels, total is None)
        elif labels is not None:
            raise NashwardError(f"labels are stored by name in {kind} files: leave labels out")
        else:
            table, rows, columns = _npy(file) if kind == ".npy" else _npz(file)
        return _game(table, total, rows, columns)
    except ValueError as error:
        told = str(error)
        raise NashwardError(told if told.startswith(str(file)) else f"{file}: {told}") from None


def _game(
    table: np.ndarray, total: float | None, rows: list[str] | None, columns: list[str] | None
) -> PreferenceGame | ConstantSumGame:
    if table.ndim == 2 and not np.isfinite(table).all():
        i, j = np.argwhere(~np.isfinite(table))[0]
        place = f"{rows[i] if rows else i}, {columns[j] if columns else j}"
        raise NashwardError(f"entry [{place}] is not a finite number: {table[i, j]}")
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
            "for payoffs give the total of the two players (0 where one wins what the other loses)"
        )
        if table.ndim == 2 and table.min() >= 0 and np.allclose(table + table.T, 100):
            advice = "these are percents: divide by 100"
        raise NashwardError(
            f"a preference game holds win probabilities, got numbers from {table.min():g} to {table.max():g}; {advice}"
        )
    if rows is not None and columns is not None and rows != columns:  # before the payoffs, which are then wrong too
        wrong = next((r, c) for r, c in zip(rows, columns, strict=True) if r != c)
        raise NashwardError(
            f"row and column labels must be the same in the same order, got {wrong[0]} and {wrong[1]} in one place"
        )
    return PreferenceGame(table, rows)


_Read = tuple[np.ndarray, list[str] | None, list[str] | None]


def _csv(file: Path, labels: Labels | None, symmetric: bool) -> _Read:
    try:
        with file.open(newline="", encoding="utf-8-sig") as handle:
            lines = [row for row in csv.reader(handle) if any(cell.strip() for cell in row)]
    except UnicodeDecodeError as error:
        raise NashwardError(f"{file} cannot be read as CSV in UTF-8: {error}; save it as UTF-8") from None
    except csv.Error as error:
        raise NashwardError(f"{file} cannot be read as CSV: {error}") from None
    if not lines:
        raise NashwardError(f"{file} is empty; expected labels in the first row and column, and numbers")
    if len(lines[0]) == 1 and (other := next((sign for sign in ";\t|" if sign in lines[0][0]), None)):
        raise NashwardError(f"{file}: cells are separated by {other!r}; expected commas, and points in numbers")
    if all(len(row) == 1 and len(row[0].split()) > 1 for row in lines):
        raise NashwardError(f"{file}: cells are separated by blanks; expected commas")
    rows, columns, cells = layout(lines, labels, symmetric)
    width = len(columns) if columns is not None else len(cells[0]) if cells else 0
    if not cells or not width:
        raise NashwardError(f"{file} holds labels only; expected numbers beside them")
    table = np.empty((len(cells), width))
    for i, row in enumerate(cells):
        name = rows[i] if rows else str(i)
        if len(row) != width:
            lacking = f": none in the column {columns[len(row)]!r}" if columns and len(row) < width else ""
            raise NashwardError(f"{file}: row {name} has {len(row)} numbers, expected {width}{lacking}")
        for j, cell in enumerate(row):
            value = number(cell)
            if value is None:
                column = columns[j] if columns else str(j)
                percent = "; divide percents by 100" * cell.strip().endswith("%")
                raise NashwardError(f"{file}: entry [{name}, {column}] is not a number: {cell!r}{percent}")
            table[i, j] = value
    if symmetric and (rows is None) != (columns is None):  # the same actions in both directions
        rows = columns = rows or columns
    return table, rows, columns


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
        raise NashwardError(f"{file} must hold an array P (and optionally labels), it holds {', '.join(content)}")
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
        named = layout([["x", *texts[0][1:]], *texts[1:]], None, symmetric) if table.num_rows else None
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
