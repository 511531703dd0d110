"""The checks of ``check_oracle``, one for each promise of the protocol."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, permutations
from pathlib import Path
from typing import get_args

import numpy as np
import torch

from nashward.counted import counted

from ...data.library_errors import LIBRARY_ERRORS
from ..matrices import PairwiseResult, preference_matrices
from ..protocol import Aggregation, Pairs, PreferenceOracle, are_probabilities, no_log_odds

ODD_TEXTS = {
    "the empty text": "",
    "white space": " \n\t ",
    "20,000 words": "word " * 20_000,
    "emoji": "\U0001f469\u200d\U0001f680 \U0001f3f3\ufe0f\u200d\U0001f308 \U0001f44d\U0001f3fd",
    "Chinese, Japanese and Korean": "你好 こんにちは 안녕하세요",
    "combining characters": "e\u0301 Z\u0351\u036b\u0343 \u0301",
    "right to left": "\u05e9\u05dc\u05d5\u05dd \u202e\u0645\u0631\u062d\u0628\u0627\u202c",
    "control characters": "\x01\x07\x1b[0m\x7f\u200b\ufeff\r",
    "NUL": "a\x00b",
    "<|source|>": "a <|source|> b",
    "<|candidate1|>": "<|candidate1|> a <|candidate2|>",
    "[SEP]": "a [SEP] [CLS] b",
    "half of a surrogate pair": "a \ud83d b",
    "</s>": "a </s><s> b",
    "<|im_end|>": "a <|im_end|>\n<|im_start|>assistant",
}
ALONE = "a logit may depend only on the prompt and its two texts"


class Failed(Exception):
    """The result that fails a check, and how to fix it."""


class NoList(Failed):
    """What fails every check: there are no answers."""


def raised(error: Exception) -> str:
    """The name of an error, and the first line of its message."""
    lines = str(error).splitlines()
    return f"it raised {type(error).__name__}" + (f": {lines[0]}" if lines else "")


@dataclass
class Case:
    """An oracle and its texts; logits are tables ``[members, K, K]``, the row shown first, 0 on the diagonal."""

    oracle: PreferenceOracle
    prompts: list[str]
    candidates: list[list[str]]
    cache: bool
    tolerance: float

    @cached_property
    def answers(self) -> list[np.ndarray]:
        """All logits of all prompts, from one call."""
        return self.judge(self.prompts, self.candidates)

    @cached_property
    def probabilities(self) -> str | None:
        """What is wrong where all numbers look like probabilities, by the pair whose two differ most; else None."""
        both = [
            (p, q, n, (i, j))
            for n, L in enumerate(self.answers)
            for i, j in combinations(range(L.shape[-1]), 2)
            for p, q in zip(L[:, i, j], L[:, j, i], strict=True)
            if not (np.isnan(p) or np.isnan(q))
        ]
        first, second = np.array([(p, q) for p, q, *_ in both]).reshape(-1, 2).T
        if not are_probabilities(first, second, self.oracle.symmetric):
            return None
        p, q, n, pair = max(both, key=lambda row: abs(row[0] - row[1]))
        return f"raw_logits returned {no_log_odds(f'the pair {pair} of prompt {n}', p, q)}"

    @property
    def widest(self) -> tuple[str, list[str], np.ndarray]:
        """The prompt with the most candidates, its candidates, and their logits."""
        n = max(range(len(self.prompts)), key=lambda n: len(self.candidates[n]))
        return self.prompts[n], self.candidates[n], self.answers[n]

    def judge(
        self, prompts: Sequence[str], candidates: Sequence[Sequence[str]], pairs: Pairs | None = None
    ) -> list[np.ndarray]:
        """The logits from ``raw_logits`` itself, of all ordered pairs, or of ``pairs`` with NaN elsewhere."""
        judged = [list(pairs or permutations(range(len(texts)), 2)) for texts in candidates]
        copies = [list(texts) for texts in candidates], [list(prompt_pairs) for prompt_pairs in judged]
        answers = self.oracle.raw_logits(list(prompts), *copies)
        if not hasattr(answers, "__len__"):
            raise NoList(
                f"raw_logits returned {'None' if answers is None else type(answers).__name__}; return a list with one "
                "array for each prompt"
            )
        if len(answers) != len(prompts):
            raise Failed(
                f"raw_logits answered {len(answers)} of {counted(len(prompts), 'prompt')}; return one array for each"
            )
        tables = []
        for n, (answer, prompt_pairs) in enumerate(zip(answers, judged, strict=True)):
            logits = np.atleast_2d(self.oracle._checked(answer, len(prompt_pairs), n))
            table = np.full((len(logits), len(candidates[n]), len(candidates[n])), 0.0 if pairs is None else np.nan)
            table[:, *np.array(prompt_pairs).T] = logits
            tables.append(table)
        return tables

    def same(self, actual: np.ndarray, expected: np.ndarray, what: str, tolerance: float | None = None) -> None:
        """Raise ``Failed`` where logits ``[..., i, j]`` differ; NaN equals NaN, and an infinite logit itself."""
        tolerance = self.tolerance if tolerance is None else tolerance
        if actual.shape != expected.shape:
            raise Failed(f"logits of shape {expected.shape} are of shape {actual.shape} {what}")
        wrong = np.argwhere(~np.isclose(actual, expected, rtol=tolerance, atol=tolerance, equal_nan=True))
        if len(wrong):
            at = tuple(wrong[0].tolist())
            raise Failed(f"the logit {expected[at]:.6g} of pair {at[-2:]} is {actual[at]:.6g} {what}")

    def table(
        self, candidates: Sequence[str], opponents: Sequence[str] | None = None, cache: Path | None = None
    ) -> PairwiseResult:
        """The result of ``preference_matrices`` on the widest prompt with these texts."""
        lists = None if opponents is None else [opponents]
        (result,) = preference_matrices(
            self.oracle, [self.widest[0]], [candidates], lists, aggregation="calibrated", cache=cache
        )
        return result


# The checks, each of a case. One that fails raises ``Failed``; what it returns is a note behind its name.


def _one_logit_a_pair(case: Case) -> str | None:
    members = sorted({len(table) for table in case.answers})
    if len(members) > 1:
        raise Failed(f"{' and '.join(map(str, members))} members answer; every prompt needs as many")
    pairs = sum(table[0].size - len(table[0]) for table in case.answers)
    missing = sum(int(np.isnan(table).any(0).sum()) for table in case.answers)
    if missing == pairs:
        raise Failed("all judgements are missing (NaN); pass prompts and candidates that it can judge")
    if case.probabilities is not None:
        raise Failed(case.probabilities)
    return f"{missing} of {pairs} missing" if missing else None


def _tables(case: Case) -> None:
    results = preference_matrices(case.oracle, case.prompts, case.candidates, aggregation="calibrated")
    for n, (result, logits) in enumerate(zip(results, case.answers, strict=True)):
        total, count = result.P + result.P.T, len(case.candidates[n])
        if not (total[~np.isnan(total)] == 1.0).all():
            raise Failed(f"P + P.T is not 1 for prompt {n}; inherit judge from the base class")
        # of a symmetric oracle one order is judged, that in which the texts are sorted
        judged = np.array(
            [[not case.oracle.symmetric or a < b for b in case.candidates[n]] for a in case.candidates[n]]
        )
        what = f"in the table of prompt {n}; judge and raw_logits have to return the same"
        case.same(np.where(judged, result.logits, 0.0), np.where(judged, case.oracle.pooled(logits), 0.0), what)
        if not 0 <= result.meta["truncated"] <= count + 1:
            raise Failed(f"truncated returns {result.meta['truncated']} of {count + 1} texts; count each text once")


def _symmetric(case: Case) -> str | None:
    if not case.oracle.symmetric:
        return "skipped: not declared"
    if case.probabilities is not None:
        return "skipped: no log-odds"
    for n, L in enumerate(case.answers):
        what = f"as the negative of the other order, prompt {n}; return L_ij == -L_ji or set symmetric = False"
        case.same(-L.transpose(0, 2, 1), L, what, tolerance=1e-5)  # float32 sums of a network in two orders
    return None


def _transitive(case: Case) -> str | None:
    if not case.oracle.transitive:
        return "skipped: not declared"
    for n, logits in enumerate(case.answers):
        L = np.where(np.isfinite(logits), logits, np.nan)
        A = (L - L.transpose(0, 2, 1)) / 2
        excess = np.abs(A[:, :, :, None] + A[:, None] - A[:, :, None])  # A_ij + A_jk - A_ik
        worst = np.nanmax(excess)
        if worst > case.tolerance * np.nanmax(np.abs(A)):
            triple = tuple(np.argwhere(excess == worst)[0, 1:].tolist())
            raise Failed(
                f"L_ij + L_jk and L_ik differ by {worst:.3g} for candidates {triple} of prompt {n}; return differences "
                "of a score or set transitive = False"
            )
    return None


def _prompt_alone(case: Case) -> str | None:
    if len(case.prompts) == 1:
        return "skipped: one prompt"
    for n, (prompt, texts) in enumerate(zip(case.prompts, case.candidates, strict=True)):
        what = f"where prompt {n} is judged by itself; the other prompts of a batch must not change a logit"
        case.same(case.judge([prompt], [texts])[0], case.answers[n], what)
    return None


def _pair_alone(case: Case) -> None:
    prompt, texts, expected = case.widest
    for i, j in list(permutations(range(len(texts)), 2))[:12]:
        (actual,) = case.judge([prompt], [texts], [(i, j)])
        alone = np.full_like(expected, np.nan)
        alone[:, i, j] = expected[:, i, j]
        case.same(actual, alone, "where it is judged by itself; the other pairs must not change a logit")


def _other_candidates(case: Case) -> None:
    prompt, texts, expected = case.widest
    for count in {2, len(texts) - 1}:
        what = f"with the first {count} of {len(texts)} candidates; {ALONE}"
        case.same(case.judge([prompt], [texts[:count]])[0], expected[:, :count, :count], what)


def _order(case: Case) -> None:
    prompt, texts, expected = case.widest
    order = [0, *range(len(texts) - 1, 0, -1)]
    (actual,) = case.judge([prompt], [[texts[k] for k in order]])
    # the order is its own inverse
    case.same(
        actual[:, order][:, :, order],
        expected,
        f"with the candidates in the order {order}; use texts, not their indices",
    )


def _equal_texts(case: Case) -> None:
    prompt, texts, expected = case.widest
    once, twice = case.table(texts[:3]), case.table([*texts[:3], texts[0]])
    if twice.P[0, 3] != 0.5 or twice.meta["calls"] != once.meta["calls"]:
        raise Failed("equal texts do not tie or are judged; inherit judge from the base class")
    indices = np.ix_([3, 1, 2], [3, 1, 2])
    case.same(twice.logits[indices], once.logits, f"where candidate 0 is there twice; {ALONE}")
    (actual,) = case.judge([prompt], [[*texts[:-1], texts[0]]])
    case.same(actual[:, :-1, :-1], expected[:, :-1, :-1], f"where candidate 0 is there twice; {ALONE}")


def _opponents(case: Case) -> None:
    _, texts, _ = case.widest
    half = len(texts) // 2
    square, block = case.table(texts), case.table(texts[:half], texts[half:])
    expected = np.stack([square.logits[:half, half:], square.logits[half:, :half].T])
    what = "with the second half of the candidates as opponents; the other pairs must not change a logit"
    case.same(block.logits, expected, what)


def _ragged(case: Case) -> None:
    prompt, texts, _ = case.widest
    lists = [texts[:count] for count in range(2, min(len(texts), 4) + 1)]
    for candidates, together in zip(lists, case.judge([prompt] * len(lists), lists), strict=True):
        what = "beside prompts with another number of candidates; the lists may differ in length"
        case.same(together, case.judge([prompt], [candidates])[0], what)


def _one_candidate(case: Case) -> None:
    first = [texts[:1] for texts in case.candidates]
    results = preference_matrices(case.oracle, case.prompts, first, aggregation="calibrated")
    if any(result.P.tolist() != [[0.5]] for result in results):
        raise Failed(f"a single candidate gives {results[0].P.tolist()}; expected [[0.5]]")


def _odd_texts(case: Case) -> str | None:
    prompt, texts, logits = case.widest
    missed = np.isnan(logits).any(0)
    judged = np.argwhere(~(missed | missed.T) & ~np.eye(len(texts), dtype=bool)).tolist()
    i, j = judged[0] if judged else (0, 1)  # where an odd text is missing, it is not for the other one
    first, second = texts[i], texts[j]
    certain = any(np.isinf(logits).any() for logits in case.answers)
    failures, missing = [], []
    for name, text in ODD_TEXTS.items():
        try:
            answers = case.judge([prompt, text], [[first, text], [first, second]])
        except LIBRARY_ERRORS as error:
            failures.append(f"{name}: {raised(error)}")
            continue
        if any(np.isinf(logits).any() for logits in answers) and not certain:
            failures.append(f"{name}: an infinite logit")
        if any(np.isnan(logits).any() for logits in answers):
            missing.append(name)
    if failures:
        raise Failed("; ".join(failures) + "; return a logit for every text, NaN where that is impossible")
    return f"missing: {', '.join(missing)}" if missing else None


def _deterministic(case: Case) -> None:
    one, two = (_with_seed(case, 0)[0] for _ in range(2))
    for first, second in zip(one, two, strict=True):
        case.same(
            second, first, "where the same is judged again; return the same logits, with a fixed seed if it draws", 0.0
        )


def _global_random_state(case: Case) -> None:
    (one, moved), (two, _) = _with_seed(case, 1), _with_seed(case, 2)
    if moved:
        raise Failed(f"it moves the global generator of {' and '.join(moved)}; draw from a generator of its own")
    for first, second in zip(one, two, strict=True):
        case.same(second, first, "with another global seed; draw from a generator of its own, with a fixed seed")


def _with_seed(case: Case, seed: int) -> tuple[list[np.ndarray], list[str]]:
    """The logits with the global generators seeded, and which of these were used; their states are restored."""
    states = random.getstate(), np.random.get_state()  # noqa: NPY002, the global one is what is checked
    with torch.random.fork_rng(list(range(torch.cuda.device_count()))):
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        torch.manual_seed(seed)
        before = _random_states()
        try:
            answers = case.judge(case.prompts, case.candidates)
            return answers, [name for name, state in _random_states().items() if state != before[name]]
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])  # noqa: NPY002


def _random_states() -> dict[str, list[bytes]]:
    numpy = np.random.get_state(legacy=False)  # noqa: NPY002
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {
        "random": [repr(random.getstate()).encode()],
        "numpy": [numpy["state"]["key"].tobytes(), str(numpy["state"]["pos"]).encode()],
        "torch": [state.numpy().tobytes() for state in (torch.get_rng_state(), *cuda)],
    }


def _inputs(case: Case) -> None:
    pairs = [list(permutations(range(len(texts)), 2)) for texts in case.candidates]
    arguments = deepcopy((case.prompts, case.candidates, pairs))
    case.oracle.raw_logits(*arguments)
    if arguments != (case.prompts, case.candidates, pairs):
        raise Failed("raw_logits changed the lists that it was called with; work on a copy")


def _attributes(case: Case) -> None:
    oracle = case.oracle
    if not isinstance(oracle.name, str) or not oracle.name:
        raise Failed(f"name is {oracle.name!r}; expected a text, for reports")
    if oracle.aggregation not in get_args(Aggregation):
        raise Failed(f"aggregation is {oracle.aggregation!r}; expected one of {', '.join(get_args(Aggregation))}")
    if not _usable(oracle.fingerprint) and oracle.fingerprint is not None:
        raise Failed(
            f"fingerprint is {oracle.fingerprint!r}; expected a text that changes whenever its logits may, or None"
        )
    if oracle.fingerprint != oracle.fingerprint:
        raise Failed("fingerprint differs each time that it is read; derive it from weights and settings only")


def _usable(fingerprint: object) -> bool:
    return isinstance(fingerprint, str) and bool(fingerprint)


def _cache(case: Case) -> str | None:
    if not case.cache or not _usable(case.oracle.fingerprint):
        return "skipped: no fingerprint" if case.cache else "skipped: cache=False"
    _, texts, _ = case.widest
    with tempfile.TemporaryDirectory() as folder:
        first, second = (case.table(texts, cache=Path(folder) / "judgements.sqlite") for _ in range(2))
    if second.meta["calls"] != first.meta["missing"]:
        raise Failed(
            f"{second.meta['calls']} of {first.meta['calls']} judgements were repeated; the fingerprint must not "
            "change while weights and settings do not"
        )
    if not np.array_equal(second.logits, first.logits, equal_nan=True):
        raise Failed("the table from the cache differs from the first one; judge has to yield each pair once")
    return None


CHECKS: dict[str, Callable[[Case], str | None]] = {
    "one logit a pair": _one_logit_a_pair,
    "tables": _tables,
    "symmetric as declared": _symmetric,
    "transitive as declared": _transitive,
    "a prompt alone": _prompt_alone,
    "a pair alone": _pair_alone,
    "other candidates": _other_candidates,
    "order of candidates": _order,
    "equal texts": _equal_texts,
    "opponents": _opponents,
    "ragged candidates": _ragged,
    "one candidate": _one_candidate,
    "odd texts": _odd_texts,
    "deterministic": _deterministic,
    "global random state": _global_random_state,
    "inputs unchanged": _inputs,
    "attributes": _attributes,
    "cache round trip": _cache,
}
