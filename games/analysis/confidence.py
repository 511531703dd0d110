"""Confidence from few prompts: Student's t, what differs from 0, and a lower bound on a win rate."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.special import ndtr, ndtri, stdtr, stdtrit

JEFFREYS = 0.5  # a of Jeffreys' prior Beta(a, a)


def standard_errors(errors: float, n: float) -> float:
    """How many standard errors of a mean of n values correspond to ``errors`` of them at large n.

    .. math::  F^{-1}_{n - 1}(\\Phi(z))

    with the distribution function F of Student's t: 1.645 becomes 6.32 for two values, 1.73 for 20 and 1.66 for 100.

    Args:
        errors: z, the number for a normal distribution.
        n: the number of values.

    Returns:
        the number of standard errors; NaN with fewer than two values, which have no standard error.

    Source: Student 1908.

    Example:
        >>> [round(standard_errors(1.645, n), 2) for n in (2, 5, 20, 100)]
        [6.32, 2.13, 1.73, 1.66]
    """
    return float(stdtrit(n - 1, ndtr(errors))) if n >= 2 else math.nan


def side_of_zero(value: float, error: float, n: float) -> int:
    """On which side of 0 the two-sided 95% confidence interval of a mean of n values lies.

    Args:
        value: the mean, for example of a difference.
        error: its standard error.
        n: the number of values.

    Returns:
        1 above 0, -1 below it; 0 if the interval contains 0 or does not exist (NaN, or fewer than two values).

    Source: Student 1908.

    Example:
        >>> [side_of_zero(value, 0.03, 50) for value in (0.05, 0.07, -0.07)]
        [0, 1, -1]
    """
    reach = standard_errors(float(ndtri(0.975)), n) * error
    return int(value - reach > 0) - int(value + reach < 0)


def one_sided(excess: float, error: float, n: float) -> float:
    """The p-value that a mean of n values is above 0, by Student's t; without an error its sign decides.

    Args:
        excess: the mean, for example of a difference.
        error: its standard error.
        n: the number of values, or of clusters of them.

    Returns:
        how likely so large a mean is if the true one is 0.

    Source: Student 1908.

    Example:
        >>> [round(one_sided(excess, 0.03, 50), 3) for excess in (0.05, 0.0, -0.05)]
        [0.051, 0.5, 0.949]
    """
    if not error > 0:
        return 0.0 if excess > 0 else 1.0
    return float(stdtr(max(n - 1, 1), -excess / error))


def least_error(value: Any, n: Any) -> Any:
    """The least standard error of a mean win rate over n prompts, even if all values are equal.

    .. math::  \\frac{\\max(v, 1 - v)}{\\sqrt{n (n + 1)}}

    About one prompt in n + 1 is of a kind that n prompts have not shown, and at most max(v, 1 - v) from their mean v:
    four prompts that all end even, or are all won, show no spread, but do not prove that there is none.

    Args:
        value: v, the mean, in [0, 1]; or an array of means.
        n: the number of prompts of each mean, at least 1.

    Source: derived from the rule of succession (Laplace 1814).

    Example:
        >>> [round(float(least_error(v, n)), 3) for v, n in ((0.5, 4), (1.0, 4), (0.5, 200))]
        [0.112, 0.224, 0.002]
    """
    return np.maximum(value, 1 - value) / np.sqrt(n * (n + 1))


def win_rate_error(values: Any, weights: Any = None) -> float:
    """The standard error of the mean of win rates over prompts, the one of each win rate in the project.

    .. math::
        \\text{error}^2 = \\max \\left( \\frac{n}{n - 1} \\sum_i w_i^2 (v_i - v)^2,
        \\; \\frac{\\max(v, 1 - v)^2}{n (n + 1)} \\right), \\qquad v = \\sum_i w_i v_i

    with weights of sum 1 and the prompts that they amount to, n = 1 / sum w^2 (Kish 1965): of equal weights the sample
    variance over n, and no less than ``least_error``.

    Args:
        values: [N], of each prompt, in [0, 1].
        weights: [N], of the prompts; None: equal ones.

    Returns:
        the error; NaN with fewer than two prompts of positive weight.

    Source: Kish 1965, Survey Sampling.

    Example:
        >>> round(win_rate_error([0.75, 0.25, 0.75, 0.5]), 3), round(win_rate_error([0.5, 0.5, 0.5, 0.5]), 3)
        (0.126, 0.112)
    """
    v = np.asarray(values, dtype=np.float64)
    w = np.ones(len(v)) if weights is None else np.asarray(weights, dtype=np.float64)
    if (w > 0).sum() < 2:
        return math.nan
    w = w / w.sum()
    n, mean = 1 / float((w**2).sum()), float(w @ v)
    spread = math.sqrt(n / (n - 1) * float(w**2 @ (v - mean) ** 2))
    return max(spread, float(least_error(mean, n)))


def win_rate_at_least(value: float, error: float, n: int, level: float = 0.95) -> float:
    """The lower end of a one-sided confidence interval for a mean win rate over n prompts, from its standard error.

    This is Student's t interval for the n values and one more, lost prompt, which the sample may have missed: a win on
    each of two prompts is no proof. For any values in [0, 1], wins and losses or probabilities, the
    true mean lies above it in at least ``level`` of all cases (``tests/games/analysis/test_confidence.py``); with many
    prompts it is the t interval.

    Args:
        value: the mean, in [0, 1].
        error: its standard error; NaN with one prompt.
        n: the number of prompts.
        level: the confidence level.

    Returns:
        the lower end, at least 0.

    Source: Student 1908; the further prompt as in the rule of succession (Laplace 1814).

    Example:
        >>> [round(win_rate_at_least(1.0, 0.0, n), 2) for n in (2, 5, 50)]  # of n prompts all are won
        [0.0, 0.5, 0.95]
    """
    mean, spread = _with_a_loss(value, error, n)
    return max(0.0, mean - float(stdtrit(n, level)) * spread)


def win_rate_p_value(value: float, error: float, n: int) -> float:
    """An upper bound on how likely a mean win rate over n prompts is so far above 1/2 if the true one is not above it.

    The one-sided test that belongs to ``win_rate_at_least``: below 1 - ``level`` where that bound is above 1/2.

    Args:
        value: the mean, in [0, 1].
        error: its standard error; NaN with one prompt.
        n: the number of prompts.

    Returns:
        the p-value.

    Source: as ``win_rate_at_least``.

    Example:
        >>> [round(win_rate_p_value(value, 0.04, 48), 3) for value in (0.5, 0.6, 0.7)]
        [0.599, 0.019, 0.0]
    """
    mean, spread = _with_a_loss(value, error, n)
    return float(stdtr(n, (0.5 - mean) / spread)) if spread else float(mean <= 0.5)


def win_rate_interval(value: float, error: float, n: int, level: float = 0.95) -> tuple[float, float]:
    """The two-sided confidence interval for a mean win rate over n prompts: ``win_rate_at_least`` from both sides.

    Args:
        value: the mean, in [0, 1].
        error: its standard error; NaN with one prompt.
        n: the number of prompts.
        level: the confidence level.

    Returns:
        the lower and the upper end, in [0, 1].

    Source: as ``win_rate_at_least``.

    Example:
        >>> [round(end, 3) for end in win_rate_interval(0.523, 0.037, 48)]
        [0.436, 0.608]
    """
    side = (1 + level) / 2
    return win_rate_at_least(value, error, n, side), 1 - win_rate_at_least(1 - value, error, n, side)


def _with_a_loss(value: float, error: float, n: int) -> tuple[float, float]:
    """The mean of n win rates and one more, lost prompt, with its standard error."""
    if n > 1 and error <= least_error(value, n) * (1 + 1e-9):  # their own spread is below the least error
        error = min(error, math.sqrt(max(value * (1 - value), 0.0) / (n - 1)))
    squares = n * value**2 + (n * (n - 1) * error**2 if n > 1 else 0.0)
    mean = n * value / (n + 1)
    return mean, math.sqrt(max(squares / (n + 1) - mean**2, 0.0) / n)
