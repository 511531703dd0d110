"""What a preference oracle is, and the one function that turns its raw logits into tables of win probabilities."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Pairs = Sequence[tuple[int, int]]


@dataclass(frozen=True)
class PairwiseResult:
    """The win probabilities of one prompt's responses.

    Attributes:
        P: `[K, K]` (candidates against each other) or `[K, M]` (candidates against opponents), float64. A square table
            has P + P.T == 1 exactly and 1/2 on the diagonal. NaN where a judgement is missing, and only there.
        logits: the raw log-odds before the two orders are averaged. Square: `[K, K]`, the row shown first, 0 where the
            texts are equal. Against opponents: `[2, K, M]`, log-odds of the first shown: `logits[0]` with the candidate
            shown first, `logits[1]` with the opponent shown first.
        meta: `order_gap`, the mean of |L_ij + L_ji| / 2, how far the order shown moves a logit; `calls`, the judgements
            asked for; `truncated`, how many of the texts were cut; for a square table `curl`, the share of the averaged
            logits that no score per response explains (0: transitive, 1: purely cyclic). NaN where it is not defined.
    """

    P: np.ndarray
    logits: np.ndarray
    meta: dict[str, Any] = field(default_factory=dict)


class PreferenceOracle(ABC):
    """Base of all oracles. A new oracle writes `raw_logits` and, where it can, `truncated`.

    Attributes:
        name: what reports call it.
        symmetric: True promises logit(i, j) == -logit(j, i); then one order is asked for and the other is its negative.
        transitive: True promises that the logits are differences of a score: the game has a pure equilibrium.
    """

    name: str = "oracle"
    symmetric: bool = False
    transitive: bool = False

    @abstractmethod
    def raw_logits(
        self, prompts: Sequence[str], candidates: Sequence[Sequence[str]], pairs: Sequence[Pairs]
    ) -> list[np.ndarray]:
        """For each prompt one logit a pair: `sigmoid(logit)` = P(candidate i beats candidate j), i shown first.

        A judgement that could not be had is NaN. All prompts come in one call, so that they can share batches.
        """

    def truncated(self, prompt: str, candidates: Sequence[str]) -> int:
        """How many of the texts (the prompt counts as one) are cut before they are judged."""
        return 0


def preference_matrices(
    oracle: PreferenceOracle,
    prompts: Sequence[str],
    candidates: Sequence[Sequence[str]],
    opponents: Sequence[Sequence[str]] | None = None,
) -> list[PairwiseResult]:
    """The table of win probabilities of each prompt's candidates, against each other or against its opponents.

    Both orders of a pair are judged and averaged: P_ij = sigmoid((L_ij - L_ji) / 2). Equal texts get 1/2 without a
    judgement, and a text that occurs twice is judged once. The number of candidates may differ from prompt to prompt.

    Args:
        oracle: the judge.
        prompts: N raw instructions.
        candidates: for each prompt its K responses.
        opponents: for each prompt its M responses to play against; None: the candidates play each other, `[K, K]`.

    Raises:
        ValueError: if lengths do not fit, a text is not a string, or the oracle returns a wrong number of logits.
    """
    _check_texts(prompts, candidates, "candidates")
    if opponents is not None:
        _check_texts(prompts, opponents, "opponents")
    texts, plans = [], []
    for n in range(len(prompts)):
        other = None if opponents is None else opponents[n]
        unique = list(dict.fromkeys([*candidates[n], *(other or ())]))
        index = {text: i for i, text in enumerate(unique)}
        rows = np.array([index[text] for text in candidates[n]])
        columns = rows if other is None else np.array([index[text] for text in other])
        # each unordered pair of distinct texts once
        wanted = {(min(i, j), max(i, j)) for i in rows.tolist() for j in columns.tolist() if i != j}
        one_way = sorted(wanted)
        both_ways = one_way if oracle.symmetric else one_way + [(j, i) for i, j in one_way]
        texts.append(unique)
        plans.append((rows, columns, one_way, both_ways))

    asked = [n for n in range(len(prompts)) if plans[n][3]]
    answers: dict[int, np.ndarray] = {}
    if asked:
        questions = ([prompts[n] for n in asked], [texts[n] for n in asked], [plans[n][3] for n in asked])
        returned = oracle.raw_logits(*questions)
        if len(returned) != len(asked):
            raise ValueError(f"{oracle.name} returned logits for {len(returned)} prompts; expected {len(asked)}")
        answers = dict(zip(asked, returned, strict=True))

    results = []
    for n, prompt in enumerate(prompts):
        rows, columns, one_way, both_ways = plans[n]
        logits = np.asarray(answers.get(n, np.zeros(0)), dtype=np.float64)
        if logits.shape != (len(both_ways),):
            raise ValueError(
                f"{oracle.name} returned logits of shape {logits.shape} for prompt {n}; expected ({len(both_ways)},), "
                "one logit a pair"
            )
        L, P = _tables(len(texts[n]), one_way, logits, oracle.symmetric)
        # A symmetric oracle has no gap by its promise, also where a logit is infinite (a sure win).
        gaps = np.array([0.0 if oracle.symmetric else abs(L[i, j] + L[j, i]) / 2 for i, j in one_way])
        meta: dict[str, Any] = {
            "order_gap": float(np.nanmean(gaps)) if np.isfinite(gaps).any() else float("nan") if len(gaps) else 0.0,
            "calls": len(both_ways),
            "truncated": oracle.truncated(prompt, texts[n]),
        }
        if opponents is None:
            square = L[np.ix_(rows, rows)]
            meta["curl"] = curl(square)
            results.append(PairwiseResult(P[np.ix_(rows, rows)], square, meta))
        else:
            shown = np.stack([L[np.ix_(rows, columns)], L[np.ix_(columns, rows)].T])
            results.append(PairwiseResult(P[np.ix_(rows, columns)], shown, meta))
    return results


def curl(logits: np.ndarray) -> float:
    """1 - |grad|^2 / |A|^2 with A = (L - L.T) / 2 `[K, K]`: the cyclic share of the averaged logits.

    grad is the closest table of score differences, grad_ij = s_i - s_j with s the row means of A (Jiang, Lim, Yao and
    Ye 2011). 0 where all logits are 0; NaN where a judgement is missing or a win is sure (an infinite logit).
    """
    if not np.isfinite(logits).all():
        return float("nan")
    A = (logits - logits.T) / 2
    energy = float(np.sum(A**2))
    if energy == 0.0:
        return 0.0
    score = A.mean(axis=1)
    # rounding must not make it negative; NaN passes through
    return float(np.maximum(0.0, 1.0 - np.sum((score[:, None] - score) ** 2) / energy))


def _tables(size: int, one_way: Pairs, logits: np.ndarray, symmetric: bool) -> tuple[np.ndarray, np.ndarray]:
    """Raw logits and probabilities `[size, size]` of distinct texts from the logits of the pairs that were judged."""
    L = np.zeros((size, size))
    P = np.full((size, size), 0.5)
    forward, backward = (logits, -logits) if symmetric else np.split(logits, 2)
    for (i, j), first, second in zip(one_way, forward, backward, strict=True):
        L[i, j], L[j, i] = first, second
        mean = (first - second) / 2
        # the larger of the two is computed and the other is its complement in floating point: 1 - p is exact for
        # p in [1/2, 1], so P + P.T == 1 holds exactly and a permutation of the candidates only permutes P
        larger = 1.0 / (1.0 + np.exp(-abs(mean)))
        P[i, j], P[j, i] = (larger, 1.0 - larger) if mean >= 0 else (1.0 - larger, larger)
    return L, P


def _check_texts(prompts: Sequence[str], responses: Sequence[Sequence[str]], what: str) -> None:
    if isinstance(prompts, str) or isinstance(responses, str):
        raise ValueError(f"prompts and {what} have to be lists, one entry a prompt; a single string was given")
    if len(prompts) != len(responses):
        raise ValueError(f"{len(prompts)} prompts but {len(responses)} lists of {what}: expected one list a prompt")
    for n, (prompt, texts) in enumerate(zip(prompts, responses, strict=True)):
        if not isinstance(prompt, str):
            raise ValueError(f"prompt {n} is of type {type(prompt).__name__}; expected the raw instruction, a string")
        if isinstance(texts, str) or not len(texts):
            raise ValueError(f"{what} of prompt {n}: expected a list of at least one string, got {texts!r:.60}")
        for k, text in enumerate(texts):
            if not isinstance(text, str):
                raise ValueError(f"{what} {k} of prompt {n} is of type {type(text).__name__}; expected a string")
