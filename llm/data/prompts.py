"""Prompts from files, and from datasets on the hub."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nashward.counted import counted
from nashward.errors import NashwardError

from .conversations import (
    PROMPT_FIELDS,
    Message,
    chat_messages,
    fields_of_prompt,
    given_turns,
    lacks_content,
    prompt_messages,
)
from .rows import is_missing, is_unicode, numbered_rows, read_rows

OWN_FIELDS = {"weight", "iteration", "id", "tokens"}  # columns of the prompts that a run folder keeps


@dataclass(frozen=True)
class Prompt:
    """A conversation that ends with the user's turn.

    Attributes:
        messages: the turns, each with ``role`` and ``content``, for the policy's chat template.
        weight: how often the prompt counts in the loss of a fit.
        iteration: the iteration that plays on it, from 1; after the last one the first comes again. None: every one.
        parent: for a variant that a run has written, the id of the prompt that it was derived from.
        kind: for a variant, how it was derived.

    Example:
        >>> prompt = Prompt(({"role": "user", "content": "Name a river."},))
        >>> prompt.text, prompt.id
        ('Name a river.', 'a5316a703e09fdf0')
    """

    messages: tuple[Message, ...]
    weight: float = 1.0
    iteration: int | None = None
    parent: str | None = None
    kind: str | None = None

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
        examples: for some reasons, one prompt that was dropped for it.
        answered: how many of the kept ones ended with the assistant, whose turn is left out.
    """

    kept: list[Prompt]
    read: int
    dropped: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    answered: int = 0

    def __str__(self) -> str:
        text = f"{counted(self.read, 'prompt')} read, {len(self.kept)} kept, {self.dropped.total()} dropped"
        end = f"; {self.answered} ended with the assistant, whose last turn is left out" if self.answered else ""
        return text + self.reasons + end

    @property
    def reasons(self) -> str:
        """Why prompts were dropped, in brackets; empty where none was."""
        reasons = ", ".join(
            f"{count} {reason}" + (f", {self.examples[reason]}" if reason in self.examples else "")
            for reason, count in sorted(self.dropped.items())
        )
        return f" ({reasons})" if reasons else ""

    def drop(self, keep: Sequence[bool], reason: str) -> None:
        """Drop the prompts that are not marked, counting them under ``reason``."""
        self.dropped[reason] += len(keep) - sum(keep)
        self.dropped += Counter()
        self.kept = [prompt for prompt, marked in zip(self.kept, keep, strict=True) if marked]


def read_prompts(source: str | Path | Iterable[Any], column: str | None = None) -> Prompts:
    """Read prompts.

    Args:
        source: a file (.jsonl, .json, .csv, .parquet, .txt with one prompt per line; each also gzipped, but for
            Parquet), a name in ``PROMPT_SETS``, the id of a dataset on the hub (``ID`` or ``ID:SPLIT``), rows, or a
            data frame. A row is a string or has a ``prompt`` (or ``instruction``, ``question``) that is a string or a
            list of messages, or ``messages`` (or ``conversations``); a response at the end of the messages is removed.
            The ``input`` (or ``context``) beside it is put behind it after a blank line, the ``history`` of an
            ``instruction`` before it, and ``system`` (or ``system_prompt``, ``system_message``) is a system turn before
            all. ``weight`` is how often the prompt counts in the loss (1), ``iteration`` the only one that plays on it.
            Fields that are not read are named in a warning of the logger.
        column: the name of the field that holds the prompt, instead of those.

    Returns:
        The prompts, without empty and repeated ones, those with a turn whose content is null, and those that are not
        Unicode.

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

    def parse(row: Any) -> tuple[Prompt | None, bool]:
        turns = given_turns(row, column)
        if any(map(lacks_content, turns)):
            return None, False
        prompt = Prompt(prompt_messages(row, column), _weight(row), _iteration(row))
        return prompt, bool(turns and chat_messages(turns[-1:], "turn")[0]["role"] == "assistant")

    for prompt, answered in numbered_rows(rows, name, parse, lambda row: fields_of_prompt(row, column) | OWN_FIELDS):
        result.read += 1
        if prompt is None:
            result.dropped["with a turn of null"] += 1
        elif not prompt.messages or not prompt.messages[-1]["content"].strip():
            result.dropped["empty"] += 1
        elif not is_unicode(prompt.text):
            result.dropped["not Unicode"] += 1
        elif prompt.id in by_id:
            result.dropped["repeated"] += 1
        else:
            by_id[prompt.id] = prompt
            result.answered += answered
    result.kept = list(by_id.values())
    if not result.kept:
        row = "line" if name.removesuffix(".gz").endswith(".txt") else "row"
        raise NashwardError(f"{name} holds no prompts: {counted(result.read, row)} read{result.reasons}")
    return result


def row_prompt(row: Any, column: str | None = None) -> Prompt:
    """The prompt of a row that also has what answers it.

    Raises:
        ValueError: the row has no prompt, see ``prompt_messages``.
    """
    messages = prompt_messages(row, column)
    if not messages:
        raise NashwardError(f"has no {column or ' or '.join(PROMPT_FIELDS)}: the field is there, and empty")
    return Prompt(messages)


def _iteration(row: Any) -> int | None:
    """The iteration that a row is for, which CSV has as text; None where it has none."""
    value: Any = row.get("iteration") if isinstance(row, Mapping) else None
    if is_missing(value) or value == "":
        return None
    whole = str(value).removesuffix(".0")  # a data frame with empty cells has numbers such as 1.0
    if isinstance(value, bool) or not whole.isdecimal() or int(whole) < 1:
        raise NashwardError(f"has an iteration of {value!r}, expected a whole number from 1")
    return int(whole)


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
