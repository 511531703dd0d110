"""Responses from files: one file a model, or rows with a prompt and its responses."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from nashward.errors import NashwardError

from .prompts import Prompt, prompt_messages, read_rows


def read_responses(folder: str | Path) -> dict[str, list[str | None]]:
    """The answers of each player: one file a player, its name the player's.

    A file is ``.json``, a list, or ``.jsonl``, both also gzipped; an entry is the answer or has it as ``output``,
    ``response`` or ``text``; null where there is none.

    Raises:
        FileNotFoundError: if it is no folder or holds no such file.
        ValueError: if a file cannot be read, an entry has no answer, or a player has two files.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as home:
        ...     _ = (Path(home) / "terse.json").write_text('["Hi.", null]')
        ...     read_responses(home)
        {'terse': ['Hi.', None]}
    """
    folder = Path(folder)
    files = sorted(file for file in folder.glob("*") if file.name.removesuffix(".gz").endswith((".json", ".jsonl")))
    if not files:
        raise FileNotFoundError(f"{folder} holds no answers; expected one .json or .jsonl file a player (or .gz)")
    answers: dict[str, list[str | None]] = {}
    for file in files:
        if _player(file) in answers:
            both = " and ".join(other.name for other in files if _player(other) == _player(file))
            raise NashwardError(f"{folder} holds {both}: two files for {_player(file)}; expected one a player")
        answers[_player(file)] = [_numbered(row, file, k) for k, row in enumerate(read_rows(file), 1)]
    return answers


def answer(row: Any) -> str | None:
    """The answer of one row of a file, see ``read_responses``.

    Raises:
        ValueError: it has none; it says what the row lacks.

    Example:
        >>> answer({"instruction": "Name a river.", "output": "The Rhine."})
        'The Rhine.'
    """
    if isinstance(row, dict):
        row = next((row[key] for key in ("output", "response", "text") if key in row), row)
    if not isinstance(row, str | None):
        raise NashwardError("has no answer; expected a text, or one as output, response or text")
    return row


def read_prompt_texts(source: str | Path) -> list[str]:
    """The texts of ``read_prompts_in_order``, which says what is raised."""
    return [prompt.text for prompt in read_prompts_in_order(source)]


def read_prompts_in_order(source: str | Path) -> list[Prompt]:
    """The prompts of a file in their order; unlike those of a run none is dropped, as answers go with them.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file of another type, or a row without a prompt (it is numbered).
    """
    found = []
    for number, row in enumerate(read_rows(source), 1):
        try:
            found.append(Prompt(prompt_messages(row)))
        except ValueError as error:
            raise NashwardError(f"{source}: row {number} {error}") from None
    return found


def _player(file: Path) -> str:
    return file.name.removesuffix(".gz").removesuffix(".jsonl").removesuffix(".json")


def _numbered(row: Any, file: Path, number: int) -> str | None:
    try:
        return answer(row)
    except ValueError as error:
        raise NashwardError(f"{file}: row {number} {error}") from None


def read_prompts_with_responses(
    source: str | Path | Iterable[Any], name: str, column: str | None
) -> Iterator[tuple[Prompt, list[str]]]:
    """The prompts of a source and their responses, row by row, see ``StoredOpponents``; ``name`` says in errors what rows are.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a row without a prompt or a response, or with an empty one (it is numbered).

    Example:
        >>> list(read_prompts_with_responses([{"prompt": "Name a river."}], "rival", None))
        Traceback (most recent call last):
        nashward.errors.NashwardError: rival: row 1 has no answer; expected a text, or one as output, response or text
    """
    where, found = (str(source), read_rows(source, "responses")) if isinstance(source, str | Path) else (name, source)
    for number, row in enumerate(found, 1):
        try:
            texts = _responses(row)
            yield Prompt(prompt_messages(row, column if column in row else None)), texts
        except ValueError as error:
            raise NashwardError(f"{where}: row {number} {error}") from None


def _responses(row: Any) -> list[str]:
    if not isinstance(row, Mapping):
        raise NashwardError(f"is {type(row).__name__}, expected an object with a prompt and a response")
    several = row.get("responses")
    if not isinstance(several, list | tuple | None):
        raise NashwardError(f"has responses that are {type(several).__name__}, expected a list of texts")
    found = [text for text in ([answer(dict(row))] if several is None else map(answer, several)) if text is not None]
    for text in found:
        if not text.strip():
            raise NashwardError("has an empty response; leave it out, or give null in its place")
        if any("\ud800" <= sign <= "\udfff" for sign in text):
            raise NashwardError("has a response that is not Unicode: half of a surrogate pair")
    return found
