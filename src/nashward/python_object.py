"""What a user names as ``module:name``, an object of a module of theirs, and the errors that such code may raise."""

from __future__ import annotations

import importlib
from typing import Any

from .errors import NashwardError

LIBRARY_ERRORS = (
    OSError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, AssertionError, ImportError,
    NameError, RuntimeError, SyntaxError, EOFError, BufferError,
)  # fmt: skip
"""What code outside of this package raises on wrong input, or where it is wrong itself."""


def first_line(error: BaseException) -> str:
    """The first line of an error's message; the name of its class where it has no message."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def python_object(source: str) -> Any:
    """The object of ``module:name``.

    Args:
        source: a module in the working directory or installed, a colon, and a name in it, with dots where it lies
            inside of another one.

    Raises:
        ValueError: no such module or name, or a module that cannot be imported.

    Example:
        >>> python_object("math:floor")(2.5)
        2
    """
    module, _, name = source.partition(":")
    expected = "expected module:name, the module in the working directory or installed"
    if not all(part.isidentifier() for part in module.split(".")):
        raise NashwardError(f"{source}: {module!r} is no name of a module; {expected}, without a path and without .py")
    try:
        value: Any = importlib.import_module(module)
        for part in name.split("."):
            value = getattr(value, part)
    except (ImportError, AttributeError) as error:
        if isinstance(error, ImportError) and module.endswith(".py"):
            expected = f"write {module.removesuffix('.py')}:{name or 'NAME'}, the module without .py"
        raise NashwardError(f"{source} is no name in Python ({first_line(error)}); {expected}") from error
    except (*LIBRARY_ERRORS, SystemExit) as error:  # a script that calls sys.exit
        raise NashwardError(f"{module} cannot be imported: {type(error).__name__}: {first_line(error)}") from error
    return value
