"""Battles as people and LMArena write them: models, winner, prompt, style and categories of a row."""

from __future__ import annotations

import csv
import json
import logging
import math
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nashward import winners
from nashward.counted import counted
from nashward.errors import NashwardError
from nashward.shortened import quoted
from nashward.text_rows import as_whole, csv_rows, is_missing, json_rows, jsonl_rows, records_of
from nashward.winners import GENERATORS, MODELS, PREFERENCE, RESPONSES, is_skip, response_fields

from .battles.battle_fields import COUNTS, ONE_HOT, TIES, count_of, counts_of, name_of, wins_by
from .confidence import JEFFREYS
from .count_table import check_counts, pairs_of_counts
from .style import STYLE, relative_differences, style_counts

if TYPE_CHECKING:
    from .battles import Bands, Battles, InCategory

__all__ = ["Bands", "Battles", "InCategory", "from_battles", "read_battles"]

TYPES = (".csv", ".json", ".jsonl", ".parquet")
NAMES = (MODELS, GENERATORS, ("a", "b"))  # the columns of the models, as files have them
LENGTHS = ("sum_assistant_{}_tokens", "sum_assistant_tokens_{}", "token_len_{}")  # LMArena's name, and others
MARKS = ("header_count_{}", "list_count_{}", "bold_count_{}")
CONVERSATIONS = ("conversation_a", "conversation_b")
COLUMNS = (  # of a Parquet file, all others stay unread
    *MODELS, *GENERATORS, PREFERENCE, "instruction",
    *CONVERSATIONS, *(name for fields in RESPONSES for name in fields), "winner", *COUNTS, *TIES,
    *ONE_HOT, *winners.VOTERS, "prompt", "language", "is_code", "category", "category_tag", "conv_metadata",
    *(name.format(side) for name in (*LENGTHS, *MARKS) for side in "ab"),
)  # fmt: skip

logger = logging.getLogger(__name__)


def __getattr__(name: str) -> Any:
    if name not in ("Bands", "Battles", "InCategory"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(".battles", __package__), name)


def from_battles(rows: Any, smoothing: float = JEFFREYS, style: bool = False, without: Collection[str] = ()) -> Battles:
    """Count battles.

    Args:
        rows: mappings, or a data frame, with ``model_a``, ``model_b`` (or, where there is no ``prompt``, ``a``, ``b``)
            and one of ``winner`` (the name of either, "model_a", "model_b", "tie" or "both_bad", and what
            ``nashward.winners`` reads beside), ``wins_a`` with ``wins_b`` (and ``ties`` or ``draws``), counts, and
            ``winner_model_a`` with ``winner_model_b`` (and ``winner_tie``), of which one is 1; or AlpacaEval's rows;
            optionally ``prompt``, text or a list of messages (else what the user said first in ``conversation_a``);
            where only some rows have one, each of the others counts as a prompt of its own.
            Models may be numbers. A row whose ``winner`` is empty or "skip", and without counts, is no battle; a
            warning of the logger has their number. As LMArena's files have it, ``language``, ``is_code`` and
            ``category_tag`` are the categories, and ``conv_metadata`` has the style.
        smoothing: a > 0 of the prior Beta(a, a) on each win probability; 1/2 is Jeffreys'.
        style: read the style of the responses, from ``conv_metadata`` or else from the responses themselves, whose
            fields are ``conversation_a`` or the first that there are of ``nashward.winners.RESPONSES``, and those of b.
        without: who voted, by ``voter`` or ``annotator``: their rows are left out.

    Raises:
        ValueError: no rows, a row without a model or a winner (it is named), a vote on two response texts ``a`` and
            ``b`` to a ``prompt``, a model against itself, two models whose names differ in the blanks around them,
            smoothing <= 0, somebody to leave out who is no voter of any row.

    Example:
        >>> battles = from_battles([{"model_a": "x", "model_b": "y", "winner": "model_a"}] * 3, smoothing=1.0)
        >>> battles.labels, battles.game.P[0].tolist()
        (('x', 'y'), [0.5, 0.8])
    """
    if not (isinstance(smoothing, Real) and 0 < smoothing < math.inf):
        raise NashwardError(f"smoothing must be a finite number above 0, got {quoted(smoothing, 40)}")
    records: Any = records_of(rows)
    if not isinstance(records, Iterable):
        raise NashwardError(f"battles are {type(rows).__name__}; expected rows with model_a, model_b and winner")
    names: dict[str, int] = {}
    prompts: dict[Hashable, int] = {}
    sets: dict[tuple[str, ...], int] = {}
    models: list[int] = []
    wins: list[float] = []
    prompt: list[int] = []
    tags: list[int] = []
    styles: list[list[float]] = []
    of_counts = 0
    unknown = [math.nan] * len(STYLE)
    skipped = 0
    without = [str(name).strip() for name in without]
    voters: set[str] = set()
    for number, row in enumerate(records, 1):
        if without and (voter := winners.voter_of(row)) is not None:
            voters.add(voter)
            if voter in without:
                continue
        try:
            a, b, wins_of_row = _battle(row)
            both = _style(row) if style else None
        except ValueError as error:
            raise NashwardError(f"row {number} {error}") from None
        if wins_of_row is None:
            skipped += 1
            continue
        models += (names.setdefault(a, len(names)), names.setdefault(b, len(names)))
        wins += wins_of_row
        of_counts += not is_missing(row.get(COUNTS[0]))
        prompt.append(prompts.setdefault(_prompt(row), len(prompts)))
        tags.append(sets.setdefault(_categories(row), len(sets)))
        if style:
            styles += both or (unknown, unknown)
    winners.check_left_out(without, voters, bool(models))
    if not models:
        but = f", but {counted(skipped, 'skip')}: rows whose result is empty or skip" if skipped else ""
        raise NashwardError(f"there are no battles{but}; expected rows with model_a, model_b and winner")
    if skipped:
        logger.warning("%s without a winner (skipped), which are no battles", counted(skipped, "row"))
    of_prompt, by_prompt = np.array(prompt), len(prompts) > 1 or None not in prompts
    alone = np.flatnonzero(of_prompt == prompts.get(None, -1)) if by_prompt else ()
    if len(alone):  # as one prompt they would count once
        logger.warning("%s without a prompt, each of which counts as one", counted(len(alone), "row"))
        of_prompt[alone[1:]] = len(prompts) + np.arange(len(alone) - 1)
    labels = _labels(names)
    place = np.empty(len(names), dtype=np.int64)
    place[[names[label] for label in labels]] = np.arange(len(labels))
    pairs, (won, lost, ties) = place[np.array(models)].reshape(-1, 2), np.array(wins).reshape(-1, 3).T
    if of_counts == len(won) and not by_prompt:
        check_counts(pairs, won, lost, ties)
    from .battles import Battles  # with torch: what is refused is refused before

    every, at = dict.fromkeys(name for tag in sets for name in tag), np.array(tags)
    flags = {name: np.array([name in tag for tag in sets])[at] for name in every}
    by_size = sorted(flags, key=lambda name: (-int(flags[name].sum()), name))
    sides = np.array(styles).reshape(-1, 2, len(STYLE)) if style else None
    return Battles(
        labels, pairs[:, 0], pairs[:, 1], won, lost, of_prompt, int(of_prompt.max()) + 1, by_prompt,
        smoothing=smoothing,
        style=None if sides is None else relative_differences(sides[:, 0], sides[:, 1]),
        categories={name: flags[name] for name in by_size},
        ties=ties if of_counts else None,
    )  # fmt: skip


def _labels(names: Iterable[str]) -> tuple[str, ...]:
    by_letters: dict[str, str] = {}
    labels = sorted(names)
    for name in labels:
        if (other := by_letters.setdefault(name.strip(), name)) != name:
            raise NashwardError(f"models {other!r} and {name!r} differ in the blanks around them; name them alike")
    return tuple(labels)


def read_battles(
    path: str | Path, smoothing: float = JEFFREYS, style: bool = False, without: Collection[str] = ()
) -> Battles:
    """``from_battles`` of a ``.csv``, ``.json``, ``.jsonl`` or ``.parquet`` file.

    Args:
        path: of the file; a ``.json`` one holds a list of rows, a ``.jsonl`` one a row a line, a ``.csv`` one rows or a
            square table of counts (``pairs_of_counts``). Parquet needs pyarrow, of the ``llm`` extra.
        smoothing: a > 0 of the prior Beta(a, a) on each win probability.
        style: read the style of the responses.
        without: who voted and is left out.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another file type, a file that cannot be read, or rows that are no battles.
    """
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"there is no file of battles {file}; expected {', '.join(TYPES)}")
    if file.suffix.lower() not in TYPES:
        raise NashwardError(f"{file} is of an unknown type {file.suffix!r}; battles are read from {', '.join(TYPES)}")
    with _rows(file) as rows:
        try:
            return from_battles(rows, smoothing, style, without)
        except UnicodeDecodeError as error:
            raise NashwardError(f"{file} cannot be read as text in UTF-8: {error}; save it as UTF-8") from None
        except (csv.Error, json.JSONDecodeError, RecursionError) as error:
            raise NashwardError(f"{file} cannot be read as {file.suffix[1:].lower()}: {error}") from None
        except ValueError as error:
            raise NashwardError(str(error) if str(error).startswith(str(file)) else f"{file}: {error}") from None


@contextmanager
def _rows(file: Path) -> Iterator[Iterator[Any]]:
    """The rows of a file as they are read: of lines and of Parquet one after another, since files may be large."""
    kind = file.suffix.lower()
    if kind == ".parquet":
        yield _parquet(file)
        return
    with file.open(encoding="utf-8-sig", newline="" if kind == ".csv" else None) as handle:
        yield _of_text(handle, kind, file)


def _of_text(handle: Any, kind: str, file: Path) -> Iterator[Any]:
    if kind == ".jsonl":
        yield from jsonl_rows(handle, file)
    else:
        is_csv = kind == ".csv"
        yield from pairs_of_counts(csv_rows(handle, file)) if is_csv else json_rows(handle.read(), file, "battles")


def _parquet(file: Path) -> Iterator[Any]:
    try:
        import pyarrow
        import pyarrow.parquet as parquet
    except ModuleNotFoundError:
        raise NashwardError(f'{file}: reading parquet needs pyarrow: pip install "nashward[llm]"') from None
    try:
        content = parquet.ParquetFile(file)
        known: list[str] | None = [name for name in COLUMNS if name in content.schema_arrow.names]
        if not any({*fields} <= {*(known or ())} for fields in (("winner",), COUNTS, ONE_HOT[:1], (PREFERENCE,))):
            known = None  # an error names the columns that may be meant
        for batch in content.iter_batches(batch_size=4096, columns=known):
            yield from batch.to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise NashwardError(f"{file} cannot be read as parquet: {str(error).splitlines()[0]}") from None


def _battle(row: Any) -> tuple[str, str, tuple[float, float, float] | None]:
    """Both models, their wins with a tie as half a win of each, and the ties of counts; None of a skipped winner.

    Raises:
        ValueError: the missing or wrong field of the row.

    Example:
        >>> _battle({"model_a": "x", "model_b": "y", "winner": "tie (bothbad)"})
        ('x', 'y', (0.5, 0.5, 0.0))
    """
    if not isinstance(row, Mapping):
        raise NashwardError(f"is of type {type(row).__name__}; expected a row with model_a, model_b and winner")
    if None in row:  # a row of a CSV file that is longer than the first one
        raise NashwardError(f"has {len(row[None])} cells more than there are columns")
    fields = next((fields for fields in NAMES if any(field in row for field in fields)), NAMES[0])
    texts = response_fields(row)
    if not _names_models(row) and (texts != NAMES[-1] or (texts == fields and not is_missing(row.get("prompt")))):
        raise NashwardError(
            f"has response texts {' and '.join(texts)} to a prompt, and no model_a and model_b: these are votes on "
            "responses, from which nashward fit-oracle makes an oracle; where these are names of models, call the "
            "columns model_a and model_b"
        )
    a, b = (name_of(row, field) for field in fields)
    if a == b:
        raise NashwardError(f"lets {a} play itself")
    if fields == GENERATORS:
        first = None if is_missing(row.get(PREFERENCE)) else winners.first_wins(row[PREFERENCE])
        return a, b, None if first is None else (first, 1 - first, 0.0)
    result = row.get("winner")
    if is_skip(result, (a, b)):
        return a, b, None
    if not is_missing(result):
        if not all(is_missing(row.get(name)) for name in COUNTS):
            raise NashwardError("has a winner and counts; expected one of them: leave out a column")
        result = as_whole(result)
        return a, b, (*wins_by(str(result) if isinstance(result, int | float) else result, a, b), 0.0)
    if any(not is_missing(row.get(name)) for name in ONE_HOT):
        hot = [count_of(row, name) for name in ONE_HOT]
        if sorted(hot) != [0.0, 0.0, 1.0]:
            raise NashwardError(f"has {', '.join(ONE_HOT)} of {hot}; expected a single 1")
        return a, b, (hot[0] + hot[2] / 2, hot[1] + hot[2] / 2, 0.0)
    counts = counts_of(row)
    return a, b, None if counts is None else (counts[0] + counts[2] / 2, counts[1] + counts[2] / 2, counts[2])


def _names_models(row: Mapping[Any, Any]) -> bool:
    return any(field in row for field in (*MODELS, *GENERATORS))


def _prompt(row: Mapping[Any, Any]) -> Hashable:
    """What tells the prompt from others: its text, that of a list of messages, or what the user of LMArena wrote first.

    Example:
        >>> _prompt({"conversation_a": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hey"}]})
        'Hi'
        >>> _prompt({"model_a": "x"}) is None
        True
    """
    prompt = row.get("instruction") if is_missing(row.get("prompt")) else row["prompt"]
    if isinstance(prompt, np.ndarray):
        prompt = prompt.tolist()
    if isinstance(prompt, list | tuple | Mapping):
        return json.dumps(prompt, sort_keys=True, ensure_ascii=False, default=str)
    if not is_missing(prompt):
        return prompt
    return next((text for role, text in _turns(row.get("conversation_a")) if role == "user"), None)


def _turns(conversation: Any) -> Iterator[tuple[str, str]]:
    """Role and text of the messages, whose content is a text or a list of parts."""
    for message in _parsed(conversation, list) or ():
        if isinstance(message, Mapping):
            content = message.get("content")
            if isinstance(content, list | np.ndarray):
                content = "\n".join(str(part.get("text") or "") for part in content if isinstance(part, Mapping))
            yield str(message.get("role")), "" if content is None else str(content)


def _parsed(value: Any, kind: type) -> Any:
    """A list or mapping, also as JSON in a cell of text; None where it is neither."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, str) and value[:1] in ("[", "{"):
        try:
            value = json.loads(value)
        except ValueError:
            return None
    return value if isinstance(value, kind) else None


def _style(row: Mapping[Any, Any]) -> tuple[list[float], list[float]] | None:
    """The style of both responses, as ``style_counts`` has it: length in tokens, and headers, lists and bold a token.

    From LMArena's ``conv_metadata`` (or columns of these names), or from the responses themselves; None where the row
    has neither.

    Raises:
        ValueError: a count that is missing beside others, or no number from 0 on.

    Example:
        >>> a = {"sum_assistant_a_tokens": 100, "header_count_a": {"h1": 1, "h2": 4}}
        >>> a |= {"list_count_a": 0, "bold_count_a": {"**": 2, "__": 0}}
        >>> b = {"sum_assistant_b_tokens": 50, "header_count_b": {}, "list_count_b": {"ordered": 0}, "bold_count_b": 0}
        >>> _style({"conv_metadata": a | b})
        ([100.0, 0.05, 0.0, 0.02], [50.0, 0.0, 0.0, 0.0])
    """
    source = _parsed(row.get("conv_metadata"), dict) or row
    length = next((name for name in LENGTHS if not is_missing(source.get(name.format("a")))), None)
    if length is not None:
        return _counted(source, length, "a"), _counted(source, length, "b")
    for fields in (CONVERSATIONS, response_fields(row))[: 1 + _names_models(row)]:  # a and b may be models
        texts = [_answer(row.get(field)) for field in fields]
        if None not in texts:
            first, second = (style_counts(str(text)).tolist() for text in texts)
            return first, second
    return None


def _counted(source: Mapping[str, Any], length: str, side: str) -> list[float]:
    tokens = _number(source, length.format(side))
    return [tokens, *(_number(source, name.format(side)) / max(tokens, 1.0) for name in MARKS)]


def _number(source: Mapping[str, Any], field: str) -> float:
    value = source.get(field)
    if type(value) is int and value >= 0:
        return float(value)
    if type(value) is dict and all(type(part) is int and part >= 0 for part in value.values()):
        return float(sum(value.values()))
    if is_missing(value):
        needed = ", ".join((LENGTHS[0], *MARKS)).replace("{}", "a")
        raise NashwardError(f"has no {field}; its style needs {needed}, and of b")
    parts: Any = _parsed(value, dict)
    kinds: list[Any] = [value] if parts is None else list(parts.values())
    try:
        numbers = [0.0 if is_missing(part) else float(part) for part in kinds]
    except (TypeError, ValueError, OverflowError):
        numbers = [math.nan]
    if not all(0 <= number < math.inf for number in numbers):
        raise NashwardError(f"has {field} {value}; expected a number from 0 on, or numbers by kind")
    return sum(numbers)


def _answer(value: Any) -> str | None:
    """What the assistant said, of a conversation, of a list of texts or of a text."""
    turns = _parsed(value, list)
    if turns is None:
        return value if isinstance(value, str) and value else None
    if all(isinstance(turn, str) for turn in turns):
        return "\n".join(turns)
    return "\n".join(text for role, text in _turns(turns) if role == "assistant")


def _categories(row: Mapping[Any, Any]) -> tuple[str, ...]:
    """The categories of a battle: its language, ``code``, and the tags that are true or that a text names.

    Example:
        >>> tags = {"math_v0.1": {"math": True}, "criteria_v0.1": {"creativity": False, "specificity": True}}
        >>> _categories({"language": "English", "is_code": False, "category_tag": tags})
        ('language English', 'math', 'specificity')
    """
    names = []
    language = row.get("language")
    if isinstance(language, str) and language:
        names.append(f"language {language}")
    if row.get("is_code") in (True, "True", "true", 1):
        names.append("code")
    for field in ("category_tag", "category"):
        value = row.get(field)
        if value is None:
            continue
        tags = _parsed(value, dict)
        if tags is not None:
            for flags in tags.values():
                if isinstance(flags, Mapping):  # beside the flags stand scores, which are no truth values
                    names += [str(name) for name, flag in flags.items() if flag is True]
        else:
            listed = _parsed(value, list)
            names += [text for text in ([value] if listed is None else listed) if isinstance(text, str) and text]
    return tuple(dict.fromkeys(names))
