"""The style of texts apart from what they say: length and marks of layout, as numbers."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from ..shapes import Float

STYLE = ("length", "headers", "lists", "bold")
"""The features of a pair's style, in the order of ``style_differences``."""

CHARACTERS = 4  # of a token, about
# After CommonMark: headers may stand up to three blanks in, items may be numbered 1) or have a bullet, a fenced block
# may hold backticks. Arena-Hard counts less: what its answer files have is in llm/delivery/benchmarks/answer_files.py.
_FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)  # code is no layout
_MARKS = (
    re.compile(r"^ {0,3}#{1,6}\s", re.MULTILINE),
    re.compile(r"^\s*(?:[-*+•]|\d+[.)])\s", re.MULTILINE),
    re.compile(r"\*\*[^*\n]+\*\*|__[^_\n]+__"),
)


def style_counts(text: str) -> Float[np.ndarray, " 4"]:
    """The length of a text in tokens (of four characters), and its headers, list items and bold parts a token, [4].

    Marks inside of fenced code do not count.

    Args:
        text: any.

    Source: the features of Arena-Hard v2 (Li et al. 2024, arXiv 2406.11939, and its code); the counting is our own.

    Example:
        >>> style_counts("# Rivers\\n- The **Rhine**.\\n- The Po.").round(3).tolist()
        [8.75, 0.114, 0.229, 0.114]
    """
    length = len(text) / CHARACTERS
    plain = _FENCED.sub("", text)
    return np.array([length, *(len(mark.findall(plain)) / max(length, 1.0) for mark in _MARKS)])


def without_marks(text: str, feature: str) -> str:
    """A text as long as before, with blanks in the place of its headers' signs, its bullets and numbers, or its stars.

    Args:
        text: any; what stands inside of fenced code stays.
        feature: which marks, one of ``STYLE`` but for the length.

    Example:
        >>> without_marks("Rivers\\n- The **Rhine**.", "lists"), without_marks("The **Rhine**.", "bold")
        ('Rivers\\n  The **Rhine**.', 'The   Rhine  .')
    """
    mark = _MARKS[STYLE.index(feature) - 1]
    parts = zip(_FENCED.split(text), [*_FENCED.findall(text), ""], strict=True)
    return "".join(mark.sub(_blanks, plain) + code for plain, code in parts)


def _blanks(mark: re.Match[str]) -> str:
    text = mark[0]
    return f"  {text[2:-2]}  " if text[:2] in ("**", "__") else re.sub(r"\S", " ", text)  # bold text stays


def style_differences(first: Sequence[str], second: Sequence[str]) -> Float[np.ndarray, "pairs 4"]:
    r"""The features of pairs of texts, [pairs, 4], in the order of ``STYLE``; those of exchanged texts are opposite.

    .. math::  \frac{l_a - l_b}{l_a + l_b}, \qquad \frac{d_a - d_b}{d_a + d_b + 1}

    with the lengths l and the densities d of headers, lists and bold. They are not standardised yet.

    Args:
        first, second: the texts.

    Source: Arena-Hard v2 (arXiv 2406.11939 and its code).

    Example:
        >>> style_differences(["A longer text."], ["Short."]).round(2).tolist()
        [[0.4, 0.0, 0.0, 0.0]]
    """
    known = {text: style_counts(text) for text in {*first, *second}}
    a, b = (np.array([known[text] for text in texts]).reshape(-1, len(STYLE)) for texts in (first, second))
    return relative_differences(a, b)


def relative_differences(
    a: Float[np.ndarray, "pairs 4"], b: Float[np.ndarray, "pairs 4"]
) -> Float[np.ndarray, "pairs 4"]:
    """``style_differences`` of texts whose ``style_counts`` are known.

    Args:
        a, b: [pairs, 4], the counts of both texts.

    Source: Arena-Hard v2 (arXiv 2406.11939 and its code).

    Example:
        >>> relative_differences(np.array([[30.0, 0.5, 0.0, 0.0]]), np.array([[10.0, 0.0, 0.0, 0.0]])).round(3).tolist()
        [[0.5, 0.333, 0.0, 0.0]]
    """
    total = a + b + np.array([0.0, 1.0, 1.0, 1.0])
    return (a - b) / np.where(total > 0, total, 1.0)
