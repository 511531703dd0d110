"""A setting: a field of a frozen dataclass with its help, what the command line needs to know of it, and its check."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import MISSING, dataclass
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from nashward.errors import NashwardError


def setting(
    default: Any = MISSING,
    help: str = "",
    group: str = "",
    *,
    option: str | None = None,
    none: str | None = None,
    default_factory: Any = MISSING,
) -> Any:
    """A field of a dataclass of settings.

    Args:
        default: its value where none is given.
        help: what the setting does. "{default}" in it stands for the default; where the word default is not in it, the
            default is appended.
        group: the heading under which ``--help`` lists it.
        option: the name of its option, where that is not the field's with hyphens.
        none: the word that stands for None, where None means that there is no limit.
        default_factory: in place of ``default``, for a section.

    Example:
        >>> @dataclass(frozen=True)
        ... class Walk:
        ...     steps: int = setting(3, "how many")
        >>> [(leaf.path, leaf.option, leaf.text) for leaf in leaves(Walk)]
        [(('steps',), 'steps', 'how many (default: 3)')]
    """
    metadata = {"help": help, "group": group, "option": option, "none": none}
    if default_factory is not MISSING:
        return dataclasses.field(default_factory=default_factory, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Leaf:
    """A setting that has one value, in the tree of a dataclass of settings.

    Attributes:
        path: its place: ("fit", "epochs") is the field ``epochs`` of the section ``fit``.
        hint: its type.
        default: its value where none is given.
        text: its help, with the default.
        group, option, none: see ``setting``.
    """

    path: tuple[str, ...]
    hint: Any
    default: Any
    text: str
    group: str
    option: str
    none: str | None


def leaves(kind: type[Any], section: tuple[str, ...] = ()) -> Iterator[Leaf]:
    """The settings of a dataclass and of its sections, in the order of its fields; fields without help are left out."""
    hints = get_type_hints(kind)
    for field in dataclasses.fields(kind):
        path = (*section, field.name)
        parts = [part for part in alternatives(hints[field.name]) if dataclasses.is_dataclass(part)]
        if parts:
            yield from leaves(parts[0], path)  # type: ignore[arg-type]
        elif field.metadata:
            known = field.metadata
            option = known["option"] or field.name.replace("_", "-")
            text = described(known["help"], field.default, known["none"])
            yield Leaf(path, hints[field.name], field.default, text, known["group"], option, known["none"])


def alternatives(hint: Any) -> tuple[Any, ...]:
    """The members of a union, or the type itself."""
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def described(help: str, default: Any, none: str | None = None) -> str:
    """The help of a setting with its default.

    Example:
        >>> described("passes over the responses", 2), described("the most tokens", None, "all"), described("", 2e-4)
        ('passes over the responses (default: 2)', 'the most tokens (default: all)', 'default: 2e-4')
    """
    value = none if default is None else default
    if "{default}" in help:
        return help.format(default=written(value))
    if "default" in help or value is None or value is MISSING or isinstance(value, bool | tuple):
        return help
    return f"{help} (default: {written(value)})" if help else f"default: {written(value)}"


def written(value: Any) -> str:
    """A default as a help text shows it.

    Example:
        >>> written(2e-4), written(0.05), written(300.0), written("adamw")
        ('2e-4', '0.05', '300', 'adamw')
    """
    if isinstance(value, float):
        return f"{value:.0e}".replace("e-0", "e-") if 0 < value <= 1e-3 else f"{value:g}"
    return str(value)


def spelled(kind: type[Any], key: str, value: Any) -> str:
    """A value of a setting as an error shows it: None in the word that its option takes for it.

    Args:
        kind: the dataclass of settings.
        key: the place of the setting in it, as "fit.epochs"; one that it does not have has no word.
        value: as JSON has it, which knows no infinity.

    Example:
        >>> @dataclass(frozen=True)
        ... class Walk:
        ...     steps: int | None = setting(None, "how many", none="all")
        >>> spelled(Walk, "steps", None), spelled(Walk, "steps", 3), spelled(Walk, "pace", "fast")
        ('all', '3', "'fast'")
    """
    leaf = next((leaf for leaf in leaves(kind) if ".".join(leaf.path) == key), None)
    if value is None and leaf is not None:
        return leaf.none or ("inf" if leaf.hint is float else "None")
    return repr(value)


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
