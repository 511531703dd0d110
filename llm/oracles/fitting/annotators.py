"""How far each voter can be trusted: what the votes of the others, through a model, say about his."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nashward.games.shapes import Float, Num

CONFIDENCE = 1.96  # standard errors


@dataclass(frozen=True)
class Reliability:
    """A voter's votes against predictions from models that did not see their prompts.

    His votes are taken as P(a beats b) = sigmoid(slope * A), A the predicted log-odds: slope 1 is a voter like the
    average one, 0 votes at random (as who flips half of his labels), below 0 he votes against the others.

    Attributes:
        votes: how many comparisons.
        agreement: the share of his comparisons that went as predicted.
        slope, standard_error: maximum likelihood, relative to the slope of all annotators together.
    """

    votes: float
    agreement: float
    slope: float
    standard_error: float

    @property
    def suspect(self) -> bool:
        """Whether he is surely (95%) less than half as consistent as all annotators together."""
        return self.slope + CONFIDENCE * self.standard_error < 0.5

    @property
    def weight(self) -> float:
        """What his votes should count: the slope, within [0, 1]."""
        return float(np.clip(self.slope, 0.0, 1.0))


def reliabilities(
    annotators: Sequence[str | None],
    predicted: Float[np.ndarray, " votes"],
    wins: Num[np.ndarray, " votes"],
    n: Num[np.ndarray, " votes"],
) -> dict[str, Reliability]:
    """Each named voter's reliability.

    Args:
        annotators: who gave each vote; None: nobody's, counted with all.
        predicted: ``[votes]`` log-odds that a beats b, each from a model that was not trained on its prompt.
        wins, n: ``[votes]``, a's wins out of n.

    Example:
        >>> odds = np.array([2.0, -2.0, 2.0, -2.0])
        >>> found = reliabilities(["ann", "ann", "bob", "bob"], odds, np.array([1.0, 0, 0, 1]), np.ones(4))
        >>> found["ann"].agreement, found["bob"].agreement
        (1.0, 0.0)
    """
    whole, _ = slope(predicted, wins, n)
    scale = whole if whole > 0 else 1.0  # nothing was learned: nobody can be told from another
    found = {}
    names = np.array([voter or "" for voter in annotators], dtype=object)
    for name in dict.fromkeys(voter for voter in annotators if voter):
        own = names == name
        value, error = slope(predicted[own], wins[own], n[own])
        total = float(n[own].sum())
        right = np.where(predicted[own] > 0, wins[own], n[own] - wins[own])
        right = np.where(predicted[own] == 0, n[own] / 2, right)
        found[name] = Reliability(total, float(right.sum()) / total, value / scale, error / scale)
    return found


def slope(
    predicted: Float[np.ndarray, " votes"], wins: Num[np.ndarray, " votes"], n: Num[np.ndarray, " votes"]
) -> tuple[float, float]:
    """The b that makes sum wins log sigmoid(b A) + (n - wins) log sigmoid(-b A) largest, and its standard error.

    A unit normal prior on b keeps it finite where every vote goes as predicted.

    Args:
        predicted: A, ``[votes]`` log-odds that a beats b.
        wins, n: ``[votes]``, a's wins out of n.

    Example:
        >>> slope(np.array([2.0, -2.0]), np.array([0.5, 0.5]), np.ones(2))[0]  # as from a coin
        0.0
    """
    b = 0.0
    for _ in range(50):  # Newton on a concave function; it converges in a few steps
        p = 0.5 * (1.0 + np.tanh(0.5 * b * predicted))
        information = float((n * p * (1 - p) * predicted**2).sum()) + 1.0
        step = (float(((wins - n * p) * predicted).sum()) - b) / information
        b += float(np.clip(step, -1.0, 1.0))
        if abs(step) < 1e-10:
            break
    return b, information**-0.5
