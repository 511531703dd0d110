"""What a fit is worth on prompts that were held out, beside the length of the responses, the majority and a coin."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nashward.games.shapes import Float, Int, Num

from .annotators import slope
from .examples import cross_entropy
from .settings import fold_key
from .votes import Vote


@dataclass(frozen=True)
class Score:
    """Of predictions of held-out votes.

    Attributes:
        log_loss: nats a comparison.
        accuracy: the share of comparisons on the predicted side; where both sides are as likely, one half.
    """

    log_loss: float
    accuracy: float


@dataclass(frozen=True)
class Lead:
    """How much lower one log-loss is than another on the same votes, nats a comparison.

    Attributes:
        value: the difference.
        standard_error: from the spread over prompts.
    """

    value: float
    standard_error: float


def score(
    predicted: Float[np.ndarray, " votes"], wins: Num[np.ndarray, " votes"], n: Num[np.ndarray, " votes"]
) -> Score:
    """The score of predicted log-odds that a beats b.

    Example:
        >>> score(np.array([0.0, 3.0]), np.array([1.0, 1.0]), np.array([1.0, 1.0])).accuracy
        0.75
    """
    correct = np.where(predicted > 0, wins, np.where(predicted < 0, n - wins, n / 2))
    total = float(n.sum())
    return Score(float(cross_entropy(predicted, wins, n).sum()) / total, float(correct.sum()) / total)


def length_leads(votes: Sequence[Vote]) -> Float[np.ndarray, " votes"]:
    """By how much a is longer than b, in the log of 1 + characters."""
    return np.array([math.log1p(len(vote.a)) - math.log1p(len(vote.b)) for vote in votes])


def by_length_alone(
    votes: Sequence[Vote],
    held_out: Sequence[Int[np.ndarray, "..."]],
    wins: Num[np.ndarray, " votes"],
    n: Num[np.ndarray, " votes"],
) -> Float[np.ndarray, " votes"]:
    """The held-out log-odds b (log length of a - log length of b), b by the other folds.

    Args:
        votes: the votes.
        held_out: of each fold the indices of its votes.
        wins, n: of each vote.
    """
    leads = length_leads(votes)
    predicted = np.zeros(len(leads))
    for fold in held_out:
        training = np.ones(len(leads), dtype=bool)
        training[fold] = False
        b, _ = slope(leads[training], wins[training], n[training])
        predicted[fold] = b * leads[fold]
    return predicted


def by_majority(
    held_out: Sequence[Int[np.ndarray, "..."]], wins: Num[np.ndarray, " votes"], n: Num[np.ndarray, " votes"]
) -> Float[np.ndarray, " votes"] | None:
    """The held-out log-odds that a wins, one number for all, by the other folds.

    Returns:
        None where all comparisons were won by the same side: the file then lists the winner there, and which response
        comes first is no prediction.
    """
    if wins.sum() in (0.0, n.sum()):
        return None
    predicted = np.zeros(len(wins))
    for fold in held_out:
        training = np.ones(len(wins), dtype=bool)
        training[fold] = False
        won, lost = wins[training].sum(), (n - wins)[training].sum()
        predicted[fold] = math.log((won + 0.5) / (lost + 0.5))
    return predicted


def error_over_prompts(votes: Sequence[Vote], each: Float[np.ndarray, " votes"], n: Num[np.ndarray, " votes"]) -> float:
    """The standard error of sum(each) / sum(n): prompts are independent, votes on one prompt are not."""
    total = float(n.sum())
    keys = [fold_key(vote.prompt) for vote in votes]
    spread = dict.fromkeys(keys, 0.0)
    for key, excess in zip(keys, each - float(each.sum()) / total * n, strict=True):
        spread[key] += float(excess)
    return math.sqrt(sum(value**2 for value in spread.values())) / total


def lead_over(
    votes: Sequence[Vote],
    predicted: Float[np.ndarray, " votes"],
    other: Float[np.ndarray, " votes"],
    wins: Num[np.ndarray, " votes"],
    n: Num[np.ndarray, " votes"],
) -> Lead:
    """By how much the log-loss of predictions is below that of others."""
    each = cross_entropy(other, wins, n) - cross_entropy(predicted, wins, n)
    return Lead(float(each.sum() / n.sum()), error_over_prompts(votes, each, n))
