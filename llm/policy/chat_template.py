"""Prompts as token ids, in the chat template of the policy's tokenizer."""

from __future__ import annotations

from typing import Any

from jinja2 import TemplateError, TemplateSyntaxError

from nashward.errors import NashwardError

from ..data.library_errors import first_line
from ..data.prompts import Prompt


def encode(tokenizer: Any, prompt: Prompt) -> list[int]:
    """The prompt's token ids in the chat template, with the generation prompt: the response comes next.

    Raises:
        jinja2.TemplateError: the template refuses the prompt's turns.
    """
    # As text first: templates write BOS themselves, so no special tokens are added a second time.
    text = tokenizer.apply_chat_template(list(prompt.messages), tokenize=False, add_generation_prompt=True)
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def prompt_length(tokenizer: Any, prompt: Prompt) -> int | None:
    """The number of tokens of ``encode(tokenizer, prompt)``.

    Returns:
        None where the template refuses the prompt's turns.

    Raises:
        ValueError: the template is not valid Jinja, or fails in another way.

    See also:
        ``encode``, the token ids.
    """
    try:
        return len(encode(tokenizer, prompt))
    except TemplateSyntaxError as error:
        raise NashwardError(f"the chat template is not valid Jinja: {error}") from None
    except TemplateError:  # a template may refuse a system turn, or two turns of one role
        return None
    except (
        ArithmeticError,
        LookupError,
        TypeError,
        AttributeError,
        ValueError,
    ) as error:  # raised by code inside the template
        raise NashwardError(
            f"the chat template cannot be applied: {type(error).__name__}: {first_line(error)}"
        ) from None
