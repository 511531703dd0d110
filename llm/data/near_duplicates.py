"""Prompts that nearly repeat an earlier one: an exact join of sets of word shingles."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np

from nashward.errors import NashwardError
from nashward.shortened import quoted

from .prompts import Prompt, Prompts

WORDS = 3  # words of a shingle
# words, each sign, and each character of scripts that put no spaces between words
_ALONE = "\u0e00-\u0e7f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_TOKEN = re.compile(rf"[{_ALONE}]|[^\W{_ALONE}]+|[^\w\s]")
REASON = "nearly repeated"


@dataclass(frozen=True)
class Near:
    """A prompt that nearly repeats another one.

    Attributes:
        number: the prompt's number.
        other: the number of the earlier one, which is kept.
        similarity: that of the two.
    """

    number: int
    other: int
    similarity: float


def near_duplicates(prompts: Sequence[Prompt], threshold: float, fixed: int = 0) -> list[Near]:
    """The prompts that are at least this similar to an earlier one that is kept.

    .. math::  J(x, y) = \\frac{|S_x \\cap S_y|}{|S_x \\cup S_y|} \\ge threshold

    S_x is the set of runs of 3 words in prompt x (all its words, where they are fewer). Case and the full stop or mark
    at the end do not count; every other sign is a word. Prompts under different system turns are not compared: what
    their user says may be the same.

    Two sets that are this similar share one of the ``|S| - ceil(threshold |S|) + 1`` rarest shingles of each. Prompts
    are looked up by these alone and then compared exactly, so that no similar pair is missed.

    Args:
        prompts: in the order in which they are kept.
        threshold: in (0, 1].
        fixed: how many of the first are kept, whatever they repeat.

    Raises:
        NashwardError: the threshold is outside its range.

    Source: prefix filtering, Bayardo, Ma and Srikant, WWW 2007; shingles, Broder, 1997.

    Example:
        >>> texts = ["Name a river in France.", "Name a tree.", "name a river in  France"]
        >>> near_duplicates([Prompt(({"role": "user", "content": text},)) for text in texts], 0.8)
        [Near(number=2, other=0, similarity=1.0)]
    """
    if not 0 < threshold <= 1:
        raise NashwardError(f"a similarity is above 0 and at most 1, got {threshold}")
    number_of: dict[tuple[str, ...], int] = {}
    sets = [{number_of.setdefault(shingle, len(number_of)) for shingle in _shingles(prompt)} for prompt in prompts]
    counts = np.bincount([shingle for own in sets for shingle in own], minlength=1)
    rank = np.empty(len(counts), dtype=np.int64)
    rank[np.argsort(counts, kind="stable")] = np.arange(len(counts))  # the rarest first
    order = rank.tolist()
    kept_by: defaultdict[tuple[str, int], list[int]] = defaultdict(list)  # prompts by system turn and rare shingle
    found = []
    for number, (prompt, own) in enumerate(zip(prompts, sets, strict=True)):
        system = _system(prompt)
        rarest = sorted(map(order.__getitem__, own))[: len(own) - _least(threshold, len(own)) + 1]
        best: Near | None = None
        near = {k for shingle in rarest for k in kept_by.get((system, shingle), ())} if number >= fixed else set()
        for other in sorted(near):
            small, large = sorted((len(own), len(sets[other])))
            if small < _least(threshold, large):
                continue
            common = len(own & sets[other])
            similarity = common / (small + large - common)
            if similarity >= threshold and (best is None or similarity > best.similarity):
                best = Near(number, other, similarity)
        if best is not None:
            found.append(best)
            continue
        for shingle in rarest:
            kept_by[system, shingle].append(number)
    return found


def drop_near_duplicates(prompts: Prompts, threshold: float) -> None:
    """Leave out the prompts that nearly repeat an earlier one; they are counted, with the closest pair as an example.

    Example:
        >>> from nashward.llm.data.prompts import read_prompts
        >>> prompts = read_prompts(["Name a river.", "name a river", "Name a tree."])
        >>> drop_near_duplicates(prompts, 0.8)
        >>> print(prompts)
        3 prompts read, 2 kept, 1 dropped (1 nearly repeated, as 'name a river' after 'Name a river.')
    """
    found = near_duplicates(prompts.kept, threshold)
    if not found:
        return
    least = min(found, key=lambda near: near.similarity)  # the pair whose removal is the least certain
    late, early = prompts.kept[least.number].text, prompts.kept[least.other].text
    prompts.examples[REASON] = f"as {quoted(late, 60)} after {quoted(early, 60)}"
    gone = {near.number for near in found}
    prompts.drop([number not in gone for number in range(len(prompts.kept))], REASON)


def shingles(tokens: Sequence[str]) -> list[tuple[str, ...]]:
    """The distinct runs of 3 tokens in their order; all of them as one, where they are fewer."""
    return list(dict.fromkeys(tuple(tokens[k : k + WORDS]) for k in range(max(1, len(tokens) - WORDS + 1))))


def words(text: str) -> list[str]:
    """The words and signs of a text, without case, and without the marks at its end."""
    return _TOKEN.findall(unicodedata.normalize("NFKC", text).casefold().rstrip(" \n\t.?!。？！"))


def _shingles(prompt: Prompt) -> list[tuple[str, ...]]:
    """The words of all turns but the system's, with the roles as words where there are several turns."""
    turns = [message for message in prompt.messages if message["role"] != "system"]
    if len(turns) == 1:
        return shingles(words(turns[0]["content"]))
    return shingles([token for turn in turns for token in (f"\0{turn['role']}", *words(turn["content"]))])


def _system(prompt: Prompt) -> str:
    return "\n".join(message["content"] for message in prompt.messages if message["role"] == "system")


def _least(threshold: float, size: int) -> int:
    """The least size of a set that is this similar to one of that size; a quotient that is whole up to its last bits
    is not rounded up."""
    return max(1, ceil(threshold * size - 1e-9))
