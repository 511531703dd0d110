"""What code that is not ours says of what it cannot do, as one error of ours."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType

from huggingface_hub.errors import StrictDataclassError

# what code that is not ours raises where it is wrong or was given something wrong
LIBRARY_ERRORS = (
    OSError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, AssertionError, ImportError,
    NameError, RuntimeError, SyntaxError, EOFError, BufferError,
)  # fmt: skip


def first_line(error: BaseException) -> str:
    """What an error says, without the pages that some libraries add; its class where it says nothing."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


class translated_errors:
    """A block in which a library reads files that anybody may have written, or somebody's own module is imported.

    Args:
        told: the error to raise for one of theirs. An exception of a kind that is neither a ``LIBRARY_ERRORS`` nor the plain
            ``Exception`` goes on as it is.

    Example:
        >>> with translated_errors(lambda error: NashwardError(f"no number: {first_line(error)}")):
        ...     int("x")
        Traceback (most recent call last):
        nashward.errors.NashwardError: no number: invalid literal for int() with base 10: 'x'
    """

    def __init__(self, told: Callable[[BaseException], Exception]) -> None:
        self._told = told

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # what a parser raises depends on the key that is wrong; tokenizers raises Exception itself, which no handler
        # can name without naming every other
        if isinstance(error, (*LIBRARY_ERRORS, StrictDataclassError)) or type(error) is Exception:
            raise self._told(error) from error
