"""All equilibria of a symmetric game at once, and points chosen among them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linprog

from .interior_point import central_path
from .linear_program import extent
from .polish import cleaned, gap, polished
from .selection import GAP, solved

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Face:
    """The set of all equilibria of one symmetric game, a polytope.

    .. math::  \\{x \\ge 0 : \\; x_i = 0 \\ (i \\notin S), \\quad (A x)_i = 0 \\ (i \\in S), \\quad 1^\\top x = 1\\}

    where S holds the actions that some equilibrium plays: each of them pays exactly the value against every
    equilibrium, and every other action pays less against some.

    Attributes:
        support: [n] bool, S.
        dimension: 0 where the equilibrium is unique.
        interior: [n], an equilibrium that plays all of S.
        directions: [n, dimension], an orthonormal basis of the directions in which the face extends.

    Source: Gale, Kuhn & Tucker 1950; Goldman & Tucker 1956 (strict complementarity).
    """

    support: Flags
    interior: Array
    directions: Array = field(repr=False)

    @property
    def dimension(self) -> int:
        return self.directions.shape[1]


def face(A: Array) -> Face:
    """The face of a skew game, from a strictly complementary equilibrium found by an interior point.

    Raises:
        ArithmeticError: neither the interior point nor linear programs could tell which actions are played.
    """
    n = len(A)
    largest = np.abs(A).max()
    A = A / (2 * largest) if largest > 0 else A
    for x, s in central_path(torch.from_numpy(A)[None]):
        if float((x * s).sum()) < 1e-15:
            break
    y, support = x[0].numpy(), (x > s)[0].numpy()
    interior = polished(A, y, support)
    S = np.flatnonzero(support)
    values, vectors = np.linalg.svd(np.r_[A[np.ix_(S, S)], np.ones((1, len(S)))])[1:]
    rank = int((values > 1e-11 * values[0]).sum())
    directions = np.zeros((n, len(S) - rank))
    directions[S] = vectors[rank:].T
    if gap(A, interior) <= GAP and (interior[S] > 0).all():
        return Face(support, interior, directions)
    x_vertex, _ = solved(A)
    if gap(A, x_vertex) > GAP or extent(A, x_vertex) > 1e-6:
        raise ArithmeticError(f"the equilibria of this {n} x {n} game are too badly conditioned to be told apart")
    return Face(x_vertex > 0, x_vertex, np.zeros((n, 0)))


def vertex(face: Face) -> Array:
    """A corner of the face: the extreme point in a fixed generic direction, with as few actions as its ties allow."""
    if not face.dimension:
        return face.interior
    n, Z = len(face.interior), face.directions
    generic = np.modf(np.sqrt(np.arange(2.0, 2.0 + n)) * np.pi)[0] - 0.5
    result = linprog(generic @ Z, A_ub=-Z, b_ub=face.interior, bounds=(None, None), method="highs-ds")
    if result.x is None:
        raise ArithmeticError(f"HiGHS found no vertex of the equilibria: {result.message}")
    x = face.interior + Z @ result.x
    return cleaned(np.where(x > 1e-11, x, 0.0))


def centre(face: Face) -> Array:
    """The analytic centre of the face: the equilibrium with the largest product of the played probabilities."""
    return _least(face, lambda x: -np.log(x).sum(), lambda x: -1 / x, lambda x: x**-2)


def maximum_entropy(face: Face) -> Array:
    """The equilibrium with the largest entropy: alike actions are played alike."""
    return _least(face, lambda x: (x * np.log(x)).sum(), lambda x: np.log(x) + 1, lambda x: 1 / x)


def _least(
    face: Face, value: Callable[[Array], float], slope: Callable[[Array], Array], bend: Callable[[Array], Array]
) -> Array:
    """The point of the face at which a separable convex function of the played probabilities is least (Newton)."""
    S = face.support
    x, Z = face.interior[S], face.directions[S]
    for _ in range(100 if face.dimension else 0):
        gradient = Z.T @ slope(x)
        move = Z @ np.linalg.solve(Z.T @ (bend(x)[:, None] * Z), -gradient)
        decrease = float(-slope(x) @ move)
        if decrease < 1e-24:
            break
        shrinking = move < 0
        step = min(1.0, 0.95 * float(np.min(-x[shrinking] / move[shrinking], initial=np.inf)))
        while step > 1e-12 and value(x + step * move) > value(x) - 0.1 * step * decrease + 1e-15 * abs(value(x)):
            step /= 2
        x = x + step * move
    full = np.zeros(len(S))
    full[S] = x
    return full / full.sum()
