"""Responses from files: one file a model, or rows with a prompt and its responses."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from nashward.errors import NashwardError

from .prompts import Prompt, numbered_rows, prompt_messages, read_rows

RESPONSE_FIELDS = ("output", "response", "text")  # where a row has its response, the first that it has
_SUFFIXES = (".json", ".jsonl")


def read_responses(folder: str | Path) -> dict[str, list[str | None]]:
    """The responses of each model by position: one file a model, the model's name that of the file.

    A file is ``.json``, a list, or ``.jsonl``, both also gzipped; an entry is the response or has it as ``output``,
    ``response`` or ``text``; null where there is none.

    Raises:
        FileNotFoundError: no such folder, or none of these files in it.
        ValueError: a file cannot be read, an entry has no response (it is numbered), or a model has two files.

    See also: ``read_prompts_with_responses``, for files that have the prompts as well.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as home:
        ...     _ = (Path(home) / "terse.json").write_text('["Hi.", null]')
        ...     read_responses(home)
        {'terse': ['Hi.', None]}
    """
    folder = Path(folder)
    files = sorted(file for file in folder.glob("*") if file.name.removesuffix(".gz").endswith(_SUFFIXES))
    if not files:
        raise FileNotFoundError(f"{folder} holds no responses; expected one .json or .jsonl file a player (or .gz)")
    responses: dict[str, list[str | None]] = {}
    for file in files:
        model = _model(file)
        if model in responses:
            both = " and ".join(other.name for other in files if _model(other) == model)
            raise NashwardError(f"{folder} holds {both}: two files for {model}; expected one a player")
        responses[model] = list(numbered_rows(read_rows(file), str(file), response_of))
    return responses


def response_of(row: Any) -> str | None:
    """The response of one row of a file, see ``read_responses``.

    Raises:
        ValueError: the row has no response.

    Example:
        >>> response_of({"instruction": "Name a river.", "output": "The Rhine."})
        'The Rhine.'
    """
    if isinstance(row, dict):
        row = next((row[key] for key in RESPONSE_FIELDS if key in row), row)
    if not isinstance(row, str | None):
        raise NashwardError("has no response; expected a text, or one as output, response or text")
    return row


def read_prompt_texts(source: str | Path) -> list[str]:
    """The texts of ``read_prompts_in_order``, which lists the errors."""
    return [prompt.text for prompt in read_prompts_in_order(source)]


def read_prompts_in_order(source: str | Path) -> list[Prompt]:
    """All prompts of a file in their order, to go with responses by position.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file of another type, or a row without a prompt (it is numbered).

    See also: ``read_prompts``, which drops empty and repeated prompts.
    """
    return list(numbered_rows(read_rows(source), str(source), lambda row: Prompt(prompt_messages(row))))


def read_prompts_with_responses(
    source: str | Path | Iterable[Any], name: str, column: str | None
) -> Iterator[tuple[Prompt, list[str]]]:
    """The prompts of a source and their responses, row by row.

    A row has a prompt, as ``read_prompts`` takes it, and ``responses``, a list of texts, or one response as
    ``read_responses`` takes it; null is left out.

    Args:
        source: a file, a dataset id, or rows.
        name: of rows, for errors.
        column: the field that holds the prompt, where a row has it.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a row without a prompt or a response, or with an empty response (it is numbered).

    Example:
        >>> list(read_prompts_with_responses([{"prompt": "Name a river."}], "rival", None))
        Traceback (most recent call last):
        nashward.errors.NashwardError: rival: row 1 has no response; expected a text, or one as output, response or text
    """

    def parse(row: Any) -> tuple[Prompt, list[str]]:
        responses = _responses(row)
        return Prompt(prompt_messages(row, column if column in row else None)), responses

    if isinstance(source, str | Path):
        return numbered_rows(read_rows(source, "responses"), str(source), parse)
    return numbered_rows(source, name, parse)


def _responses(row: Any) -> list[str]:
    """The responses of a row, without nulls."""
    if not isinstance(row, Mapping):
        raise NashwardError(f"is {type(row).__name__}, expected an object with a prompt and a response")
    several = row.get("responses")
    if not isinstance(several, list | tuple | None):
        raise NashwardError(f"has responses that are {type(several).__name__}, expected a list of texts")
    values = [response_of(dict(row))] if several is None else map(response_of, several)
    texts = [text for text in values if text is not None]
    for text in texts:
        if not text.strip():
            raise NashwardError("has an empty response; leave it out, or give null in its place")
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise NashwardError("has a response that is not Unicode: half of a surrogate pair")
    return texts


def _model(file: Path) -> str:
    return file.name.removesuffix(".gz").removesuffix(".jsonl").removesuffix(".json")
