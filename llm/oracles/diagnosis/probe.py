"""The pairs that a judge is examined on: labelled ones, and responses of authors against each other."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from nashward.errors import NashwardError
from nashward.games.shapes import Bool, Float, Int

from ..cache import Cache
from ..fitting.votes import Vote
from ..matrices import average_orders, preference_matrices
from ..models.network import NetworkOracle
from ..protocol import PreferenceOracle

CERTAIN = 4.0  # nats that a certain judgement counts as: 98%
LARGEST = 10.0  # nats of any other one


@dataclass(frozen=True)
class Pair:
    """Two responses to one prompt.

    Attributes:
        prompt, a, b: the texts; a and b differ.
        author_a, author_b: who wrote them, where that is known.
        wins, n: a's wins out of n comparisons; n is 0 without a label.
    """

    prompt: str
    a: str
    b: str
    author_a: str | None = None
    author_b: str | None = None
    wins: float = 0.0
    n: float = 0.0


def probe_pairs(
    labels: Sequence[Vote] = (),
    prompts: Sequence[str] = (),
    answers: Mapping[str, Sequence[str | None]] | None = None,
) -> list[Pair]:
    """All pairs of labels and of authors' responses; a labelled pair whose texts are responses has their authors.

    Args:
        labels: votes; those on one pair, in either order, are added. Of texts that are no author's the vote's own
            ``models`` are the authors.
        prompts: N texts.
        answers: for each author N responses, None where there is none.

    Raises:
        ValueError: no pair of two different texts.

    Example:
        >>> label = Vote("Say hello.", "Hi.", "Hello!", wins=0, n=1)
        >>> pairs = probe_pairs([label], ["Say hello."], {"ann": ["Hello!"], "bob": ["Hi."]})
        >>> [(pair.author_a, pair.author_b, pair.wins, pair.n) for pair in pairs]
        [('bob', 'ann', 0.0, 1.0)]
    """
    answers = answers or {}
    author: dict[tuple[str, str], str | None] = {}
    for name, texts in answers.items():
        for prompt, text in zip(prompts, texts, strict=True):
            if text is not None:  # of two authors of a text neither is known to be the one that was compared
                author[prompt, text] = name if (prompt, text) not in author else None
    found: dict[tuple[str, frozenset[str]], Pair] = {}
    for vote in labels:
        if vote.a != vote.b and vote.weight > 0:
            key = (vote.prompt, frozenset((vote.a, vote.b)))
            one = author.get((vote.prompt, vote.a)) or vote.models[0] or None
            other = author.get((vote.prompt, vote.b)) or vote.models[1] or None
            before = found.get(key) or Pair(vote.prompt, vote.a, vote.b, one, other)
            wins = vote.wins if before.a == vote.a else vote.n - vote.wins
            found[key] = Pair(
                before.prompt, before.a, before.b, before.author_a, before.author_b,
                before.wins + vote.weight * wins, before.n + vote.weight * vote.n,
            )  # fmt: skip
    for k, prompt in enumerate(prompts):
        for one, other in combinations(answers, 2):
            a, b = answers[one][k], answers[other][k]
            if a is not None and b is not None and a != b:
                found.setdefault((prompt, frozenset((a, b))), Pair(prompt, a, b, one, other))
    if not found:
        raise NashwardError("there is no pair of two different responses to examine a judge on")
    return list(found.values())


@dataclass(frozen=True)
class Judged:
    """A judge's log-odds on N pairs.

    Attributes:
        pairs: the pairs.
        forward, backward: [N], log-odds of the response shown first, where a and where b was; NaN: missing. A certain
            judgement counts as ``CERTAIN`` nats.
        log_odds: [N], that a is better, both orders averaged.
        certain: [N], whether P is 0 or 1.
        error: [N], the standard error of P by the models of the folds of a fit; None without. Judges who differ, of an
            ensemble, are no noise of what they pool.
        truncated: the share of the pairs' texts that were truncated.
        fitted: prompts whose labels the judge was fitted to, so that they say nothing of how right it is.
    """

    pairs: list[Pair]
    forward: Float[np.ndarray, " N"]
    backward: Float[np.ndarray, " N"]
    log_odds: Float[np.ndarray, " N"]
    certain: Bool[np.ndarray, " N"]
    error: Float[np.ndarray, " N"] | None
    truncated: float
    fitted: Collection[str] = ()

    @property
    def P(self) -> Float[np.ndarray, " N"]:
        """[N], P(a beats b)."""
        return 0.5 + np.tanh(self.log_odds / 2) / 2

    @property
    def clusters(self) -> Int[np.ndarray, " N"]:
        """[N], the number of each pair's prompt."""
        number = {prompt: k for k, prompt in enumerate(dict.fromkeys(pair.prompt for pair in self.pairs))}
        return np.array([number[pair.prompt] for pair in self.pairs])

    @property
    def labels(self) -> Float[np.ndarray, " N"]:
        """[N], the share of comparisons that a won; NaN without a label."""
        return np.array([pair.wins / pair.n if pair.n else np.nan for pair in self.pairs])

    @property
    def votes(self) -> Float[np.ndarray, " N"]:
        """[N], the number of comparisons that each label is a share of; 0 without a label."""
        return np.array([float(pair.n) for pair in self.pairs])

    @property
    def unseen_labels(self) -> Float[np.ndarray, " N"]:
        """[N], those that the judge was not fitted to."""
        return np.where([pair.prompt in self.fitted for pair in self.pairs], np.nan, self.labels)


def judge_pairs(oracle: PreferenceOracle, pairs: Sequence[Pair], cache: Cache | str | Path | None = None) -> Judged:
    """Judge pairs, in both orders unless the oracle is symmetric."""
    results = preference_matrices(
        oracle, [pair.prompt for pair in pairs], [[pair.a] for pair in pairs], [[pair.b] for pair in pairs], cache=cache
    )
    raw = np.array([result.logits[:, 0, 0] for result in results])
    forward, backward = countable(raw).T
    averaged = average_orders(*raw.T)
    errors = [
        oracle.error_factor(len(result.members)) * result.std[0, 0]
        for result in results
        if isinstance(oracle, NetworkOracle) and result.members is not None and result.std is not None
    ]
    truncated = sum(result.meta["truncated"] for result in results) / (3 * len(pairs))  # prompt and both responses
    return Judged(
        list(pairs), forward, backward, countable(averaged), np.isinf(averaged),
        np.array(errors) if len(errors) == len(pairs) else None, truncated,
    )  # fmt: skip


def countable(logits: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """Log-odds that sums and squares can be taken of: certain ones as ``CERTAIN`` nats, others up to ``LARGEST``."""
    return np.where(np.isinf(logits), finite(logits), np.clip(logits, -LARGEST, LARGEST))


def finite(logits: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """Log-odds of which certain ones count as ``CERTAIN`` nats.

    Args:
        logits: of any shape; NaN stays.

    Example:
        >>> finite(np.array([np.inf, -1.0, 30.0, np.nan])).tolist()
        [4.0, -1.0, 30.0, nan]
    """
    return np.where(np.isinf(logits), np.sign(logits) * CERTAIN, logits)
