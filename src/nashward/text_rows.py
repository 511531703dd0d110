"""Rows of text files: JSON, JSON lines and CSV, as people and data frames write them."""

from __future__ import annotations

import csv
import io
import json
import re
import sys
import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from nashward.errors import NashwardError

LONGEST_CELL = 2**31 - 1  # characters; the csv module reads 131,072 by default
SEPARATORS = ",;\t|"  # of the cells of a header, the first that it has
NAMED_LINES = 3  # that are no JSON
_limit = threading.Lock()


def records_of(rows: Any) -> Any:
    """Rows as they are, those of a data frame (of pandas or polars) as dictionaries.

    Example:
        >>> records_of([{"a": 1}])
        [{'a': 1}]
    """
    if hasattr(rows, "to_dicts"):  # polars
        return rows.to_dicts()
    return rows.to_dict("records") if hasattr(rows, "iterrows") else rows


def json_rows(text: str, path: Path, what: str) -> list[Any]:
    """The rows of a JSON list, or of JSON lines in a file that is called .json.

    Args:
        text: of the file.
        path: of the file, for errors.
        what: the rows are, for errors.

    Raises:
        ValueError: it holds neither, or something that ``parse_json`` refuses.

    Example:
        >>> json_rows('{"a": 1}\\n{"a": 2}\\n', Path("rows.json"), "battles")
        [{'a': 1}, {'a': 2}]
    """
    try:
        content = parse_json(text)
    except json.JSONDecodeError as error:
        try:
            parse_json(next(line for line in text.split("\n") if line.strip()))
        except (StopIteration, ValueError):  # no lines of JSON either
            raise error from None
        content = [*jsonl_rows(io.StringIO(text), path)]
    except NashwardError as error:
        raise NashwardError(f"{path}: {error}") from None
    if not isinstance(content, list):
        of_frame = isinstance(content, dict) and all(isinstance(column, dict) for column in content.values())
        hint = '; pandas writes one with frame.to_json(FILE, orient="records")' if content and of_frame else ""
        raise NashwardError(f"{path} must hold a list of {what}, it holds {type(content).__name__}{hint}")
    return content


def jsonl_rows(handle: TextIO, path: Path) -> Iterator[Any]:
    """The rows of a file with one JSON value a line; U+2028, U+0085 and their like end no line.

    Raises:
        ValueError: a line is not JSON or holds something that ``parse_json`` refuses; up to three are numbered.

    Example:
        >>> list(jsonl_rows(io.StringIO('{"a": "x\\u2028y"}\\n\\n{"a": 2}'), Path("rows.jsonl")))
        [{'a': 'x\\u2028y'}, {'a': 2}]
    """
    shown: list[str] = []  # what is wrong with the first lines that are broken; after the first one no row is yielded
    broken = 0
    for number, line in enumerate(handle, 1):
        if not line.strip():
            continue
        try:
            row = parse_json(line)
        except ValueError as error:
            broken += 1
            if broken <= NAMED_LINES:
                shown.append(f"line {number}: {_told(error, line)}")
        else:
            if not broken:
                yield row
    if broken:
        more = f"; {broken - len(shown)} more" if broken > len(shown) else ""
        raise NashwardError(f"{path} is not valid JSONL: {'; '.join(shown)}{more}")


def _told(error: ValueError, line: str) -> str:
    """What is wrong with a line that is no JSON, and at which of its characters."""
    if not isinstance(error, json.JSONDecodeError):
        return str(error)
    if error.pos >= len(line.rstrip()):
        return f"it ends before its JSON does ({error.msg})"
    return f"{error.msg.removesuffix(' at')} at character {error.colno}"


def csv_rows(handle: TextIO, path: Path) -> list[dict[str, Any]]:
    """The rows of a CSV file with a header; an empty cell is None, and cells may be of any length.

    A header without commas may be separated by semicolons, tabs or |, as spreadsheets of many countries write it; then
    all cells are.

    The names of the header are read as ``field_name`` has them. The index of a data frame, which ``to_csv`` writes
    first and without a name, is left out.

    Args:
        handle: opened with ``newline=""``, so that a line break inside of a cell stays as it is.
        path: of the file, for errors.

    Raises:
        ValueError: a name that occurs twice in the header, or a row with more cells than it.
        csv.Error: the file is no CSV, as where a quotation mark is never closed.

    Example:
        >>> csv_rows(io.StringIO("a,b\\r\\n1,\\r\\n"), Path("rows.csv"))
        [{'a': '1', 'b': None}]
        >>> csv_rows(io.StringIO(",a,b\\n0,x,y\\n"), Path("rows.csv"))
        [{'a': 'x', 'b': 'y'}]
    """
    with _long_cells():
        # strict: a quotation mark that is never closed would make one cell of all that follows
        head = handle.readline()
        handle.seek(0)
        separator = next((sign for sign in SEPARATORS if sign in head), ",")
        reader = csv.DictReader(handle, delimiter=separator, strict=True)
        names = reader.fieldnames or ()
        reader.fieldnames = names = [field_name(name) for name in names]
        check_names(names, f"{path} has")
        rows = []
        for number, row in enumerate(reader, 1):
            if any(row.pop(None, [])):  # but commas at the end of a line are no cells
                written = "commas" if separator == "," else repr(separator)
                raise NashwardError(
                    f"{path}: row {number} has more cells than the header; put a text with {written} in quotation marks"
                )
            rows.append({name: None if value == "" else value for name, value in row.items()})
    return _without_index(rows, names)


def _without_index(rows: list[dict[str, Any]], names: Sequence[str]) -> list[dict[str, Any]]:
    """Rows without the index of a data frame: a first column of whole numbers that has no name. Those of a table of
    counts between models that are called by numbers are the names of its other columns."""
    numbers = {str(row[""]) for row in rows} if rows and names[0] == "" else set()
    if not numbers or not all(number.isdecimal() for number in numbers) or numbers & set(names):
        return rows
    return [{name: value for name, value in row.items() if name != ""} for row in rows]


def field_name(written: str) -> str:
    """The name of a field as people write it at the head of a table: without case, and with _ for blanks.

    Example:
        >>> field_name(" Model A "), field_name("model_a")
        ('model_a', 'model_a')
    """
    return re.sub(r"\s+", "_", written.strip()).casefold()


@contextmanager
def _long_cells() -> Iterator[None]:
    """Cells of any length within the block: the csv module has one limit for the whole process."""
    with _limit:
        before = csv.field_size_limit(LONGEST_CELL)
        try:
            yield
        finally:
            csv.field_size_limit(before)


def is_missing(cell: Any) -> bool:
    """Whether a cell is empty: None, NaN or what pandas has for it, or no text.

    Example:
        >>> [is_missing(cell) for cell in (None, "", float("nan"), 0, [])]
        [True, True, True, False, False]
    """
    if isinstance(cell, str):
        return cell == ""
    return cell is None or type(cell).__name__ in ("NAType", "NaTType") or (
        not hasattr(cell, "__len__") and bool(cell != cell)
    )  # fmt: skip


def as_whole(cell: Any) -> Any:
    """A whole number as such, anything else as it is: a data frame with missing cells makes 1.0 of 1.

    Example:
        >>> as_whole(1.0), as_whole(1.5), as_whole("1.0")
        (1, 1.5, '1.0')
    """
    cell = cell.item() if hasattr(cell, "item") and not hasattr(cell, "__len__") else cell
    return int(cell) if isinstance(cell, float) and cell.is_integer() else cell


def parse_json(text: str) -> Any:
    """A JSON value.

    Raises:
        json.JSONDecodeError: it is none.
        ValueError: a key occurs twice in an object, or an integer has more digits than Python reads.

    Example:
        >>> parse_json('{"a": 1, "a": 2}')
        Traceback (most recent call last):
        nashward.errors.NashwardError: an object has two fields that are called a; rename one of them
    """
    try:
        return json.loads(text, object_pairs_hook=_object)
    except (json.JSONDecodeError, NashwardError):
        raise
    except ValueError:  # int() of a text of thousands of digits
        most = sys.get_int_max_str_digits()
        raise NashwardError(f"an integer has more than {most} digits; write it as a text, in quotation marks") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        check_names([name for name, _ in pairs], "an object has")
    return content


def check_names(names: Collection[str], has: str) -> None:
    """Raise where a name occurs twice: one of its values would be dropped.

    Args:
        names: of the fields.
        has: what has them, for the error.

    Raises:
        ValueError: a name occurs twice.

    Example:
        >>> check_names(["a", "b"], "the file has")
    """
    seen: set[str] = set()
    for name in names:
        if name and name in seen:
            raise NashwardError(f"{has} two fields that are called {name}; rename one of them")
        seen.add(name)
