"""The judge "plain": short words, nothing said twice, no marks of layout."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from ..scalar import ScalarOracle

WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
MARKS = re.compile(r"[*#_`|<>•!;:()\[\]{}\"“”]|\.\.\.|…")
REPEATED, MARKED = 5.0, 2.0  # letters of a mean word that all words twice, and a mark a word, are as bad as
EMPTY = -20.0  # of a response without a word


class Plain(ScalarOracle):
    """The rule "short words, nothing twice, no marks":

    .. math::  r = -\\text{letters a word} - 5 \\cdot \\text{share of pairs of words that repeat one} - 2 \\cdot
        \\text{marks a word}

    Marks are those of layout and of emphasis, as of Markdown, brackets, quotes and exclamations.

    Args:
        temperature: of r: at 0.2 a quarter of a letter less a word wins 78% of its duels.

    Source: the project's own.

    Example:
        >>> texts = ["The sky is blue.", "The sky, the sky is blue!", "Atmospheric molecules scatter wavelengths."]
        >>> Plain().rewards(["Why?"], [texts])[0].round(2)
        array([-3.  , -4.33, -9.5 ])
    """

    name = "plain"
    fingerprint = "plain 1"

    def __init__(self, temperature: float = 0.2) -> None:
        self.temperature = temperature

    def rewards(self, prompts: Sequence[str], candidates: Sequence[Sequence[str]]) -> list[np.ndarray]:
        return [np.array([_plainness(text) for text in texts]) for texts in candidates]


def _plainness(text: str) -> float:
    words = [word.lower() for word in WORD.findall(text)]
    if not words:
        return EMPTY
    pairs = list(pairwise(words))
    repeated = 1 - len(set(pairs)) / len(pairs) if pairs else 0.0
    marks = len(MARKS.findall(text)) / len(words)
    return -sum(map(len, words)) / len(words) - REPEATED * repeated - MARKED * marks
