"""Prompts from files, and from datasets on the hub."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import math
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from nashward.errors import NashwardError

Message: TypeAlias = Mapping[str, str]
Parsed = TypeVar("Parsed")

TEXT_FIELDS = ("prompt", "instruction", "question")  # where a row has its prompt, the first that it has
PROMPT_FIELDS = (*TEXT_FIELDS, "messages")
FILE_TYPES = (".jsonl", ".json", ".csv", ".parquet", ".txt")
_SURROGATE = re.compile("[\ud800-\udfff]")  # half of a pair, as broken JSON has it: tokenizers raise on it
_ROLES = ("system", "user", "assistant")


@dataclass(frozen=True)
class Prompt:
    """A conversation that ends with the user's turn.

    Attributes:
        messages: the turns, each with ``role`` and ``content``, for the policy's chat template.
        weight: how often the prompt counts in the loss of a fit.

    Example:
        >>> prompt = Prompt(({"role": "user", "content": "Name a river."},))
        >>> prompt.text, prompt.id
        ('Name a river.', 'a5316a703e09fdf0')
    """

    messages: tuple[Message, ...]
    weight: float = 1.0

    @property
    def text(self) -> str:
        """The prompt for judges and reports: the instruction itself, or the turns by role if there are several."""
        if len(self.messages) == 1:
            return self.messages[0]["content"]
        return "\n".join(f"{message['role'].upper()}: {message['content']}" for message in self.messages)

    @property
    def id(self) -> str:
        """A hash of the content: the same prompt has the same id in every file and run."""
        turns = [[message["role"], message["content"]] for message in self.messages]
        return hashlib.sha256(json.dumps(turns).encode()).hexdigest()[:16]


@dataclass
class Prompts:
    """Prompts of a source.

    Attributes:
        kept: the prompts that are used.
        read: how many the source has.
        dropped: how many were dropped, by the reason.
    """

    kept: list[Prompt]
    read: int
    dropped: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(self.dropped.items()))
        return f"{self.read} prompts read, {len(self.kept)} kept, {self.dropped.total()} dropped" + (
            f" ({reasons})" if reasons else ""
        )

    def drop(self, keep: Sequence[bool], reason: str) -> None:
        """Drop the prompts that are not marked, counting them under ``reason``."""
        self.dropped[reason] += len(keep) - sum(keep)
        self.dropped += Counter()
        self.kept = [prompt for prompt, marked in zip(self.kept, keep, strict=True) if marked]


def read_prompts(source: str | Path | Iterable[Any], column: str | None = None) -> Prompts:
    """Read prompts.

    Args:
        source: a file (.jsonl, .json, .csv, .parquet, .txt with one prompt a line; each also gzipped, but for
            Parquet), the id of a dataset on the hub (``ID`` or ``ID:SPLIT``), or an iterable of rows. A row is a
            string or has a ``prompt`` (or ``instruction``, ``question``) that is a string or a list of chat messages,
            or ``messages``; a response at the end of the messages is removed. Its ``weight``, where it has one, is how
            often the prompt counts in the loss (1).
        column: the name of the field that holds the prompt, instead of those.

    Returns:
        The prompts, without empty and repeated ones and those that are not Unicode.

    Raises:
        FileNotFoundError: no such file and no such dataset.
        ValueError: a file of another type, a row without a prompt (it is numbered) or with a weight that is no
            positive number, or no prompt at all.

    Example:
        >>> print(read_prompts(["Name a river.", "Name a river.", " "]))
        3 prompts read, 1 kept, 2 dropped (1 empty, 1 repeated)
    """
    name, rows = (str(source), read_rows(source)) if isinstance(source, str | Path) else ("the prompts", source)
    by_id: dict[str, Prompt] = {}
    result = Prompts([], 0)
    for prompt in numbered_rows(rows, name, lambda row: Prompt(prompt_messages(row, column), _weight(row))):
        result.read += 1
        if not prompt.messages or not prompt.messages[-1]["content"].strip():
            result.dropped["empty"] += 1
        elif _SURROGATE.search(prompt.text):
            result.dropped["not Unicode"] += 1
        elif prompt.id in by_id:
            result.dropped["repeated"] += 1
        else:
            by_id[prompt.id] = prompt
    result.kept = list(by_id.values())
    if not result.kept:
        raise NashwardError(f"{name} holds no prompts: {result}")
    return result


def numbered_rows(rows: Iterable[Any], name: str, parse: Callable[[Any], Parsed]) -> Iterator[Parsed]:
    """Parse rows; the error of a row begins with the source and the row's number, from 1.

    Args:
        rows: the rows.
        name: of the source.
        parse: of one row; its error reads like "has no prompt".

    Raises:
        ValueError: ``parse`` raised one.

    Example:
        >>> list(numbered_rows(["1", "two"], "file.csv", int))
        Traceback (most recent call last):
        nashward.errors.NashwardError: file.csv: row 2 invalid literal for int() with base 10: 'two'
    """
    for number, row in enumerate(rows, 1):
        try:
            parsed = parse(row)
        except ValueError as error:
            raise NashwardError(f"{name}: row {number} {error}") from None
        yield parsed


def prompt_messages(row: Any, column: str | None = None) -> tuple[Message, ...]:
    """The prompt of one row of a file, see ``read_prompts``.

    Raises:
        ValueError: the row has no prompt.

    Example:
        >>> prompt_messages({"question": "Name a river."})
        ({'role': 'user', 'content': 'Name a river.'},)
    """
    if isinstance(row, str):
        return ({"role": "user", "content": row},)
    if not isinstance(row, Mapping):
        raise NashwardError(f"is {type(row).__name__}, expected a string or an object with a prompt")
    fields = (column,) if column else PROMPT_FIELDS
    field = next((name for name in fields if row.get(name) is not None), None)
    if field is None:
        raise NashwardError(f"has no {' or '.join(fields)}; it has {', '.join(map(str, row)) or 'nothing'}")
    if isinstance(row[field], str):
        return ({"role": "user", "content": row[field]},)
    messages = chat_messages(row[field], field)
    while messages and messages[-1]["role"] == "assistant":
        messages.pop()
    return tuple(messages)


def _weight(row: Any) -> float:
    """A row's weight, which CSV has as text; 1 where it has none."""
    value = row.get("weight") if isinstance(row, Mapping) else None
    if value is None or value == "":
        return 1.0
    try:
        weight = float(value)
    except (TypeError, ValueError):
        weight = math.nan
    if not 0 < weight < math.inf:
        raise NashwardError(f"has a weight of {value!r}, expected a positive number")
    return weight


def chat_messages(value: Any, field: str) -> list[Message]:
    """The role and the content of each message of a row's field.

    Args:
        value: of the field.
        field: its name, for errors.

    Raises:
        ValueError: it is no list of messages.
    """
    if not isinstance(value, list | tuple):
        raise NashwardError(f"has a {field} that is {type(value).__name__}, expected text or a list of messages")
    for message in value:
        if (
            not isinstance(message, Mapping)
            or message.get("role") not in _ROLES
            or not isinstance(message.get("content"), str)
        ):
            raise NashwardError(
                f"has a message without a role ({', '.join(_ROLES)}) and a content that is text: {message!r}"
            )
    return [{"role": message["role"], "content": message["content"]} for message in value]


def read_rows(source: str | Path, what: str = "prompts") -> Iterator[Any]:
    """The rows of a file, or of a dataset on the hub; see ``read_prompts`` for the types of files.

    Args:
        source: a file or a dataset id.
        what: the rows are, for errors.

    Raises:
        FileNotFoundError: no such file and no such dataset.
        ValueError: a folder, a file of another type, or one that cannot be read.
    """
    path = Path(source)
    if path.is_file():
        return _file(path, what)
    if path.is_dir():
        raise NashwardError(
            f"{path} is a folder; {what} are read from a file ({', '.join(FILE_TYPES)}) or a dataset id"
        )
    kind = path.name.removesuffix(".gz")
    if path.exists() or path.is_absolute() or str(source).startswith(".") or kind.endswith(FILE_TYPES):
        raise FileNotFoundError(f"there is no {what} file {source}")
    return _dataset(str(source))


def _file(path: Path, what: str) -> Iterator[Any]:
    zipped = path.suffix == ".gz"
    kind = Path(path.stem).suffix if zipped else path.suffix
    if kind not in FILE_TYPES:
        raise NashwardError(f"{path} is of an unknown type {kind!r}; expected {', '.join(FILE_TYPES)}")
    if kind == ".parquet":
        import pyarrow as arrow
        import pyarrow.parquet as parquet

        try:
            yield from parquet.read_table(path).to_pylist()
        except arrow.ArrowInvalid as error:
            raise NashwardError(f"{path} is no Parquet file: {error}") from None
        return
    try:
        with gzip.open(path, "rt", encoding="utf-8-sig") if zipped else path.open(encoding="utf-8-sig") as handle:
            if kind == ".json":
                content = json.load(handle)
                if not isinstance(content, list):
                    raise NashwardError(f"{path} must hold a list of {what}, it holds {type(content).__name__}")
                yield from content
            elif kind == ".jsonl":
                yield from (json.loads(line) for line in handle if line.strip())
            elif kind == ".csv":
                yield from csv.DictReader(handle)
            else:
                yield from (line.rstrip("\n") for line in handle)
    except (json.JSONDecodeError, RecursionError) as error:
        raise NashwardError(f"{path} is not valid {kind[1:].upper()}: {error}") from None
    except (UnicodeDecodeError, gzip.BadGzipFile, EOFError, zlib.error, csv.Error) as error:
        raise NashwardError(f"{path} cannot be read as text: {error}") from None


def _dataset(source: str) -> Iterator[Any]:
    from datasets import load_dataset
    from datasets.exceptions import DatasetNotFoundError

    name, _, split = source.partition(":")
    try:
        return iter(load_dataset(name, split=split or "train"))
    except (DatasetNotFoundError, ConnectionError, OSError) as error:
        raise FileNotFoundError(
            f"{source} is neither a file nor a dataset that can be reached ({type(error).__name__}); give a file "
            f"({', '.join(FILE_TYPES)}), or fetch the dataset first on a machine with "
            f"network: hf download --repo-type dataset {name}"
        ) from None
