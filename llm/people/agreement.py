"""How far people agree: with each other, beyond chance, and with themselves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nashward.winners import SKIP

from .records import CastVote

DRAWS = 1000  # of the bootstrap


@dataclass(frozen=True)
class Agreement:
    """The agreement of votes on the same pairs.

    Attributes:
        pairs: how many have votes of two or more people; the first vote of each counts.
        raw: the share of pairs of such votes that are equal; None: there are none.
        alpha: Krippendorff's, nominal; 1 is perfect, 0 that of chance. None: there are no pairs, or one answer alone.
        low, high: the 95% of the bootstrap over pairs.
        repeated: how many questions were answered twice by the same person.
        consistency: the share of them with the same answer.
    """

    pairs: int
    raw: float | None
    alpha: float | None
    low: float | None
    high: float | None
    repeated: int
    consistency: float | None


def agreement(votes: Sequence[CastVote], seed: int = 0) -> Agreement:
    """The agreement of people's votes; a tie and "both bad" are one answer, skips are none.

    Args:
        votes: in the order in which they arrived.
        seed: of the bootstrap.

    Example:
        >>> cast = (("ann", "a"), ("bob", "a"), ("ann", "b"))
        >>> votes = [CastVote("p", "x", "y", winner, name) for name, winner in cast]
        >>> found = agreement(votes)
        >>> found.pairs, found.raw, found.repeated, found.consistency
        (1, 1.0, 1, 0.0)
    """
    by_pair: dict[tuple[str, str, str], dict[str, list[str]]] = {}
    for vote in votes:
        if vote.winner == SKIP:
            continue
        cast = vote.swapped() if vote.a > vote.b else vote  # the same pair may have come in another order, from a file
        answer = "tie" if cast.winner == "both_bad" else cast.winner
        by_pair.setdefault((cast.prompt, cast.a, cast.b), {}).setdefault(cast.annotator, []).append(answer)
    units = [[answers[0] for answers in of.values()] for of in by_pair.values() if len(of) > 1]
    twice = [answers for of in by_pair.values() for answers in of.values() if len(answers) > 1]
    equal = total = 0
    for unit in units:
        for count in Counter(unit).values():
            equal += count * (count - 1)
        total += len(unit) * (len(unit) - 1)
    value = krippendorff_alpha(units)
    low, high = _interval(units, seed) if value is not None else (None, None)
    return Agreement(
        len(units),
        equal / total if total else None,
        value,
        low,
        high,
        len(twice),
        sum(answers[0] == answers[1] for answers in twice) / len(twice) if twice else None,
    )


def krippendorff_alpha(units: Sequence[Sequence[str]]) -> float | None:
    """Krippendorff's alpha of nominal answers.

    .. math::
        \\alpha = 1 - (n - 1) \\frac{\\sum_u \\sum_{c \\ne k} n_{uc} n_{uk} / (m_u - 1)}{\\sum_{c \\ne k} n_c n_k}

    with n_uc the answers c on unit u, m_u all answers on it, n_c those over all units with two or more, n their sum.

    Args:
        units: the answers on each; those with fewer than two say nothing and are left out.

    Returns:
        None where no unit has two answers, or all answers are equal: chance then explains everything.

    Source: Krippendorff 2011, "Computing Krippendorff's alpha-reliability", section D.

    Example:
        >>> krippendorff_alpha([["a", "a"], ["b", "b"], ["a", "b"]])
        0.4444444444444444
    """
    counts = _counts(units)
    return None if counts is None else _alpha(counts)


def _counts(units: Sequence[Sequence[str]]) -> np.ndarray | None:
    """n_uc ``[units, answers]`` of the units that have two answers; None where there are none."""
    paired = [unit for unit in units if len(unit) > 1]
    kinds = {answer: k for k, answer in enumerate(sorted({answer for unit in paired for answer in unit}))}
    if not paired:
        return None
    counts = np.zeros((len(paired), len(kinds)))
    for row, unit in zip(counts, paired, strict=True):
        for answer in unit:
            row[kinds[answer]] += 1
    return counts


def _alpha(counts: np.ndarray) -> float | None:
    size, of_each = counts.sum(1), counts.sum(0)
    observed = float(((size**2 - (counts**2).sum(1)) / (size - 1)).sum())
    expected = float(of_each.sum() ** 2 - (of_each**2).sum())
    return None if expected == 0 else 1 - (float(of_each.sum()) - 1) * observed / expected


def _interval(units: Sequence[Sequence[str]], seed: int) -> tuple[float | None, float | None]:
    counts, random = _counts(units), np.random.default_rng(seed)
    assert counts is not None
    drawn = [_alpha(counts[random.integers(len(counts), size=len(counts))]) for _ in range(DRAWS)]
    known = [value for value in drawn if value is not None]
    if len(known) < DRAWS // 2:
        return None, None
    low, high = np.quantile(known, [0.025, 0.975])
    return float(low), float(high)


def by_annotator(votes: Sequence[CastVote]) -> Mapping[str, Mapping[str, float | int | None]]:
    """Of each person: how many votes, the median of the seconds, the consistency, and how often the first one won.

    Example:
        >>> by_annotator([CastVote("p", "x", "y", "a", "ann", 4.0, "a")])["ann"]["shown_first"]
        1.0
    """
    of: dict[str, list[CastVote]] = {}
    for vote in votes:
        of.setdefault(vote.annotator, []).append(vote)
    found = {}
    for name, cast in sorted(of.items()):
        own = [vote for vote in cast if vote.winner != SKIP]
        seconds = [vote.seconds for vote in own if vote.seconds is not None]
        decided = [vote for vote in own if vote.winner in ("a", "b") and vote.shown_first]
        with_oneself = agreement(own)
        found[name] = {
            "votes": len(own),
            "seconds": float(np.median(seconds)) if seconds else None,
            "consistency": with_oneself.consistency,
            "repeated": with_oneself.repeated,
            "shown_first": sum(v.winner == v.shown_first for v in decided) / len(decided) if decided else None,
        }
    return found
