"""Rows of files, and of datasets on the hub: their cells as values, their numbers in errors, what is not read."""

from __future__ import annotations

import ast
import csv
import difflib
import gzip
import json
import logging
import math
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from nashward.counted import counted
from nashward.errors import NashwardError
from nashward.shortened import quoted
from nashward.text_rows import check_names, csv_rows, json_rows, jsonl_rows, records_of

from .packaged import packaged
from .prompt_sets import PROMPT_SETS, PromptSet

Parsed = TypeVar("Parsed")

FILE_TYPES = (".jsonl", ".json", ".csv", ".parquet", ".txt")
NAMED = 20  # the most fields that are named as not read
NEAR = 0.75  # the least ratio of difflib at which a field may be a mistyped one
NAMED_FAULTS = 3  # how many kinds of faults are named, and how many rows of each
logger = logging.getLogger(__name__)


def is_missing(value: Any) -> bool:
    """Whether a field has no value: null, or the NaN that pandas has in place of one.

    Example:
        >>> is_missing(None), is_missing(float("nan")), is_missing("")
        (True, True, False)
    """
    return value is None or (isinstance(value, float) and math.isnan(value))


def is_unicode(text: str) -> bool:
    """Whether a text is free of halves of surrogate pairs, which broken JSON may have: tokenizers and files refuse
    them.

    Example:
        >>> is_unicode("a river"), is_unicode(chr(0xD83D))
        (True, False)
    """
    return not any("\ud800" <= character <= "\udfff" for character in text)


def likely_field(
    row: Mapping[str, Any], fields: Sequence[str], read: Collection[str] = (), text: bool = True, option: str = ""
) -> str:
    """The end of an error on a row that has none of some fields: which of its own fields may be meant, the one with the
    nearest name or the only text. Where there is none the option alone, or nothing.

    Args:
        row: a row of a file.
        fields: those of which one is needed; the first is the usual one.
        read: fields that are read as something else.
        text: whether a text is needed.
        option: the option that names the field to read instead.

    Example:
        >>> likely_field({"promt": "Why?", "id": "a"}, ["prompt"], option="--prompt-field")
        '; promt may be prompt: rename it, or give --prompt-field promt'
        >>> likely_field({"prompt": "Why?", "said": "So."}, ["output", "text"], ["prompt"])
        '; rename said to output'
        >>> likely_field({"text": "Why?", "id": "a"}, ["prompt"], option="--prompt-field")
        '; name the field to read: --prompt-field FIELD'
    """
    if len(row) == 1 and text and _is_sentence(name := str(next(iter(row)))):
        return f"; the first line, {quoted(name, 40)}, seems to be a text: write a line {fields[0]} above it"
    left = {str(name): value for name, value in row.items() if name not in read}
    texts = [name for name, value in left.items() if text and isinstance(value, str)]
    for name in left:
        if near := difflib.get_close_matches(name.lower(), fields, 1, NEAR):
            return f"; {name} may be {near[0]}: rename it" + (f", or give {option} {name}" if option else "")
    if len(texts) != 1:
        return f"; name the field to read: {option} FIELD" if option and left else ""
    return f"; rename {texts[0]} to {fields[0]}" + (f", or give {option} {texts[0]}" if option else "")


def _is_sentence(name: str) -> bool:
    """Whether the name of a field seems to be a text, of a file without a line of names."""
    return name.endswith((".", "?", "!")) or name.count("_") + name.count(" ") >= 3


def numbered_rows(
    rows: Iterable[Any],
    name: str,
    parse: Callable[[Any], Parsed],
    used: Callable[[Any], Collection[str]],
    unread: dict[str, None] | None = None,
) -> Iterator[Parsed]:
    """Parse rows; an error begins with the source and has the number of each bad row, from 1.

    After the first bad row the others are parsed for their faults alone, so that a file need be mended only once: the
    message has up to three kinds of fault, with up to three rows of each.

    The fields that are not read are named once, in a warning of the logger, when all rows are parsed, or are added to
    ``unread``.

    Args:
        rows: the rows, or a data frame.
        name: the name of the source.
        parse: reads one row; its error reads like "has no prompt".
        used: the fields of a row that ``parse`` reads.
        unread: of several sources, for which ``warn_of_unread`` names the fields once; None: this one names its own.

    Raises:
        ValueError: ``parse`` raised one.

    Example:
        >>> list(numbered_rows(["1", "two"], "file.csv", int, lambda row: ()))
        Traceback (most recent call last):
        nashward.errors.NashwardError: file.csv: row 2 invalid literal for int() with base 10: 'two'
    """
    left: dict[str, None] = {} if unread is None else unread  # in the order of the file
    faults: dict[str, list[int]] = {}  # by what is wrong, in the order of the file
    numbered = enumerate(records_of(rows), 1)
    while True:
        try:
            number, row = next(numbered)
        except StopIteration:
            break
        except NashwardError as error:  # an error of the file itself, such as a line that is no JSON
            if not faults:
                raise
            raise NashwardError(f"{name}: {_listed(faults)}; {error}") from None
        try:
            parsed = parse(row)
        except ValueError as error:
            faults.setdefault(str(error), []).append(number)
            continue
        if faults:
            continue
        if isinstance(row, Mapping):
            read = used(row)
            left |= dict.fromkeys(repr(key) for key, value in row.items() if key not in read and not is_missing(value))
        yield parsed
    if faults:
        raise NashwardError(f"{name}: {_listed(faults)}")
    if unread is None:
        warn_of_unread(name, left)


def warn_of_unread(name: str, unread: Collection[str]) -> None:
    """Name the fields of a source that are not read, in a warning of the logger, where there are any.

    Args:
        name: of the source.
        unread: as ``numbered_rows`` adds them.
    """
    if unread:
        more = f" and {len(unread) - NAMED} more" if len(unread) > NAMED else ""
        logger.warning("%s: fields that are not read: %s%s", name, ", ".join([*unread][:NAMED]), more)


def _listed(faults: Mapping[str, list[int]]) -> str:
    """The faults of rows in one line.

    Example:
        >>> _listed({"has no prompt": [2, 3, 5, 9], "is int": [4]})
        'row 2 has no prompt (and rows 3, 5 and 1 more); row 4 is int'
    """
    parts = []
    for fault, (first, *others) in [*faults.items()][:NAMED_FAULTS]:
        named = ", ".join(map(str, others[: NAMED_FAULTS - 1]))
        more = f" and {len(others) - NAMED_FAULTS + 1} more" if len(others) >= NAMED_FAULTS else ""
        same = f" (and {'row' if len(others) == 1 else 'rows'} {named}{more})" if others else ""
        parts.append(f"row {first} {fault}{same}")
    if rest := sum(map(len, [*faults.values()][NAMED_FAULTS:])):
        parts.append(f"{counted(rest, 'more row')}")
    return "; ".join(parts)


def read_rows(source: str | Path, what: str = "prompts") -> Iterator[Any]:
    """The rows of a file, or of a dataset on the hub; see ``read_prompts`` for the types of files.

    An empty cell of a CSV file is None, as null is in Parquet. A cell of either that holds a list of chat messages, as
    JSON or as Python writes it, is that list.

    Args:
        source: a file, a name in ``PROMPT_SETS`` or in ``PACKAGED``, or a dataset id.
        what: what errors call the rows.

    Raises:
        FileNotFoundError: no such file and no such dataset.
        ValueError: a folder, a file of another type, or one that cannot be read.
    """
    path = rows_file(source, what)
    return _dataset(str(source)) if path is None else _file(path, what)


def rows_file(source: str | Path, what: str = "prompts") -> Path | None:
    """The file of rows; None for a dataset on the hub.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a folder.

    Example:
        >>> rows_file("pocket:prompts").name, rows_file("tatsu-lab/alpaca")
        ('prompts.txt', None)
    """
    path = Path(packaged(source))
    if path.is_file():
        return path
    if path.is_dir():
        raise NashwardError(
            f"{path} is a folder; {what} are read from a file ({', '.join(FILE_TYPES)}) or a dataset id"
        )
    kind = path.name.removesuffix(".gz")
    if path.exists() or path.is_absolute() or str(source).startswith(".") or kind.endswith(FILE_TYPES):
        raise FileNotFoundError(f"there is no {what} file {source}")
    return None


def _file(path: Path, what: str) -> Iterator[Any]:
    zipped = path.suffix == ".gz"
    kind = Path(path.stem).suffix if zipped else path.suffix
    if kind not in FILE_TYPES:
        raise NashwardError(f"{path} is of an unknown type {kind!r}; expected {', '.join(FILE_TYPES)}")
    if kind == ".parquet":
        yield from _parquet(path)
        return
    try:
        # a line break inside of a cell stays as it is, which the csv module asks for
        newline = "" if kind == ".csv" else None
        with (
            gzip.open(path, "rt", encoding="utf-8-sig", newline=newline)
            if zipped
            else path.open(encoding="utf-8-sig", newline=newline)
        ) as handle:
            if kind == ".json":
                yield from json_rows(handle.read(), path, what)
            elif kind == ".jsonl":
                yield from jsonl_rows(handle, path)
            elif kind == ".csv":
                for row in csv_rows(handle, path):
                    yield {name: conversation_of(value) for name, value in row.items()}
            else:
                yield from (line.rstrip("\n") for line in handle)
    except (json.JSONDecodeError, RecursionError) as error:
        raise NashwardError(f"{path} is not valid {kind[1:].upper()}: {error}") from None
    except UnicodeDecodeError as error:
        raise NashwardError(f"{path} cannot be read as text in UTF-8: {error}; save it as UTF-8") from None
    except (gzip.BadGzipFile, EOFError, zlib.error, csv.Error) as error:
        raise NashwardError(f"{path} cannot be read as text: {error}") from None


def _parquet(path: Path) -> Iterator[Any]:
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    try:
        check_names(parquet.read_schema(path).names, f"{path} has")
        table = parquet.read_table(path)
    except arrow.ArrowInvalid as error:
        raise NashwardError(f"{path} is no Parquet file: {error}") from None
    for row in table.to_pylist():
        yield {name: conversation_of(value) for name, value in row.items()}


def conversation_of(value: Any) -> Any:
    """A cell of a table; the list of chat messages where it holds one as text.

    Example:
        >>> conversation_of('[{"role": "user", "content": "Hi"}]'), conversation_of("[1]")
        ([{'role': 'user', 'content': 'Hi'}], '[1]')
    """
    if not isinstance(value, str) or not value.lstrip().startswith("["):
        return value
    for parse in (json.loads, ast.literal_eval):  # as a data frame of lists is written: as Python writes them
        try:
            content = parse(value.strip())
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(content, list) and content and all(map(_is_message, content)):
            return content
    return value


def _is_message(value: Any) -> bool:
    return isinstance(value, dict) and ({"role", "content"} <= value.keys() or {"from", "value"} <= value.keys())


def _dataset(source: str) -> Iterator[Any]:
    if source in PROMPT_SETS:
        return _prompt_set(PROMPT_SETS[source])
    name, _, split = source.partition(":")
    return iter(_loaded(source, name, split or "train"))


def _prompt_set(known: PromptSet) -> Iterator[Any]:
    parts = [_loaded(known.dataset, known.dataset, split) for split in known.splits]
    for number, part in enumerate(parts, 1):
        for row in part:
            content = {name: value for name, value in row.items() if name in known.fields}
            yield content | ({"iteration": number} if len(parts) > 1 else {})


def _loaded(source: str, name: str, split: str) -> Any:
    """A split of a dataset on the hub, or in the cache.

    Raises:
        FileNotFoundError: it cannot be reached, is not there, or is gated.
    """
    from datasets import load_dataset
    from datasets.exceptions import DatasetNotFoundError
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    try:
        validate_repo_id(name)
        return load_dataset(name, split=split)
    except HFValidationError:
        raise FileNotFoundError(
            f"there is no file {quoted(source, 80)}, and no dataset can have that name; give a file "
            f"({', '.join(FILE_TYPES)}), a dataset id or, in Python, a list of prompts"
        ) from None
    except (DatasetNotFoundError, ConnectionError, OSError) as error:
        if "gated" in str(error).lower():
            raise FileNotFoundError(
                f"{source} is gated: accept its terms at https://huggingface.co/datasets/{name} and log in with "
                "hf auth login"
            ) from None
        raise FileNotFoundError(
            f"{source} is neither a file nor a dataset that can be reached ({type(error).__name__}); give a file "
            f"({', '.join(FILE_TYPES)}), or fetch the dataset first on a machine with "
            f"network: hf download --repo-type dataset {name}"
        ) from None
