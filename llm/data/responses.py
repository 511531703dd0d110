"""Responses from files: one file per model, or rows with a prompt and its responses."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from nashward.errors import NashwardError
from nashward.shortened import quoted

from .conversations import chat_messages, fields_of_prompt, prompt_field, prompt_fields, prompt_messages, response_text
from .prompts import OWN_FIELDS, Prompt, row_prompt
from .rows import conversation_of, is_missing, is_unicode, likely_field, numbered_rows, read_rows, warn_of_unread

RESPONSE_FIELDS = ("output", "response", "text")  # where a row has its response, the first that it has
NO_RESPONSE = "has no response; expected a text, or one as output, response or text"
PROMPT_KEYS = ("prompt_id", "question_id", "instruction_id")  # fields that name a prompt, as its text does
KEY_FIELDS = (*PROMPT_KEYS, "id", "uid", "idx")  # the last three only where the prompts have them too
_SUFFIXES = (".json", ".jsonl")


def read_responses(
    folder: str | Path, prompts: Sequence[str] | None = None, keys: Mapping[str, Sequence[Any]] | None = None
) -> dict[str, list[str | None]]:
    """The responses of each model: one file per model, named after it.

    A file is ``.json``, a list, or ``.jsonl``, both also gzipped; an entry is the response or has it as ``output``,
    ``response`` or ``text``, or at the end of its ``messages``; null where there is none.

    Args:
        folder: that of the files.
        prompts: N texts of prompts, see ``Prompt.text``. The entries of a file that name their prompt are matched with
            them; those of a file that names none are matched by a key, as ``id``, that both have, and without one in
            the order of the prompts. None: all are in their order.
        keys: those of the prompts, as ``read_prompt_keys`` gives them.

    Returns:
        for each model its responses; where they are matched, N of them, with None for a prompt that a file does not
        name.

    Raises:
        FileNotFoundError: no such folder, or none of these files in it.
        ValueError: a file cannot be read, an entry has no response (it is numbered), or a model has two files; an
            entry names another prompt than those given, or one a second time, or only some entries name one; two files
            that are taken by order have the same keys in different orders.

    See also: ``read_prompts_with_responses``, for files that have the prompts as well.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as home:
        ...     _ = (Path(home) / "terse.json").write_text('["Hi.", null]')
        ...     rows = '[{"prompt": "b", "output": "B"}, {"prompt": "a", "output": "A"}]'
        ...     _ = (Path(home) / "calm.json").write_text(rows)
        ...     read_responses(home, ["a", "b"])
        {'calm': ['A', 'B'], 'terse': ['Hi.', None]}
    """
    folder = Path(folder)
    files = sorted(file for file in folder.glob("*") if file.name.removesuffix(".gz").endswith(_SUFFIXES))
    if not files:
        raise FileNotFoundError(f"{folder} holds no responses; expected one .json or .jsonl file per player (or .gz)")
    responses: dict[str, list[str | None]] = {}
    in_order: list[tuple[Path, dict[str, list[Any]]]] = []
    unread: dict[str, None] = {}
    for file in files:
        model = _model(file)
        if model in responses:
            both = " and ".join(other.name for other in files if _model(other) == model)
            raise NashwardError(f"{folder} holds {both}: two files for {model}; expected one per player")
        content = list(read_rows(file, "responses"))
        own = _keys(content)
        shared = [name for name, known in (keys or {}).items() if name in own and _is_key(name, own[name], known)]
        rows = list(numbered_rows(content, str(file), _named_response, partial(_fields, keys=shared[:1]), unread))
        if prompts is not None and any(prompt is not None for prompt, _ in rows):
            responses[model] = _matched(rows, prompts, file)
        elif prompts is not None and keys and shared:
            name = shared[0]
            keyed = [(key, response) for key, (_, response) in zip(own[name], rows, strict=True)]
            responses[model] = _matched(keyed, keys[name], file, f"the {name}s of the prompts")
        else:
            _check_same_order(in_order, file, own)
            in_order.append((file, own))
            responses[model] = [response for _, response in rows]
    warn_of_unread(str(folder), unread)
    return responses


def _named_response(row: Any) -> tuple[str | None, str | None]:
    """The text of the prompt that a row names, if it names one, and its response."""
    response = response_of(row)
    named = isinstance(row, Mapping) and prompt_field(row) is not None
    return row_prompt(row).text if named else None, response


def read_prompt_keys(source: str | Path) -> dict[str, list[Any]]:
    """The fields of a file of prompts that tell its rows apart, as ``id``, with their values in the rows' order.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it cannot be read.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as home:
        ...     _ = (Path(home) / "prompts.json").write_text('[{"id": 7, "prompt": "a"}, {"id": 8, "prompt": "b"}]')
        ...     read_prompt_keys(Path(home) / "prompts.json")
        {'id': ['7', '8']}
    """
    return _keys(list(read_rows(source)))


def _keys(rows: Sequence[Any]) -> dict[str, list[Any]]:
    """The fields among ``KEY_FIELDS`` that all rows have, each with a different value; as text, as CSV has all
    values."""
    if not rows or not all(isinstance(row, Mapping) for row in rows):
        return {}
    values = {name: [row.get(name) for row in rows] for name in KEY_FIELDS}
    return {
        name: [str(key) for key in column]
        for name, column in values.items()
        if all(isinstance(key, str | int) for key in column) and len({*map(str, column)}) == len(column)
    }


def _is_key(name: str, own: Sequence[Any], known: Sequence[Any]) -> bool:
    """Whether a field names the prompts; an ``id`` may be the response's own."""
    return name in PROMPT_KEYS or not set(own).isdisjoint(known)


def _check_same_order(
    others: Sequence[tuple[Path, Mapping[str, list[Any]]]], file: Path, own: Mapping[str, list[Any]]
) -> None:
    """Refuse responses that are taken by order where a key says that another file has another order."""
    for other, theirs in others:
        for name in own.keys() & theirs.keys():
            for number, (key, same) in enumerate(zip(own[name], theirs[name], strict=False), 1):
                if key != same and (key in theirs[name] or same in own[name]):
                    raise NashwardError(
                        f"{file}: row {number} has {name} {quoted(key, 40)} where {other.name} has "
                        f"{quoted(same, 40)}; give the prompts their {name}, or name the prompt in each row"
                    )


def _matched(
    rows: Sequence[tuple[str | None, str | None]], prompts: Sequence[str], file: Path, among: str = "the prompts"
) -> list[str | None]:
    """The responses in the order of the prompts, which their texts or keys name."""
    open_places: defaultdict[str, list[int]] = defaultdict(list)
    for place in reversed(range(len(prompts))):
        open_places[prompts[place]].append(place)  # of repeated prompts, the first is taken first
    responses: list[str | None] = [None] * len(prompts)
    for number, (prompt, response) in enumerate(rows, 1):
        if prompt is None:
            raise NashwardError(f"{file}: row {number} does not name its prompt, which other rows do; name it in each")
        if prompt not in open_places:
            raise NashwardError(f"{file}: row {number} answers {quoted(prompt, 60)}, which is none of {among}")
        if not open_places[prompt]:
            raise NashwardError(
                f"{file}: row {number} answers {quoted(prompt, 60)} again; give one response per prompt"
            )
        responses[open_places[prompt].pop()] = response
    return responses


def response_of(row: Any, column: str | None = None) -> str | None:
    """The response of one row of a file, see ``read_responses``.

    Args:
        row: a row of the file.
        column: the field that holds the prompt; None: the usual ones.

    Raises:
        ValueError: the row has no response.

    Example:
        >>> response_of({"instruction": "Name a river.", "output": "The Rhine."})
        'The Rhine.'
    """
    field: str | None = "entry"
    value = row
    if isinstance(row, Mapping):
        field = response_field(row, column)
        if field is None:
            if any(name in row for name in RESPONSE_FIELDS):
                return None
            hint = likely_field(row, RESPONSE_FIELDS, fields_of_prompt(row, column) | {*KEY_FIELDS})
            raise NashwardError(f"{NO_RESPONSE}{hint}")
        value = row[field]
        if field not in RESPONSE_FIELDS:
            return chat_messages(conversation_of(value), field)[-1]["content"]
    if value is None or isinstance(value, str):
        return value
    if not isinstance(value, list | tuple):
        raise NashwardError(NO_RESPONSE)
    before, text = response_text(value, str(field))
    if before:
        raise NashwardError(f"has turns before the response in {field}; give the conversation as messages")
    return text


def response_field(row: Mapping[str, Any], column: str | None = None) -> str | None:
    """The field that a row has its response in: one of ``RESPONSE_FIELDS``, or messages that end with it.

    Args:
        row: a row of a file.
        column: the field that holds the prompt; None: the usual ones.
    """
    found = next((name for name in RESPONSE_FIELDS if not is_missing(row.get(name))), None)
    if found is not None or any(name in row for name in RESPONSE_FIELDS):
        return found
    field = prompt_field(row, column)
    value = None if field is None else conversation_of(row[field])
    if not isinstance(value, list | tuple) or not value:
        return None
    return field if chat_messages(value, str(field))[-1]["role"] == "assistant" else None


def _fields(row: Any, column: str | None = None, keys: Sequence[str] = ()) -> set[str]:
    """The fields of a row that are read."""
    if not isinstance(row, Mapping):
        return set()
    return {*fields_of_prompt(row, column), response_field(row, column) or "", "responses", *keys}


def read_prompt_texts(source: str | Path, column: str | None = None) -> list[str]:
    """The texts of ``read_prompts_in_order``, which lists the errors."""
    return [prompt.text for prompt in read_prompts_in_order(source, column)]


def read_prompts_in_order(source: str | Path, column: str | None = None) -> list[Prompt]:
    """All prompts of a file in their order, to go with responses by position; one that is null is empty.

    Args:
        source: the file.
        column: the field that holds the prompt; None: the usual ones.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file of another type, or a row without a prompt (it is numbered).

    See also: ``read_prompts``, which drops empty and repeated prompts.
    """

    def used(row: Any) -> set[str]:
        return fields_of_prompt(row, column) | OWN_FIELDS | {*KEY_FIELDS}

    def parse(row: Any) -> Prompt:
        return Prompt(prompt_messages(row, column) or ({"role": "user", "content": ""},))

    return list(numbered_rows(read_rows(source), str(source), parse, used))


def read_prompts_with_responses(
    source: str | Path | Iterable[Any], name: str, column: str | None
) -> Iterator[tuple[Prompt, list[str]]]:
    """The prompts of a source and their responses, row by row.

    A row has a prompt, as ``read_prompts`` takes it, and ``responses``, a list of texts, or one response as
    ``read_responses`` takes it; null is left out.

    Args:
        source: a file, a dataset id, or rows.
        name: what errors call the rows.
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
        named = own(row)
        responses = _responses(row, named)
        return row_prompt(row, named), responses

    def used(row: Any) -> set[str]:
        return _fields(row, own(row))

    def own(row: Any) -> str | None:
        given = prompt_fields(column) if column and isinstance(row, Mapping) else ()
        return next((name for name in given if name in row), None)

    if isinstance(source, str | Path):
        return numbered_rows(read_rows(source, "responses"), str(source), parse, used)
    return numbered_rows(source, name, parse, used)


def _responses(row: Any, column: str | None) -> list[str]:
    """The responses of a row, without nulls."""
    if not isinstance(row, Mapping):
        raise NashwardError(f"is {type(row).__name__}, expected an object with a prompt and a response")
    several = row.get("responses")
    if is_missing(several):
        several = None
    if not isinstance(several, list | tuple | None):
        raise NashwardError(f"has responses that are {type(several).__name__}, expected a list of texts")
    values = [response_of(row, column)] if several is None else map(response_of, several)
    texts = [text for text in values if text is not None]
    for text in texts:
        if not text.strip():
            raise NashwardError("has an empty response; leave it out, or give null in its place")
        if not is_unicode(text):
            raise NashwardError("has a response that is not Unicode: half of a surrogate pair")
    return texts


def _model(file: Path) -> str:
    return file.name.removesuffix(".gz").removesuffix(".jsonl").removesuffix(".json")
