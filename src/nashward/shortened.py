"""Names and texts cut to a length, as beside a picture, in a line of examples or in an error."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

END = 5  # characters of a name's end, which tells a version from another


def shortened(names: Sequence[str], longest: int) -> list[str]:
    """Names in one line each that keep their beginnings and ends; whole where the short ones would not differ.

    Args:
        names: any.
        longest: characters of one.

    Example:
        >>> shortened(["a-model-of-some-size-v1", "a-model-of-some-size-v2", "b"], 16)
        ['a-model-of…ze-v1', 'a-model-of…ze-v2', 'b']
    """
    whole = [" ".join(name.split()) or repr(name) for name in names]
    short = [name if len(name) <= longest else f"{name[: longest - END - 1]}…{name[-END:]}" for name in whole]
    return short if len(set(short)) == len(set(whole)) else whole


def cut(text: str, longest: int) -> str:
    """The beginning of a text, with an ellipsis where it goes on.

    Example:
        >>> cut("shortened", 6), cut("short", 6)
        ('short…', 'short')
    """
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def quoted(value: Any, longest: int) -> str:
    """A value as Python writes it, of which a text is cut before its quotes: a message then tells where it ends.

    Args:
        value: any.
        longest: characters of it.

    Example:
        >>> quoted("one line\\nand more", 11), quoted("short", 11), quoted([1, 2, 3, 4], 6)
        ("'one line\\\\na…'", "'short'", '[1, 2…')
    """
    return repr(cut(value, longest)) if isinstance(value, str) else cut(repr(value), longest)
