"""What each member of an ensemble counts: by its accuracy on labelled pairs, or without labels by Dawid and Skene."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nashward.counted import counted
from nashward.errors import NashwardError
from nashward.games.analysis.dawid_skene import DawidSkene, dawid_skene
from nashward.games.shapes import Float

from ..cache import AnyCache
from ..diagnosis.probe import Pair, judge_pairs, probe_pairs
from ..fitting.votes import Vote
from ..protocol import PreferenceOracle


def accuracy_weights(members: Sequence[PreferenceOracle], votes: Sequence[Vote], cache: AnyCache = None) -> list[float]:
    """log(a / (1 - a)) of each member's accuracy a on labelled pairs that it was not trained on.

    a = (1/2 + right) / (1 + right + wrong): of n votes on a pair, those for the side that the member prefers are right.
    Votes of a pair that is a tie for the member, or that it did not judge, do not count.

    Raises:
        ValueError: a member judges none of the pairs.

    Source: Nitzan & Paroush 1982; with half a vote each way as Jeffreys' prior (1946).

    Example:
        >>> from nashward.llm.oracles import Length
        >>> votes = [Vote(f"Prompt {k}", "A longer one.", "No.", wins=3, n=4) for k in range(10)]
        >>> [round(weight, 2) for weight in accuracy_weights([Length(), Length(-1.0)], votes)]
        [1.07, -1.07]
    """
    weights, pairs = [], probe_pairs(votes)
    wins, n = (np.array([getattr(pair, name) for pair in pairs]) for name in ("wins", "n"))
    for member in members:
        p = _probabilities(member, pairs, cache)
        right = np.where(p > 0.5, wins, n - wins)[(p != 0.5) & ~np.isnan(p)].sum()
        total = n[(p != 0.5) & ~np.isnan(p)].sum()
        if not total > 0:
            of = counted(len(pairs), "labelled pair")
            raise NashwardError(f"{member.name} decides none of {of}: its accuracy is unknown")
        weights.append(float(np.log(0.5 + right) - np.log(0.5 + total - right)))
    return weights


def unlabelled_accuracies(
    members: Sequence[PreferenceOracle], votes: Sequence[Vote], cache: AnyCache = None
) -> DawidSkene:
    """The members' accuracies from their verdicts on the pairs of votes, each pair once; who won these is not read.

    Raises:
        ValueError: as ``dawid_skene``: fewer than three members, or one that decides no pair.

    Example:
        >>> from nashward.llm.oracles import Length
        >>> pairs = [Vote(f"Prompt {k}", "A longer one.", "No.", wins=0, n=1) for k in range(40)]
        >>> unlabelled_accuracies([Length(), Length(2.0), Length(-1.0)], pairs).suspect.tolist()
        [False, False, True]
    """
    pairs = probe_pairs(votes)
    verdicts = np.stack([_probabilities(member, pairs, cache) for member in members])
    for member, row in zip(members, verdicts, strict=True):
        if not ((row != 0.5) & ~np.isnan(row)).any():
            raise NashwardError(f"{member.name} decides none of {counted(len(pairs), 'pair')}; its accuracy is unknown")
    return dawid_skene(verdicts)


def _probabilities(oracle: PreferenceOracle, pairs: Sequence[Pair], cache: AnyCache) -> Float[np.ndarray, " pairs"]:
    """An oracle's P(a beats b) on pairs; NaN where it has no judgement."""
    return judge_pairs(oracle, pairs, cache if oracle.cache_key() else None).P
