"""What a fit is worth on prompts that were held out: beside the length, the majority and a coin; on cycles of votes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nashward.games.analysis.battles import Battles
from nashward.games.analysis.confidence import least_error, one_sided, side_of_zero
from nashward.games.analysis.pair_tests import MIN_PROMPTS
from nashward.games.shapes import Float, Int, Num
from nashward.shortened import shortened

from .annotators import slope, votes_by_name
from .examples import cross_entropy
from .settings import fold_key
from .votes import Vote

LONGEST = 40  # characters of a name in a cycle


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
    """How much better one prediction is than another on the same votes, in nats or shares of the comparisons.

    Attributes:
        value: the difference.
        standard_error: from the spread over prompts.
    """

    value: float
    standard_error: float


@dataclass(frozen=True)
class VoteCycle:
    """A cycle of three that the votes confirm, and what a fit predicts of it on prompts that it did not see.

    Attributes:
        names: each beats the next, the last one the first: models, or responses to one prompt.
        prompt: of the responses; None: models, over all prompts.
        p_value, floor: as of ``games.analysis.significant_cycles.Cycle``.
        leads, errors: the predicted log-odds that each beats the next, on average over the votes on both, with their
            standard errors over prompts; NaN on a single one.
        prompts: on how many prompts these votes are.

    Example:
        >>> cycle = VoteCycle(("x", "y", "z"), None, 0.01, (0.9, 0.1, -0.8), (0.1, 0.2, 0.1), (20, 20, 20))
        >>> cycle.sides  # z over x is the other way
        [1, 0, -1]
    """

    names: tuple[str, str, str]
    prompt: str | None
    p_value: float
    leads: tuple[float, ...]
    errors: tuple[float, ...]
    prompts: tuple[int, ...]
    floor: float = 0.0

    @property
    def sides(self) -> list[int]:
        """Of each pair 1: as the votes have it, -1: the other way, 0: not told apart at 95%; on one prompt the sign."""
        each = zip(self.leads, self.errors, self.prompts, strict=True)
        return [(lead > 0) - (lead < 0) if n == 1 else side_of_zero(lead, error, n) for lead, error, n in each]

    @property
    def leads_in_words(self) -> str:
        """What is predicted of each pair, with its error, and where that is not as the votes have it.

        Example:
            >>> VoteCycle(("x", "y", "z"), None, 0.01, (0.9, 0.8, -0.8), (0.1, 0.1, 0.1), (20, 20, 20)).leads_in_words
            'x over y +0.90 ± 0.10, y over z +0.80 ± 0.10, z over x -0.80 ± 0.10 (the other way)'
        """
        ahead = {1: "", 0: " (not told apart)", -1: " (the other way)"}
        names = shortened(self.names, LONGEST)
        return ", ".join(
            f"{name} over {other} {lead:+z.2f}" + ("" if n == 1 else f" ± {error:.2f}") + ahead[side]
            for name, other, lead, error, n, side in zip(
                names, (*names[1:], names[0]), self.leads, self.errors, self.prompts, self.sides, strict=True
            )
        )


def ring(names: Sequence[str]) -> str:
    """A cycle in words, long names shortened.

    Example:
        >>> ring(("x", "y", "z"))
        'x beats y beats z beats x'
    """
    short = shortened(names, LONGEST)
    return " beats ".join((*short, short[0]))


def score(
    predicted: Float[np.ndarray, " votes"], wins: Num[np.ndarray, " votes"], n: Num[np.ndarray, " votes"]
) -> Score:
    """The score of predicted log-odds that a beats b.

    Example:
        >>> score(np.array([0.0, 3.0]), np.array([1.0, 1.0]), np.array([1.0, 1.0])).accuracy
        0.75
    """
    total = float(n.sum())
    right = _right(predicted, wins, n)
    return Score(float(cross_entropy(predicted, wins, n).sum()) / total, float(right.sum()) / total)


def _right(
    predicted: Float[np.ndarray, " votes"], wins: Num[np.ndarray, " votes"], n: Num[np.ndarray, " votes"]
) -> Float[np.ndarray, " votes"]:
    """How many comparisons are on the predicted side."""
    return np.where(predicted > 0, wins, np.where(predicted < 0, n - wins, n / 2))


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


def leads_over(
    votes: Sequence[Vote],
    predicted: Float[np.ndarray, " votes"],
    other: Float[np.ndarray, " votes"],
    wins: Num[np.ndarray, " votes"],
    n: Num[np.ndarray, " votes"],
) -> tuple[Lead, Lead]:
    """By how much the log-loss of predictions is below that of others, and their accuracy above it."""
    return (
        _mean(votes, cross_entropy(other, wins, n) - cross_entropy(predicted, wins, n), n),
        _mean(votes, _right(predicted, wins, n) - _right(other, wins, n), n),
    )


def _mean(votes: Sequence[Vote], each: Float[np.ndarray, " votes"], n: Num[np.ndarray, " votes"]) -> Lead:
    return Lead(float(each.sum() / n.sum()), error_over_prompts(votes, each, n))


@dataclass(frozen=True)
class LengthHabit:
    """How often the longer response won the votes of an annotator, and those of all others; a tie is half a win.

    Attributes:
        share, standard_error: of the annotator's, over prompts, and no less than ``least_error``.
        others, others_error: of the others'.
    """

    share: float
    standard_error: float
    others: float
    others_error: float

    @property
    def side(self) -> str:
        """Which response the annotator prefers, "longer" or "shorter"."""
        return "longer" if self.share > 0.5 else "shorter"

    @property
    def followed(self) -> float:
        """The share of the votes that go that way."""
        return max(self.share, 1 - self.share)


def length_habits(votes: Sequence[Vote], level: float = 0.05) -> dict[str, LengthHabit]:
    """Who goes by length: the longer response wins, or the shorter, in more than half and more often than for others.

    Both beyond chance, over the prompts, of which an annotator needs ten; over annotators and sides by Bonferroni.

    Args:
        votes: those with a weight and of two lengths count, alike.
        level: the chance of naming anybody where nobody is so.

    Example:
        >>> wins = {"ann": lambda k: k % 2, "len": lambda k: 1}
        >>> votes = [Vote(f"p{k}", "longer", "not", wins[n](k), 1, n) for k in range(20) for n in wins]
        >>> habits = length_habits(votes)
        >>> [*habits], habits["len"].share, habits["len"].others
        (['len'], 1.0, 0.5)
    """
    votes = [vote for vote in votes if vote.weight > 0 and len(vote.a) != len(vote.b)]
    names = np.array([vote.annotator or "" for vote in votes], dtype=object)
    n = np.array([vote.n for vote in votes], dtype=float)
    won = np.array([vote.wins if len(vote.a) > len(vote.b) else vote.n - vote.wins for vote in votes], dtype=float)
    keys = np.array([fold_key(vote.prompt) for vote in votes], dtype=object)
    own_votes, found = votes_by_name(names.tolist()), {}
    known = sorted({*own_votes} - {""})
    for name in known:
        own = np.zeros(len(votes), dtype=bool)
        own[own_votes[name]] = True
        prompts = len({*keys[own_votes[name]]})
        if own.all() or prompts < MIN_PROMPTS:
            continue
        (share, error), (others, others_error) = (
            (each.value, max(each.standard_error, float(least_error(each.value, len({*keys[of]})))))
            for of in (own, ~own)
            for each in (_mean([votes[k] for k in np.flatnonzero(of)], won[of], n[of]),)
        )
        # the prompts that both have voted on are paired
        each = np.where(own, (won - share * n) / n[own].sum(), (others * n - won) / n[~own].sum())
        apart = error_over_prompts(votes, each * n.sum(), n)
        side = 1 if share > 0.5 else -1
        p = max(one_sided(side * (share - 0.5), error, prompts), one_sided(side * (share - others), apart, prompts))
        if 2 * p * len(known) < level:
            found[name] = LengthHabit(share, error, others, others_error)
    return found


def vote_cycles(votes: Sequence[Vote], predicted: Float[np.ndarray, " votes"], level: float = 0.05) -> list[VoteCycle]:
    """The cycles of three that are no chance of the votes, the clearest first, and whether predictions have them.

    Of models where votes name three, over prompts; else of the responses to one prompt, over its comparisons, of which
    each pair then needs ten.

    Args:
        votes: those with a weight count, alike.
        predicted: [votes], held-out log-odds that a beats b.
        level: how many sets of votes without a cycle may seem to have one (over prompts by Bonferroni).

    Source: ``games.analysis.significant_cycles``.

    Example:
        >>> pairs = (("x", "y"), ("y", "z"), ("z", "x"))
        >>> votes = [Vote(f"p{k}", i, j, wins=1, n=1, models=(i, j)) for k in range(20) for i, j in pairs]
        >>> (cycle,) = vote_cycles(votes, np.tile([1.0, 1.0, -2.0], 20))
        >>> cycle.names, cycle.leads
        (('x', 'y', 'z'), (1.0, 1.0, -2.0))
    """
    counted = [k for k, vote in enumerate(votes) if vote.weight > 0 and vote.a != vote.b]
    named = [k for k in counted if all(votes[k].models) and votes[k].models[0] != votes[k].models[1]]
    if len({name for k in named for name in votes[k].models}) > 2:
        return _cycles(votes, named, [votes[k].models for k in named], predicted, None, level)
    of_prompt: dict[str, list[int]] = {}
    for k in counted:
        of_prompt.setdefault(votes[k].prompt, []).append(k)
    tested = {
        prompt: own
        for prompt, own in of_prompt.items()
        if sum(votes[k].n for k in own) >= 3 * MIN_PROMPTS
        and len({text for k in own for text in (votes[k].a, votes[k].b)}) > 2
    }
    found = []
    for prompt, own in tested.items():
        sides = [(votes[k].a, votes[k].b) for k in own]
        found += _cycles(votes, own, sides, predicted, prompt, level / len(tested))
    return sorted(found, key=lambda cycle: cycle.p_value)


def _cycles(
    votes: Sequence[Vote],
    own: Sequence[int],
    sides: Sequence[tuple[str, str]],
    predicted: Float[np.ndarray, " votes"],
    prompt: str | None,
    level: float,
) -> list[VoteCycle]:
    """The cycles among the names of both sides of some votes, on one prompt or over all."""
    labels, places = np.unique(np.array(sides, dtype=object), return_inverse=True)
    first, second = places.reshape(-1, 2).T
    won, n = (np.array([getattr(votes[k], name) for k in own], dtype=float) for name in ("wins", "n"))
    texts, prompts = np.unique(np.array([votes[k].prompt for k in own], dtype=object), return_inverse=True)
    battles = Battles(tuple(labels), first, second, won, n - won, prompts, len(texts), by_prompt=prompt is None)
    found = []
    for cycle in battles.cycles(level):
        leads, errors, on = [], [], []
        for i, j in zip(cycle.players, (*cycle.players[1:], cycle.players[0]), strict=True):
            sign = ((first == i) & (second == j)) * 1.0 - ((first == j) & (second == i))
            met = np.flatnonzero(sign).tolist()
            of = [votes[own[k]] for k in met]
            each = sign[met] * predicted[[own[k] for k in met]]
            leads.append(float(each.mean()))
            on.append(len({vote.prompt for vote in of}))
            errors.append(error_over_prompts(of, each, np.ones(len(of))) if on[-1] > 1 else math.nan)
        a, b, c = cycle.players
        found.append(
            VoteCycle(
                (labels[a], labels[b], labels[c]),
                prompt,
                cycle.p_value,
                tuple(leads),
                tuple(errors),
                tuple(on),
                cycle.floor,
            )
        )
    return found
