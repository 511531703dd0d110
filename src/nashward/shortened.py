"""Names and texts cut to a length, as beside a picture, in a line of examples or in an error."""

from __future__ import annotations

from collections.abc import Sequence

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


def quoted(text: str, longest: int) -> str:
    """A text as Python writes it, cut before its quotes: a message then tells where it ends.

    Args:
        text: any.
        longest: characters of it.

    Example:
        >>> quoted("one line\\nand more", 11), quoted("short", 11)
        ("'one line\\\\na…'", "'short'")
    """
    return repr(text if len(text) <= longest else f"{text[: longest - 1]}…")
