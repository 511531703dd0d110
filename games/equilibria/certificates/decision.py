"""Whether an equilibrium is the only one: by bounds on rounding, by whole numbers, or undecided, with the reason."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ...shapes import Bool, Float
from .enclosure import UNIT, proved_unique
from .exact_face import MOST, ExactFace, exact_face

NEAR = (
    1e-10,
    1e-7,
    1e-13,
    1e-4,
    0.0,
    1e-15,
)  # shares of the payoffs' span: an action that loses by less is guessed to play
GUESSES = 64
MIXED = (2.0**-8, 2.0**-24)  # shares of the uniform policy that are mixed into a vertex for a start

Pair = tuple[Float[np.ndarray, " n"], Float[np.ndarray, " m"]]


class Decision(NamedTuple):
    """What is known about other equilibria of one zero-sum game.

    Attributes:
        unique: True if proved; False if ``other`` is another equilibrium; else None.
        dimension: the dimension of the set of all equilibria; None where it is not known.
        reason: how that is known, or why not.
        other: another equilibrium (row, column), exact but for the rounding of its numbers.
        face: the exact face, if it was found.
    """

    unique: bool | None
    dimension: int | None
    reason: str
    other: Pair | None = None
    face: ExactFace | None = None


PROVED = Decision(True, 0, "proved: every other action loses, even with all floating-point rounding in its favour")


def decide(
    U: Float[np.ndarray, "games n m"],
    x: Float[np.ndarray, "games n"],
    y: Float[np.ndarray, "games m"],
    *,
    skew: bool = False,
) -> list[Decision]:
    """Whether each game has only the equilibrium (x, y).

    An equilibrium is called unique if that is proved for every table that rounds to this one, and not unique if this
    very table, in whole numbers, has another one.

    Args:
        U: [games, n, m], what the row player wins, in float64.
        x, y: the equilibrium that was found of each game.
        skew: U is skew (the margins of preference games), and x is y.

    Source: see ``proved_unique`` and ``exact_face``.
    """
    rounding = np.abs(U).max((-2, -1)) * UNIT
    if skew:
        rounding = np.maximum(rounding, UNIT / 2)  # margins come from probabilities, which are rounded at that digit
    proved = proved_unique(U, x > 0, y > 0, rounding, skew=skew)
    return [
        PROVED if sure else _undecided(u, (a, b), skew) for sure, u, a, b in zip(proved.tolist(), U, x, y, strict=True)
    ]


def _undecided(U: Float[np.ndarray, "n m"], found: Pair, skew: bool) -> Decision:
    exact = exact_face(U, _guesses(U, found), [found, *_starts(found)], skew=skew)
    if exact is not None:
        return _of_face(U, exact, found)
    return _of_twins(U, found, skew) or Decision(None, None, _why(U, found))


def from_guess(U: Float[np.ndarray, "n m"], found: Pair, middle: Pair, *, skew: bool) -> Decision | None:
    """The decision from a point in the middle of the face, found by an interior point; None if it decides nothing.

    Args:
        U: [n, m], what the row player wins.
        found: the equilibrium at hand.
        middle: policies that play every action that some equilibrium plays.
        skew: U is skew and the players are one.
    """
    exact = exact_face(U, _guesses(U, middle), [middle, *_starts(middle)], skew=skew)
    return None if exact is None else _of_face(U, exact, found)


def _of_face(U: Float[np.ndarray, "n m"], exact: ExactFace, found: Pair) -> Decision:
    if not exact.dimension:
        return Decision(
            None, 0, "the stored table has one equilibrium, but fractions that round to it may have several; "
            "games.nash_fractions decides for small fractions", face=exact,
        )  # fmt: skip
    inside = max(exact.points, key=lambda pair: sum(np.abs(a - b).sum() for a, b in zip(pair, found, strict=True)))
    other = _to_the_edge(U, inside, found)
    return Decision(False, exact.dimension, "another equilibrium, found without rounding", other, exact)


def _to_the_edge(U: Float[np.ndarray, "n m"], inside: Pair, found: Pair) -> Pair:
    """An equilibrium near the end of the line from the given one through one inside the face."""
    move = tuple(a - b for a, b in zip(inside, found, strict=True))
    rows, columns = U @ inside[1], inside[0] @ U
    room = np.r_[inside[0], inside[1], rows.max() - rows, columns - columns.min()]
    change = np.r_[move[0], move[1], -(U @ move[1]), move[0] @ U]  # the value stays
    change[np.abs(change) < 1e-12] = 0.0
    steps = room[change < 0] / -change[change < 0]
    longest = 0.999 * float(steps.min()) if len(steps) else 0.0
    policies = [np.where(p > 0, np.maximum(p + longest * d, 0.0), 0.0) for p, d in zip(inside, move, strict=True)]
    edge = policies[0] / policies[0].sum(), policies[1] / policies[1].sum()
    gap = float((U @ edge[1]).max() - (edge[0] @ U).min())
    return edge if gap <= 16 * UNIT * np.abs(U).max() else inside  # rounding may have bent the line


def _guesses(
    U: Float[np.ndarray, "n m"], found: Pair
) -> Iterator[tuple[Bool[np.ndarray, " n"], Bool[np.ndarray, " m"]]]:
    """Supports to try: the actions that are played, and those within smaller and smaller distances of the best."""
    x, y = found
    rows, columns = U @ y, x @ U
    span = float(U.max() - U.min()) or 1.0
    of_rows, of_columns = _nested(x, (rows.max() - rows) / span), _nested(y, (columns - columns.min()) / span)
    pairs = itertools.product(range(len(of_rows)), range(len(of_columns)))
    for i, j in sorted(pairs, key=lambda pair: (pair[0] != pair[1], sum(pair)))[:GUESSES]:
        yield of_rows[i], of_columns[j]


def _nested(policy: Float[np.ndarray, " n"], loss: Float[np.ndarray, " n"]) -> list[Bool[np.ndarray, " n"]]:
    """The different guesses at one player's support, the likeliest first."""
    guesses = [policy > 0]
    for near in NEAR:
        guesses += [(policy > 0) | (loss <= near), policy > near, loss <= near]
    return [one for k, one in enumerate(guesses) if one.any() and not any(np.array_equal(one, g) for g in guesses[:k])]


def _starts(found: Pair) -> list[Pair]:
    return [tuple((1 - share) * p + share / len(p) for p in found) for share in MIXED]  # type: ignore[misc]


def _of_twins(U: Float[np.ndarray, "n m"], found: Pair, skew: bool) -> Decision | None:
    """Actions with equal payoffs may share their probability in any way: a proof by the game with one of each kind."""
    row_of, row_kind = np.unique(U, axis=0, return_index=True, return_inverse=True)[1:]
    column_of, column_kind = np.unique(U, axis=1, return_index=True, return_inverse=True)[1:]
    row_kind, column_kind = row_kind.ravel(), column_kind.ravel()
    if skew:
        column_of, column_kind = row_of, row_kind
    if len(row_of) == len(U) and len(column_of) == U.shape[1]:
        return None
    x, y = np.bincount(row_kind, found[0]), np.bincount(column_kind, found[1])
    (decision,) = decide(U[np.ix_(row_of, column_of)][None], x[None], y[None], skew=skew)
    if decision.unique is None and decision.dimension is None:
        return None
    of_rows = np.bincount(row_kind)[x > 0].sum() - (x > 0).sum()
    of_columns = np.bincount(column_kind)[y > 0].sum() - (y > 0).sum()
    if decision.unique is not True or not of_rows + of_columns:
        return None  # the exact face has merged them already
    other = [p.copy() for p in found]
    for policy, kind, mass in zip(other, (row_kind, column_kind), (x, y), strict=True):
        counts = np.bincount(kind)
        for k in np.flatnonzero((counts > 1) & (mass > 0)):
            own = np.flatnonzero(kind == k)
            least = own[np.argmin(policy[own])]
            policy[own], policy[least] = 0.0, mass[k]
    dimension = int(of_columns if skew else of_rows + of_columns)
    return Decision(
        False, dimension, "actions with equal payoffs may share their probability in any way", (other[0], other[1])
    )


def _why(U: Float[np.ndarray, "n m"], found: Pair) -> str:
    x, y = found
    rows, columns = U @ y, x @ U
    value = float(x @ rows)
    slack = np.r_[value - rows[x == 0], columns[y == 0] - value]
    least = min(float(p[p > 0].min()) for p in found)
    size = max(int((x > 0).sum()), int((y > 0).sum()))
    told = f"the least probability is {least:.1e}"
    if len(slack):
        told += f" and the least that an action outside loses by {max(float(slack.min()), 0.0):.1e}"
    limit = f", and {size} equations are too many for whole numbers ({MOST} at most)" if size > MOST else ""
    return f"double precision cannot tell: {told}{limit}"
