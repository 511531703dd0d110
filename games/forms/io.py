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


def load(path: str | Path, total: float | None = None) -> PreferenceGame | ConstantSumGame:
    """Read a payoff table.

    - ``.csv``: labels in the first row and column (or in the first row alone, of a square table; or none at all, where
      every cell is a number);
    - ``.npz``: an array ``P`` (or the only array), and optionally ``labels``;
    - ``.parquet``: one column of labels, then one column an action (needs pyarrow, in the ``llm`` extra).

    Args:
        path: the file.
        total: None reads a preference game, P + P^T = 1; a number reads the row player's payoffs of a constant-sum
            game whose payoffs sum to it.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another file type, a cell that is not a number, ragged rows, repeated labels, or a table that is
            not such a game. The entry is named.

    Example:
        >>> from nashward import games
        >>> games.load("tests/games/tables/cycle.csv").labels
        ('rock', 'paper', 'scissors')
    """
    file = Path(path)
    if not file.is_file():
        what = "is a folder, not a file" if file.is_dir() else "does not exist"
        raise FileNotFoundError(f"{file} {what}; expected a payoff table (.csv, .npz or .parquet)")
    readers = {".csv": _csv, ".npz": _npz, ".parquet": _parquet}
    if file.suffix.lower() not in readers:
        raise NashwardError(f"{file} is of an unknown type {file.suffix!r}; expected .csv, .npz or .parquet")
    table, rows, columns = readers[file.suffix.lower()](file)
    try:
        return _game(table, total, rows, columns)
    except ValueError as error:
        raise NashwardError(f"{file}: {error}") from None


def _game(
    table: np.ndarray, total: float | None, rows: list[str] | None, columns: list[str] | None
) -> PreferenceGame | ConstantSumGame:
    if total is not None:
        return ConstantSumGame(table, total, rows, columns)
    if table.ndim == 2 and table.shape[0] != table.shape[1]:
        raise NashwardError(
            f"a preference game needs a square table, got {table.shape[0]} x {table.shape[1]}; "
            "for a game of two different players give the total of the payoffs"
        )
    if np.isfinite(table).all() and (table.min() < 0 or table.max() > 1):
        raise NashwardError(
            f"a preference game holds win probabilities, got numbers from {table.min():g} to {table.max():g}; of "
            "counts take shares, and for payoffs give the total of the two players (0 where one wins what the other "
            "loses)"
        )
    game = PreferenceGame(table, rows)
    if rows is not None and columns is not None and rows != columns:
        wrong = next((r, c) for r, c in zip(rows, columns, strict=True) if r != c)
        raise NashwardError(f"row and column labels must be the same in the same order, got {wrong[0]} and {wrong[1]}")
    return game


_Read = tuple[np.ndarray, list[str] | None, list[str] | None]


def _csv(file: Path) -> _Read:
    try:
        with file.open(newline="", encoding="utf-8-sig") as handle:
            lines = [row for row in csv.reader(handle) if any(cell.strip() for cell in row)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise NashwardError(f"{file} cannot be read as CSV in UTF-8: {error}") from None
    if not lines:
        raise NashwardError(f"{file} is empty; expected labels in the first row and column, and numbers")
    if len(lines[0]) == 1 and (other := next((sign for sign in ";\t|" if sign in lines[0][0]), None)):
        raise NashwardError(f"{file}: cells are separated by {other!r}; expected commas, and points in numbers")
    if all(_number(cell) is not None for cell in lines[0]):
        rows, columns, cells = None, None, lines
    elif lines[0][0].strip() and all(len(row) == len(lines) - 1 and _number(row[0]) is not None for row in lines[1:]):
        rows = columns = [cell.strip() for cell in lines[0]]
        cells = lines[1:]
    else:
        columns = [cell.strip() for cell in lines[0][1:]]
        rows = [row[0].strip() for row in lines[1:]]
        cells = [row[1:] for row in lines[1:]]
    width = len(columns) if columns is not None else len(lines[0])
    table = np.empty((len(cells), width))
    for i, row in enumerate(cells):
        name = rows[i] if rows else str(i)
        if len(row) != width:
            raise NashwardError(f"{file}: row {name} has {len(row)} numbers, expected {width}")
        for j, cell in enumerate(row):
            value = _number(cell)
            if value is None:
                column = columns[j] if columns else str(j)
                raise NashwardError(f"{file}: entry [{name}, {column}] is not a number: {cell!r}")
            table[i, j] = value
    return table, rows, columns


def _npz(file: Path) -> _Read:
    try:
        with file.open("rb") as handle:
            archive = np.load(handle, allow_pickle=False)
            content = {name: archive[name] for name in archive.files} if isinstance(archive, NpzFile) else None
    except (zipfile.BadZipFile, zlib.error, ValueError, EOFError):  # numpy's message is about pickles
        content = None
    if content is None:
        raise NashwardError(f"{file} is no .npz archive of plain arrays; numpy.savez writes one")
    names = [name for name in content if name != "labels"]
    key = "P" if "P" in names else names[0] if len(names) == 1 else None
    if key is None:
        raise NashwardError(f"{file} must hold an array P (and optionally labels), it holds {', '.join(content)}")
    if content[key].dtype.kind not in "biuf":
        raise NashwardError(f"{file}: the array {key} holds {content[key].dtype}, expected numbers")
    labels = [str(label) for label in content["labels"].ravel()] if "labels" in content else None
    return content[key].astype(np.float64), labels, labels


def _parquet(file: Path) -> _Read:
    try:
        import pyarrow
        import pyarrow.parquet as parquet
    except ImportError:
        raise NashwardError(f'{file}: reading parquet needs pyarrow: pip install "nashward[llm]"') from None
    try:
        table = parquet.read_table(file)
    except pyarrow.ArrowInvalid as error:
        raise NashwardError(f"{file} is no Parquet file: {error}") from None
    columns = list(table.column_names[1:])
    if not columns:
        raise NashwardError(f"{file} has {table.num_columns} columns; expected one of labels, then one an action")
    for name in columns:
        if not (pyarrow.types.is_floating(kind := table.schema.field(name).type) or pyarrow.types.is_integer(kind)):
            raise NashwardError(f"{file}: the column {name} holds {kind}, expected numbers")
    rows = [str(label) for label in table.column(0).to_pylist()]
    return np.stack([table.column(c).to_numpy().astype(np.float64) for c in columns], axis=1), rows, columns


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None
