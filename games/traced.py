"""Solvers as compiled recurrences: the Steps are laid down first, then run for all games and all starts at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .accelerator import ACCELERATED
from .averaging import uniform
from .compiled_steps import run
from .contextual import ContextualGame
from .feedback import Feedback, exact
from .game import ConstantSumGame, Game, Players, PreferenceGame
from .recurrence import Recurrence, trace
from .regularised import skew
from .solution import Solution, Status
from .step import Solver

Array = NDArray[np.float64]
_BLAS = 48  # from so many actions on the library's product beats a loop


def obstacle(game: Game, solver: Any, feedback: Feedback) -> str | None:
    """What keeps a run from being traced; None where nothing does."""
    if not ACCELERATED:
        return 'numba is missing (pip install "nashward[accelerator]")'
    if feedback is not exact:
        return "only exact payoffs are known beforehand"
    if not callable(getattr(solver, "play", None)):
        return f"{type(solver).__name__} makes no mirror steps"
    # The type itself: what derives from a game may answer for its payoffs in another way.
    table = game.game if type(game) is ContextualGame else game
    if type(table) is PreferenceGame:
        values = table.P
    elif type(table) is ConstantSumGame:
        values = table.payoff
    else:
        return f"{type(game).__name__} has no table"
    if values.device.type != "cpu" or values.dtype != torch.float64 or values.requires_grad:
        return f"the table is {values.dtype} on {values.device}, not float64 on the CPU without a gradient"
    return None


def run_traced(
    game: Any,
    solver: Solver,
    start: Players,
    reference: Players,
    tolerance: float | None,
    averaging: Callable[[int], float],
    points: Sequence[int],
    keep: bool,
) -> Solution:
    """What ``solve`` gives, to 1e-12, by a compiled loop that knows the solver's Steps beforehand.

    Args:
        game: one that has no ``obstacle``.
        start, reference: log-probabilities, [..., n] of each player.
        points: the iterations to record, in rising order; the last is the last.

    Raises:
        ValueError: a solver that cannot be traced (``recurrence.Untraceable``), or whose period is wrong.
    """
    recurrence = trace(solver, points[-1])
    first, pull = _side_by_side(start), _side_by_side(reference)
    A, _ = skew(game)
    n, batch = A.shape[-1], tuple(game.batch_shape)
    shape = np.broadcast_shapes(first.shape, pull.shape)
    starts = shape[: len(shape) - 1 - len(batch)]
    games, many, records = int(np.prod(batch)), int(np.prod(starts)), len(points)

    def flat(values: Array) -> Array:  # [starts..., games..., n] as [games, starts, n]
        return np.ascontiguousarray(np.broadcast_to(values, shape).reshape(many, games, n).swapaxes(0, 1))

    def back(values: Array, *lead: int) -> Array:  # [lead, games, starts, ...] as [lead, starts..., games..., ...]
        values = values.swapaxes(len(lead), len(lead) + 1)
        return values.reshape(*lead, *starts, *batch, *values.shape[len(lead) + 2 :])

    edges = np.tile(np.cumsum([0, *game.sizes]), (games, 1))
    if isinstance(game, ContextualGame) and n < _BLAS:  # without the padding
        edges[:, 1] = game.responses.numpy()
    steps = _steps(recurrence, points[-1])
    weights = np.ones(steps) if averaging is uniform else np.array([averaging(t) for t in range(1, steps + 1)])
    last, average = np.zeros((2, games, many, n))
    gaps, kept = np.empty((2, records, games, many)), np.zeros((2, records if keep else 0, games, many, n))
    r, at, within = recurrence, np.array(points), -1.0 if tolerance is None else tolerance
    tables = A.reshape(games, n, n).contiguous().numpy()
    # Game by game, unless they have to stop together; once more where one was not finite.
    for chunk in (1,) if tolerance is not None or games == 1 else (records, 1):
        made = run(tables, edges, flat(first), flat(pull), *r.anchor, *r.opponent, *r.counts, r.size, r.last, r.lead,
                   r.depth + 1, weights, at, within, r.summed, n < _BLAS, chunk,
                   last, average, gaps, kept)  # fmt: skip
        if made == records:
            break
    status = Status.DONE
    if tolerance is not None:
        small = (gaps[:, made - 1].min(0) <= tolerance).all()
        status = Status.CONVERGED if small else Status.NOT_CONVERGED
    if not np.isfinite(gaps[:, made - 1]).all():
        status, made = Status.NOT_FINITE, made - 1

    gaps_, kept_ = back(gaps[:, :made], 2, made), back(kept[:, :made], 2, min(made, kept.shape[1]))
    names = ("last", "average")
    return Solution(
        last=_profile(game, back(last)),
        average=_profile(game, back(average)),
        gaps={name: torch.from_numpy(side) for name, side in zip(names, gaps_, strict=True)},
        iterations=torch.from_numpy(at[:made]),
        status=status,
        policies={name: _profile(game, side) for name, side in zip(names, kept_, strict=True) if keep},
    )


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


def _side_by_side(players: Players) -> Array:
    lead = torch.broadcast_shapes(*(p.shape[:-1] for p in players))
    return torch.cat([p.expand(*lead, p.shape[-1]) for p in players], -1).numpy()


def _profile(game: Any, values: Array) -> Any:
    players: Players = torch.from_numpy(values).split(list(game.sizes), -1)
    return game.profile(tuple(p.contiguous() for p in players))
