"""Names of a package that are imported when they are first used."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy_names(package: str, modules: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The ``__getattr__`` and the ``__dir__`` of a package whose names lie in its modules (PEP 562).

    Args:
        package: its ``__name__``.
        modules: for each name its module, relative to the package. The module itself where both have one name.

    Returns:
        The two functions; a name is kept in the package once it is imported.

    Raises:
        AttributeError: from ``__getattr__``, of a name that the package has not.

    Example:
        >>> get, names = lazy_names("nashward.llm.oracles", {"Length": ".scalar"})
        >>> get("Length").__name__
        'Length'
    """

    def get(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = import_module(modules[name], package)
        value = module if modules[name] == f".{name}" else getattr(module, name)
        vars(sys.modules[package])[name] = value
        return value

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *modules})

    return get, names
