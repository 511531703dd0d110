"""From an oracle's raw logits to tables of win probabilities: both orders, equal texts, the cache, the aggregation."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nashward.counted import counted
from nashward.errors import NashwardError
from nashward.games.analysis.social_choice import curl_fraction
from nashward.games.shapes import Bool, Float, Int
from nashward.shortened import quoted

from ..config.fields import check_choice
from ..processes import processes
from .cache import Cache
from .protocol import Aggregation, PreferenceOracle, check_is_oracle


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
            pairs that the oracle judged; ``cached``, those from the cache; ``missing``, those without a judgement;
            ``truncated``, how many of the texts were truncated; for a square table ``curl``, the share of the averaged
            logits that no score per response explains (0: transitive, 1: purely cyclic). NaN where it is not defined.
        std: the standard deviation of P over an ensemble's members, shaped as P; None where there is one member.
        members: ``[members, K, M]``, the win probabilities of each; None where there is one.
        targets: what a regression fits in place of P, shaped as P, which may lie outside of [0, 1]; None: P. See
            ``Unflipped``.

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
    members: Float[np.ndarray, "members K M"] | None = None
    targets: Float[np.ndarray, "K M"] | None = None


@dataclass(frozen=True)
class _Request:
    """One prompt's distinct texts, the indices of its table's rows and columns among them, and the pairs to judge."""

    texts: list[str]
    rows: Int[np.ndarray, " K"]
    columns: Int[np.ndarray, " M"]
    one_way: list[tuple[int, int]]  # each unordered pair of distinct texts once
    pairs: list[tuple[int, int]]  # those, followed by the other order of each unless the oracle is symmetric


@dataclass(frozen=True)
class _Judgement:
    """The logits of one request's pairs ``[members, pairs]``, how many were cached, how many texts are truncated."""

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
    to prompt. Two certain judgements that contradict each other (infinite logits of opposite sign) give 1/2.

    Args:
        oracle: the judge.
        prompts: N raw instructions.
        candidates: for each prompt its K responses.
        opponents: for each prompt its M responses to play against; None: the candidates play each other, ``[K, K]``.
        aggregation: None: the oracle's own. "calibrated", as above, the likelihood that PairRM was trained with.
            "hodge": P_ij = sigmoid(s_i - s_j) with s_i the mean of A_ij over j, the closest table without a cycle.
            "sppo-official": sigmoid(2 (s_i - s_j)), what the official code of SPPO (arXiv 2405.00675) computes: the
            cycles are thrown away, and the sum of the two orders is taken for their mean. Both need a square table.
        cache: of judgements: a ``Cache`` or the path of one. Judgements are written as the oracle returns them, so that
            a later failure loses none.

    Raises:
        ValueError: the oracle is none (as a class that was not called), lengths do not fit, a text is not a string, the
            oracle returns a wrong number of logits, there is a cache but the oracle has no fingerprint, or the
            aggregation does not fit the table.

    Example:
        >>> from nashward.llm.oracles import Length, preference_matrices
        >>> (result,) = preference_matrices(Length(), ["Say hello."], [["Hello!", "Hello, dear reader!"]])
        >>> result.P.round(2).tolist()
        [[0.5, 0.26], [0.74, 0.5]]
    """
    check_is_oracle(oracle)
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
    requests = [
        _request(candidates[n], None if opponents is None else opponents[n], oracle) for n in range(len(prompts))
    ]
    judgements = _judge(oracle, prompts, requests, cache)
    results = []
    with np.errstate(invalid="ignore"):  # inf - inf, of members that are certain of opposite winners, is missing
        for request, judgement in zip(requests, judgements, strict=True):
            mean = oracle.pooled(judgement.logits) if request.pairs else judgement.logits[0]
            meta = {
                "order_gap": _order_gap(mean, oracle.symmetric),
                "calls": len(request.pairs) - judgement.cached,
                "cached": judgement.cached,
                "missing": int(np.isnan(mean).sum()),
                "truncated": judgement.truncated,
            }
            results.append(_result(request, judgement.logits, meta, opponents is None, aggregation, oracle))
    return results


def cache_of_machine(cache: Cache | str | Path | None, oracle: PreferenceOracle) -> Cache | Path | None:
    """The cache of this machine's processes, see ``Processes.local``; all processes come here before they judge.

    What an oracle has paid for beside the caches of all machines is counted before any process pays for more.

    Args:
        cache: see ``preference_matrices``; that of the first machine.
        oracle: the judge.

    Example:
        >>> from nashward.llm.oracles import Length
        >>> str(cache_of_machine("judgements.sqlite", Length()))
        'judgements.sqlite'
    """
    if cache is None or isinstance(cache, Cache):
        return cache
    file = processes.local(Path(cache))
    if processes.count > 1 and oracle.cache_key() is not None:
        with Cache(file) as opened:
            oracle.attach_cache(opened)
        processes.gather(None)
    return file


def curl(logits: Float[np.ndarray, "K K"]) -> float:
    """``1 - |grad|^2 / |A|^2`` with A = (L - L.T) / 2 ``[K, K]``: the cyclic share of the averaged logits.

    grad is the closest table of score differences (``games.analysis.social_choice.hodge``). 0 where all logits are 0;
    NaN where a judgement is missing or certain (an infinite logit).

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


def _request(candidates: Sequence[str], opponents: Sequence[str] | None, oracle: PreferenceOracle) -> _Request:
    symmetric, given = oracle.symmetric, [*candidates, *(opponents or ())]
    texts = given if oracle.sees_copies else list(dict.fromkeys(given))
    index = {text: i for i, text in enumerate(texts)}
    places = np.arange(len(given)) if oracle.sees_copies else np.array([index[text] for text in given])
    rows = places[: len(candidates)]
    columns = rows if opponents is None else places[len(candidates) :]
    one_way = sorted({(min(i, j), max(i, j)) for i in rows.tolist() for j in columns.tolist() if i != j})
    if symmetric:  # one order is enough, and the cache has the same one whichever text comes first
        one_way = [(i, j) if texts[i] < texts[j] else (j, i) for i, j in one_way]
    return _Request(texts, rows, columns, one_way, one_way if symmetric else one_way + [(j, i) for i, j in one_way])


def _judge(
    oracle: PreferenceOracle, prompts: Sequence[str], requests: Sequence[_Request], cache: Cache | str | Path | None
) -> list[_Judgement]:
    """The judgements of each prompt's request, from the cache and then from the oracle."""
    cache_key = oracle.cache_key()
    if cache is not None and cache_key is None:
        raise NashwardError(
            f"the judgements of {oracle.name} cannot be cached: it has no fingerprint. Set one on its class, a text "
            "that changes whenever its logits may, or judge without a cache"
        )
    opened: Any = nullcontext(cache) if cache is None or isinstance(cache, Cache) else Cache(cache)
    with opened as store:
        if store is None or cache_key is None:
            keys, cached = None, {}
        else:
            oracle.attach_cache(store)
            keys = [_keys(cache_key, prompt, request) for prompt, request in zip(prompts, requests, strict=True)]
            cached = store.get([key for prompt_keys in keys for key in prompt_keys])
        logits_of: list[dict[int, np.ndarray]] = [  # by the index of the pair
            {k: cached[key] for k, key in enumerate(prompt_keys[:-1]) if key in cached}
            for prompt_keys in keys or [[b""]] * len(requests)
        ]
        cached_counts = [len(prompt_logits) for prompt_logits in logits_of]
        _ask(oracle, prompts, requests, logits_of, store, keys)
        truncated: list[int] = []
        counted_now: dict[bytes, np.ndarray] = {}
        for n, (prompt, request) in enumerate(zip(prompts, requests, strict=True)):
            known = None if keys is None else cached.get(keys[n][-1])
            truncated.append(oracle.truncated(prompt, request.texts) if known is None else int(known[0]))
            if keys is not None and known is None:
                counted_now[keys[n][-1]] = np.array([float(truncated[n])])
        if store is not None:
            store.put(counted_now)
    _check_judged(oracle, requests, logits_of)
    stacked = [
        np.stack([prompt_logits[k] for k in range(len(prompt_logits))], 1) if prompt_logits else np.zeros((1, 0))
        for prompt_logits in logits_of
    ]
    return [_Judgement(*values) for values in zip(stacked, cached_counts, truncated, strict=True)]


def _keys(cache_key: str, prompt: str, request: _Request) -> list[bytes]:
    """The keys of a request's pairs, and last that of the number of its truncated texts."""
    truncated = Cache.keys(f"truncated {cache_key}", prompt, ["\0".join(sorted(request.texts))], [(0, 0)])
    return [*Cache.keys(cache_key, prompt, request.texts, request.pairs), *truncated]


def _ask(
    oracle: PreferenceOracle,
    prompts: Sequence[str],
    requests: Sequence[_Request],
    logits_of: Sequence[dict[int, np.ndarray]],
    store: Cache | None,
    keys: Sequence[Sequence[bytes]] | None,
) -> None:
    """Ask the oracle for the pairs that have no logits yet, and keep each judgement as it arrives."""
    open_pairs = [
        [k for k in range(len(request.pairs)) if k not in prompt_logits]
        for request, prompt_logits in zip(requests, logits_of, strict=True)
    ]
    open_prompts = [n for n, indices in enumerate(open_pairs) if indices]
    if not open_prompts:
        return
    batches = oracle.judge(
        [prompts[n] for n in open_prompts],
        [requests[n].texts for n in open_prompts],
        [[requests[n].pairs[k] for k in open_pairs[n]] for n in open_prompts],
    )
    for judged, logits in batches:
        members = np.atleast_2d(np.asarray(logits, dtype=np.float64))
        new = {}
        for (m, k), values in zip(judged, members.T, strict=True):
            n, pair = open_prompts[m], open_pairs[open_prompts[m]][k]
            logits_of[n][pair] = values
            if keys is not None and not np.isnan(values).any():
                new[keys[n][pair]] = values
        if store is not None:
            store.put(new)


def _check_judged(
    oracle: PreferenceOracle, requests: Sequence[_Request], logits_of: Sequence[dict[int, np.ndarray]]
) -> None:
    """Every pair has logits, of as many members as the others of its prompt."""
    for n, (request, prompt_logits) in enumerate(zip(requests, logits_of, strict=True)):
        if len(prompt_logits) != len(request.pairs):
            left_out = len(request.pairs) - len(prompt_logits)
            raise NashwardError(f"{oracle.name} left out {left_out} of the {len(request.pairs)} pairs of prompt {n}")
        if len({len(values) for values in prompt_logits.values()}) > 1:
            raise NashwardError(
                f"{oracle.name} judged prompt {n} with a changing number of members: an ensemble that changed needs "
                "another fingerprint"
            )


def _result(
    request: _Request,
    logits: Float[np.ndarray, "members pairs"],
    meta: dict[str, Any],
    square: bool,
    aggregation: Aggregation,
    oracle: PreferenceOracle,
) -> PairwiseResult:
    """The result of one prompt, from the logits of its pairs."""
    rows, columns = request.rows, request.columns
    L, A = _tables(len(request.texts), request.one_way, logits, oracle)
    averaged = A[:, rows[:, None], columns]  # [members, K, K or M]
    equal = rows[:, None] == columns
    tables = np.stack([_win_probability(member, equal, aggregation, oracle.name) for member in averaged])
    pooled = oracle.pooled(averaged) if request.pairs else averaged[0]
    mean = _win_probability(pooled, equal, aggregation, oracle.name)
    several = len(averaged) > 1
    std, members = (tables.std(0, ddof=1), tables) if several else (None, None)
    unclipped = oracle.unclipped(averaged)
    targets = None if unclipped is None else np.where(equal, 0.5, unclipped)
    if square:
        raw = L[np.ix_(rows, rows)]
        return PairwiseResult(mean, raw, {**meta, "curl": curl(raw)}, std, members, targets)
    raw = np.stack([L[np.ix_(rows, columns)], L[np.ix_(columns, rows)].T])
    return PairwiseResult(mean, raw, meta, std, members, targets)


def _tables(
    size: int,
    one_way: Sequence[tuple[int, int]],
    logits: Float[np.ndarray, "members pairs"],
    oracle: PreferenceOracle,
) -> tuple[Float[np.ndarray, "texts texts"], Float[np.ndarray, "members texts texts"]]:
    """The oracle's raw logits ``[size, size]`` and each member's average of the two orders, a skew table."""
    L, A = np.zeros((size, size)), np.zeros((len(logits), size, size))
    if not one_way:
        return L, A
    with np.errstate(invalid="ignore"):  # inf - inf, of members that are certain of opposite winners, is missing
        i, j = np.array(one_way).T
        forward, backward = (logits, -logits) if oracle.symmetric else np.split(logits, 2, axis=1)
        L[i, j], L[j, i] = oracle.pooled(forward), oracle.pooled(backward)
        A[:, i, j] = average_orders(forward, backward)
        A[:, j, i] = -A[:, i, j]
    return L, A


def average_orders(
    forward: Float[np.ndarray, "*members pairs"], backward: Float[np.ndarray, "*members pairs"]
) -> Float[np.ndarray, "*members pairs"]:
    """(forward - backward) / 2, the log-odds of pairs from those of both orders shown.

    Certain judgements that contradict each other tie, where inf - inf would be NaN.

    Example:
        >>> average_orders(np.array([1.0, np.inf]), np.array([-2.0, np.inf]))
        array([1.5, 0. ])
    """
    contradict = np.isinf(forward) & (forward == backward)
    return (np.where(contradict, 0.0, forward) - np.where(contradict, 0.0, backward)) / 2


def _win_probability(
    A: Float[np.ndarray, "K M"], equal: Bool[np.ndarray, "K M"], aggregation: Aggregation, name: str
) -> Float[np.ndarray, "K M"]:
    """P from averaged logits: sigmoid, such that P_ij and P_ji add up to 1 exactly where A_ij = -A_ji."""
    if aggregation != "calibrated":
        if np.isinf(A).any():
            raise NashwardError(
                f"aggregation {aggregation!r} averages logits, but {name} is certain of some pairs (infinite "
                "logits); use 'calibrated'"
            )
        A = np.where(np.isnan(A), np.nan, (2.0 if aggregation == "sppo-official" else 1.0) * _gradient(A))
    # the larger of the two is computed and the other is its complement in floating point: 1 - p is exact for
    # p in [1/2, 1], so P + P.T == 1 holds exactly and a permutation of the candidates only permutes P
    larger = 1.0 / (1.0 + np.exp(-np.abs(A)))
    return np.where(equal, 0.5, np.where(A >= 0, larger, 1.0 - larger))


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
    # certain judgements that agree have no gap, though inf - inf is NaN
    agree = np.isinf(forward) & (forward == -backward)
    gaps = np.abs(np.where(agree, 0.0, forward) + np.where(agree, 0.0, backward)) / 2
    return float(gaps[~np.isnan(gaps)].mean()) if not np.isnan(gaps).all() else float("nan")


def check_texts(prompts: Sequence[str], responses: Sequence[Sequence[str]], what: str) -> None:
    """Check that there is a list of texts for each prompt.

    Args:
        prompts: the prompts.
        responses: for each prompt its texts.
        what: the texts are, for errors.

    Raises:
        ValueError: the lengths differ, or an entry is of another type (it is numbered).
    """
    if isinstance(prompts, str) or isinstance(responses, str):
        raise NashwardError(f"prompts and {what} have to be lists, one entry a prompt; a single string was given")
    if len(prompts) != len(responses):
        raise NashwardError(
            f"{counted(len(prompts), 'prompt')} but {counted(len(responses), 'list')} of {what}: expected one "
            "list a prompt"
        )
    for n, (prompt, texts) in enumerate(zip(prompts, responses, strict=True)):
        if not isinstance(prompt, str):
            raise NashwardError(
                f"prompt {n} is of type {type(prompt).__name__}; expected the raw instruction, a string"
            )
        if isinstance(texts, str) or not len(texts):
            raise NashwardError(
                f"{what} of prompt {n}: expected a list of at least one string, got {quoted(texts, 60)}"
            )
        for k, text in enumerate(texts):
            if not isinstance(text, str):
                raise NashwardError(f"{what} {k} of prompt {n} is of type {type(text).__name__}; expected a string")
