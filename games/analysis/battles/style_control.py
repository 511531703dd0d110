"""Style control: battles as they would have gone between responses of equal style."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from nashward.errors import NashwardError

from ...shapes import Bool, Float, Int
from ..contextual import laplacian, share_within

LONGEST = 1 - 1e-6  # the relative difference of lengths one of which is 0
STEPS = 200  # of Newton's method
LEAST = 20  # battles of a pair, of fewer it is not told whether their lengths overlap
OVERLAP = 0.05  # of the battles of a pair, in which the other one is longer, from which on lengths overlap
ENOUGH = 1e-6  # nats: after such a step the next one is of rounding


def at_equal_style(
    won: Float[np.ndarray, " battles"],
    first: Int[np.ndarray, " battles"],
    second: Int[np.ndarray, " battles"],
    style: Float[np.ndarray, "battles d"],
    slopes: Float[np.ndarray, " d"],
    prior: float,
) -> tuple[Float[np.ndarray, " battles"], Float[np.ndarray, "battles d"]]:
    r"""Outcomes at equal style, and what each pair's log-odds there gain with the slopes.

    With slopes g, each pair has log-odds t_ij at equal style, and a battle y with style difference x becomes

    .. math::
        y' = y - \sigma(t_{ij} + g x) + \sigma(t_{ij}), \qquad
        \sum (y - \sigma(t_{ij} + g x)) + a (1 - 2 \sigma(t_{ij})) = 0

    with the prior's a, so that the table of the new battles is P_ij = sigma(t_ij). The pairs are free: cycles stay.

    Args:
        won: y, [battles], whether the first model won, a tie as 1/2.
        first, second: [battles], the models.
        style: x, [battles, d], the differences of both responses.
        slopes: g, [d], log-odds a unit of each feature.
        prior: a, above 0.

    Returns:
        y', [battles], and the derivatives of the first model's log-odds by the slopes, [battles, d].

    Source: Bradley & Terry 1952 with covariates; the pairs' own log-odds are the project's own.

    Example:
        >>> won, style = np.array([1.0, 1.0, 1.0, 0.0]), np.array([[0.5], [0.5], [0.5], [-0.5]])
        >>> x, y = np.zeros(4, dtype=int), np.ones(4, dtype=int)  # the longer one wins
        >>> [float(at_equal_style(won, x, y, style, np.array([g]), 0.5)[0].mean().round(2)) for g in (0.0, 2.0)]
        [0.75, 0.67]
    """
    pair = np.unique(np.minimum(first, second) * (max(first.max(), second.max()) + 1) + np.maximum(first, second),
                     return_inverse=True)[1].reshape(-1)  # fmt: skip
    sign = np.where(first > second, -1.0, 1.0)
    effect = style @ slopes
    log_odds, step = np.zeros(int(pair.max()) + 1), np.ones(1)
    for _ in range(STEPS):
        p, even = expit(sign * log_odds[pair] + effect), expit(log_odds)
        weight = p * (1 - p)
        total = np.bincount(pair, weight) + 2 * prior * even * (1 - even)
        if np.abs(step).max() < 1e-12:
            break
        step = (np.bincount(pair, sign * (won - p)) + prior * (1 - 2 * even)) / total
        log_odds = log_odds + step.clip(-1, 1)
    gained = [-sign * (np.bincount(pair, weight * sign * column) / total)[pair] for column in style.T]
    return won - p + expit(sign * log_odds[pair]), np.stack(gained, axis=1)


@dataclass(frozen=True)
class FittedStyle:
    """What battles at equal style were made of.

    Attributes:
        won: [battles], as they were fought.
        slopes: [d], of style.
        influence: [battles, d], what each battle adds to the error of the slopes.
        gained: [battles, d], what the pair's log-odds at equal style gain with the slopes.

    Example:
        >>> fitted = FittedStyle(np.array([1.0, 0.0]), np.zeros(4), np.zeros((2, 4)), np.zeros((2, 4)))
        >>> fitted.of_records(np.array([True, False])).won.tolist()
        [1.0]
    """

    won: Float[np.ndarray, " battles"]
    slopes: Float[np.ndarray, " d"]
    influence: Float[np.ndarray, "battles d"]
    gained: Float[np.ndarray, "battles d"]

    def of_records(self, at: Bool[np.ndarray, " battles"]) -> FittedStyle:
        """Those of some of the battles.

        Args:
            at: [battles], which.
        """
        return FittedStyle(self.won[at], self.slopes, self.influence[at], self.gained[at])

    def drawn(self, weight: Float[np.ndarray, " battles"]) -> Float[np.ndarray, " d"]:
        """[d], the slopes of weighted battles, by one step of their fit.

        Args:
            weight: [battles], about 1.
        """
        return self.slopes + (weight - 1) @ self.influence


def scores_beside(
    won: Float[np.ndarray, " battles"],
    first: Int[np.ndarray, " battles"],
    second: Int[np.ndarray, " battles"],
    effect: Float[np.ndarray, " battles"],
    weight: Float[np.ndarray, " battles"],
    prior: Float[np.ndarray, "n n"],
    start: Float[np.ndarray, " n"],
) -> Float[np.ndarray, " n"]:
    r"""Bradley-Terry scores [n] with mean 0 beside known effects of style, with a prior at equal style.

    .. math::
        \sum w (y - \sigma(r_i - r_j + e)) + \sum_j (a_{ij} - (a_{ij} + a_{ji}) \sigma(r_i - r_j)) = 0

    Args:
        won: y, [battles], whether the first model won, a tie as 1/2.
        first, second: [battles], the models.
        effect: e, [battles], what style adds to the log-odds.
        weight: w, [battles].
        prior: a, [n, n], wins that are given in addition, above 0.
        start: [n], scores near by.

    Source: Bradley & Terry 1952 with an offset.

    Example:
        >>> one, x, y = np.ones(1), np.zeros(1, dtype=int), np.ones(1, dtype=int)
        >>> given = (1 - np.eye(2)) / 2, np.zeros(2)  # half a win each
        >>> [float(scores_beside(one, x, y, e * one, one, *given)[0].round(3)) for e in (0.0, 2.0)]
        [0.549, 0.176]
    """
    n, r = len(prior), start
    met = prior + prior.T
    for _ in range(STEPS):
        p, even = expit(r[first] - r[second] + effect), expit(r[:, None] - r)
        left, spread = weight * (won - p), np.bincount(first * n + second, weight * p * (1 - p), n * n).reshape(n, n)
        slope = np.bincount(first, left, n) - np.bincount(second, left, n) + (prior - met * even).sum(1)
        information = laplacian(spread + spread.T + met * even * (1 - even)) + 1 / n
        step = np.linalg.solve(information, slope)
        r = r + step / max(1.0, np.abs(step).max())
        if np.abs(step).max() < ENOUGH:
            break
    return r - r.mean()


def variance_by_slopes(
    i: Int[np.ndarray, " battles"],
    j: Int[np.ndarray, " battles"],
    margin: Float[np.ndarray, " battles"],
    first: Int[np.ndarray, " battles"],
    P: Float[np.ndarray, "n n"],
    group: Int[np.ndarray, " battles"],
    fitted: FittedStyle,
) -> Float[np.ndarray, "n n"]:
    """[n, n], what the error of the slopes of style adds to the variance of each pair's mean margin.

    By the step of their fit that the draws of ``Battles.bands`` make, so with what both errors have in common; at
    least 0.

    Args:
        i, j, margin: [battles], the models with i < j, and the margin of i over j at equal style.
        first: [battles], the model that stands first.
        P: [n, n], the win probabilities at equal style.
        group: [battles], a number of each prompt, or of each battle.
        fitted: of these battles.

    Example:
        >>> i, j, P, won = np.zeros(2, dtype=int), np.ones(2, dtype=int), np.full((2, 2), 0.5), np.array([1.0, 0.0])
        >>> fitted = FittedStyle(won, np.zeros(1), np.array([[0.3], [0.1]]), np.array([[2.0], [2.0]]))
        >>> variance_by_slopes(i, j, won - 0.5, i, P, np.arange(2), fitted).round(3).tolist()  # 0.025 and 0.05
        [[0.0, 0.075], [0.075, 0.0]]
    """
    n, d, influence = len(P), fitted.influence.shape[1], fitted.influence
    pair, sign = i * n + j, np.where(first == i, 1.0, -1.0)
    met = np.bincount(pair, minlength=n * n)
    mean = np.bincount(pair, margin, n * n) / np.maximum(met, 1)
    left = (margin - mean[pair]) / met[pair]
    of_group = np.stack([np.bincount(group, column) for column in influence.T], axis=1)
    moved, common = np.zeros((n * n, d)), np.empty((n * n, d))
    moved[pair] = sign[:, None] * fitted.gained * (P * (1 - P)).reshape(-1)[pair, None]
    for k, column in enumerate(of_group[group].T):
        common[:, k] = np.bincount(pair, left * column, n * n)
    own = np.einsum("pk,kl,pl->p", moved, of_group.T @ of_group, moved)
    variance = np.maximum(own + 2 * (moved * common).sum(-1), 0.0).reshape(n, n)
    return variance + variance.T  # those of j < i are 0


def style_within(
    style: Float[np.ndarray, "battles 4"], first: Int[np.ndarray, " battles"], second: Int[np.ndarray, " battles"]
) -> Float[np.ndarray, " 4"]:
    """[4], the share of each feature of style that who wrote a response does not explain (``share_within``).

    Lengths are compared by their logarithms, whose difference is 2 artanh of the relative one.

    Args:
        style: [battles, 4], ``style_differences``.
        first, second: [battles], the models.

    Example:
        >>> style = np.array([[0.5, 0.1, 0.0, 0.0], [0.5, -0.1, 0.0, 0.0], [-0.5, 0.0, 0.0, 0.0]])
        >>> style_within(style, np.array([0, 0, 1]), np.array([1, 1, 0])).round(2).tolist()  # x is three times as long
        [0.0, 1.0, 1.0, 1.0]
    """
    length = 2 * np.arctanh(style[:, :1].clip(-LONGEST, LONGEST))
    return share_within(np.c_[length, style[:, 1:]], first, second)


def lengths_apart(
    difference: Float[np.ndarray, " battles"], first: Int[np.ndarray, " battles"],
    second: Int[np.ndarray, " battles"], models: int,
) -> Bool[np.ndarray, "n n"]:  # fmt: skip
    """[n, n], the pairs of models whose lengths hardly overlap: one is longer in 95% of 20 battles or more.

    What length adds between them is extrapolated, by the form that the fit supposes.

    Args:
        difference: [battles], of the first one's length and the second one's; 0 where length is left in.
        first, second: [battles], the models.
        models: n.

    Example:
        >>> longer, first = np.r_[np.full(20, 0.5), np.tile([0.2, -0.2], 10)], np.repeat([0, 1], 20)
        >>> lengths_apart(longer, first, first + 1, 3).astype(int).tolist()
        [[0, 1, 0], [1, 0, 0], [0, 0, 0]]
    """
    pair, back = first * models + second, second * models + first
    places = models * models
    longer = np.bincount(pair, difference > 0, places) + np.bincount(back, difference < 0, places)
    met = np.bincount(pair, minlength=places) + np.bincount(back, minlength=places)
    apart = ((met >= LEAST) & (longer >= (1 - OVERLAP) * met)).reshape(models, models)
    return apart | apart.T


def known_style(style: Float[np.ndarray, "battles 4"] | None) -> Float[np.ndarray, "battles 4"]:
    """The style, which has to be that of all battles.

    Args:
        style: [battles, 4], NaN where it is not known; None: not read.

    Raises:
        ValueError: it is not known.

    Example:
        >>> known_style(np.zeros((1, 4))).tolist()
        [[0.0, 0.0, 0.0, 0.0]]
    """
    if style is None:
        raise NashwardError("the style of these battles was not read; read them with style=True")
    if unknown := int(np.isnan(style).any(1).sum()):
        raise NashwardError(
            f"the style of {unknown} of {len(style)} battles is not known; rows need conv_metadata "
            "(sum_assistant_a_tokens, header_count_a, list_count_a, bold_count_a, and of b), or both responses "
            "(conversation_a and conversation_b, or response_a and response_b)"
        )
    return style
