"""Solvers as compiled recurrences: the Steps are laid down first, then run for all games and all starts at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .accelerator import ACCELERATED, compiled
from .contextual import ContextualGame
from .game import ConstantSumGame, Players, PreferenceGame
from .recurrence import NOTHING, REFERENCE, START, Recurrence, trace
from .regularised import skew
from .solve import Solution, Status, recorded, uniform
from .step import Solver
from .thresholds import warn_of_step

Array = NDArray[np.float64]
Indices = NDArray[np.int64]
_BLAS = 48  # from so many actions on the library's product beats a loop


def solve_traced(
    game: PreferenceGame | ConstantSumGame | ContextualGame,
    solver: Solver,
    iterations: int = 1000,
    start: Any = None,
    reference: Any = None,
    *,
    tolerance: float | None = None,
    averaging: Callable[[int], float] = uniform,
    record: Sequence[int] | None = None,
    keep_policies: bool = False,
) -> Solution:
    """What ``solve`` gives, to 1e-12, by a compiled loop that knows the solver's Steps beforehand.

    Args:
        game: a game with a table on the CPU, or a batch of them.
        solver: a mirror-step solver whose Steps do not depend on what the policies hold. One that promises its
            ``period`` costs no Python at all in an iteration.
        start: [..., n], or [starts, ..., n] for many trajectories at once, in one product an iteration; a pair of them
            for an ``n x m`` game.
        reference: as one start (the start when None).
        tolerance, averaging, record, keep_policies: as in ``solve``.

    Raises:
        ValueError: no numba, or a solver that cannot be traced (``recurrence.Untraceable``).

    Example:
        >>> from nashward import games
        >>> starts = np.random.default_rng(0).dirichlet(np.ones(3), size=64)
        >>> if games.ACCELERATED:
        ...     solution = games.solve_traced(games.zoo.comal_cycle(), games.OptimisticMWU(), 5000, start=starts)
        ...     assert solution.last.shape == (64, 3) and solution.gaps["last"][-1].max() < 1e-9
    """
    if not ACCELERATED:
        raise ValueError('traced runs need numba: pip install "nashward[accelerator]", or use solve')
    if iterations < 1:
        raise ValueError(f"iterations must be at least 1, got {iterations}")
    recurrence = trace(solver, iterations)
    warn_of_step(game, solver)
    first = _logs(game, start)
    pull = first if reference is None else _logs(game, reference)
    points = np.array(sorted({*(record if record is not None else recorded(iterations)), iterations}), dtype=np.int64)
    points = points[points <= iterations]
    result = _run(game, recurrence, first, pull, points, averaging, keep_policies)
    status = Status.DONE
    best = np.minimum(result[2], result[3]).reshape(len(points), -1)
    small = np.flatnonzero((best <= tolerance).all(-1)) if tolerance is not None else np.zeros(0, dtype=np.int64)
    broken = np.flatnonzero(~np.isfinite(best).all(-1))
    if tolerance is not None:
        status = Status.CONVERGED if len(small) else Status.NOT_CONVERGED
    stop = min((int(found[0]) for found in (small, broken) if len(found)), default=len(points) - 1)
    if len(broken) and broken[0] == stop:
        status = Status.NOT_FINITE
    if stop < len(points) - 1:  # once more, up to there
        points = points[: stop + 1]
        result = _run(game, recurrence, first, pull, points, averaging, keep_policies)
    last, average, last_gaps, average_gaps, kept = result
    kept_points = len(points) - (status is Status.NOT_FINITE)
    return Solution(
        last=_profile(game, last),
        average=_profile(game, average),
        gaps={
            "last": torch.from_numpy(last_gaps[:kept_points]),
            "average": torch.from_numpy(average_gaps[:kept_points]),
        },
        iterations=torch.from_numpy(points[:kept_points]),
        status=status,
        policies={name: _profile(game, values[:kept_points]) for name, values in kept.items()},
    )


_Result = tuple[Array, Array, Array, Array, dict[str, Array]]


def _run(
    game: PreferenceGame | ConstantSumGame | ContextualGame,
    recurrence: Recurrence,
    first: Array,
    pull: Array,
    points: Indices,
    averaging: Callable[[int], float],
    keep: bool,
) -> _Result:
    """Last, average and their gaps: [starts..., games..., n] and [records, starts..., games...]."""
    A, _ = skew(game)
    n, batch = A.shape[-1], tuple(game.batch_shape)
    starts = np.broadcast_shapes(first.shape, pull.shape, (*batch, n))[: first.ndim - 1 - len(batch)]
    shape = (*starts, *batch, n)
    games, many = int(np.prod(batch)), int(np.prod(starts))

    def flat(values: Array) -> Array:  # [starts..., games..., n] as [games, starts, n]
        return np.ascontiguousarray(np.broadcast_to(values, shape).reshape(many, games, n).swapaxes(0, 1))

    def back(values: Array, *tail: int) -> Array:  # [games, starts, ...] as [starts..., games..., ...]
        return values.swapaxes(0, 1).reshape((*starts, *batch, *tail))

    steps = _steps(recurrence, int(points[-1]))
    weights = np.ones(steps) if averaging is uniform else np.array([averaging(t) for t in range(1, steps + 1)])
    edges = np.tile(np.cumsum([0, *game.sizes]), (games, 1))
    if isinstance(game, ContextualGame) and n < _BLAS:  # without the padding
        edges[:, 1] = game.responses.numpy()
    records = len(points)
    last, average = np.zeros((games, many, n)), np.zeros((games, many, n))
    gaps = np.empty((2, records, games, many))
    kept = np.empty((2, records, games, many, n) if keep else (2, 0, games, many, n))
    tables = A.reshape(games, n, n).contiguous().numpy()
    r = recurrence
    run(tables, edges, flat(first), flat(pull), *r.anchor, *r.opponent, *r.counts, r.size, r.last, r.lead, r.depth + 1,
        steps, weights, points, r.summed, n < _BLAS, last, average, gaps, kept)  # fmt: skip
    history = {
        name: np.stack([back(values, n) for values in kept[side]])
        for side, name in enumerate(("last", "average"))
        if keep
    }
    sides = [np.stack([back(values) for values in side]) for side in gaps]
    return back(last, n), back(average, n), sides[0], sides[1], history


def _steps(recurrence: Recurrence, iterations: int) -> int:
    """How many Steps make so many iterations."""
    before = np.flatnonzero(np.cumsum(recurrence.last) >= iterations)
    if len(before):
        return int(before[0]) + 1
    each = recurrence.last[recurrence.lead :]
    rounds, rest = divmod(iterations - int(recurrence.last[: recurrence.lead].sum()), int(each.sum()))
    if not rest:
        rounds, rest = rounds - 1, int(each.sum())
    return recurrence.lead + rounds * len(each) + int(np.flatnonzero(np.cumsum(each) >= rest)[0]) + 1


def _logs(game: PreferenceGame | ConstantSumGame | ContextualGame, probabilities: Any) -> Array:
    if probabilities is None:
        if isinstance(game, ContextualGame):
            probabilities = game.uniform()
        else:
            uniform_ = tuple(torch.full((n,), 1 / n, dtype=torch.float64) for n in game.sizes)
            probabilities = uniform_[0] if len(uniform_) == 1 else uniform_
    players = game.players(probabilities)
    lead = torch.broadcast_shapes(tuple(game.batch_shape), *(p.shape[:-1] for p in players))
    with np.errstate(divide="ignore"):
        return np.log(torch.cat([p.expand(*lead, p.shape[-1]) for p in players], -1).to(torch.float64).numpy())


def _profile(game: PreferenceGame | ConstantSumGame | ContextualGame, values: Array) -> Any:
    players: Players = torch.from_numpy(values).split(list(game.sizes), -1)
    return game.profile(tuple(p.contiguous() for p in players))


@compiled
def run(
    A: Array, edges: Indices, first: Array, pull: Array,
    anchor: Indices, anchor_weight: Array, opponent: Indices, opponent_weight: Array,
    counts: Indices, count_weight: Array,
    size: Array, is_last: NDArray[np.bool_], lead: int, depth: int, steps: int, weights: Array, points: Indices,
    summed: bool, loop: bool, last: Array, average: Array, gaps: Array, kept: Array,
) -> None:  # fmt: skip
    """All Steps for every game; logs and probabilities of the newest ``depth`` policies lie in a ring.

    ``edges`` [games, players + 1]: where each player's actions begin; what lies behind them is padding.
    ``summed``: what is counted is always the opponent, so that the average's payoff is the average of the payoffs.
    """
    games, many, width = first.shape
    logs, probabilities = np.zeros((depth + 2, many, width)), np.zeros((depth + 2, many, width))
    blend, gain, total = np.zeros((many, width)), np.zeros((many, width)), np.zeros((many, width))
    total_gain, average_gain = np.zeros((many, width)), np.zeros((many, width))
    for game in range(games):
        table, edge = A[game], edges[game]
        n = edge[-1]
        logs[depth], logs[depth + 1] = first[game], pull[game]
        probabilities[depth], probabilities[depth + 1] = np.exp(first[game]), np.exp(pull[game])
        total[:], total_gain[:] = 0.0, 0.0
        weight, played, done, point, newest, line = 0.0, 0, 0, 0, -1, -1
        fresh = False  # whether gain is that of the newest policy
        for _ in range(steps):
            line = line + 1 if line + 1 < len(size) else lead
            slot = newest + 1 if newest + 1 < depth else 0
            if size[line] != 0.0:
                one = opponent_weight[line, 0] == 1.0
                if not (fresh and one and opponent[line, 0] == 0):
                    if one:  # weights sum to 1, so there is no other member
                        multiply(table, probabilities[place(opponent[line, 0], newest, depth)], gain, n, loop)
                    else:
                        mix(probabilities, opponent[line], opponent_weight[line], newest, depth, blend, n)
                        multiply(table, blend, gain, n, loop)
            step_to(logs, probabilities, anchor[line], anchor_weight[line], newest, depth, size[line], gain, edge, slot)
            if counts[line, 0] != NOTHING:
                w = weights[played]
                played += 1
                weight += w
                for k in range(counts.shape[1]):
                    if counts[line, k] == NOTHING:
                        break
                    source, share = probabilities[place(counts[line, k], newest, depth)], w * count_weight[line, k]
                    for r in range(many):
                        for i in range(n):
                            total[r, i] += share * source[r, i]
                if summed:
                    for r in range(many):
                        for i in range(n):
                            total_gain[r, i] += w * gain[r, i]
            newest, fresh = slot, False
            done += is_last[line]
            if is_last[line] and done == points[point]:
                if not fresh:
                    multiply(table, probabilities[newest], gain, n, loop)
                    fresh = True
                last[game, :, :n] = probabilities[newest, :, :n]
                if weight == 0.0:
                    average[game, :, :n], average_gain[:] = last[game, :, :n], gain
                else:
                    average[game, :, :n] = total[:, :n] / weight
                    if summed:
                        average_gain[:] = total_gain / weight
                    else:
                        multiply(table, average[game], average_gain, n, loop)
                for r in range(many):
                    gaps[0, point, game, r] = gap(gain[r], edge)
                    gaps[1, point, game, r] = gap(average_gain[r], edge)
                if kept.shape[1]:
                    kept[0, point, game], kept[1, point, game] = last[game], average[game]
                point += 1


@compiled
def place(age: int, newest: int, depth: int) -> int:
    if age == START:
        return depth
    if age == REFERENCE:
        return depth + 1
    slot = newest - age
    return slot if slot >= 0 else slot + depth


@compiled
def mix(values: Array, ages: Indices, weights: Array, newest: int, depth: int, out: Array, n: int) -> None:
    """The linear blend of some policies."""
    for k in range(len(ages)):
        if ages[k] == NOTHING:
            break
        w, source = weights[k], values[place(ages[k], newest, depth)]
        for r in range(len(out)):
            for i in range(n):
                out[r, i] = w * source[r, i] + (out[r, i] if k > 0 else 0.0)


@compiled
def multiply(table: Array, x: Array, out: Array, n: int, loop: bool) -> None:
    """``out[r] = A x[r]``."""
    many = len(x)
    if loop:
        for r in range(many):
            for i in range(n):
                total = 0.0
                for j in range(n):
                    total += table[i, j] * x[r, j]
                out[r, i] = total
    elif many == 1:
        np.dot(table, x[0], out[0])
    else:
        np.dot(x, table, out)  # A is skew
        for r in range(many):
            for i in range(n):
                out[r, i] = -out[r, i]


@compiled
def step_to(
    logs: Array, probabilities: Array, ages: Indices, weights: Array, newest: int, depth: int, size: float, gain: Array,
    edge: Indices, slot: int,
) -> None:  # fmt: skip
    """``softmax(sum_k w_k logs_k + size gain)`` of each player into ``slot``; what a member excludes stays excluded."""
    n = edge[-1]
    for r in range(len(gain)):
        new, chance = logs[slot, r], probabilities[slot, r]
        for k in range(len(ages)):
            if ages[k] == NOTHING:
                break
            w, member = weights[k], logs[place(ages[k], newest, depth), r]
            for i in range(n):
                before = new[i] if k > 0 else (size * gain[r, i] if size != 0.0 else 0.0)
                new[i] = -np.inf if member[i] == -np.inf or before == -np.inf else before + w * member[i]
        for player in range(len(edge) - 1):
            low, high = edge[player], edge[player + 1]
            top = -np.inf
            for i in range(low, high):
                top = max(top, new[i])
            mass = 0.0
            for i in range(low, high):
                chance[i] = np.exp(new[i] - top)
                mass += chance[i]
            log_mass, share = top + np.log(mass), 1 / mass
            for i in range(low, high):
                chance[i] *= share
                new[i] -= log_mass


@compiled
def gap(gain: Array, edge: Indices) -> float:
    """The duality gap from the margins of all actions: twice the best one of a symmetric game, else both players'."""
    total = 0.0
    for player in range(len(edge) - 1):
        total += np.max(gain[edge[player] : edge[player + 1]])
    return 2 * total if len(edge) == 2 else total
