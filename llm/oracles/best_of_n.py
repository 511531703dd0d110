"""The best of n responses by a preference oracle: three rules, which differ where the preferences have cycles."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from nashward.counted import counted
from nashward.errors import NashwardError
from nashward.games.shapes import Float, Num
from nashward.shortened import quoted

from ..config.fields import check_choice
from ..processes import processes
from .cache import Cache
from .ensembles.objectives import check_judges_pairs
from .matrices import PairwiseResult, cache_of_machine, check_texts, preference_matrices
from .protocol import Aggregation, PreferenceOracle

Rule = Literal["mean-win-rate", "copeland", "knock-out"]
Match = tuple[int, int]

CHUNK = 64  # prompts that one of several processes judges together

logger = logging.getLogger(__name__)


def select_best(
    oracle: PreferenceOracle,
    prompts: Sequence[str],
    candidates: Sequence[Sequence[str]],
    rule: Rule = "mean-win-rate",
    cache: Cache | str | Path | None = None,
    opponents: Sequence[Sequence[str]] | None = None,
) -> list[int]:
    """For each prompt the index of its best candidate; see ``table_winner`` for the rules.

    "mean-win-rate" and "copeland" judge all n (n - 1) / 2 comparisons of a prompt. "knock-out" judges the n - 1
    comparisons of its matches, a round of all prompts at once. Several processes divide the prompts, and all have the
    result. A warning counts the missing judgements.

    Args:
        oracle: the judge.
        prompts: N raw instructions.
        candidates: for each prompt its n responses; n may differ.
        rule: one of the three.
        cache: of judgements; see ``preference_matrices``.
        opponents: for each prompt the responses to beat, in place of the other candidates: the best has the largest
            mean win probability against them, the earliest among equals. Only with the rule "mean-win-rate".

    Raises:
        ValueError: all judgements of a prompt are missing, the rule is unknown, the oracle is of objectives under
            floors or in their worst case, or as ``preference_matrices``.

    See also: ``table_winner`` for tables that are computed already.

    Example:
        >>> from nashward.llm.oracles import Length
        >>> select_best(Length(), ["Say hello."], [["Hello!", "Hello, dear reader!", "Hi."]], rule="knock-out")
        [1]
    """
    check_choice("rule", rule, Rule)
    check_judges_pairs(oracle)
    if opponents is not None:
        if rule != "mean-win-rate":
            raise NashwardError(f"against opponents the rule is mean-win-rate, got {rule!r}")
        tables = [result.P for result in _matrices(oracle, prompts, candidates, opponents, cache=cache)]
        missing = [bool(np.isnan(P).all()) for P in tables]
        gone, asked = sum(int(np.isnan(P).sum()) for P in tables), sum(P.size for P in tables)
        winners = [0 if empty else _largest(P.tolist()) for P, empty in zip(tables, missing, strict=True)]
    elif rule == "knock-out":
        brackets = _play_brackets(oracle, prompts, candidates, cache)
        missing = [bracket.size > 1 and not bracket.judged for bracket in brackets]
        gone, asked = sum(bracket.missing for bracket in brackets), sum(bracket.size - 1 for bracket in brackets)
        winners = [bracket.standing[0] for bracket in brackets]
    else:
        tables = [result.P for result in _matrices(oracle, prompts, candidates, None, cache=cache)]
        missing = [_all_missing(P) for P in tables]
        gone = sum(int(np.isnan(P[np.triu_indices(len(P), 1)]).sum()) for P in tables)
        asked = sum(len(P) * (len(P) - 1) // 2 for P in tables)
        winners = [0 if empty else table_winner(P, rule) for P, empty in zip(tables, missing, strict=True)]
    if any(missing):
        n = missing.index(True)
        raise NashwardError(
            f"{oracle.name} gave no judgement for prompt {n}, {quoted(prompts[n], 60)}: no candidate is the best; "
            "leave the prompt out, or take another oracle"
        )
    if gone:
        logger.warning(
            "%s gave no judgement for %d of %s of responses; they count for neither", oracle.name, gone,
            counted(asked, "pair"),
        )  # fmt: skip
    return winners


def table_winner(P: Num[np.ndarray, "..."], rule: Rule = "mean-win-rate") -> int:
    """The best of n candidates by their table of win probabilities.

    - "mean-win-rate": the largest mean of P_ij over j != i (Borda's rule), missing judgements left out.
    - "copeland": the most opponents with P_ij > 1/2, one half for each with P_ij = 1/2 (Copeland 1951, "A reasonable
      social welfare function"). It finds a Condorcet winner where there is one. Equal counts: the mean win rate.
    - "knock-out": neighbours play in the given order, the better goes on, the last of an odd round has a bye. It finds
      a Condorcet winner too, but in a cycle the order decides. PairRanker's single bubble run (Jiang, Ren and Lin 2023,
      arXiv 2306.02561) is of its kind: with n - 1 comparisons it takes the preferences to be transitive.

    Among equals the earliest wins. A missing judgement is no coin flip: it counts for neither candidate, and in a
    knock-out the earlier one goes on. A candidate without any judgement is behind all that have one. The three rules
    agree wherever P_ij = f(r_i - r_j) with a strictly increasing f.

    Args:
        P: ``[n, n]``, P_ij the probability that i beats j; NaN where it is missing. The diagonal is not read.
        rule: one of the three.

    Raises:
        ValueError: P is not square, holds numbers outside of [0, 1] or no judgement at all, or the rule is unknown.

    Example:
        >>> P = np.array([[0.5, 0.6, 0.6], [0.4, 0.5, 0.99], [0.4, 0.01, 0.5]])
        >>> table_winner(P, "mean-win-rate"), table_winner(P, "copeland")
        (1, 0)
    """
    check_choice("rule", rule, Rule)
    P = np.asarray(P, dtype=np.float64)
    if P.ndim != 2 or P.shape[0] != P.shape[1] or not len(P):
        raise NashwardError(f"P has shape {P.shape}; expected [n, n], the n candidates against each other")
    wrong = P[(P < 0) | (P > 1)]
    if wrong.size:
        raise NashwardError(f"P holds {wrong[0]:.4g}; expected win probabilities in [0, 1], NaN where one is missing")
    if _all_missing(P):
        raise NashwardError(f"all judgements between the {len(P)} candidates are missing: none is the best")
    known = [[float(p) for j, p in enumerate(row) if j != i and not np.isnan(p)] for i, row in enumerate(P)]
    if rule == "knock-out":
        bracket = _Bracket(len(P))
        bracket.judged.update(i for i, row in enumerate(known) if row)
        while matches := bracket.matches():
            bracket.advance([float(P[match]) for match in matches])
        return bracket.standing[0]
    if rule == "mean-win-rate":
        return _largest(known)
    beaten = [sum((p > 0.5) + (p == 0.5) / 2 for p in row) for row in known]
    merits = list(zip(beaten, map(_mean, known), strict=True))
    return merits.index(max(merits))


def _mean(row: Sequence[float]) -> float:
    """The mean without NaN; fsum: equal win rates stay equal in every order of summation."""
    known = [p for p in row if not math.isnan(p)]
    return math.fsum(known) / len(known) if known else -math.inf


def _largest(rows: Sequence[Sequence[float]]) -> int:
    """The row of the largest mean, the first among equals."""
    means = [_mean(row) for row in rows]
    return means.index(max(means))


class _Bracket:
    """A knock-out of ``size`` candidates: those left, in order, and those with any judgement."""

    def __init__(self, size: int) -> None:
        self.size, self.standing = size, list(range(size))
        self.judged: set[int] = set()
        self.missing = 0

    def matches(self) -> list[Match]:
        """The pairs of neighbours that play this round; none where one candidate is left."""
        return list(zip(self.standing[::2], self.standing[1::2], strict=False))

    def advance(self, probabilities: Sequence[float]) -> None:
        """Play the round by P(the earlier beats the later) of each match, NaN where it is missing."""
        played = list(zip(self.matches(), probabilities, strict=True))
        self.missing += sum(bool(np.isnan(p)) for _, p in played)
        self.judged.update(i for match, p in played if not np.isnan(p) for i in match)
        bye = self.standing[2 * len(played) :]
        self.standing = [later if self._later_wins(earlier, later, p) else earlier for (earlier, later), p in played]
        self.standing += bye

    def _later_wins(self, earlier: int, later: int, p: float) -> bool:
        if np.isnan(p):
            return earlier not in self.judged and later in self.judged
        return p < 0.5


def _play_brackets(
    oracle: PreferenceOracle,
    prompts: Sequence[str],
    candidates: Sequence[Sequence[str]],
    cache: Cache | str | Path | None,
) -> list[_Bracket]:
    """The brackets of all prompts, with all their rounds played."""
    check_texts(prompts, candidates, "candidates")
    brackets = [_Bracket(len(texts)) for texts in candidates]
    while matches := [(n, match) for n, bracket in enumerate(brackets) for match in bracket.matches()]:
        results = _matrices(
            oracle,
            [prompts[n] for n, _ in matches],
            [[candidates[n][i]] for n, (i, _) in matches],  # each match by itself: no other pair is judged
            [[candidates[n][j]] for n, (_, j) in matches],
            aggregation="calibrated",  # of two candidates every aggregation prefers the same one
            cache=cache,
        )
        probabilities = iter([float(result.P[0, 0]) for result in results])
        for bracket in brackets:
            bracket.advance([next(probabilities) for _ in bracket.matches()])
    return brackets


def _matrices(
    oracle: PreferenceOracle,
    prompts: Sequence[str],
    candidates: Sequence[Sequence[str]],
    opponents: Sequence[Sequence[str]] | None,
    cache: Cache | str | Path | None,
    aggregation: Aggregation | None = None,
) -> list[PairwiseResult]:
    """``preference_matrices``, of several processes each with its own prompts."""
    chunk = len(prompts) if processes.count == 1 else CHUNK
    at = cache_of_machine(cache, oracle)

    def judged(start: int) -> list[PairwiseResult]:
        part = slice(start, start + chunk)
        against = None if opponents is None else opponents[part]
        return preference_matrices(oracle, prompts[part], candidates[part], against, aggregation=aggregation, cache=at)

    check_texts(prompts, candidates, "candidates")
    if opponents is not None:
        check_texts(prompts, opponents, "opponents")
    return [result for part in processes.map(judged, range(0, len(prompts), chunk or 1)) for result in part]


def _all_missing(P: Float[np.ndarray, "n n"]) -> bool:
    return len(P) > 1 and bool(np.isnan(P[~np.eye(len(P), dtype=bool)]).all())
