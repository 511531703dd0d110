"""Augmentation of labelled pairs, so that a fitted oracle judges the content of a response and not its form."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from .votes import Vote

CLOSE = 0.1  # texts count as of one length if the lengths differ by at most this share
CLEAR = 0.25  # a share of wins at least this far from 1/2 has a clear winner


def near_duplicates(votes: Sequence[Vote], count: int, rng: np.random.Generator) -> list[Vote]:
    """A response against a copy with a change of form: a tie, with the weight of its vote."""
    extra = []
    for vote in _drawn(votes, count, rng):
        text = vote.a if rng.random() < 0.5 else vote.b
        extra.append(Vote(vote.prompt, text, nearly(text, rng), wins=vote.n / 2, n=vote.n, weight=vote.weight))
    return extra


def length_matched(votes: Sequence[Vote], count: int, rng: np.random.Generator) -> list[Vote]:
    """Labelled pairs of nearly the same length once more: among them length does not predict the winner."""
    return _drawn([vote for vote in votes if _close(vote)], count, rng)


def style_swapped(votes: Sequence[Vote], count: int, rng: np.random.Generator) -> list[Vote]:
    """The winner in plain text against the loser in lists and bold."""
    clear = [vote for vote in votes if abs(vote.wins / vote.n - 0.5) >= CLEAR and vote.a != vote.b]
    extra = []
    for vote in _drawn(clear, count, rng):
        a, b = (plain, decorated) if vote.wins / vote.n > 0.5 else (decorated, plain)
        extra.append(replace(vote, a=a(vote.a), b=b(vote.b)))
    return extra


def nearly(text: str, rng: np.random.Generator) -> str:
    """A near copy of a text: other blanks, another end, another case of the first letter."""
    changed = [
        f"{text} ",
        f"{text}\n",
        text.replace(" ", "  ", 1),
        text.rstrip(".") if text.endswith(".") else f"{text}.",
        text[:1].swapcase() + text[1:],
    ]
    different = [copy for copy in changed if copy != text]
    return different[int(rng.integers(len(different)))]


def plain(text: str) -> str:
    """The text without Markdown's headings, lists, bold, italics and code marks."""
    text = re.sub(r"(?m)^[ \t]{0,3}(#{1,6}[ \t]+|[-*+][ \t]+|\d+[.)][ \t]+|>[ \t]?)", "", text)
    text = re.sub(r"(\*\*|__|`{1,3})", "", text)
    return re.sub(r"(?<![\w*])\*(\S[^*\n]*)\*(?!\w)", r"\1", text)


def decorated(text: str) -> str:
    """The text as a list with its first words in bold, one sentence an entry."""
    sentences = [part for part in re.split(r"(?<=[.!?])\s+", plain(text).strip()) if part] or [text]
    first, *rest = sentences
    lead, _, tail = first.partition(" ")
    return "\n".join(f"- {part}" for part in [f"**{lead}** {tail}".strip(), *rest])


def _close(vote: Vote) -> bool:
    longer = max(len(vote.a), len(vote.b))
    return vote.a != vote.b and abs(len(vote.a) - len(vote.b)) <= CLOSE * longer


def _drawn(votes: Sequence[Vote], count: int, rng: np.random.Generator) -> list[Vote]:
    return [votes[int(i)] for i in rng.integers(len(votes), size=count)] if votes else []
