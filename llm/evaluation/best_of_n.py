"""Best-of-n sampling: its distribution in closed form, and a bound on its KL divergence from the policy."""

from __future__ import annotations

import math

import numpy as np

from nashward.errors import NashwardError
from nashward.games.shapes import Float, Num


def kl_bound(n: int) -> float:
    """An upper bound on KL(best-of-n || policy), in nats per response: log n - (n - 1) / n.

    It is attained in the limit of responses of vanishing probability, under a reward without ties. With ties, with
    responses of positive probability, and under any selection rule (a table with cycles, an opponent, a knock-out
    tournament) it is an upper bound: the selected response is one of the n, so best-of-n gives a set A probability at
    most 1 - (1 - policy(A))^n, which a strict ranking with A on top attains; so the density ratio is majorised by a
    ranking's, and KL is convex in it (derived). It holds for responses drawn independently from the policy itself: at
    another temperature it bounds the divergence from that sampler. The bound is per prompt.

    Args:
        n: the number of responses to select from.

    Returns:
        the bound; 0 for n = 1.

    Raises:
        ValueError: n < 1.

    Source: Beirami et al. 2024, arXiv 2401.01879, theorem 1: an upper bound for a deterministic reward without ties,
    which Stiennon et al. 2020 gave as an equality.

    Example:
        >>> round(kl_bound(16), 3)
        1.835
    """
    if n < 1:
        raise NashwardError(f"n must be at least 1, got {n}")
    return math.log(n) - (n - 1) / n


def best_of_n_policy(policy: Num[np.ndarray, "..."], scores: Num[np.ndarray, "..."], n: int) -> Float[np.ndarray, " R"]:
    """The distribution of the best of n independent responses by score; of equal scores the first drawn is taken.

    .. math::  q(y) = \\frac{\\pi(y)}{\\pi(c)} \\left( F(c)^n - (F(c) - \\pi(c))^n \\right)

    with c the set of responses with the score of y, and F(c) the probability of a score at most that of y.

    Args:
        policy: pi ``[R]``, probabilities.
        scores: ``[R]``; for a fixed opponent, the win probabilities against it.
        n: the number of responses drawn.

    Returns:
        q ``[R]``, probabilities.

    Raises:
        ValueError: arrays of different shapes, or n < 1.

    Source: Beirami et al. 2024, arXiv 2401.01879, lemma 1, here with ties.

    See also:
        ``kl_bound``: its divergence from the policy.
        ``nashward.llm.oracles.select_best``: the selection itself.

    Example:
        >>> best_of_n_policy(np.array([0.5, 0.3, 0.2]), np.array([0.0, 1.0, 1.0]), n=2).round(2).tolist()
        [0.25, 0.45, 0.3]
    """
    policy, scores = np.asarray(policy, dtype=np.float64), np.asarray(scores)
    if policy.ndim != 1 or policy.shape != scores.shape:
        raise NashwardError(f"policy has shape {policy.shape} and scores {scores.shape}; expected [R] for both")
    if n < 1:
        raise NashwardError(f"n must be at least 1, got {n}")
    _, tie_group = np.unique(scores, return_inverse=True)
    mass = np.bincount(tie_group, policy)
    below = np.append(0.0, np.cumsum(mass)[:-1])
    group_probability = (below + mass) ** n - below**n
    return policy * (group_probability / np.where(mass > 0, mass, 1.0))[tie_group]
