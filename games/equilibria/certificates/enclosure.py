"""Proofs that an equilibrium is the only one, with bounds on all rounding."""

from __future__ import annotations

import numpy as np

from ...shapes import Bool, Float

UNIT = 2.0**-53  # the relative rounding of one operation
LARGEST = 2.0**50  # an inverse with larger entries proves nothing
CHUNK = 2**24  # how many numbers of a batch are held at once


def proved_unique(
    U: Float[np.ndarray, "games n m"],
    rows: Bool[np.ndarray, "games n"],
    columns: Bool[np.ndarray, "games m"],
    error: Float[np.ndarray, " games"],
    *,
    skew: bool = False,
) -> Bool[np.ndarray, " games"]:
    """Whether it is proved, for each zero-sum game, that a pair with these supports is its only equilibrium.

    .. math::
        M = \\begin{pmatrix} U_{IJ} & -1 \\\\ 1^\\top & 0 \\end{pmatrix}, \\qquad
        M \\begin{pmatrix} q \\\\ v \\end{pmatrix} = \\begin{pmatrix} 0 \\\\ 1 \\end{pmatrix}

    A pair (p, q) with supports I and J of one size is the only equilibrium if M is regular, p and q are positive, and
    each action outside loses: v - (U q)_i > 0, (U' p)_j - v > 0. An approximate inverse R shows M regular where
    ``|1 - R M| < 1``, and then encloses q and v around what double precision found. All bounds hold for every table
    within ``error`` of U: a game is called unique only if none that rounds to it has several equilibria.

    Args:
        U: [games, n, m], what the row player wins.
        rows, columns: the supports.
        error: [games], how far an entry may be from U.
        skew: U is skew and both supports are equal; then v is 0.

    Returns:
        bool [games]; False: not proved.

    Source: Krawczyk 1969, Rump 1983 (enclosures); Higham 2002, section 3.1 (rounding of sums); Bohnenblust, Karlin &
        Shapley 1950 (the conditions).
    """
    proved = np.zeros(len(U), dtype=bool)
    sizes = rows.sum(-1)
    possible = (sizes == columns.sum(-1)) & (sizes > 0)
    most = max(1, CHUNK // (U.shape[1] * U.shape[2]))
    for k in sorted(set(sizes[possible].tolist())):  # games with supports of one size together
        members = np.flatnonzero(possible & (sizes == k))
        for begin in range(0, len(members), most):
            part = members[begin : begin + most]
            proved[part] = _of_one_size(U[part], rows[part], columns[part], error[part], k, skew)
    return proved


def _of_one_size(
    U: Float[np.ndarray, "games n m"],
    rows: Bool[np.ndarray, "games n"],
    columns: Bool[np.ndarray, "games m"],
    error: Float[np.ndarray, " games"],
    k: int,
    skew: bool,
) -> Bool[np.ndarray, " games"]:
    games = len(U)
    # scaled by a power of two, which is exact, so that the border of ones is of the size of the table
    largest = np.abs(U).max((-2, -1))
    power = np.where(error < largest, -np.frexp(largest)[1], 0)  # a table that is all rounding proves nothing
    U, error = np.ldexp(U, power[:, None, None]), np.ldexp(error, power)[:, None]
    # the supports I and J first, in their order
    at_rows = np.argsort(~rows, axis=-1, kind="stable")
    at_columns = at_rows if skew else np.argsort(~columns, axis=-1, kind="stable")
    U = np.take_along_axis(np.take_along_axis(U, at_rows[..., None], 1), at_columns[:, None], 2)
    M = np.zeros((games, k + 1, k + 1))
    M[:, :k, :k], M[:, :k, k], M[:, k, :k] = U[:, :k, :k], -1.0, 1.0
    R = _inverses(M)
    regular, weights, value, weights_off, value_off = _enclosed(M, R, error)
    held = regular & (weights > weights_off).all(-1)
    value, value_off = (np.zeros_like(value), np.zeros_like(value)) if skew else (value, value_off)
    held &= _below(U[:, k:, :k], weights, weights_off, error, value, value_off).all(-1)
    if not skew:  # the column player's equations are those of the transposed table; D M' D has the inverse D R' D
        D = np.ones(k + 1)
        D[k] = -1.0
        M, R = D[:, None] * M.swapaxes(-1, -2) * D, D[:, None] * R.swapaxes(-1, -2) * D
        regular, weights, value, weights_off, value_off = _enclosed(M, R, error)
        held &= regular & (weights > weights_off).all(-1)
        held &= _below(-U[:, :k, k:].swapaxes(-1, -2), weights, weights_off, error, -value, value_off).all(-1)
    return held


def _inverses(M: Float[np.ndarray, "games k k"]) -> Float[np.ndarray, "games k k"]:
    """Approximate inverses; 0, which proves nothing, for a matrix that is singular or nearly so."""
    try:
        with np.errstate(all="ignore"):
            R = np.linalg.inv(M)
    except np.linalg.LinAlgError:
        if len(M) == 1:
            return np.zeros_like(M)
        R = np.concatenate([_inverses(one[None]) for one in M])
    return np.where((np.abs(R) < LARGEST).all((-2, -1), keepdims=True), R, 0.0)  # False for NaN too


def _enclosed(
    M: Float[np.ndarray, "games k k"], R: Float[np.ndarray, "games k k"], error: Float[np.ndarray, "games 1"]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Whether M is proved regular; the solution of ``M (w, v) = (0, 1)``; and, if so, bounds on its error."""
    k = M.shape[-1] - 1
    gamma = 2 * (k + 4) * UNIT  # above Higham's (k + 1) u / (1 - (k + 1) u) plus the rounding of this line
    identity = np.eye(k + 1)
    aR, aM = np.abs(R), np.abs(M)
    defect = np.abs(identity - R @ M) + gamma * (aR @ aM + identity) + error[..., None] * aR.sum(-1, keepdims=True)
    beta = defect.sum(-1).max(-1, keepdims=True) * (1 + gamma)
    b = np.zeros(k + 1)
    b[k] = 1.0
    z = R[..., k]
    for _ in range(2):
        z = z + _times(R, b - _times(M, z))
    residual = np.abs(b - _times(M, z)) + gamma * (_times(aM, np.abs(z)) + b)
    residual = residual + error * np.abs(z).sum(-1, keepdims=True)
    first = _times(aR, residual) * (1 + gamma)
    regular = beta < 0.5
    rest = beta / np.where(regular, 1 - beta, 1.0) * first.max(-1, keepdims=True)
    off = (first + rest) * (1 + gamma)
    return regular[:, 0], z[:, :k], z[:, k:], off[:, :k], off[:, k:]


def _below(
    U: Float[np.ndarray, "games r k"],
    weights: Float[np.ndarray, "games k"],
    weights_off: Float[np.ndarray, "games k"],
    error: Float[np.ndarray, "games 1"],
    value: Float[np.ndarray, "games 1"],
    value_off: Float[np.ndarray, "games 1"],
) -> Bool[np.ndarray, "games r"]:
    """Whether ``U w < v`` in each row of U for all w and v within the bounds."""
    gamma = 2 * (weights.shape[-1] + 4) * UNIT
    size = np.abs(weights)
    payoff = _times(U, weights) - value
    off = _times(np.abs(U), weights_off + gamma * size) + error * (size + weights_off).sum(-1, keepdims=True)
    off = off + value_off + gamma * (np.abs(value) + (size.sum(-1, keepdims=True) if value_off.any() else 0.0))
    return np.asarray(payoff + off * (1 + gamma) < 0)


def _times(A: Float[np.ndarray, "games r k"], x: Float[np.ndarray, "games k"]) -> Float[np.ndarray, "games r"]:
    return (A @ x[..., None])[..., 0]
