"""Conversations in the chat template of a tokenizer: as text, and prompts as token ids."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from jinja2 import TemplateError, TemplateSyntaxError

from nashward.errors import NashwardError, RefusedPromptError
from nashward.shortened import quoted

from ..data.conversations import Message
from ..data.library_errors import first_line
from ..data.prompts import Prompt, Prompts
from .control_tokens import TurnsAsText

LEFT_OUT = "with text that the chat template leaves out"
PROBE = "nashwardprobe{}x"


def encode(tokenizer: Any, prompt: Prompt) -> list[int]:
    """The prompt's token ids in the chat template, with the generation prompt: the response comes next.

    Control tokens that its texts spell out, such as ``<|im_end|>``, are encoded as text.

    Raises:
        RefusedPromptError: the template refuses the prompt's turns, or leaves out what they say.
        NashwardError: the template is not valid Jinja, or fails in another way.
    """
    # As text first: templates write BOS themselves, so no special tokens are added a second time.
    turns = TurnsAsText(tokenizer, prompt.messages)
    return turns.ids(render(tokenizer, turns.turns, add_generation_prompt=True))


def render(tokenizer: Any, turns: Sequence[Message], *, add_generation_prompt: bool) -> str:
    """Turns in the chat template, which has to write the text of each of them.

    A template that walks over the parts of a turn's content, as for models that see images, is given parts.

    Raises:
        RefusedPromptError: the template refuses the turns, or leaves out what they say.
        NashwardError: the template is not valid Jinja, or fails in another way.
    """
    if not turns:
        raise RefusedPromptError("there is no turn to answer: the prompt is empty")
    roles = tuple(turn["role"] for turn in turns)
    as_parts = _takes_parts(tokenizer, str(tokenizer.chat_template), roles, add_generation_prompt)
    text = _apply(tokenizer, turns, as_parts, add_generation_prompt)
    # Templates rewrite what others say, such as past reasoning or a switch in a system prompt, never the user's text.
    said = [turn["content"] for turn in turns if turn["role"] == "user"]
    lacking = [one for one in said if one.strip() not in text and json.dumps(one, ensure_ascii=False) not in text]
    if lacking:
        raise RefusedPromptError(f"the chat template does not write the user's text {quoted(lacking[0], 60)}", LEFT_OUT)
    return text


@lru_cache(maxsize=1024)
def _takes_parts(tokenizer: Any, template: str, roles: Sequence[str], add_generation_prompt: bool) -> bool:
    """Whether the template writes the texts of turns of these roles where they are given as parts, and not as texts.

    Raises:
        RefusedPromptError, NashwardError: see ``render``.
    """
    turns = [{"role": role, "content": PROBE.format(k)} for k, role in enumerate(roles)]
    problem: NashwardError | None = None
    for as_parts in (False, True):
        try:
            text = _apply(tokenizer, turns, as_parts, add_generation_prompt)
        except NashwardError as error:
            problem = problem or error
            continue
        lacking = [turn["role"] for turn in turns if turn["content"] not in text]
        if not lacking:
            return as_parts
        problem = problem or RefusedPromptError(
            f"the chat template does not write the text of a {lacking[0]} turn; take that turn out, or give another "
            "template with --chat-template",
            LEFT_OUT,
        )
    assert problem is not None
    raise problem


def _apply(tokenizer: Any, turns: Sequence[Message], as_parts: bool, add_generation_prompt: bool) -> str:
    messages: list[Any] = list(turns)
    if as_parts:
        messages = [{**turn, "content": [{"type": "text", "text": turn["content"]}]} for turn in turns]
    try:
        return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=add_generation_prompt)
    except TemplateSyntaxError as error:
        raise NashwardError(f"the chat template is not valid Jinja: {first_line(error)}") from None
    except TemplateError as error:  # a template may refuse a system turn, or two turns of one role
        raise RefusedPromptError(f"the chat template refuses the turns: {first_line(error)}") from None
    except (ArithmeticError, LookupError, TypeError, AttributeError, ValueError) as error:
        # raised by code inside the template
        raise NashwardError(
            f"the chat template cannot be applied: {type(error).__name__}: {first_line(error)}"
        ) from None


def prompt_ids(tokenizer: Any, prompts: Sequence[Prompt]) -> list[list[int] | RefusedPromptError]:
    """The token ids of each prompt, or why the chat template does not take it.

    Raises:
        NashwardError: the template is not valid Jinja, or fails in another way.
    """
    return [_ids_or_refusal(tokenizer, prompt) for prompt in prompts]


def drop_refused(tokenizer: Any, prompts: Prompts, max_tokens: int | None = None) -> list[list[int]]:
    """Drop the prompts that the chat template does not take and those longer than ``max_tokens``, and count them.

    Returns:
        the token ids of each prompt that is kept.

    Raises:
        NashwardError: no prompt is left; the template is not valid Jinja, or fails in another way.
    """
    found = prompt_ids(tokenizer, prompts.kept)
    for reason in sorted({one.reason for one in found if isinstance(one, RefusedPromptError)}):
        keep = [not (isinstance(one, RefusedPromptError) and one.reason == reason) for one in found]
        prompts.drop(keep, reason)
        found = [one for one, marked in zip(found, keep, strict=True) if marked]
    ids = [one for one in found if not isinstance(one, RefusedPromptError)]
    if max_tokens is not None:
        keep = [len(one) <= max_tokens for one in ids]
        prompts.drop(keep, f"longer than {max_tokens} tokens")
        ids = [one for one, marked in zip(ids, keep, strict=True) if marked]
    if not ids:
        raise NashwardError(f"no prompt is left: {prompts}")
    return ids


def _ids_or_refusal(tokenizer: Any, prompt: Prompt) -> list[int] | RefusedPromptError:
    try:
        return encode(tokenizer, prompt)
    except RefusedPromptError as error:
        return error
