"""How much a policy repeats itself: n-grams over token ids, so that scripts without spaces count like all others."""

from __future__ import annotations

from collections.abc import Sequence

from nashward.errors import NashwardError

Ids = Sequence[int]


def distinct_n(responses: Sequence[Ids], n: int = 2) -> float:
    """The share of different n-grams among all n-grams of some responses; NaN where none has n tokens.

    It falls with the number of tokens: compare equal amounts of text (see ``over_optimisation.verdicts``).

    Args:
        responses: token ids of each.
        n: of the n-grams.

    Raises:
        ValueError: n below 1.

    Source: Li et al. 2016, arXiv 1510.03055, there over words.

    Example:
        >>> distinct_n([[1, 2, 1, 2], [1, 2, 3]], n=2)
        0.6
    """
    _check(n)
    grams = [gram for ids in responses for gram in _grams(ids, n)]
    return len(set(grams)) / len(grams) if grams else float("nan")


def repetition(ids: Ids, n: int = 4) -> float:
    """The share of a response's n-grams that it has had before; 0 where it has no n-gram.

    Args:
        ids: of its tokens.
        n: of the n-grams.

    Raises:
        ValueError: n below 1.

    Source: Welleck et al. 2020, arXiv 1908.04319 (seq-rep-n).

    Example:
        >>> repetition([1, 2, 1, 2, 1, 2], n=2)
        0.6
    """
    _check(n)
    grams = _grams(ids, n)
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def _grams(ids: Ids, n: int) -> list[tuple[int, ...]]:
    return [tuple(ids[k : k + n]) for k in range(len(ids) - n + 1)]


def _check(n: int) -> None:
    if n < 1:
        raise NashwardError(f"n must be at least 1, got {n}")
