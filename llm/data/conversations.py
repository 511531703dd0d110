"""The prompt of a row: which of its fields are the conversation that a response answers.

Prompts, votes, SFT texts and stored answers are all read here, so that one row is one prompt whoever reads it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from nashward.errors import NashwardError
from nashward.shortened import quoted
from nashward.text_rows import field_name
from nashward.winners import MODELS, response_fields

from .rows import conversation_of, is_missing, likely_field

Message: TypeAlias = Mapping[str, str]

TEXT_FIELDS = ("prompt", "instruction", "question")  # where a row has its prompt, the first that it has
CHAT_FIELDS = ("messages", "conversations", "conversation")
PROMPT_FIELDS = (*TEXT_FIELDS, *CHAT_FIELDS)
SYSTEM_FIELDS = ("system", "system_prompt", "system_message")  # a system turn before the prompt
INPUT_FIELDS = ("input", "context")  # what an instruction or a question is about; it follows after a blank line
NO_INPUT = "<noinput>"  # what some data sets write where there is no input
HISTORY = "history"  # the turns before an instruction: pairs of the user's text and the response to it
COMPARED_FIELDS = ("chosen", "rejected")  # the fields of a vote: the response, with or without the turns before it
CALLS = ("tool_calls", "function_call")
_ROLES = ("system", "user", "assistant")
_SPEAKERS = {**{role: role for role in _ROLES}, "human": "user", "gpt": "assistant", "chatgpt": "assistant"}


def prompt_messages(row: Any, column: str | None = None) -> tuple[Message, ...]:
    """The prompt of one row of a file, see ``read_prompts``; empty where the row has its field without a value.

    Raises:
        ValueError: the row has no prompt, or fields that disagree on it.

    Example:
        >>> prompt_messages({"question": "Name a river.", "system": "One word."})
        ({'role': 'system', 'content': 'One word.'}, {'role': 'user', 'content': 'Name a river.'})
        >>> prompt_messages({"instruction": "Translate.", "input": "The cat sleeps."})[0]["content"]
        'Translate.\\n\\nThe cat sleeps.'
    """
    if isinstance(row, str):
        return ({"role": "user", "content": row},)
    if not isinstance(row, Mapping):
        raise NashwardError(f"is {type(row).__name__}, expected a string or an object with a prompt")
    field, before = prompt_field(row, column), turns_before_responses(row)
    if column is None:
        _check_one_prompt(row, field)
    if field is None and before is None:
        fields = (column,) if column else PROMPT_FIELDS
        if any(name in row for name in prompt_fields(column)):
            return ()
        has = ", ".join(map(str, row)) or "nothing"
        raise NashwardError(f"has no {' or '.join(fields)}; it has {has}{_likely_prompt(row, fields)}")
    messages = list(before or ()) if field is None else _field_messages(row, field)
    if field is not None and before:
        if _contents(messages) != _contents(before):
            raise NashwardError(
                "has turns in chosen and rejected that are not those of its prompt; leave out the prompt to use the "
                "turns"
            )
        messages = _with_system(messages, [m["content"] for m in before if m["role"] == "system"], "chosen")
    chat = _chat_beside(row, field, messages)
    messages = _with_system(messages, [m["content"] for m in chat if m["role"] == "system"], "its messages")
    messages = _with_system(messages, [_text(row, name) for name in system_fields(row, field)], "its system field")
    if messages and messages[-1]["role"] != "user":
        raise NashwardError(f"ends with a turn of role {messages[-1]['role']}, expected the user's")
    return tuple(messages)


def _likely_prompt(row: Mapping[str, Any], fields: Sequence[str]) -> str:
    """What to do about a row without a prompt; for votes no option names the field."""
    compared = {*response_fields(row), *COMPARED_FIELDS} & row.keys()
    if not compared:
        return likely_field(row, fields, option="--prompt-field")
    read = {*compared, *MODELS, "winner", "voter", "annotator"}
    return likely_field(row, fields, read) or "; rename the field that has it to prompt" * bool(row.keys() - read)


def prompt_field(row: Mapping[str, Any], column: str | None = None) -> str | None:
    """The field that a row has its prompt in; None where it has none.

    Example:
        >>> prompt_field({"prompt": None, "question": "Why?"}), prompt_field({"text": "Why?"})
        ('question', None)
    """
    return next((name for name in prompt_fields(column) if not is_missing(row.get(name))), None)


def prompt_fields(column: str | None = None) -> tuple[str, ...]:
    """Where a row may have its prompt; a given field also as the head of a CSV file is read.

    Example:
        >>> prompt_fields("My Prompt")
        ('My Prompt', 'my_prompt')
    """
    return tuple(dict.fromkeys((column, field_name(column)))) if column else PROMPT_FIELDS


def system_fields(row: Mapping[str, Any], field: str | None) -> list[str]:
    """The fields of a row whose text is a system turn before the prompt, which is in ``field``."""
    return [name for name in SYSTEM_FIELDS if name != field and not _is_blank(row.get(name))]


def fields_of_prompt(row: Any, column: str | None = None) -> set[str]:
    """The fields that ``prompt_messages`` reads of a row.

    Example:
        >>> sorted(fields_of_prompt({"instruction": "Translate.", "input": "cat", "output": "chat"}))
        ['input', 'instruction']
    """
    if not isinstance(row, Mapping):
        return set()
    field = prompt_field(row, column)
    beside = INPUT_FIELDS if field in TEXT_FIELDS and isinstance(row[field], str) else ()
    history = (HISTORY,) if field == "instruction" else ()
    compared = () if turns_before_responses(row) is None else COMPARED_FIELDS
    chosen = (field, *SYSTEM_FIELDS, *beside, *history, *compared)
    return {name for name in chosen if name is not None and name in row}


def chat_messages(value: Any, field: str) -> list[Message]:
    """The role and the content of each message of a row's field.

    Args:
        value: the field's value: messages with ``role`` and ``content``, or ``from`` and ``value`` as ShareGPT has
            them.
        field: its name, for errors.

    Raises:
        ValueError: it is no list of messages.

    Example:
        >>> chat_messages([{"from": "human", "value": "Hi"}], "conversations")
        [{'role': 'user', 'content': 'Hi'}]
    """
    if not isinstance(value, list | tuple):
        raise NashwardError(f"has a {field} that is {type(value).__name__}, expected text or a list of messages")
    return [_message(message) for message in value]


def given_turns(row: Any, column: str | None = None) -> list[Mapping[str, Any]]:
    """The messages of a row's prompt as they stand there, also a response at their end; none of a text.

    Example:
        >>> given_turns({"messages": [{"role": "user", "content": None}]})
        [{'role': 'user', 'content': None}]
    """
    field = prompt_field(row, column) if isinstance(row, Mapping) else None
    value = None if field is None else conversation_of(row[field]) if field in CHAT_FIELDS else row[field]
    return list(value) if isinstance(value, list | tuple) and _is_chat(value) else []


def lacks_content(message: Mapping[str, Any]) -> bool:
    """Whether a message says nothing, which null stands for; one that calls a tool has its content elsewhere.

    Example:
        >>> lacks_content({"role": "user", "content": None}), lacks_content({"role": "user", "content": ""})
        (True, False)
    """
    name = "value" if "from" in message else "content"
    return name in message and is_missing(message[name]) and not any(message.get(call) for call in CALLS)


def response_text(value: Any, field: str) -> tuple[tuple[Message, ...], str]:
    """A response in a row's field, as text or as messages that end with it, and the turns before it.

    Raises:
        ValueError: it is neither.

    Example:
        >>> response_text([{"role": "assistant", "content": "The Rhine."}], "chosen")
        ((), 'The Rhine.')
    """
    if isinstance(value, str):
        return (), value
    messages = chat_messages(value, field)
    if [message["role"] for message in messages[-2:]] not in (["assistant"], ["user", "assistant"]):
        raise NashwardError(f"has a {field} that does not end with the assistant's turn after the user's")
    return tuple(messages[:-1]), messages[-1]["content"]


def turns_before_responses(row: Mapping[str, Any]) -> tuple[Message, ...] | None:
    """The turns that both responses of a vote begin with; None where they are not given as messages.

    Raises:
        ValueError: they differ.
    """
    values = [row.get(name) for name in COMPARED_FIELDS]
    if any(map(is_missing, values)) or not any(map(_is_chat, values)):
        return None
    before = [response_text(value, name)[0] for name, value in zip(COMPARED_FIELDS, values, strict=True)]
    texts = [turns for turns, value in zip(before, values, strict=True) if not isinstance(value, str)]
    if len(texts) == 2 and texts[0] != texts[1]:
        raise NashwardError("has other turns before the response in chosen than in rejected, expected the same")
    return texts[0] or None


def _field_messages(row: Mapping[str, Any], field: str) -> list[Message]:
    """The turns of the field of a prompt, without a response at their end."""
    value = conversation_of(row[field]) if field in CHAT_FIELDS else row[field]
    if not isinstance(value, str):
        messages = chat_messages(value, field)
        while messages and messages[-1]["role"] == "assistant":
            messages.pop()
        return messages
    if field not in TEXT_FIELDS:
        return [{"role": "user", "content": value}]
    inputs = [_text(row, name) for name in INPUT_FIELDS if not _is_blank(row.get(name))]
    inputs = [text for text in inputs if text.strip().lower() != NO_INPUT]
    if field == "prompt":  # which may be the whole text already
        inputs = [text for text in inputs if not _is_written_in(text.strip(), value, row)]
    text = "\n\n".join(part for part in (value, *inputs) if part.strip()) if inputs else value
    return [*(_history(row) if field == "instruction" else ()), {"role": "user", "content": text}]


def _is_written_in(text: str, prompt: str, row: Mapping[str, Any]) -> bool:
    """Whether a prompt has an input written in it: where it ends a line, or beside the row's instruction or question.

    Elsewhere it may be a word of the prompt by chance, as the input "a" of "Is this a word?" is.
    """
    others = [row[name].strip() for name in TEXT_FIELDS if name != "prompt" and isinstance(row.get(name), str)]
    beside = [prompt.replace(other, "\n", 1) for other in others if other and other != prompt.strip()]
    start, end = (r"\b" if sign.isalnum() else "" for sign in (text[0], text[-1]))
    found = re.compile(start + re.escape(text) + end)
    return any(found.search(rest) for rest in beside) or bool(
        re.search(found.pattern + r"[^\S\n]*$", prompt, re.MULTILINE)
    )


def _check_one_prompt(row: Mapping[str, Any], field: str | None) -> None:
    """Refuse a row with two texts that could be its prompt, unless they are equal or ``prompt`` contains them."""
    if field not in TEXT_FIELDS or not isinstance(row[field], str):
        return
    for name in TEXT_FIELDS:
        other = row.get(name)
        same = not isinstance(other, str) or other.strip() == row[field].strip()
        if not (same or (field == "prompt" and str(other).strip() in row[field])):
            raise NashwardError(
                f"has two prompts, {field} {quoted(row[field], 40)} and {name} {quoted(other, 40)}; keep one of them, "
                "and call a system prompt system"
            )


def _chat_beside(row: Mapping[str, Any], field: str | None, messages: Sequence[Message]) -> list[Message]:
    """The messages of a row whose prompt is a text, where they are a conversation that begins with that text."""
    if field not in TEXT_FIELDS or not isinstance(row[field], str):
        return []
    for name in CHAT_FIELDS:
        value = conversation_of(row.get(name))
        if not is_missing(value) and _is_chat(value):
            chat = chat_messages(value, name)
            if _contents(chat)[:1] == _contents(messages)[:1]:
                return chat
    return []


def _history(row: Mapping[str, Any]) -> list[Message]:
    pairs = row.get(HISTORY)
    if _is_blank(pairs):
        return []
    if not isinstance(pairs, list | tuple) or not all(
        isinstance(pair, list | tuple) and [type(text) for text in pair] == [str, str] for pair in pairs
    ):
        raise NashwardError(f"has a {HISTORY} that is no list of pairs of texts; give the turns as messages")
    roles = ("user", "assistant")
    return [
        {"role": role, "content": text} for pair in pairs for role, text in zip(roles, pair, strict=True) if text != ""
    ]


def _with_system(messages: list[Message], texts: Sequence[str], where: str) -> list[Message]:
    """The turns after a system turn with these texts, which must all be equal, and equal to the turns' own if there is
    one."""
    own = [message["content"] for message in messages if message["role"] == "system"]
    different = list(dict.fromkeys(text.strip() for text in (*own, *texts)))
    if texts and len(different) > 1:
        raise NashwardError(
            f"has two system prompts, {quoted(different[0], 40)} and in {where} {quoted(different[-1], 40)}; keep one "
            "of them"
        )
    return messages if own or not texts else [{"role": "system", "content": texts[0]}, *messages]


def _message(message: Any) -> Message:
    if isinstance(message, Mapping) and message.get("role") is None and "from" in message:
        speaker, content = message["from"], message.get("value")
    elif isinstance(message, Mapping):
        speaker, content = message.get("role"), message.get("content")
    else:
        speaker, content = None, None
    if isinstance(content, list | tuple) and len(content) == 1 and isinstance(content[0], Mapping):
        content = content[0].get("text") if content[0].get("type") == "text" else None
    role = _SPEAKERS.get(speaker) if isinstance(speaker, str) else None
    if role is None or not isinstance(content, str):
        raise NashwardError(
            f"has a message without a role ({', '.join(_ROLES)}) and a content that is text: {quoted(message, 200)}"
        )
    if any(message.get(name) for name in CALLS):
        raise NashwardError(f"has a message that calls a tool, which is not read: {quoted(message, 200)}")
    return {"role": role, "content": content}


def _text(row: Mapping[str, Any], field: str) -> str:
    if not isinstance(row[field], str):
        raise NashwardError(f"has a {field} that is {type(row[field]).__name__}, expected text")
    return row[field]


def _contents(messages: Iterable[Message]) -> list[str]:
    """The contents of the turns, without the system prompt, which some datasets have elsewhere."""
    return [message["content"].strip() for message in messages if message["role"] != "system"]


def _is_chat(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(message, Mapping) for message in value)


def _is_blank(value: Any) -> bool:
    return (
        is_missing(value) or (isinstance(value, str) and not value.strip()) or (isinstance(value, list) and not value)
    )
