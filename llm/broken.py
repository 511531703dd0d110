"""What a library says of a file that it cannot read, as one error of ours."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType

from huggingface_hub.errors import StrictDataclassError

# what the parsers of transformers and of huggingface_hub raise depends on the key that is wrong
PARSERS = (
    OSError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, AssertionError, ImportError,
    RuntimeError, StrictDataclassError,
)  # fmt: skip


def first_line(error: BaseException) -> str:
    """What an error says, without the pages that some libraries add; its class where it says nothing."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


class Reading:
    """A block in which a library reads files that anybody may have written.

    Args:
        told: the error to raise for one of the library's.

    Example:
        >>> with Reading(lambda error: ValueError(f"no number: {first_line(error)}")):
        ...     int("x")
        Traceback (most recent call last):
        ValueError: no number: invalid literal for int() with base 10: 'x'
    """

    def __init__(self, told: Callable[[BaseException], Exception]) -> None:
        self._told = told

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # tokenizers raises Exception itself, which no handler can name without naming every other
        if isinstance(error, PARSERS) or type(error) is Exception:
            raise self._told(error) from error
