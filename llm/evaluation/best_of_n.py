"""What best-of-n does to a policy: its distribution in closed form, and how far it can be from the policy."""

from __future__ import annotations

import math

import numpy as np

from nashward.errors import NashwardError
from nashward.games.shapes import Float, Num


def kl_bound(n: int) -> float:
    """The most that KL(best-of-n || policy) can be, in nats: log n - (n - 1) / n.

    It is reached where no response is likely and a reward without ties decides. With ties, with responses of positive
    probability, and with any rule at all (a table with cycles, an opponent, a knock-out) it is an upper bound: whatever
    is chosen was among the n, so best-of-n gives a set A at most 1 - (1 - policy(A))^n, which is what a strict ranking
    with A on top gives it; so the density ratio is majorised by a ranking's, and KL is convex in it (derived).
    It holds for responses drawn independently from the policy itself: at another temperature it is the distance from
    that sampler. Of two responses to two prompts each has its own.

    Raises:
        ValueError: n < 1.

    Source: Beirami et al. 2024, arXiv 2401.01879, theorem 1: an upper bound for a deterministic reward without ties,
    before them taken for an equality (Stiennon et al. 2020).

    Example:
        >>> round(kl_bound(16), 3)
        1.835
    """
    if n < 1:
        raise NashwardError(f"n must be at least 1, got {n}")
    return math.log(n) - (n - 1) / n


def best_of_n_policy(policy: Num[np.ndarray, "..."], scores: Num[np.ndarray, "..."], n: int) -> Float[np.ndarray, " R"]:
    """The distribution of the best of n independent responses under scores, the earliest drawn among equals.

    .. math::  q(y) = \\frac{\\pi(y)}{\\pi(c)} \\left( F(c)^n - (F(c) - \\pi(c))^n \\right)

    with c the responses that score as y does and F(c) the probability of scoring no more.

    Args:
        policy: ``[R]`` probabilities.
        scores: ``[R]``; against a fixed opponent the win probabilities against it.
        n: how many are drawn.

    Raises:
        ValueError: arrays of different shapes, or n < 1.

    Source: Beirami et al. 2024, arXiv 2401.01879, lemma 1, here with ties.

    Example:
        >>> best_of_n_policy(np.array([0.5, 0.3, 0.2]), np.array([0.0, 1.0, 1.0]), n=2).round(2).tolist()
        [0.25, 0.45, 0.3]
    """
    policy, scores = np.asarray(policy, dtype=np.float64), np.asarray(scores)
    if policy.ndim != 1 or policy.shape != scores.shape:
        raise NashwardError(f"policy has shape {policy.shape} and scores {scores.shape}; expected [R] both")
    if n < 1:
        raise NashwardError(f"n must be at least 1, got {n}")
    _, group = np.unique(scores, return_inverse=True)
    mass = np.bincount(group, policy)
    below = np.append(0.0, np.cumsum(mass)[:-1])
    chosen = (below + mass) ** n - below**n
    return policy * (chosen / np.where(mass > 0, mass, 1.0))[group]
