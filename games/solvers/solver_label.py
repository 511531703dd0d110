"""A solver's name and settings, as prints and pictures show them. Imports no torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any


def solver_label(solver: Any, swept: Sequence[str] = ()) -> str:
    """A solver's name with its settings: numbers other than 0, values other than the default, and swept settings.

    Args:
        solver: any solver; if it is not a dataclass, its label is the name of its class.
        swept: settings that are always shown.

    Example:
        >>> from nashward import games
        >>> solver_label(games.INPO(0.25)), solver_label(games.ExtraGradient())
        ('INPO(step=0.25, tau=0.1)', 'ExtraGradient(step=1.0)')
    """
    if not dataclasses.is_dataclass(solver):
        return type(solver).__name__
    fields = dataclasses.fields(solver)
    values = {field.name: getattr(solver, field.name) for field in fields}
    shown = [
        f"{field.name}={_text(values[field.name])}"
        for field in fields
        if field.name in swept or values[field.name] != field.default or _is_number(values[field.name])
    ]
    return f"{type(solver).__name__}({', '.join(shown)})"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value != 0


def _text(value: Any) -> str:
    if callable(value) and not dataclasses.is_dataclass(value):
        return str(getattr(value, "__qualname__", type(value).__name__)).replace(".<locals>.<lambda>", "")
    return repr(value)
