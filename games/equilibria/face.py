"""All equilibria of a symmetric game at once, and points chosen among them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from scipy.optimize import linprog, nnls

from ..shapes import Bool, Float
from .certificates.decision import decide
from .interior_point import central_path
from .linear_program import extent
from .polish import GAP, gap, normalise_support, polish
from .selection import solve_margins


@dataclass(frozen=True)
class Face:
    """The set of all equilibria of one symmetric game, a polytope.

    .. math::
        1^\\top x = 1, \\quad x_i \\ge 0, (A x)_i = 0 \\ (i \\in S), \\quad x_i = 0, (A x)_i \\le 0 \\ (i \\notin S)

    where S holds the actions that some equilibrium plays: each of them pays exactly the value against every
    equilibrium, and every other action pays less against some.

    Attributes:
        support: [n] bool, S.
        dimension: the proved dimension, 0 where the equilibrium is unique; None where it is not known.
        reason: how the dimension is known, or why it is not.
        interior: [n], an equilibrium that plays all of S and against which all other actions lose.
        directions: [n, dimension], an orthonormal basis of the directions in which the face extends.
        margins: [n, n], A.

    Source: Gale, Kuhn & Tucker 1950; Goldman & Tucker 1956 (strict complementarity).

    Example:
        >>> ring = face_of_margins(np.array([[0.0, 0.3, -0.1], [-0.3, 0.0, 0.2], [0.1, -0.2, 0.0]]))
        >>> ring.dimension, ring.interior.round(4).tolist()
        (0, [0.3333, 0.1667, 0.5])
    """

    support: Bool[np.ndarray, " n"]
    interior: Float[np.ndarray, " n"]
    directions: Float[np.ndarray, "n d"] = field(repr=False)
    margins: Float[np.ndarray, "n n"] = field(repr=False)
    dimension: int | None
    reason: str


def face_of_margins(A: Float[np.ndarray, "n n"]) -> Face:
    """The face of a skew game, from a strictly complementary equilibrium found by an interior point.

    Raises:
        ArithmeticError: neither the interior point nor linear programs determine which actions are played.
    """
    near = approximate_face(A)
    x = near.interior[None]
    (decision,) = decide(A[None], x, x, skew=True)
    if decision.dimension is None:  # a vertex may show what the middle does not
        x = solve_margins(A)[0][None]
        (decision,) = decide(A[None], x, x, skew=True)
    support = None if decision.face is None else decision.face.columns
    points = [] if decision.face is None else [q for _, q in decision.face.points]
    return certified(near, decision.dimension, decision.reason, support, points)


def certified(
    near: Face,
    dimension: int | None,
    reason: str,
    support: Bool[np.ndarray, " n"] | None,
    points: list[Float[np.ndarray, " n"]],
) -> Face:
    """The face with its proved dimension; where the proof and the numbers differ, the numbers follow the proof.

    Args:
        near: the face as double precision found it.
        dimension: the proved dimension, or None.
        reason: how the dimension is known, or why not.
        support: the face's support, where it was found in whole numbers.
        points: equilibria on the face.
    """
    if dimension is None or dimension == near.directions.shape[1]:
        return replace(near, dimension=dimension, reason=reason)
    if support is None or not points:
        raise ArithmeticError(
            f"the face has dimension {dimension}, but double precision finds {near.directions.shape[1]} directions"
        )
    interior = polish(near.margins, np.mean(points, axis=0), support)
    directions = _directions(near.margins, support, dimension)
    return Face(support, interior, directions, near.margins, dimension, reason)


def _directions(
    A: Float[np.ndarray, "n n"], support: Bool[np.ndarray, " n"], dimension: int | None = None
) -> Float[np.ndarray, "n d"]:
    """A basis of the directions within the support along which all its actions keep equal payoffs."""
    S = np.flatnonzero(support)
    values, vectors = np.linalg.svd(np.r_[A[np.ix_(S, S)], np.ones((1, len(S)))])[1:]
    rank = int((values > 1e-11 * values[0]).sum()) if dimension is None else len(S) - dimension
    directions = np.zeros((len(A), len(S) - rank))
    directions[S] = vectors[rank:].T
    return directions


def approximate_face(A: Float[np.ndarray, "n n"]) -> Face:
    """The face as double precision finds it, without a proof of its dimension.

    Args:
        A: [n, n], skew.

    Raises:
        ArithmeticError: neither the interior point nor linear programs determine which actions are played.
    """
    n = len(A)
    largest = np.abs(A).max()
    A = A / (2 * largest) if largest > 0 else A
    for x, s in central_path(torch.from_numpy(A)[None]):
        if float((x * s).sum()) < 1e-15:
            break
    y, support = x[0].numpy(), (x > s)[0].numpy()
    interior = polish(A, y, support)
    if gap(A, interior) <= GAP and (interior[support] > 0).all():
        return Face(support, interior, _directions(A, support), A, None, "not examined")
    x_vertex, _ = solve_margins(A)
    if gap(A, x_vertex) > GAP or extent(A, x_vertex) > 1e-6:
        raise ArithmeticError(f"the equilibria of this {n} x {n} game are too badly conditioned to be separated")
    return Face(x_vertex > 0, x_vertex, np.zeros((n, 0)), A, None, "not examined")


def vertex(face: Face) -> Float[np.ndarray, " n"]:
    """A corner of the face: the extreme point in a fixed generic direction, with as few actions as its ties allow.

    Args:
        face: the face of all equilibria, as ``games.face`` gives it.

    Returns:
        [n] probabilities.

    Raises:
        ArithmeticError: HiGHS found no vertex; its message is given.

    Source: the project's own choice of the direction; the vertex is found by HiGHS's dual simplex.

    Example:
        >>> twice = np.kron([[0, -1, 1], [1, 0, -1], [-1, 1, 0]], np.ones((2, 2))) / 2  # every action has a twin
        >>> vertex(face_of_margins(twice)).round(4).tolist()
        [0.0, 0.3333, 0.0, 0.3333, 0.0, 0.3333]
    """
    if not face.directions.shape[1]:
        return face.interior
    generic = np.modf(np.sqrt(np.arange(2.0, 2.0 + len(face.interior))) * np.pi)[0] - 0.5
    room, moves = slacks(face)
    result = linprog(generic @ face.directions, A_ub=-moves, b_ub=room, bounds=(None, None), method="highs-ds")
    if result.x is None:
        raise ArithmeticError(f"HiGHS found no vertex of the equilibria: {result.message}")
    x = face.interior + face.directions @ result.x
    return normalise_support(np.where(x > 1e-11, x, 0.0))


def centre(face: Face) -> Float[np.ndarray, " n"]:
    """The analytic centre: the point with the largest product of played probabilities and other actions' losses.

    Args:
        face: the face of all equilibria, as ``games.face`` gives it.

    Returns:
        [n] probabilities.

    Source: the project's own choice; Newton's method on the logarithmic barrier.

    Example:
        >>> twice = np.kron([[0, -1, 1], [1, 0, -1], [-1, 1, 0]], np.ones((2, 2))) / 2  # every action has a twin
        >>> centre(face_of_margins(twice)).round(4).tolist()
        [0.1667, 0.1667, 0.1667, 0.1667, 0.1667, 0.1667]
    """
    return _least(face, barriers=(1.0,), entropy=False)


def maximum_entropy(face: Face) -> Float[np.ndarray, " n"]:
    """The equilibrium with the largest entropy: equal actions have equal probabilities.

    Probabilities are right to about 1e-10, and to 1e-6 where the entropy is flat at an end of the face; an equilibrium
    it is to rounding.

    Args:
        face: the face of all equilibria, as ``games.face`` gives it.

    Returns:
        [n] probabilities.

    Source: the project's own choice; Newton's method, with a barrier that falls to 1e-12.

    Example:
        >>> twice = np.kron([[0, -1, 1], [1, 0, -1], [-1, 1, 0]], np.ones((2, 2))) / 2  # every action has a twin
        >>> maximum_entropy(face_of_margins(twice)).round(4).tolist()
        [0.1667, 0.1667, 0.1667, 0.1667, 0.1667, 0.1667]
    """
    return _least(face, barriers=tuple(10.0**-k for k in range(13)), entropy=True)


def nearest(face: Face, policy: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """The equilibrium at the least Euclidean distance from a policy.

    Args:
        face: the face of all equilibria, as ``games.face`` gives it.
        policy: [n] probabilities.

    Returns:
        [n] probabilities.

    Source: Lawson & Hanson 1974, chapter 23 (least distance programming by nonnegative least squares).

    Example:
        >>> face = face_of_margins(np.array([[0.0, 0.0, 0.4], [0.0, 0.0, 0.4], [-0.4, -0.4, 0.0]]))
        >>> nearest(face, np.array([0.7, 0.1, 0.2])).round(4).tolist()
        [0.8, 0.2, 0.0]
    """
    at = face.directions.T @ (policy - face.interior)
    room, moves = slacks(face)
    limits = np.c_[moves, -(room + moves @ at)].T
    weights, distance = nnls(limits, np.r_[np.zeros(len(at)), 1.0])
    residual = limits @ weights - np.r_[np.zeros(len(at)), 1.0]
    move = -residual[:-1] / residual[-1] if distance > 0 else 0.0
    x = (face.interior + face.directions @ (at + move)).clip(0)
    return x / x.sum()


def slacks(face: Face) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, "n d"]]:
    """What must stay >= 0 on the face, at its interior point and along its directions: x on S, -(A x) off S."""
    S, A = face.support, face.margins
    moves = np.r_[face.directions[S], -A[~S] @ face.directions]
    return np.r_[face.interior[S], -A[~S] @ face.interior], moves


def _least(face: Face, barriers: tuple[float, ...], *, entropy: bool) -> Float[np.ndarray, " n"]:
    """The point of the face with the least ``[sum x log x] - barrier * sum log room``, for falling barriers (Newton).

    With entropy the room of x itself needs no barrier: x log x keeps it above 0.
    """
    Z, k = face.directions, int(face.support.sum())
    start, moves = slacks(face)
    weight = np.r_[np.zeros(k) if entropy else np.ones(k), np.ones(len(start) - k)]

    def value(y: Float[np.ndarray, " d"], barrier: float) -> float:
        room = start + moves @ y
        if room.min() <= 0:
            return np.inf
        x = room[:k]
        return float((x * np.log(x)).sum() * entropy - barrier * (weight * np.log(room)).sum())

    y = np.zeros(face.directions.shape[1])
    for barrier in barriers if len(y) else ():
        for _ in range(50):
            room = start + moves @ y
            x = room[:k]
            slope = -barrier * weight / room
            bend = barrier * weight / room**2
            if entropy:
                slope[:k] += np.log(x) + 1
                bend[:k] += 1 / x
            gradient = moves.T @ slope
            move = np.linalg.lstsq(moves.T @ (bend[:, None] * moves), -gradient, rcond=None)[0]
            decrease, step, now = float(-gradient @ move), 1.0, value(y, barrier)
            while step > 1e-10 and value(y + step * move, barrier) > now - 0.1 * step * decrease + 1e-15:
                step /= 2
            if decrease < 1e-22 or step <= 1e-10:
                break
            y = y + step * move
    x = np.where(face.support, face.interior + Z @ y, 0.0).clip(0)
    return x / x.sum()
