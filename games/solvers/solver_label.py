"""A solver by its name and its settings, as prints and pictures name it. Imports no torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any


def solver_label(solver: Any, swept: Sequence[str] = ("step",)) -> str:
    """A solver's name with those settings, where it has them, and all that are not the usual ones.

    Args:
        solver: any; of one that is no dataclass the name of its class alone is known.
        swept: the settings that are always shown.

    Example:
        >>> from nashward import games
        >>> solver_label(games.INPO(0.25, tau=0.1)), solver_label(games.INPO(), ["tau"])
        ('INPO(step=0.25)', 'INPO(tau=0.1)')
    """
    if not dataclasses.is_dataclass(solver):
        return type(solver).__name__
    fields = dataclasses.fields(solver)
    values = {field.name: getattr(solver, field.name) for field in fields}
    shown = [
        f"{field.name}={_text(values[field.name])}"
        for field in fields
        if field.name in swept or values[field.name] != field.default
    ]
    return f"{type(solver).__name__}({', '.join(shown)})"


def _text(value: Any) -> str:
    if callable(value) and not dataclasses.is_dataclass(value):
        return str(getattr(value, "__qualname__", type(value).__name__)).replace(".<locals>.<lambda>", "")
    return repr(value)
