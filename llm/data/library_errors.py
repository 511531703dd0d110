"""Errors of libraries, and of modules that a user names, as errors of this package in one line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from huggingface_hub.errors import StrictDataclassError

from nashward.python_object import LIBRARY_ERRORS as LIBRARY_ERRORS
from nashward.python_object import first_line as first_line


def in_one_line(error: BaseException) -> str:
    """An error's message with all its lines in one, where the first alone does not say what is wrong."""
    return " ".join(str(error).split()) or type(error).__name__


@contextmanager
def translated_errors(translate: Callable[[BaseException], Exception]) -> Iterator[None]:
    """A block whose errors become errors of this package: a library parses a file, or a user's module is imported.

    Args:
        translate: from the error to the one that is raised in its place. It is called for ``LIBRARY_ERRORS`` and for
            the plain ``Exception``, which tokenizers raises; other exceptions pass unchanged.

    Example:
        >>> from nashward.errors import NashwardError
        >>> with translated_errors(lambda error: NashwardError(f"no number: {first_line(error)}")):
        ...     int("x")
        Traceback (most recent call last):
        nashward.errors.NashwardError: no number: invalid literal for int() with base 10: 'x'
    """
    try:
        yield
    except Exception as error:
        # which error a parser raises depends on the key that is wrong
        if isinstance(error, (*LIBRARY_ERRORS, StrictDataclassError)) or type(error) is Exception:
            raise translate(error) from error
        raise
