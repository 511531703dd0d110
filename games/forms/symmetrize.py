"""Symmetrise a game of two players, and split the policy into theirs."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from nashward.errors import NashwardError

from ..shapes import Float
from .game import ConstantSumGame, PreferenceGame, Profile

BORDER = 3 / 8  # with payoffs scaled to [1/4, 1/2], about a third of the policy falls on each block


def symmetrised(game: ConstantSumGame) -> PreferenceGame:
    """The symmetric game on n + m + 1 actions whose equilibria are the pairs of equilibrium policies of ``game``.

    .. math::
        P - 1/2 = \\begin{pmatrix} 0 & V & -c 1 \\\\ -V^\\top & 0 & c 1 \\\\ c 1^\\top & -c 1^\\top & 0 \\end{pmatrix},
        \\quad V = \\text{the payoffs, shifted and scaled to } [1/4, 1/2]

    Its equilibria ``(p, q, l)`` have equal positive masses p and q, and p and q over their masses are equilibrium
    policies of the row and of the column player; ``split`` returns these.

    Args:
        game: [..., n, m] payoffs.

    Returns:
        A preference game [..., n + m + 1, n + m + 1].

    Raises:
        TypeError: another kind of game.

    Source: Gale, Kuhn & Tucker 1950, "On symmetric games".

    Example:
        >>> game = ConstantSumGame([[3.0, -1.0], [-1.0, 1.0]], total=0.0)
        >>> symmetrised(game).sizes
        (5,)
    """
    if not isinstance(game, ConstantSumGame):
        raise TypeError(f"expected a ConstantSumGame, which has two players, got {game!r}")
    U = game.payoff.to(torch.float64)
    n, m = game.sizes
    low, high = U.amin((-2, -1), keepdim=True), U.amax((-2, -1), keepdim=True)
    V = (1 + (U - low) / torch.where(high > low, high - low, 1.0)) / 4
    A = U.new_zeros(*game.batch_shape, n + m + 1, n + m + 1)
    A[..., :n, n:-1], A[..., :n, -1], A[..., n:-1, -1] = V, -BORDER, BORDER
    labels = (
        [f"row {name}" for name in game.row_labels] + [f"column {name}" for name in game.column_labels] + ["border"]
    )
    return PreferenceGame(0.5 + A - A.mT, labels)


def margins(U: Float[np.ndarray, "n m"]) -> Float[np.ndarray, "_ _"]:
    """``P - 1/2`` of ``symmetrised``, for the payoffs of a single game, without building a game.

    Args:
        U: the row player's payoffs.

    Returns:
        [n + m + 1, n + m + 1], skew.

    Example:
        >>> game = ConstantSumGame([[3.0, -1.0], [-1.0, 1.0]], total=0.0)
        >>> bool((margins(game.payoff.numpy()) == symmetrised(game).P.numpy() - 0.5).all())
        True
    """
    n, m = U.shape
    low, high = U.min(), U.max()
    A = np.zeros((n + m + 1, n + m + 1))
    A[:n, n:-1] = (1 + (U - low) / (high - low if high > low else 1.0)) / 4
    A[:n, -1], A[n:-1, -1] = -BORDER, BORDER
    return A - A.T


def split(game: ConstantSumGame, policy: Float[Tensor, "... _"]) -> Profile:
    """The policies of the two players from one policy [..., n + m + 1] of ``symmetrised(game)``.

    Args:
        game: the game of two players.
        policy: [..., n + m + 1] probabilities of the rows, the columns and the border, in this order.

    Returns:
        [..., n] and [..., m], each summing to 1.

    Raises:
        ValueError: the policy has another size, or gives a player no mass (no equilibrium does).

    Source: Gale, Kuhn & Tucker 1950.

    Example:
        >>> game = ConstantSumGame([[3.0, -1.0], [-1.0, 1.0]], total=0.0)
        >>> split(game, torch.tensor([0.1, 0.2, 0.1, 0.2, 0.4], dtype=torch.float64)).row
        tensor([0.3333, 0.6667], dtype=torch.float64)
    """
    n, m = game.sizes
    if policy.shape[-1] != n + m + 1:
        raise NashwardError(f"expected a policy of shape [..., {n + m + 1}], got {[*policy.shape]}")
    row, column = policy[..., :n], policy[..., n:-1]
    if (row.sum(-1) <= 0).any() or (column.sum(-1) <= 0).any():
        raise NashwardError(
            "the policy gives one of the players no mass, so it is no equilibrium of the symmetric game"
        )
    return Profile(row / row.sum(-1, keepdim=True), column / column.sum(-1, keepdim=True))


def join(game: ConstantSumGame, row: Float[Tensor, " n"], column: Float[Tensor, " m"]) -> Float[Tensor, " _"]:
    """The equilibrium of ``symmetrised(game)`` whose ``split`` is this pair; for a single game.

    Args:
        game: the game of two players.
        row, column: their equilibrium policies.

    Returns:
        [n + m + 1] probabilities.

    Example:
        >>> game = ConstantSumGame([[3.0, -1.0], [-1.0, 1.0]], total=0.0)
        >>> third = torch.tensor([1 / 3, 2 / 3], dtype=torch.float64)
        >>> split(game, join(game, third, third)).row
        tensor([0.3333, 0.6667], dtype=torch.float64)
    """
    U = game.payoff.to(torch.float64)
    low, high = U.amin(), U.amax()
    value = (1 + (row @ U @ column - low) / (high - low if high > low else 1.0)) / 4
    mass = 1 / (2 + value / BORDER)
    return torch.cat([mass * row, mass * column, (1 - 2 * mass)[None]])
