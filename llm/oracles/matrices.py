"""From an oracle's raw logits to tables of win probabilities: both orders, duplicates, the cache, the aggregation."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nashward.errors import NashwardError
from nashward.games.analysis.social_choice import curl_fraction
from nashward.games.shapes import Bool, Float, Int

from ..config.choices import check_choice
from .cache import Cache
from .protocol import Aggregation, PreferenceOracle


@dataclass(frozen=True)
class PairwiseResult:
    """The win probabilities of one prompt's responses.

    Attributes:
        P: ``[K, K]`` (candidates against each other) or ``[K, M]`` (candidates against opponents), float64. A square
            table has P + P.T == 1 exactly and 1/2 on the diagonal. NaN where a judgement is missing, and only there.
        logits: the raw log-odds before the two orders are averaged. Square: ``[K, K]``, the row shown first, 0 where
            the texts are equal. Against opponents: ``[2, K, M]``, log-odds of the first shown: ``logits[0]`` with the
            candidate shown first, ``logits[1]`` with the opponent shown first.
        meta: ``order_gap``, the mean of ``|L_ij + L_ji| / 2``, how far the order shown moves a logit; ``calls``, the
            judgements that the oracle was asked for; ``cached``, those that the cache held; ``missing``, those that
            could not be had; ``truncated``, how many of the texts were cut; for a square table ``curl``, the share of
            the averaged logits that no score per response explains (0: transitive, 1: purely cyclic). NaN where it is
            not defined.
        std: the standard deviation of P over an ensemble's members, shaped as P; None where there is one member.

    Example:
        >>> from nashward.llm.oracles import Length
        >>> (result,) = preference_matrices(Length(), ["Say hello."], [["Hi.", "Hello!"]], [["Hello, dear reader!"]])
        >>> result.P.round(2).tolist(), result.logits.shape, result.meta["calls"]
        ([[0.17], [0.26]], (2, 2, 1), 2)
    """

    P: Float[np.ndarray, "K M"]
    logits: Float[np.ndarray, "*orders K M"]
    meta: dict[str, Any] = field(default_factory=dict)
    std: Float[np.ndarray, "K M"] | None = None


@dataclass(frozen=True)
class _Question:
    """One prompt's distinct texts, where the rows and columns of its table are among them, and the pairs to judge."""

    texts: list[str]
    rows: Int[np.ndarray, " K"]
    columns: Int[np.ndarray, " M"]
    one_way: list[tuple[int, int]]  # each unordered pair of distinct texts once
    pairs: list[tuple[int, int]]  # those, and behind them the other order of each if the oracle needs it


@dataclass(frozen=True)
class _Answer:
    """The logits of one question's pairs ``[members, pairs]``, how many were cached, how many texts are cut."""

    logits: Float[np.ndarray, "members pairs"]
    cached: int
    truncated: int


def preference_matrices(
    oracle: PreferenceOracle,
    prompts: Sequence[str],
    candidates: Sequence[Sequence[str]],
    opponents: Sequence[Sequence[str]] | None = None,
    *,
    aggregation: Aggregation | None = None,
    cache: Cache | str | Path | None = None,
) -> list[PairwiseResult]:
    """The table of win probabilities of each prompt's candidates, against each other or against its opponents.

    Both orders of a pair are judged and averaged: A_ij = (L_ij - L_ji) / 2, P_ij = sigmoid(A_ij). Equal texts get 1/2
    without a judgement, and a text that occurs twice is judged once. The number of candidates may differ from prompt
    to prompt. Two sure judgements that contradict each other (infinite logits of opposite sign) make 1/2.

    Args:
        oracle: the judge.
        prompts: N raw instructions.
        candidates: for each prompt its K responses.
        opponents: for each prompt its M responses to play against; None: the candidates play each other, ``[K, K]``.
        aggregation: None: the oracle's own. "calibrated", as above, the likelihood that PairRM was trained with.
            "hodge": P_ij = sigmoid(s_i - s_j) with s_i the mean of A_ij over j, the closest table without a cycle.
            "sppo-official": sigmoid(2 (s_i - s_j)), what the official code of SPPO (arXiv 2405.00675) computes: the
            cycles are thrown away, and the sum of the two orders is taken for their mean. Both need a square table.
        cache: where judgements are kept and looked up: a ``Cache`` or the path of one. What an oracle has answered is
            written at once, so that nothing finished is lost if a later answer fails.

    Raises:
        ValueError: if lengths do not fit, a text is not a string, the oracle returns a wrong number of logits, a cache
            is given for an oracle without a fingerprint, or the aggregation does not fit the table.

    Example:
        >>> from nashward.llm.oracles import Length, preference_matrices
        >>> (result,) = preference_matrices(Length(), ["Say hello."], [["Hello!", "Hello, dear reader!"]])
        >>> result.P.round(2).tolist()
        [[0.5, 0.26], [0.74, 0.5]]
    """
    aggregation = aggregation or oracle.aggregation
    check_choice("aggregation", aggregation, Aggregation)
    if opponents is not None and aggregation != "calibrated":
        raise NashwardError(
            f"aggregation {aggregation!r} gives each candidate one score among the candidates, which is not defined "
            "against opponents; use 'calibrated'"
        )
    check_texts(prompts, candidates, "candidates")
    if opponents is not None:
        check_texts(prompts, opponents, "opponents")
    questions = [
        _question(candidates[n], None if opponents is None else opponents[n], oracle.symmetric)
        for n in range(len(prompts))
    ]
    answers = _ask(oracle, prompts, questions, cache)
    results = []
    with np.errstate(invalid="ignore"):  # inf - inf, of members that are sure of opposite things, is missing
        for question, answer in zip(questions, answers, strict=True):
            mean = answer.logits.mean(0)
            meta = {
                "order_gap": _order_gap(mean, oracle.symmetric),
                "calls": len(question.pairs) - answer.cached,
                "cached": answer.cached,
                "missing": int(np.isnan(mean).sum()),
                "truncated": answer.truncated,
            }
            results.append(_result(question, answer.logits, meta, opponents is None, aggregation, oracle))
    return results


def curl(logits: Float[np.ndarray, "K K"]) -> float:
    """``1 - |grad|^2 / |A|^2`` with A = (L - L.T) / 2 ``[K, K]``: the cyclic share of the averaged logits.

    grad is the closest table of score differences (``games.analysis.social_choice.hodge``). 0 where all logits are 0; NaN where
    a judgement is missing or a win is sure (an infinite logit).

    Args:
        logits: L ``[K, K]``, the row shown first.

    Source: the Hodge decomposition of Jiang, Lim, Yao & Ye 2011.

    Example:
        >>> cycle = np.array([[0.0, 1.0, -1.0], [-1.0, 0.0, 1.0], [1.0, -1.0, 0.0]])
        >>> score = np.array([2.0, 1.0, 0.0])
        >>> round(curl(cycle), 3), round(curl(score[:, None] - score), 3)
        (1.0, 0.0)
    """
    if not np.isfinite(logits).all():
        return float("nan")
    return float(curl_fraction((logits - logits.T) / 2))


def _question(candidates: Sequence[str], opponents: Sequence[str] | None, symmetric: bool) -> _Question:
    texts = list(dict.fromkeys([*candidates, *(opponents or ())]))
    index = {text: i for i, text in enumerate(texts)}
    rows = np.array([index[text] for text in candidates])
    columns = rows if opponents is None else np.array([index[text] for text in opponents])
    one_way = sorted({(min(i, j), max(i, j)) for i in rows.tolist() for j in columns.tolist() if i != j})
    if symmetric:  # one order is enough, and the cache holds the same one whichever text comes first
        one_way = [(i, j) if texts[i] < texts[j] else (j, i) for i, j in one_way]
    return _Question(texts, rows, columns, one_way, one_way if symmetric else one_way + [(j, i) for i, j in one_way])


def _ask(
    oracle: PreferenceOracle, prompts: Sequence[str], questions: Sequence[_Question], cache: Cache | str | Path | None
) -> list[_Answer]:
    """The answer to each prompt's question, from the cache and then the oracle."""
    identity = oracle.cache_key()
    if cache is not None and identity is None:
        raise NashwardError(
            f"the judgements of {oracle.name} cannot be cached: it has no fingerprint. Set one on its class, a text "
            "that changes whenever its answers may, or judge without a cache"
        )
    held: Any = nullcontext(cache) if cache is None or isinstance(cache, Cache) else Cache(cache)
    found: list[dict[int, np.ndarray]] = [{} for _ in questions]
    with held as store:
        # the keys of a question's pairs, and last that of how many of its texts are cut
        keys: list[list[bytes]] = []
        known: dict[bytes, np.ndarray] = {}
        if store is not None and identity is not None:
            for prompt, question in zip(prompts, questions, strict=True):
                cut = Cache.keys(f"truncated {identity}", prompt, ["\0".join(sorted(question.texts))], [(0, 0)])
                keys.append([*Cache.keys(identity, prompt, question.texts, question.pairs), *cut])
            known = store.get([key for own in keys for key in own])
            for own, row in zip(keys, found, strict=True):
                row.update({k: known[key] for k, key in enumerate(own[:-1]) if key in known})
        cached = [len(row) for row in found]
        places = [[k for k in range(len(q.pairs)) if k not in row] for q, row in zip(questions, found, strict=True)]
        asked = [n for n, left in enumerate(places) if left]
        if asked:
            batches = oracle.judge(
                [prompts[n] for n in asked],
                [questions[n].texts for n in asked],
                [[questions[n].pairs[k] for k in places[n]] for n in asked],
            )
            for where, logits in batches:
                members = np.atleast_2d(np.asarray(logits, dtype=np.float64))
                fresh = {}
                for (m, k), values in zip(where, members.T, strict=True):
                    n, place = asked[m], places[asked[m]][k]
                    found[n][place] = values
                    if store is not None and not np.isnan(values).any():
                        fresh[keys[n][place]] = values
                if store is not None:
                    store.put(fresh)
        cuts: list[int] = []
        counted: dict[bytes, np.ndarray] = {}
        for n, (prompt, question) in enumerate(zip(prompts, questions, strict=True)):
            if store is not None and keys[n][-1] in known:
                cuts.append(int(known[keys[n][-1]][0]))
                continue
            cuts.append(oracle.truncated(prompt, question.texts))
            if store is not None:
                counted[keys[n][-1]] = np.array([float(cuts[n])])
        if store is not None:
            store.put(counted)
    for n, (question, row) in enumerate(zip(questions, found, strict=True)):
        if len(row) != len(question.pairs):
            lost = len(question.pairs) - len(row)
            raise NashwardError(f"{oracle.name} left out {lost} of the {len(question.pairs)} pairs of prompt {n}")
        if len({len(values) for values in row.values()}) > 1:
            raise NashwardError(
                f"{oracle.name} answered prompt {n} with a changing number of members: an ensemble that changed needs "
                "another fingerprint"
            )
    tables = [np.stack([row[k] for k in range(len(row))], 1) if row else np.zeros((1, 0)) for row in found]
    return [_Answer(*answer) for answer in zip(tables, cached, cuts, strict=True)]


def _result(
    question: _Question,
    logits: Float[np.ndarray, "members pairs"],
    meta: dict[str, Any],
    square: bool,
    aggregation: Aggregation,
    oracle: PreferenceOracle,
) -> PairwiseResult:
    rows, columns = question.rows, question.columns
    L, A = _tables(len(question.texts), question.one_way, logits, oracle.symmetric)
    own = A[:, rows[:, None], columns]  # [members, K, K or M]
    same = rows[:, None] == columns
    tables = np.stack([_win_probability(member, same, aggregation, oracle.name) for member in own])
    mean = _win_probability(own.mean(0), same, aggregation, oracle.name) if len(own) > 1 else tables[0]
    std = tables.std(0, ddof=1) if len(own) > 1 else None
    if square:
        shown = L[np.ix_(rows, rows)]
        return PairwiseResult(mean, shown, {**meta, "curl": curl(shown)}, std)
    return PairwiseResult(mean, np.stack([L[np.ix_(rows, columns)], L[np.ix_(columns, rows)].T]), meta, std)


def _tables(
    size: int, one_way: Sequence[tuple[int, int]], logits: Float[np.ndarray, "members pairs"], symmetric: bool
) -> tuple[Float[np.ndarray, "texts texts"], Float[np.ndarray, "members texts texts"]]:
    """The members' mean raw logits ``[size, size]`` and each member's average of the two orders, a skew table."""
    L, A = np.zeros((size, size)), np.zeros((len(logits), size, size))
    if not one_way:
        return L, A
    with np.errstate(invalid="ignore"):  # inf - inf among members that are sure of opposite things: missing
        i, j = np.array(one_way).T
        forward, backward = (logits, -logits) if symmetric else np.split(logits, 2, axis=1)
        L[i, j], L[j, i] = forward.mean(0), backward.mean(0)
        # sure verdicts that contradict each other: inf - inf is no number, but a tie
        contradict = np.isinf(forward) & (forward == backward)
        A[:, i, j] = (np.where(contradict, 0.0, forward) - np.where(contradict, 0.0, backward)) / 2
        A[:, j, i] = -A[:, i, j]
    return L, A


def _win_probability(
    A: Float[np.ndarray, "K M"], same: Bool[np.ndarray, "K M"], aggregation: Aggregation, name: str
) -> Float[np.ndarray, "K M"]:
    """P from averaged logits: sigmoid, such that P_ij and P_ji add up to 1 exactly where A_ij = -A_ji."""
    if aggregation != "calibrated":
        if np.isinf(A).any():
            raise NashwardError(
                f"aggregation {aggregation!r} averages logits, but {name} is sure of some (infinite logits); use "
                "'calibrated'"
            )
        A = np.where(np.isnan(A), np.nan, (2.0 if aggregation == "sppo-official" else 1.0) * _gradient(A))
    # the larger of the two is computed and the other is its complement in floating point: 1 - p is exact for
    # p in [1/2, 1], so P + P.T == 1 holds exactly and a permutation of the candidates only permutes P
    larger = 1.0 / (1.0 + np.exp(-np.abs(A)))
    return np.where(same, 0.5, np.where(A >= 0, larger, 1.0 - larger))


def _gradient(A: Float[np.ndarray, "K K"]) -> Float[np.ndarray, "K K"]:
    """s_i - s_j with the scores s that explain A ``[K, K]`` best: least squares over the pairs that were judged.

    Where all were, s_i is the mean of A_ij over j.
    """
    judged = ~np.isnan(A)
    if judged.all():
        score = A.mean(axis=1)
    else:
        laplacian = np.diag(judged.sum(1)) - judged.astype(float)
        score = np.linalg.pinv(laplacian) @ np.nan_to_num(A).sum(axis=1)
    return score[:, None] - score


def _order_gap(logits: Float[np.ndarray, " pairs"], symmetric: bool) -> float:
    """The mean of |L_ij + L_ji| / 2 over the pairs that were judged in both orders."""
    if symmetric or not logits.size:
        return 0.0
    forward, backward = np.split(logits, 2)
    # sure verdicts that agree have no gap, though inf - inf is no number
    agree = np.isinf(forward) & (forward == -backward)
    gaps = np.abs(np.where(agree, 0.0, forward) + np.where(agree, 0.0, backward)) / 2
    return float(gaps[~np.isnan(gaps)].mean()) if not np.isnan(gaps).all() else float("nan")


def check_texts(prompts: Sequence[str], responses: Sequence[Sequence[str]], what: str) -> None:
    """Whether there is a list of texts for each prompt.

    Raises:
        ValueError: there is not; it says where.
    """
    if isinstance(prompts, str) or isinstance(responses, str):
        raise NashwardError(f"prompts and {what} have to be lists, one entry a prompt; a single string was given")
    if len(prompts) != len(responses):
        raise NashwardError(f"{len(prompts)} prompts but {len(responses)} lists of {what}: expected one list a prompt")
    for n, (prompt, texts) in enumerate(zip(prompts, responses, strict=True)):
        if not isinstance(prompt, str):
            raise NashwardError(
                f"prompt {n} is of type {type(prompt).__name__}; expected the raw instruction, a string"
            )
        if isinstance(texts, str) or not len(texts):
            raise NashwardError(f"{what} of prompt {n}: expected a list of at least one string, got {texts!r:.60}")
        for k, text in enumerate(texts):
            if not isinstance(text, str):
                raise NashwardError(f"{what} {k} of prompt {n} is of type {type(text).__name__}; expected a string")
