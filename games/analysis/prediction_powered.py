"""A win rate from few labels and many judgements: prediction-powered inference, valid for any judge."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri, stdtrit

from nashward.counted import counted
from nashward.errors import NashwardError

from ..shapes import Float

FEWEST = 10  # the fewest labels for an estimate
MISSED = 2  # further labels, each missed by 1/2


@dataclass(frozen=True)
class PredictionPowered:
    """A win rate with its confidence interval.

    Attributes:
        value, interval: the estimate from labels and judgements.
        labels_alone, labels_interval: the mean of the labels and its Wilson interval.
        judge_alone: the mean of all judgements, as biased as the judge.
        weight: lambda in [0, 1], how much the judgements count.
        labels, judgements: n and N.
        level: the confidence level.

    Example:
        >>> PredictionPowered(0.5, (0.4, 0.6), 0.52, (0.36, 0.64), 0.6, 0.8, 50, 500, 0.95).interval
        (0.4, 0.6)
    """

    value: float
    interval: tuple[float, float]
    labels_alone: float
    labels_interval: tuple[float, float]
    judge_alone: float
    weight: float
    labels: int
    judgements: int
    level: float


def prediction_powered(
    labels: Float[np.ndarray, " n"],
    judged: Float[np.ndarray, " n"],
    unlabelled: Float[np.ndarray, " N"],
    level: float = 0.95,
) -> PredictionPowered:
    r"""The mean label over all cases, from n labels and judgements of n + N cases.

    .. math::
        \theta = \bar y + \lambda (\bar f_N - \bar f_n), \qquad
        \lambda = \frac{\widehat{Cov}(y, f)}{(1 + n / N) \widehat{Var}(f)}, \qquad
        V = \frac{\widehat{Var}(y - \lambda f)}{n} + \frac{\lambda^2 \widehat{Var}(f)}{N}

    with lambda cut to [0, 1]. The estimate is unbiased for any judge, as the labelled cases are a random part of all;
    a judge that agrees with the labels makes the interval narrower, and one that does not gets no weight. The interval
    is Wilson's, which also holds near 0 and 1, for the number of labels that would have the variance V, with Student's
    t of n - 1. Two further labels that the judge misses by 1/2 count in the variance of y - lambda f: few labels may
    show none of its errors. If the interval is wider than that of the labels alone, these are taken, with lambda 0.

    Args:
        labels: y, [n], in [0, 1], of cases drawn at random; a tie is 1/2.
        judged: f, [n], the judge's win probabilities on the same cases.
        unlabelled: [N], the judge's win probabilities on the other cases.
        level: the confidence level.

    Raises:
        ValueError: fewer than 10 labels, numbers out of [0, 1], other lengths, a level out of (0, 1).

    Source: Angelopoulos, Duchi & Zrnic 2023 (PPI++, arXiv 2311.01453); Wilson 1927; the further
        labels as in Agresti & Coull 1998.

    Example:
        >>> wins = np.array([1, 1, 0, 1, 0] * 8, dtype=float)
        >>> result = prediction_powered(wins, 0.1 + 0.8 * wins, np.full(400, 0.5))
        >>> result.labels_alone, round(result.value, 2)
        (0.6, 0.52)
    """
    y, f, rest = (np.asarray(values, dtype=np.float64) for values in (labels, judged, unlabelled))
    if y.shape != f.shape or y.ndim != 1 or rest.ndim != 1:
        raise NashwardError(f"{y.shape} labels and {f.shape} judgements of them; expected one judgement per label")
    if len(y) < FEWEST:
        raise NashwardError(f"{counted(len(y), 'label')}; an interval takes at least {FEWEST}")
    for values in (y, f, rest):
        if not ((values >= 0) & (values <= 1)).all():
            raise NashwardError("labels and judgements are numbers from 0 to 1")
    if not 0 < level < 1:
        raise NashwardError(f"level must be between 0 and 1, got {level}")
    n, alone = len(y), float(y.mean())
    by_labels = _wilson(alone, n, float(ndtri((1 + level) / 2)))
    result = alone, by_labels, 0.0
    together = np.concatenate([f, rest])
    spread, own = float(together.var(ddof=1)), float(y.var(ddof=1))
    if len(rest) and spread > 0 and own > 0:
        weight = float(np.cov(y, f)[0, 1]) / ((1 + n / len(rest)) * spread)
        weight = min(1.0, max(0.0, weight))
        value = alone + weight * float(rest.mean() - f.mean())
        missed = ((n - 1) * float((y - weight * f).var(ddof=1)) + MISSED / 4) / (n - 1 + MISSED)
        variance = missed / n + weight**2 * spread / len(rest)
        if 0 < value < 1:
            t = float(stdtrit(n - 1, (1 + level) / 2))
            powered = _wilson(value, max(own, value * (1 - value)) / variance, t)
            if powered[1] - powered[0] <= by_labels[1] - by_labels[0]:
                result = value, powered, weight
    value, interval, weight = result
    return PredictionPowered(value, interval, alone, by_labels, float(together.mean()), weight, n, len(together), level)


def _wilson(value: float, n: float, z: float) -> tuple[float, float]:
    """Wilson's interval, of z standard errors, for a rate from n cases."""
    centre = (value + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(value * (1 - value) / n + z**2 / (4 * n**2))
    return max(0.0, centre - half), min(1.0, centre + half)
