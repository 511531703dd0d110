"""Diversity of responses: distinct-n and repetition, over n-grams of token ids.

Token ids in place of words make scripts without spaces comparable with the others.
"""

from __future__ import annotations

from collections.abc import Sequence

from nashward.errors import NashwardError

TokenIds = Sequence[int]


def distinct_n(responses: Sequence[TokenIds], n: int = 2) -> float:
    """Distinct-n: the number of distinct n-grams over the number of all n-grams in the responses.

    It falls as the number of tokens grows, so compare texts of equal length (see ``over_optimisation.verdicts``).

    Args:
        responses: the token ids of each response.
        n: the order of the n-grams.

    Returns:
        a number in (0, 1]; NaN where no response has n tokens.

    Raises:
        ValueError: n below 1.

    Source: Li et al. 2016, arXiv 1510.03055, there over words.

    See also:
        ``repetition``: of a single response.

    Example:
        >>> distinct_n([[1, 2, 1, 2], [1, 2, 3]], n=2)
        0.6
    """
    _check_order(n)
    grams = [gram for ids in responses for gram in _ngrams(ids, n)]
    return len(set(grams)) / len(grams) if grams else float("nan")


def repetition(ids: TokenIds, n: int = 4) -> float:
    """The portion of duplicate n-grams in a response (seq-rep-n).

    Args:
        ids: the token ids of the response.
        n: the order of the n-grams.

    Returns:
        a number in [0, 1); 0 where the response has fewer than n tokens.

    Raises:
        ValueError: n below 1.

    Source: Welleck et al. 2020, arXiv 1908.04319 (seq-rep-n).

    See also:
        ``distinct_n``: over several responses.

    Example:
        >>> repetition([1, 2, 1, 2, 1, 2], n=2)
        0.6
    """
    _check_order(n)
    grams = _ngrams(ids, n)
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def _ngrams(ids: TokenIds, n: int) -> list[tuple[int, ...]]:
    return [tuple(ids[start : start + n]) for start in range(len(ids) - n + 1)]


def _check_order(n: int) -> None:
    if n < 1:
        raise NashwardError(f"n must be at least 1, got {n}")
