"""The reliability of annotators: how well a model that was fitted to all votes predicts those of each, how far they
agree with each other, and weights that are given to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from nashward.errors import NashwardError
from nashward.games.analysis.confidence import side_of_zero
from nashward.games.analysis.dawid_skene import dawid_skene
from nashward.games.shapes import Float, Int, Num

from .votes import Vote


@dataclass(frozen=True)
class Reliability:
    """One annotator's votes against predictions from models that did not see their prompts.

    The votes follow P(a beats b) = sigmoid(slope * A), A the predicted log-odds: slope 1 is as consistent as all
    annotators together, 0 is random (as half of the labels flipped), and below 0 the votes contradict the others.

    Attributes:
        votes: the number of comparisons.
        agreement: the share of comparisons with the predicted winner.
        slope, standard_error: maximum likelihood, relative to the slope of all annotators together.
    """

    votes: float
    agreement: float
    slope: float
    standard_error: float

    @property
    def suspect(self) -> bool:
        """Whether the annotator is, at 95%, less than half as consistent as all annotators together.

        Of few votes the 95% are Student's, and of fewer than two nothing is said.
        """
        return side_of_zero(self.slope - 0.5, self.standard_error, self.votes) < 0

    @property
    def against(self) -> bool:
        """Whether the votes are, at 95%, against what the others' say."""
        return side_of_zero(self.slope, self.standard_error, self.votes) < 0

    @property
    def verdict(self) -> str:
        """What the votes of a suspect are, by the 95% interval of the slope."""
        return {
            -1: "against what the others' votes say",
            0: f"not told apart from a coin by {self.votes:g} votes",
            1: "less than half as consistent as all together",
        }[side_of_zero(self.slope, self.standard_error, self.votes)]

    @property
    def weight(self) -> float:
        """The weight for the annotator's votes: the slope, within [0, 1]."""
        return float(np.clip(self.slope, 0.0, 1.0))


def reliabilities(
    annotators: Sequence[str | None],
    predicted: Float[np.ndarray, " votes"],
    wins: Num[np.ndarray, " votes"],
    n: Num[np.ndarray, " votes"],
) -> dict[str, Reliability]:
    """The reliability of each named annotator whose votes count; nothing where one annotator gave all that do.

    Slopes are relative to that of all votes, so that a lone annotator's is 1 whatever the votes are.

    Args:
        annotators: of each vote; None: unknown, part of all votes only.
        predicted: ``[votes]`` log-odds that a beats b, each from a model that was not trained on its prompt.
        wins, n: ``[votes]``, a's wins out of n.

    Example:
        >>> odds = np.array([2.0, -2.0, 2.0, -2.0])
        >>> both = reliabilities(["ann", "ann", "bob", "bob"], odds, np.array([1.0, 0, 0, 1]), np.ones(4))
        >>> both["ann"].agreement, both["bob"].agreement
        (1.0, 0.0)
    """
    names = np.array([annotator or "" for annotator in annotators], dtype=object)
    count = n > 0
    if len(set(names[count])) < 2:
        return {}
    of_all, _ = slope(predicted, wins, n)
    scale = of_all if of_all > 0 else 1.0  # the models learned nothing that annotators could agree with
    by_name, own_votes = {}, votes_by_name(names.tolist())
    for name in dict.fromkeys(name for name in names[count] if name):
        own = own_votes[name]
        value, error = slope(predicted[own], wins[own], n[own])
        total = float(n[own].sum())
        correct = np.where(predicted[own] > 0, wins[own], n[own] - wins[own])
        correct = np.where(predicted[own] == 0, n[own] / 2, correct)
        by_name[name] = Reliability(total, float(correct.sum()) / total, value / scale, error / scale)
    return by_name


def votes_by_name(names: Sequence[str]) -> dict[str, Int[np.ndarray, " own"]]:
    """The places of each annotator's votes, in order; one pass, as there may be thousands of annotators.

    Example:
        >>> {name: places.tolist() for name, places in votes_by_name(["ann", "bob", "ann"]).items()}
        {'ann': [0, 2], 'bob': [1]}
    """
    found: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        found.setdefault(name, []).append(place)
    return {name: np.array(places) for name, places in found.items()}


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


def weighted_annotators(votes: Sequence[Vote], weights: Mapping[str, float]) -> list[Vote]:
    """The votes with those of some annotators, as experts, counting more or less than those of all others.

    Args:
        votes: of any annotators.
        weights: by the annotator's name; the weight of each of their votes is multiplied by it.

    Raises:
        ValueError: a weight below 0, or of an annotator who gave no vote (the message names those there are).

    Example:
        >>> votes = [Vote("p", "x", "y", 1, 1, "ann"), Vote("p", "x", "y", 0, 1, "bob")]
        >>> [vote.weight for vote in weighted_annotators(votes, {"ann": 3.0})]
        [3.0, 1.0]
    """
    names = {vote.annotator for vote in votes if vote.annotator is not None}
    for name, weight in weights.items():
        if name not in names:
            shown = ", ".join(sorted(names)[:10]) or "nobody: the votes name no annotator"
            raise NashwardError(f"{name} gave no vote, and has a weight; there voted {shown}")
        if not 0 <= weight < np.inf:
            raise NashwardError(f"the weight of {name} is {weight!r}; expected 0 or more")
    return [replace(vote, weight=vote.weight * weights.get(vote.annotator or "", 1.0)) for vote in votes]


@dataclass(frozen=True)
class AnnotatorAccuracy:
    """How often an annotator names the better text, by the agreement of all annotators.

    Attributes:
        value, interval: the share of right verdicts among those that are no ties, and both ends of its 95% interval.
        suspect: whether it is, at 95%, less than half as far above chance as those of the others are on average.
    """

    value: float
    interval: tuple[float, float]
    suspect: bool


def annotator_accuracies(votes: Sequence[Vote]) -> dict[str, AnnotatorAccuracy]:
    """What the annotators' agreement on pairs of texts shows of each, without known labels.

    A pair is one in both orders of its texts; several votes of an annotator on it count by their sum.

    Returns:
        by name, without those who share no decided pair with another one; nothing where fewer than three are left,
        whom agreement cannot tell apart.

    Source: Dawid & Skene 1979.

    Example:
        >>> votes = [Vote(f"p{k}", "x", "y", int(n != "bad"), 1, n) for k in range(40) for n in ("a", "b", "bad")]
        >>> [name for name, accuracy in annotator_accuracies(votes).items() if accuracy.suspect]
        ['bad']
    """
    leads: dict[tuple[str, str, str], dict[str, float]] = {}
    for vote in votes:
        if vote.annotator is not None and vote.a != vote.b and vote.weight > 0:
            first, second = sorted((vote.a, vote.b))
            lead = (2 * vote.wins - vote.n) * (1 if first == vote.a else -1)
            own = leads.setdefault((vote.prompt, first, second), {})
            own[vote.annotator] = own.get(vote.annotator, 0.0) + lead
    decided = [{name for name, lead in own.items() if lead} for own in leads.values()]
    names = sorted({name for own in decided if len(own) > 1 for name in own})
    if len(names) < 3:
        return {}
    verdicts = np.full((len(names), len(leads)), np.nan)
    row = {name: k for k, name in enumerate(names)}
    for k, own in enumerate(leads.values()):
        for name, lead in own.items():
            if name in row:
                verdicts[row[name], k] = 0.5 + np.sign(lead) / 2
    fit = dawid_skene(verdicts)
    rows = zip(fit.accuracy, *fit.interval, fit.suspect, strict=True)
    return {
        name: AnnotatorAccuracy(float(value), (float(low), float(high)), bool(suspect))
        for name, (value, low, high, suspect) in zip(names, rows, strict=True)
    }


def annotator_weights(votes: Sequence[Vote], found: Mapping[str, Reliability]) -> dict[str, float]:
    """The weight of each annotator's votes: how far they are right beyond chance, 2 a - 1 with the accuracy a.

    The accuracy is that by the annotators' agreement. Of whom it says nothing the slope counts, up to the largest
    weight of the others: what a fit finds first may be the length of responses, which who judges by it alone follows
    best.

    Args:
        votes: of all.
        found: by name, from predictions.

    Example:
        >>> votes = [Vote(f"p{k}", "x", "y", int(n != "bad"), 1, n) for k in range(40) for n in ("a", "b", "bad")]
        >>> found = dict.fromkeys(("a", "b", "bad"), Reliability(40, 0.9, 4.0, 0.1))
        >>> {name: round(weight, 1) for name, weight in annotator_weights(votes, found).items()}
        {'a': 1.0, 'b': 1.0, 'bad': 0.0}
    """
    by_agreement = {name: max(2 * own.value - 1, 0.0) for name, own in annotator_accuracies(votes).items()}
    most = max(by_agreement.values(), default=1.0)
    return {name: by_agreement.get(name, min(own.weight, most)) for name, own in found.items()}
