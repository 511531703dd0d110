"""Solvers as compiled recurrences: the Steps are laid down first, then run for all games and all starts at once."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from ..averaging import uniform
from ..equilibria.regularized import skew
from ..feedback import Feedback, exact
from ..forms.contextual import ContextualGame
from ..forms.game import ConstantSumGame, Game, Players, PreferenceGame
from ..solution import Solution, Status
from ..step import Solver
from .accelerator import ACCELERATED
from .loop import run
from .trace import NOTHING, Recurrence, trace

Array = NDArray[np.float64]
_BLAS = 48  # from so many actions on the library's product beats a loop
_LEG = 2e9  # multiplications, some tenths of a second


def untraceable_reason(game: Game, solver: Any, feedback: Feedback) -> str | None:
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
    averages: Mapping[str, Callable[[int], float]],
    points: Sequence[int],
    keep: bool,
    bar: tqdm,
) -> Solution:
    """What ``solve`` gives, to 1e-12, by a compiled loop that knows the solver's Steps beforehand.

    It comes up for air some times a second, for ``bar`` and for an interrupt.

    Args:
        game: one that has no ``untraceable_reason``.
        start, reference: log-probabilities, [..., n] of each player.
        averages: what weighs the policies of each average; the first is the solution's.
        points: the iterations to record, in rising order; the last is the last.

    Raises:
        ValueError: a solver that cannot be traced (``recurrence.UntraceableError``), or whose period is wrong.
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
    names = ("last", *averages)
    gaps = np.empty((len(names), records, games, many))
    kept = np.zeros((len(names), records if keep else 0, games, many, n))
    r, at, within = recurrence, np.array(points), -1.0 if tolerance is None else tolerance
    tables = A.reshape(games, n, n).contiguous().numpy()
    leg = max(1, int(_LEG / (games * max(1, many) * (n + 20) ** 2)))
    # Game by game, unless they have to stop together; once more where one was not finite.
    for chunk in (1,) if tolerance is not None or games == 1 else (records, 1):
        state = _state(flat(first), flat(pull), r.depth + 1, len(averages))
        place_in, weight = state[-2:]
        bar.reset()
        for stop in itertools.chain(range(leg, points[-1], leg), points[-1:]):
            weights = _weights(averages, place_in[2], _counted(recurrence, stop))
            ended = run(tables, edges, *r.anchor, *r.opponent, *r.averaged, r.size, r.is_iterate, r.lead, weights, at, within,
                        r.summed, n < _BLAS, chunk, stop, *state, gaps, kept)  # fmt: skip
            bar.update(int(place_in[3]) - bar.n)
            if ended:
                break
        made = int(place_in[4])
        if made == records:
            break
    _, probabilities, _, total, *_ = state
    last = probabilities[:, place_in[0]]
    average = total[:, 0] / weight[0] if weight[0] > 0 else last
    status = Status.DONE
    if tolerance is not None:
        small = (gaps[:2, made - 1].min(0) <= tolerance).all()
        status = Status.CONVERGED if small else Status.NOT_CONVERGED
    if not np.isfinite(gaps[:2, made - 1]).all():
        status, made = Status.NOT_FINITE, made - 1

    gaps_ = back(gaps[:, :made], len(names), made)
    kept_ = back(kept[:, :made], len(names), min(made, kept.shape[1]))
    return Solution(
        last=_profile(game, back(last)),
        average=_profile(game, back(average)),
        gaps={name: torch.from_numpy(side) for name, side in zip(names, gaps_, strict=True)},
        iterations=torch.from_numpy(at[:made]),
        status=status,
        policies={name: _profile(game, side) for name, side in zip(names, kept_, strict=True) if keep},
    )


def _state(first: Array, reference: Array, depth: int, averages: int) -> tuple[NDArray[Any], ...]:
    """What ``run`` goes on from, as it is before the first Step; see there."""
    games, many, n = first.shape
    logs, probabilities = np.zeros((2, games, depth + 2, many, n))
    for values, of_start, of_reference in ((logs, first, reference), (probabilities, np.exp(first), np.exp(reference))):
        values[:, depth], values[:, depth + 1] = of_start, of_reference
    payoffs, total = np.zeros((games, depth + 3, many, n)), np.zeros((games, 2 * averages, many, n))
    known, place_in = np.zeros(depth + 2, dtype=np.bool_), np.array([-1, -1, 0, 0, 0])
    return logs, probabilities, payoffs, total, known, place_in, np.zeros(averages)


def _weights(averages: Mapping[str, Callable[[int], float]], before: int, until: int) -> Array:
    """[averages, until - before], what weighs the policies from one to another; [averages, 0] where all do alike."""
    times = range(before + 1, until + 1) if any(weigh is not uniform for weigh in averages.values()) else ()
    return np.array([[weigh(t) for t in times] for weigh in averages.values()], dtype=np.float64)


def _counted(recurrence: Recurrence, iterations: int) -> int:
    """How many policies have been counted after so many iterations."""
    counted, lead = recurrence.averaged[0][:, 0] != NOTHING, recurrence.lead
    steps = _steps(recurrence, iterations)
    rounds, rest = divmod(max(0, steps - lead), max(1, len(counted) - lead))
    return int(counted[: min(steps, lead + rest)].sum() + rounds * counted[lead:].sum())


def _steps(recurrence: Recurrence, iterations: int) -> int:
    """How many Steps make so many iterations."""
    before = np.flatnonzero(np.cumsum(recurrence.is_iterate) >= iterations)
    if len(before):
        return int(before[0]) + 1
    each = recurrence.is_iterate[recurrence.lead :]
    rounds, rest = divmod(iterations - int(recurrence.is_iterate[: recurrence.lead].sum()), int(each.sum()))
    if not rest:
        rounds, rest = rounds - 1, int(each.sum())
    return recurrence.lead + rounds * len(each) + int(np.flatnonzero(np.cumsum(each) >= rest)[0]) + 1


def _side_by_side(players: Players) -> Array:
    lead = torch.broadcast_shapes(*(p.shape[:-1] for p in players))
    return torch.cat([p.expand(*lead, p.shape[-1]) for p in players], -1).numpy()


def _profile(game: Any, values: Array) -> Any:
    players: Players = torch.from_numpy(values).split(list(game.sizes), -1)
    return game.profile(tuple(p.contiguous() for p in players))
