"""Settings that are one of a few words."""

from __future__ import annotations

from typing import get_args

from nashward.errors import NashwardError


def check_choice(name: str, value: object, kind: object) -> None:
    """Refuse a setting that is not one of the values of a Literal type.

    Example:
        >>> from typing import Literal
        >>> check_choice("rule", "fast", Literal["slow", "slower"])
        Traceback (most recent call last):
        nashward.errors.NashwardError: rule is 'fast'; expected one of slow, slower
    """
    if value not in get_args(kind):
        raise NashwardError(f"{name} is {value!r}; expected one of {', '.join(get_args(kind))}")
