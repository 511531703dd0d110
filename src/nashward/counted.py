"""Numbers of things in messages: "1 prompt", "2 prompts"."""

from __future__ import annotations


def counted(number: float, what: str, plural: str | None = None) -> str:
    """A number with its noun, in the singular for 1.

    Args:
        number: how many; a float without a fraction is written as a whole number.
        what: the noun in the singular, perhaps with words before it.
        plural: None: ``what`` with an s.

    Example:
        >>> counted(1, "prompt"), counted(0, "held-out prompt"), counted(2.0, "reply", "replies")
        ('1 prompt', '0 held-out prompts', '2 replies')
    """
    shown = str(number) if isinstance(number, int) else f"{number:.15g}"
    return f"{shown} {what if number == 1 else plural or what + 's'}"
