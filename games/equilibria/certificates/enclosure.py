"""That an equilibrium is the only one, proved with bounds on all rounding."""

from __future__ import annotations

import torch
from torch import Tensor

from ...shapes import Bool, Float

UNIT = 2.0**-53  # the relative rounding of one operation
CHUNK = 2**24  # numbers of a batch that are held at once


def proved_unique(
    U: Float[Tensor, "games n m"],
    rows: Bool[Tensor, "games n"],
    columns: Bool[Tensor, "games m"],
    error: Float[Tensor, " games"],
    *,
    skew: bool = False,
) -> Bool[Tensor, " games"]:
    """For each zero-sum game whether a pair of policies with these supports is its only equilibrium, proved.

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
        skew: U is skew and both supports are one; then v is 0.

    Returns:
        bool [games]; False says that it is not proved.

    Source: Krawczyk 1969, Rump 1983 (enclosures); Higham 2002, section 3.1 (rounding of sums); Bohnenblust, Karlin &
        Shapley 1950 (the conditions).
    """
    proved = torch.zeros(len(U), dtype=torch.bool, device=U.device)
    sizes = rows.sum(-1)
    possible = (sizes == columns.sum(-1)) & (sizes > 0)
    for k in sizes[possible].unique().tolist():  # games of one size of support together
        members = (possible & (sizes == k)).nonzero()[:, 0]
        for part in members.split(max(1, CHUNK // (U.shape[1] * U.shape[2]))):
            proved[part] = _of_one_size(U[part], rows[part], columns[part], error[part], k, skew)
    return proved


def _of_one_size(U: Tensor, rows: Tensor, columns: Tensor, error: Tensor, k: int, skew: bool) -> Tensor:
    games = len(U)
    # scaled by a power of two, which is exact, so that the border of ones is of the size of the table
    scale = torch.exp2(-torch.frexp(U.abs().amax((-2, -1)) + 1e-300)[1].to(U.dtype))
    U, error = U * scale[:, None, None], (error * scale)[:, None]
    # I and J first, each in its order
    at_rows = rows.to(torch.int8).argsort(dim=-1, descending=True, stable=True)
    U = U.gather(1, at_rows[..., None].expand_as(U))
    if skew:
        U = U.gather(2, at_rows[:, None].expand_as(U))
    else:
        at_columns = columns.to(torch.int8).argsort(dim=-1, descending=True, stable=True)
        U = U.gather(2, at_columns[:, None].expand_as(U))
    M = U.new_zeros(games, k + 1, k + 1)
    M[:, :k, :k], M[:, :k, k], M[:, k, :k] = U[:, :k, :k], -1.0, 1.0
    R, singular = torch.linalg.inv_ex(M)
    regular = (singular == 0) & R.isfinite().all(-1).all(-1)
    R = torch.where(regular[:, None, None], R, torch.zeros_like(R))
    weights, value, weights_off, value_off = _enclosed(M, R, error)
    held = regular & (weights > weights_off).all(-1)
    lost = _below(U[:, k:, :k], weights, weights_off, error, *((None, None) if skew else (value, value_off)))
    held &= lost.all(-1)
    if not skew:  # the column player's equations are those of the transposed table; D M' D has the inverse D R' D
        D = torch.ones(k + 1, dtype=U.dtype, device=U.device)
        D[k] = -1.0
        M, R = D[:, None] * M.mT * D, D[:, None] * R.mT * D
        weights, value, weights_off, value_off = _enclosed(M, R, error)
        held &= (weights > weights_off).all(-1)
        held &= _below(-U[:, :k, k:].mT, weights, weights_off, error, -value, value_off).all(-1)
    return held


def _enclosed(M: Tensor, R: Tensor, error: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The solution of ``M (w, v) = (0, 1)`` with bounds on how far it is off; infinite where M is not shown regular."""
    k = M.shape[-1] - 1
    gamma = 2 * (k + 4) * UNIT  # above Higham's (k + 1) u / (1 - (k + 1) u), and what this line itself rounds
    identity = torch.eye(k + 1, dtype=M.dtype, device=M.device)
    aR, aM = R.abs(), M.abs()
    defect = (identity - R @ M).abs() + gamma * (aR @ aM + identity) + error[..., None] * aR.sum(-1, keepdim=True)
    beta = defect.sum(-1).amax(-1, keepdim=True) * (1 + gamma)
    b = torch.zeros_like(M[..., 0])
    b[:, k] = 1.0
    z = R[..., k]
    for _ in range(2):
        z = z + (R @ (b - (M @ z[..., None])[..., 0])[..., None])[..., 0]
    residual = (b - (M @ z[..., None])[..., 0]).abs() + gamma * ((aM @ z.abs()[..., None])[..., 0] + b)
    residual = residual + error * z.abs().sum(-1, keepdim=True)
    first = (aR @ residual[..., None])[..., 0] * (1 + gamma)
    rest = beta / (1 - beta).clamp_min(1e-300) * first.amax(-1, keepdim=True)
    off = torch.where(beta < 0.5, (first + rest) * (1 + gamma), torch.inf)
    return z[:, :k], z[:, k:], off[:, :k], off[:, k:]


def _below(
    U: Tensor, weights: Tensor, weights_off: Tensor, error: Tensor, value: Tensor | None, value_off: Tensor | None
) -> Tensor:
    """Whether ``U w < v`` for each row of U and whatever w and v are enclosed; v None is exactly 0."""
    gamma = 2 * (weights.shape[-1] + 4) * UNIT
    aU, size = U.abs(), weights.abs()
    payoff = (U @ weights[..., None])[..., 0]
    off = (aU @ (weights_off + gamma * size)[..., None])[..., 0] + error * (size + weights_off).sum(-1, keepdim=True)
    if value is not None and value_off is not None:
        payoff, off = payoff - value, off + value_off + gamma * (value.abs() + size.sum(-1, keepdim=True))
    return payoff + off * (1 + gamma) < 0
