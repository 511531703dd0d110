"""Fictitious play in O(n) per iteration: payoffs are summed, never multiplied out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from nashward.errors import NashwardError

from ..forms.contextual import ContextualGame
from ..forms.game import ConstantSumGame, PreferenceGame, check_table
from ..forms.skew import skew
from ..measures import without_rounding_below_0
from ..solution import Solution, Status, record_points
from ..solvers.tables_only.rounding import ROUNDING
from .accelerator import compiled

Array = NDArray[np.float64]
Indices = NDArray[np.int64]


def fictitious_play(
    game: PreferenceGame | ConstantSumGame | ContextualGame,
    iterations: int = 10_000,
    start: int = 0,
    *,
    record: Sequence[int] | None = None,
) -> Solution:
    """Repeated best responses to the average of what was played; ties, but for rounding, go to the first action.

    .. math::  j_{t+1} = \\arg\\max_y (A c_t)_y, \\quad c_{t+1} = c_t + e_j, \\quad A c_{t+1} = A c_t - A_{j \\cdot}

    A is skew, so the new payoffs cost one row of the table. The gaps of the average are those of ``A c_t / t``; the
    average itself tends to an equilibrium, no faster than 1 / sqrt(t) in practice.

    Args:
        game: a game with a table, or a batch of them.
        iterations: how many best responses are played after ``start``.
        start: the first action; in an ``n x m`` game the first action of both players.
        record: the counts at which to record gaps (see ``solve``).

    Returns:
        A Solution whose ``last`` is the last best response (a pure policy).

    Raises:
        ValueError: iterations < 1, a record that is not a whole number, or a start that is not an action.

    Source: Brown 1951; Robinson 1951.

    Example:
        >>> from nashward import games
        >>> games.fictitious_play(games.zoo.rock_paper_scissors(), 10_000).average
        tensor([0.3400, 0.3268, 0.3333], dtype=torch.float64)
    """
    check_table(game)
    if iterations < 1:
        raise NashwardError(f"iterations must be at least 1, got {iterations}")
    if not 0 <= start < min(game.sizes):
        raise NashwardError(f"start must be an action from 0 to {min(game.sizes) - 1}, got {start}")
    A, _ = skew(game)
    n, batch = A.shape[-1], tuple(game.batch_shape)
    tables = A.reshape(-1, n, n).cpu().contiguous().numpy()
    largest = (A.abs().amax((-2, -1)) + abs(game.total)).cpu()
    points = np.array(record_points(record, iterations), dtype=np.int64)
    edges = np.cumsum([0, *game.sizes])
    counts, gaps = np.zeros((len(tables), n)), np.empty((2, len(points), len(tables)))
    latest = np.zeros((len(tables), n))
    for k in range(len(tables)):
        play(tables[k], edges, start, points, counts[k], latest[k], gaps[:, :, k])

    def profile(values: Array) -> Any:
        players = torch.from_numpy(values.reshape(*batch, n)).to(game.device).split(list(game.sizes), -1)
        return game.profile(tuple(p / p.sum(-1, keepdim=True) for p in players))

    return Solution(
        last=profile(latest),
        average=profile(counts),
        gaps={
            name: without_rounding_below_0(torch.from_numpy(gaps[side].reshape(-1, *batch)), largest)
            for side, name in enumerate(("last", "average"))
        },
        iterations=torch.from_numpy(points),
        status=Status.DONE,
    )


@compiled
def play(A: Array, edges: Indices, start: int, points: Indices, counts: Array, latest: Array, gaps: Array) -> None:
    """Fills the play counts [n], the last play [n] and the gaps [2, records] of one game; runs without numba too."""
    players = len(edges) - 1
    factor = 2.0 / players
    moves = edges[:-1] + start
    payoff = np.zeros(len(A))
    for player in range(players):
        payoff -= A[moves[player]]
        counts[moves[player]] += 1.0
    point = 0
    largest = np.max(np.abs(A))
    for t in range(1, points[-1] + 1):
        for player in range(players):
            best = edges[player] + np.argmax(payoff[edges[player] : edges[player + 1]])
            for earlier in range(edges[player], best):
                short = payoff[best] - payoff[earlier]
                if short <= 2 * ROUNDING * largest * t and short <= ROUNDING * (
                    size_of(A, earlier, counts) + size_of(A, best, counts)
                ):
                    best = earlier
                    break
            moves[player] = best
        for player in range(players):
            payoff -= A[moves[player]]
            counts[moves[player]] += 1.0
        if t == points[point]:
            pure = np.zeros(len(A))
            for player in range(players):
                pure -= A[moves[player]]
            gaps[:, point] = 0.0
            for player in range(players):
                low, high = edges[player], edges[player + 1]
                gaps[0, point] += factor * np.max(pure[low:high])
                gaps[1, point] += factor * np.max(payoff[low:high]) / (t + 1)
            point += 1
    for player in range(players):
        latest[moves[player]] = 1.0


@compiled
def size_of(A: Array, action: int, counts: Array) -> float:
    """The sum of the absolute payoffs of an action, of which the rounding of their sum is a share."""
    total = 0.0
    for j in range(len(A)):
        total += counts[j] * abs(A[action, j])
    return total
