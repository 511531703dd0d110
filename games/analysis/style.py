"""The style of texts apart from what they say: length and marks of layout, as numbers."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np

from ..shapes import Float

STYLE = ("length", "headers", "lists", "bold")
"""The features of a pair's style, in the order of ``style_differences``."""

INFLATED = 10.0  # variance inflation factor from which on effects are not told apart
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


def entangled(features: Float[np.ndarray, "N 4"]) -> dict[str, float]:
    r"""The features whose effects cannot be told apart, with the share of each that the others explain.

    Those whose variance inflation factor is above 10: the error of their effect is more than three times what it would
    be alone,

    .. math::  \text{VIF}_k = (C^{-1})_{kk} = \frac{1}{1 - R_k^2}, \qquad C = X^\top X / N

    of features X with a root mean square of 1. No mean is subtracted, as the fit of style subtracts none.

    Args:
        features: [N, 4], ``style_differences``; those that are 0 throughout are no part of a fit.

    Source: Marquardt 1970; Belsley, Kuh & Welsch 1980.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> length, lists, other = rng.normal(size=(3, 400))
        >>> {k: round(v, 2) for k, v in entangled(np.c_[length, 0 * length, lists, lists + other / 9]).items()}
        {'lists': 0.99, 'bold': 0.99}
    """
    rms = np.sqrt((features**2).mean(0))
    known = np.flatnonzero(rms > 1e-12)
    x = features[:, known] / rms[known]
    values, vectors = np.linalg.eigh(x.T @ x / len(x))
    inflation = (vectors**2 / np.maximum(values, 1e-12)).sum(1)
    return {STYLE[k]: float(1 - 1 / vif) for k, vif in zip(known, inflation, strict=True) if vif > INFLATED}


def entangled_in_words(features: Float[np.ndarray, "N 4"]) -> str | None:
    """What a reader of fitted effects has to know of those that cannot be told apart; None where all can.

    Args:
        features: as of ``entangled``.

    Example:
        >>> lists = np.linspace(-1, 1, 9)
        >>> entangled_in_words(np.c_[0 * lists, 0 * lists, lists, lists])[:54]
        'lists and bold go together (the others explain 99% of '
        >>> entangled_in_words(np.c_[lists, 0 * lists, np.abs(lists), 0 * lists])
    """
    found = entangled(features)
    if not found:
        return None
    least = min(found.values())
    return (
        f"{' and '.join(found)} go together (the others explain {math.floor(100 * least)}% of each or more): the "
        "effect of one cannot be told from the other's, and may be large and opposite, or halved; read them together. "
        "What they add in all, and so ratings and win probabilities at equal style, are hardly touched"
    )
