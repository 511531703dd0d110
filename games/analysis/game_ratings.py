"""Ratings from equilibria that copies of players do not move: clone lotteries, Nash averaging, deviation ratings."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from scipy.optimize import linprog

from nashward.errors import NashwardError

from ..equilibria.face import maximum_entropy
from ..equilibria.linear_program import PRECISE, ranges
from ..equilibria.nash import nash
from ..equilibria.rational import LARGEST, as_typed
from ..forms.game import PreferenceGame
from ..shapes import Float, Int

SAME = 1e-12  # rows that differ by no more are the same up to rounding
MOST_POWER = 12  # the largest denominator of an exponent
TIGHT = 1e-9  # of a linear program: a larger multiplier counts as above 0


@dataclass(frozen=True)
class ClassLottery:
    """A maximal lottery chosen over classes of clones.

    Attributes:
        policy: [n], probabilities, equal among clones.
        unique: whether the classes have no other lottery; None where double precision cannot tell.
        classes: [n], the number of each player's class.
        representatives: the first player of each class.

    Example:
        >>> class_lottery(np.full((2, 2), 0.5)).policy.tolist()
        [0.5, 0.5]
    """

    policy: Float[np.ndarray, " n"]
    unique: bool | None
    classes: Int[np.ndarray, " n"]
    representatives: Int[np.ndarray, " k"]

    @property
    def clones(self) -> list[list[int]]:
        """The classes with several players."""
        members = [np.flatnonzero(self.classes == number).tolist() for number in range(len(self.representatives))]
        return [players for players in members if len(players) > 1]

    @property
    def only(self) -> bool | None:
        """Whether the players have no other maximal lottery: clones may divide their probability in any way."""
        return False if any(self.policy[players[0]] > 0 for players in self.clones) else self.unique

    def ranges(self, P: Any) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
        """Each player's least and largest probability over all maximal lotteries.

        Args:
            P: [n, n], the table of this lottery.

        Example:
            >>> least, most = class_lottery(np.full((2, 2), 0.5)).ranges(np.full((2, 2), 0.5))
            >>> least.tolist(), most.tolist()
            ([0.0, 0.0], [1.0, 1.0])
        """
        sizes, weights = np.bincount(self.classes), np.bincount(self.classes, self.policy)
        least, most = weights, weights
        if not self.unique:
            at = np.ix_(self.representatives, self.representatives)
            least, most = ranges(np.asarray(P, dtype=np.float64)[at] - 0.5, weights)
        return np.where(sizes > 1, 0.0, least)[self.classes], most[self.classes]


def clone_classes(P: Any) -> Int[np.ndarray, " n"]:
    """The class of each player, [n]: players with the same row of win probabilities are clones of each other.

    Args:
        P: [n, n].

    Source: Tideman 1987 (independence of clones), in the strong form of Balduzzi et al. 2018: exact copies.

    Example:
        >>> clone_classes([[0.5, 0.5, 0.7], [0.5, 0.5, 0.7], [0.3, 0.3, 0.5]]).tolist()
        [0, 0, 1]
    """
    table = np.asarray(P, dtype=np.float64)
    classes = np.full(len(table), -1)
    for i in range(len(table)):
        if classes[i] < 0:
            alike = (np.abs(table - table[i]) <= SAME).all(1) & (classes < 0)
            classes[alike] = classes.max() + 1
    return classes


def class_lottery(P: Any) -> ClassLottery:
    """The maximal lottery over classes of clones; if it is not unique, the one with maximum entropy over classes.

    A copy of a player changes nobody else's probability, since the game of the classes stays the same; the entropy over
    players would shift with a copy wherever there is a choice.

    Args:
        P: [n, n], win probabilities.

    Source: Fishburn 1984 (maximal lotteries); Balduzzi et al. 2018 (maximum entropy); the classes are the project's
        own.

    Example:
        >>> ring = np.array([[0.5, 0.7, 0.3], [0.3, 0.5, 0.7], [0.7, 0.3, 0.5]])
        >>> twice = ring[np.ix_([0, 1, 2, 2], [0, 1, 2, 2])]  # the last player has a copy
        >>> class_lottery(twice).policy.round(3).tolist()
        [0.333, 0.333, 0.167, 0.167]
    """
    table = np.asarray(P, dtype=np.float64)
    classes = clone_classes(table)
    first = np.unique(classes, return_index=True)[1]
    game = PreferenceGame(table[np.ix_(first, first)])
    equilibrium = nash(game)
    unique = equilibrium.unique
    weights = equilibrium.numpy()
    if unique is None or not bool(unique):
        try:
            weights = nash(game, maximum_entropy).numpy()
        except ArithmeticError:  # too badly conditioned to choose among equilibria: the first one found
            unique = None
    sizes = np.bincount(classes)
    return ClassLottery((weights / sizes)[classes], None if unique is None else bool(unique), classes, first)


def nash_averaging(P: Any) -> Float[np.ndarray, " n"]:
    r"""The skill of each player against the maximum-entropy equilibrium of the game of log-odds, [n], in nats.

    .. math::  A_{ij} = \log \frac{P_{ij}}{P_{ji}}, \qquad s = A p^*

    where p* has maximum entropy over classes of clones. The skill is 0 for players in p*, and at most 0 for all.

    Args:
        P: [n, n], win probabilities above 0 and below 1.

    Raises:
        ValueError: a probability of 0 or 1, whose log-odds are not finite.

    Source: Balduzzi, Tuyls, Perolat & Graepel 2018, "Re-evaluating evaluation".

    Example:
        >>> nash_averaging([[0.5, 0.75], [0.25, 0.5]]).round(4).tolist()
        [0.0, -1.0986]
    """
    table = np.asarray(P, dtype=np.float64)
    if not ((table > 0) & (table < 1)).all():
        raise NashwardError(
            "a win probability is 0 or 1, whose log-odds are not finite; estimate it with games added to each pair, "
            "as (wins + 0.5) / (games + 1)"
        )
    upper = np.triu(np.log(table) - np.log1p(-table), 1)
    odds = upper - upper.T
    return odds @ class_lottery(0.5 + _in_proportion(table, odds)).policy


def _in_proportion(P: Float[np.ndarray, "n n"], odds: Float[np.ndarray, "n n"]) -> Float[np.ndarray, "n n"]:
    """The log-odds divided so that the largest is 1/4; their rounding removes no equilibrium that equal odds give.

    Where all odds are powers of one fraction, as 3 and 9, they are fractions with small denominators. Otherwise equal
    log-odds are equal to the last digit, of either sign.
    """
    logs = _powers(P)
    largest = np.abs(odds if logs is None else logs).max()
    if not largest:
        return np.zeros_like(odds)
    shares = (odds if logs is None else logs) / (4 * largest)
    return shares if logs is not None else np.round(shares * 2.0**48) / 2.0**48


def _powers(P: Float[np.ndarray, "n n"]) -> Float[np.ndarray, "n n"] | None:
    """The exponents, as whole numbers, with which all odds are powers of one fraction; None where they are not."""
    high = np.maximum(P, P.T)
    if as_typed(high) is None:
        return None
    values, where = np.unique(high, return_inverse=True)
    odds = [p / (1 - p) for p in (Fraction(v).limit_denominator(LARGEST) for v in values.tolist())]
    base = min((o for o in odds if o > 1), default=Fraction(2))
    found = []
    for o in odds:
        exponent = Fraction(math.log(o) / math.log(base)).limit_denominator(MOST_POWER)
        m, n = exponent.numerator, exponent.denominator
        if abs(m) > MOST_POWER**2 or o**n != base**m:
            return None
        found.append(exponent)
    common = math.lcm(*(e.denominator for e in found))
    powers = np.array([float(e * common) for e in found])[where].reshape(P.shape)
    return np.where(P > P.T, powers, 0.0) - np.where(P < P.T, powers, 0.0)


def deviation_ratings(P: Any) -> Float[np.ndarray, " n"]:
    r"""What each player would gain by deviating from the strictest equilibrium, [n], at most 0.

    .. math::  r = (P - 1/2)\, x^*

    where x* is the equilibrium that minimises the gains in turn: first the largest gain is made as small as possible
    and those players are held at it, then the largest gain of the others, and so on. The coarse correlated equilibria
    of the general definition have equilibria as marginals in a symmetric game of two players, so this is the deviation
    rating of that game. It is unique, 0 for every player that some equilibrium plays, and no copy of a player changes
    it.

    Args:
        P: [n, n], win probabilities.

    Raises:
        ArithmeticError: HiGHS found no solution; its message is given.

    Source: Marris, Liu, Gemp, Piliouras & Lanctot 2025 (arXiv 2502.11645), for two players with constant sum; that
        case is the project's own derivation.

    Example:
        >>> deviation_ratings([[0.5, 0.6, 0.9], [0.4, 0.5, 0.6], [0.1, 0.4, 0.5]]).round(3).tolist()
        [0.0, -0.1, -0.4]
    """
    table = np.asarray(P, dtype=np.float64)
    lottery = class_lottery(table)
    if lottery.unique:
        return (table - 0.5) @ lottery.policy
    margins = table[np.ix_(lottery.representatives, lottery.representatives)] - 0.5
    n = len(margins)
    held = np.zeros(n, dtype=bool)
    rating = np.zeros(n)
    while not held.all():  # min t: (A x)_i <= t for the others, while held players stay at most where they are
        rows = np.c_[margins, np.where(held, 0.0, -1.0)]
        result = linprog(
            np.r_[np.zeros(n), 1.0], A_ub=rows, b_ub=np.where(held, rating, 0.0), A_eq=np.r_[np.ones(n), 0.0][None],
            b_eq=[1.0], bounds=[(0, None)] * n + [(None, None)], method="highs", options=PRECISE,
        )  # fmt: skip
        if result.x is None:
            raise ArithmeticError(f"HiGHS found no deviation ratings: {result.message}")
        binding = ~held & (-result.ineqlin.marginals > TIGHT)  # at the bound in every solution
        rating[binding] = result.x[n]
        held |= binding
    return rating[lottery.classes]
