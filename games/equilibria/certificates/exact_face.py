"""The dimension of the equilibria of one game in whole numbers, without rounding, from guesses at the supports."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from ...shapes import Bool, Float

MOST = 48  # the most different equations of a player: the cost of elimination grows with the fifth power
DIGITS = 512  # the most bits from the smallest to the largest entry
STARTS = tuple(2.0**-k for k in (1, 3, 5, 10, 20, 34, 48))  # tried for probabilities that are left free


@dataclass(frozen=True)
class ExactFace:
    """All equilibria of a zero-sum game: each player's policies are the part of an affine space within a support.

    Attributes:
        rows, columns: [n], [m] bool, the actions that some equilibrium plays; every other one loses against some.
        dimension: that of the row player's policies plus that of the column player's.
        points: two equilibria (row, column), which differ if the dimension is above 0; exact up to rounding.
    """

    rows: Bool[np.ndarray, " n"]
    columns: Bool[np.ndarray, " m"]
    dimension: int
    points: tuple[tuple[Float[np.ndarray, " n"], Float[np.ndarray, " m"]], ...]


def exact_face(
    U: Float[np.ndarray, "n m"],
    guesses: Iterable[tuple[Bool[np.ndarray, " n"], Bool[np.ndarray, " m"]]],
    starts: Iterable[tuple[Float[np.ndarray, " n"], Float[np.ndarray, " m"]]] = (),
    *,
    skew: bool = False,
) -> ExactFace | None:
    """The face of a game with payoffs U, taken as exact, if one of the guesses at the supports is right.

    A guess is right if a pair of policies plays every action in it, with equal payoffs, and each other action pays
    strictly less: then (Goldman and Tucker) no equilibrium plays another action, and all equilibria are the solutions
    of the equations. The pair is found in whole numbers, with free probabilities taken from ``starts``.

    Args:
        U: [n, m], what the row player wins.
        guesses: supports of both players to try, in order.
        starts: policies near the middle of the face.
        skew: U is skew and both players are the same; the first of each pair is used.

    Returns:
        None where no guess is right, or the game is too large for whole numbers.

    Source: Goldman & Tucker 1956 (strict complementarity); Bareiss 1968 (elimination).

    Example:
        >>> tie = exact_face(np.zeros((2, 2)), [(np.ones(2, bool), np.ones(2, bool))], skew=True)
        >>> tie.dimension
        1
    """
    table = _as_integers(U)
    if table is None:
        return None
    starts, tried = list(starts), set()
    for rows, columns in guesses:
        key = (rows.tobytes(), columns.tobytes())
        if key in tried or not rows.any() or not columns.any() or (skew and key[0] != key[1]):
            continue
        tried.add(key)
        column = _side(table, rows, columns, [q for _, q in starts])
        if column is None:
            continue
        row = column if skew else _side(-table.T, columns, rows, [p for p, _ in starts])
        if row is None:
            continue
        dimension = column[0] + (0 if skew else row[0])
        return ExactFace(rows, columns, dimension, tuple(zip(row[1], column[1], strict=True)))
    return None


def _as_integers(U: Float[np.ndarray, "n m"]) -> Any:
    """U times a power of two, as Python's integers; None where that takes too many digits."""
    parts = U[U != 0]
    if not len(parts):
        return np.zeros(U.shape, dtype=object)
    exponent = np.frexp(parts)[1]
    least, largest = int(exponent.min()) - 53, int(exponent.max())
    if largest - least > DIGITS:
        return None
    return np.array([[int(Fraction(float(u)) * Fraction(2) ** -least) for u in row] for row in U], dtype=object)


def _side(
    U: Any, rows: Bool[np.ndarray, " n"], columns: Bool[np.ndarray, " m"], starts: list[Float[np.ndarray, " m"]]
) -> tuple[int, list[Float[np.ndarray, " m"]]] | None:
    """The dimension of one player's policies on ``columns`` that make ``rows`` pay the same and all others less, with
    two of them; None where there is none."""
    J = np.flatnonzero(columns)
    kinds: dict[tuple[int, ...], list[int]] = {}  # columns of one kind may share their probability in any way
    for j in J.tolist():
        kinds.setdefault(tuple(U[:, j]), []).append(j)
    equations = sorted({tuple(U[i, members[0]] for members in kinds.values()) for i in np.flatnonzero(rows)})
    if min(len(kinds), len(equations)) > MOST:
        return None
    size = len(kinds)
    system = [[*row, -1, 0] for row in equations] + [[1] * size + [0, 1]]  # unknowns: the probabilities and the value
    solved = _eliminated(system, size + 1)
    if solved is None:
        return None
    pivots, lead, lines = solved
    free = [c for c in range(size + 1) if c not in pivots]
    if size in free:  # the value is not determined: there is no equilibrium within
        return None
    members = list(kinds.values())
    found: list[Any] = []
    even = [np.full(size, scale / size) for scale in STARTS]
    guesses = [*even[:2], *(np.array([start[list(own)].sum() for own in members]) for start in starts), *even[2:]]
    others = [tuple(U[i, own[0]] for own in members) for i in np.flatnonzero(~rows)]
    for guess in guesses:
        point = _point(guess, pivots, free, lead, lines, size)
        if point is None:
            continue
        numerators, value, unit = point  # with a common positive denominator
        if any(sum(u * x for u, x in zip(other, numerators, strict=True)) >= value for other in set(others)):
            continue
        policy = np.zeros(U.shape[1])
        for own, x in zip(members, numerators, strict=True):
            policy[own] = float(Fraction(x, unit)) / len(own)
        if not found or not np.allclose(policy, found[0], rtol=0, atol=1e-6):
            found.append(policy)
        if len(found) == 2 or not free:
            break
    if not found:
        return None
    dimension = len(free) + sum(len(own) - 1 for own in members)
    other = found[-1].copy()
    if dimension > 0 and len(found) == 1:
        twins = next((own for own in members if len(own) > 1), None)
        if twins is None:
            return None  # all starts led to one point: no second one to show
        other[twins], other[twins[0]] = 0.0, other[twins].sum()
    return dimension, [found[0], other]


def _eliminated(system: list[list[int]], unknowns: int) -> tuple[list[int], int, list[list[int]]] | None:
    """Gauss-Jordan elimination in whole numbers: the pivot columns, the common pivot, and a line for each; None where
    the equations contradict each other."""
    lines = [np.array(line, dtype=object) for line in system]
    pivots: list[int] = []
    lead = 1
    for column in range(unknowns):
        at = len(pivots)
        choice = min(
            (k for k in range(at, len(lines)) if lines[k][column]), key=lambda k: abs(lines[k][column]), default=None
        )
        if choice is None:
            continue
        lines[at], lines[choice] = lines[choice], lines[at]
        pivot = lines[at][column]
        for k in range(len(lines)):
            if k != at:
                lines[k] = (pivot * lines[k] - lines[k][column] * lines[at]) // lead
        lead = pivot
        pivots.append(column)
    if any(line[unknowns] for line in lines[len(pivots) :]):
        return None
    return pivots, int(lead), [line.tolist() for line in lines[: len(pivots)]]


def _point(
    guess: Float[np.ndarray, " k"], pivots: list[int], free: list[int], lead: int, lines: list[list[int]], size: int
) -> tuple[list[int], int, int] | None:
    """The solution with the free probabilities of the guess: numerators, the value's, and the denominator; None where
    one is not positive."""
    unit = 2**60
    given = {column: round(float(guess[column]) * unit) for column in free}
    if any(x <= 0 for x in given.values()):
        return None
    sign = 1 if lead > 0 else -1
    solution = [0] * (size + 1)
    for column, x in given.items():
        solution[column] = x * abs(lead)
    for column, line in zip(pivots, lines, strict=True):
        solution[column] = sign * (line[-1] * unit - sum(line[c] * x for c, x in given.items()))
    if any(x <= 0 for x in solution[:size]):
        return None
    return solution[:size], solution[size], unit * abs(lead)
