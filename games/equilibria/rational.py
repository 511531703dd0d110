"""The equilibrium of a small game in fractions, and whether it is the only one, without rounding."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from nashward.errors import NashwardError

from ..shapes import Float

MOST = 30  # the most actions of a player
LARGEST = 10_000  # the largest denominator of a payoff; those of probabilities are below it
COMMON = 2**31  # the largest whole number that a payoff is read as
DIGITS = 7  # of decimals; fractions with larger denominators are nearer to each other than rounding
ROUNDING = 2**-51  # relative rounding of payoffs


class Rational(NamedTuple):
    """An equilibrium in fractions.

    Attributes:
        policy: n fractions that sum to 1.
        value: 1/2.
        gap: the duality gap, exactly 0.
        unique: whether it is the only equilibrium of the table in fractions, decided as ``only`` does.

    Example:
        >>> from nashward import games
        >>> equilibrium = games.nash_fractions(games.zoo.rock_paper_scissors())
        >>> [str(p) for p in equilibrium.policy], str(equilibrium.value), str(equilibrium.gap), equilibrium.unique
        (['1/3', '1/3', '1/3'], '1/2', '0', True)
    """

    policy: tuple[Fraction, ...]
    value: Fraction
    gap: Fraction
    unique: bool


class RationalPair(NamedTuple):
    """An equilibrium of two players in fractions.

    Attributes:
        row, column: the policies.
        unique: whether it is the only equilibrium of the table in fractions, decided as ``only`` does.
    """

    row: list[Fraction]
    column: list[Fraction]
    unique: bool


def fractions(P: Float[np.ndarray, "n n"], denominator: int) -> list[list[Fraction]]:
    """A table of probabilities as fractions of at most this denominator, with P + P^T = 1 exactly.

    Raises:
        ValueError: an entry is not such a fraction within rounding.
    """
    n, found = len(P), _rounded(P, denominator)
    table = [[Fraction(1, 2)] * n for _ in range(n)]
    for i in range(n):
        for j in range(i + 1, n):
            p = found[i][j]
            if p is None:
                raise NashwardError(
                    f"P[{i}, {j}] = {float(P[i, j])!r} is no fraction with a denominator of at most {denominator}"
                    f"{_remedy(P, denominator)}"
                )
            table[i][j], table[j][i] = p, 1 - p
    return table


def _remedy(P: Float[np.ndarray, "n n"], denominator: int) -> str:
    """The least power of ten that is a denominator of all other entries, as decimals; "" where there is none.

    Example:
        >>> _remedy(np.array([[0.5, 0.5594], [0.4406, 0.5]]), 1000)
        '; give denominator=10000'
    """
    rows = zip(P.tolist(), _rounded(P, denominator), strict=True)
    others = [u for row, found in rows for u, p in zip(row, found, strict=True) if p is None]
    enough = (k for k in range(1, DIGITS + 1) if all(abs(round(u, k) - u) <= ROUNDING for u in others))
    digits = next(enough, None)
    return "" if digits is None else f"; give denominator={10**digits}"


def certify(table: Sequence[Sequence[Fraction]], x: Float[np.ndarray, " n"]) -> Rational:
    """The vertex nearest to ``x``, in fractions: the solution of the equations on its support.

    Raises:
        ArithmeticError: ``x`` is near no vertex, or that vertex is not an equilibrium.
    """
    n = len(table)
    A = [[p - Fraction(1, 2) for p in row] for row in table]
    S = [int(i) for i in np.flatnonzero(x > 0)]
    margins = np.array([[float(a) for a in row] for row in A]) @ x
    tight = [i for i in range(n) if margins[i] > -1e-9]
    rows = [[A[i][j] for j in S] + [Fraction(0)] for i in tight] + [[Fraction(1)] * (len(S) + 1)]
    policy = [Fraction(0)] * n
    for i, weight in zip(S, _solution(rows), strict=True):
        policy[i] = weight
    gap = 2 * max(_mean(row, policy) for row in A)
    if gap != 0 or min(policy) < 0:
        raise ArithmeticError(f"the fractions near this policy are not an equilibrium (gap {float(gap):.1e})")
    return Rational(tuple(policy), Fraction(1, 2), gap, only(A, policy, policy))


def only(payoff: Sequence[Sequence[Fraction]], x: Sequence[Fraction], y: Sequence[Fraction]) -> bool:
    """Whether the equilibrium (x, y) of a zero-sum table is the only one.

    It is if and only if (a) every action that x and y do not play loses against the other policy, and (b) on the
    actions S and T that they play, no policy but y makes all of S earn the value, and none but x all of T.
    Under (a) every equilibrium policy plays within T (or S), where by (b) there is one. Without (a) there is another
    one, since of equilibria some are strictly complementary (Goldman and Tucker); without (b) a part of another
    solution can be added to the policy. With a value other than 0, to which any can be shifted, (b) of both players
    says that the table of S and T is invertible: so S and T are of one size, and one player's equations decide.

    Args:
        payoff: [n][m], the row player's payoffs.
        x, y: an equilibrium, exactly.

    Source: Goldman & Tucker 1956, "Theory of linear programming" (strict complementarity).

    Example:
        >>> half, (win, tie) = Fraction(1, 2), (Fraction(1), Fraction(0))
        >>> only([[win, -win], [-win, win]], [half, half], [half, half]), only([[tie, tie]], [win], [win, tie])
        (True, False)
    """
    S, T = ([i for i, p in enumerate(policy) if p] for policy in (x, y))
    of_rows = [_mean(line, y) for line in payoff]
    of_columns = [_mean(line, x) for line in zip(*payoff, strict=True)]
    value = of_rows[S[0]]
    if of_rows.count(value) > len(S) or of_columns.count(value) > len(T):
        return False
    square = [[payoff[i][j] for j in T] for i in S]
    return len(S) == len(T) and _reduced([*square, [Fraction(1)] * len(T)], len(T)) is not None


def in_fractions(
    payoff: Float[np.ndarray, "n m"], row: Float[np.ndarray, " n"], column: Float[np.ndarray, " m"]
) -> RationalPair | None:
    """An equilibrium in fractions: those that its probabilities round, if they are an equilibrium exactly.

    Args:
        payoff: the row player's payoffs, in a constant-sum game.
        row, column: the policies, as ``nash`` finds them.

    Returns:
        Both policies, and whether they are the only ones; None where payoffs or probabilities are not fractions with
        small denominators, where the duality gap in fractions is not exactly 0, and for more than 30 actions.

    Example:
        >>> third = np.array([1, 2]) / 3
        >>> row, column, unique = in_fractions(np.array([[3.0, -1.0], [-1.0, 1.0]]), third, third)
        >>> [str(p) for p in row], [str(p) for p in column], unique
        (['1/3', '2/3'], ['1/3', '2/3'], True)
    """
    if max(payoff.shape) > MOST:
        return None
    table = [[u for u in line if u is not None] for line in _rounded(payoff, LARGEST)]
    x, y = ([Fraction(p).limit_denominator(LARGEST - 1) for p in policy.tolist()] for policy in (row, column))
    if sum(map(len, table)) < payoff.size or sum(x) != 1 or sum(y) != 1:
        return None
    best = max(_mean(line, y) for line in table)
    least = min(_mean(line, x) for line in zip(*table, strict=True))
    return RationalPair(x, y, only(table, x, y)) if best == least else None


def as_typed(payoff: Float[np.ndarray, "n m"], shift: float = 0.0) -> Float[np.ndarray, "n m"] | None:
    """Whole numbers in proportion to ``payoff - shift``, with the payoffs read as the fractions that round to them.

    A game typed in tenths has the equilibria of these fractions; as stored, it may have fewer.

    Args:
        payoff: [n, m], in float64.
        shift: a dyadic number.

    Returns:
        [n, m], held exactly; None where no fraction with a small denominator rounds to a payoff, or the common
        denominator is large.

    Example:
        >>> as_typed(np.array([[0.1, 0.25], [2.0, 0.0]])).tolist(), as_typed(np.array([[2**0.5]])) is None
        ([[2.0, 5.0], [40.0, 0.0]], True)
    """
    distinct, where = np.unique(payoff, return_inverse=True)
    found: list[Fraction] = []
    common = 1
    for u in distinct.tolist():
        p = Fraction(u).limit_denominator(LARGEST)
        if float(p) != u:
            return None
        found.append(p - Fraction(shift))
        common = math.lcm(common, found[-1].denominator)
        if common > COMMON or common * abs(found[-1]) > COMMON:
            return None
    return np.array([float(p * common) for p in found])[where].reshape(payoff.shape)


def typed_margins(P: Float[np.ndarray, "n n"]) -> Float[np.ndarray, "n n"] | None:
    """``as_typed`` of P - 1/2. The larger of P[i, j] and P[j, i] decides: the other one is 1 minus it, as stored.

    Example:
        >>> typed_margins(np.array([[0.5, 1 - 0.9], [0.9, 0.5]])).tolist()
        [[0.0, -2.0], [2.0, 0.0]]
    """
    whole = as_typed(np.maximum(P, P.T), 0.5)
    return None if whole is None else np.where(P > P.T, whole, 0.0) - np.where(P < P.T, whole, 0.0)


def _mean(line: Sequence[Fraction], policy: Sequence[Fraction]) -> Fraction:
    return sum((u * p for u, p in zip(line, policy, strict=True) if p), Fraction(0))


def _rounded(payoffs: Float[np.ndarray, "n m"], denominator: int) -> list[list[Fraction | None]]:
    """The payoffs as fractions of at most this denominator, within rounding; None for a payoff that is not one.

    A payoff may be a difference such as 0.5 - 0.4, and then has the rounding of the numbers it was taken from: these
    are at most 1, and no larger than the largest payoff.
    """
    scale = min(1.0, float(np.abs(payoffs).max()))

    def rounded(u: float) -> Fraction | None:
        p = Fraction(u).limit_denominator(denominator)
        return p if abs(float(p) - u) <= ROUNDING * max(scale, abs(u)) else None

    return [[rounded(u) for u in line] for line in payoffs.tolist()]


def _solution(rows: list[list[Fraction]]) -> list[Fraction]:
    """The unique solution of linear equations [coefficients..., right-hand side]."""
    unknowns = len(rows[0]) - 1
    reduced = _reduced(rows, unknowns)
    if reduced is None:
        raise ArithmeticError("the policy is not a vertex of the equilibria: its support does not determine it")
    if any(row[unknowns] for row in reduced[unknowns:]):
        raise ArithmeticError("the ties of the policy contradict each other in fractions")
    return [row[unknowns] for row in reduced[:unknowns]]


def _reduced(rows: list[list[Fraction]], unknowns: int) -> list[list[Fraction]] | None:
    """Gauss-Jordan elimination; None where the equations leave an unknown free."""
    rows = rows[:]
    for column in range(unknowns):
        pivot = next((k for k in range(column, len(rows)) if rows[k][column]), None)
        if pivot is None:
            return None
        rows[column], rows[pivot] = rows[pivot], rows[column]
        lead = [entry / rows[column][column] for entry in rows[column]]
        rows[column] = lead
        for k, row in enumerate(rows):
            if k != column and row[column]:
                factor = row[column]
                rows[k] = [entry - factor * top for entry, top in zip(row, lead, strict=True)]
    return rows
