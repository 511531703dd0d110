"""Prompts as token ids, through the chat template of the policy's tokenizer."""

from __future__ import annotations

from typing import Any

from jinja2 import TemplateError, TemplateSyntaxError

from nashward.errors import NashwardError

from ..data.library_errors import first_line
from ..data.prompts import Prompt


def encode(tokenizer: Any, prompt: Prompt) -> list[int]:
    """The prompt's token ids in the chat template, up to where the response begins.

    Raises:
        jinja2.TemplateError: the template refuses the prompt's turns.
    """
    # As text first: templates write BOS themselves, so no special tokens are added a second time.
    text = tokenizer.apply_chat_template(list(prompt.messages), tokenize=False, add_generation_prompt=True)
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def prompt_length(tokenizer: Any, prompt: Prompt) -> int | None:
    """How many tokens the prompt has in the chat template; None where the template refuses its turns.

    Raises:
        ValueError: the template is not valid, or fails in another way.
    """
    try:
        return len(encode(tokenizer, prompt))
    except TemplateSyntaxError as error:
        raise NashwardError(f"the chat template is not valid Jinja: {error}") from None
    except TemplateError:  # a template may refuse a system turn, or two turns of one role
        return None
    except (ArithmeticError, LookupError, TypeError, AttributeError, ValueError) as error:  # of the template's own code
        raise NashwardError(
            f"the chat template cannot be applied: {type(error).__name__}: {first_line(error)}"
        ) from None
