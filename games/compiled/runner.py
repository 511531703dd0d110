"""Solvers as compiled recurrences: the Steps are traced first, then run for all games and all starts at once."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from ..averaging import uniform
from ..feedback import Feedback, exact
from ..forms.contextual import ContextualGame
from ..forms.game import ConstantSumGame, Game, Players, PreferenceGame
from ..forms.skew import skew
from ..measures import without_rounding_below_0
from ..solution import Solution, Status
from ..solvers.together import Together
from ..step import Solver
from .accelerator import ACCELERATED
from .loop import AVERAGED, ITERATIONS, NEWEST, RECORDS, Records, State, Tables, run_recurrence
from .trace import PADDING, Recurrence, joined, trace

Array = NDArray[np.float64]
_BLAS = 48  # from so many actions on BLAS beats a loop
_CHUNK_COST = 2e9  # multiplications in a chunk: some tenths of a second


def untraceable_reason(game: Game, solver: Any, feedback: Feedback) -> str | None:
    """Why a run cannot be traced.

    Returns:
        The reason, or None where the run can be traced.
    """
    if not ACCELERATED:
        return 'numba is missing (pip install "nashward[accelerator]")'
    if feedback is not exact:
        return "only exact payoffs can be traced"
    if not callable(getattr(solver, "play", None)):
        return f"{type(solver).__name__} makes no mirror steps"
    # The exact type: a subclass may compute its payoffs differently.
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
    keep_policies: bool,
    progress: tqdm,
) -> Solution:
    """``solve`` by a compiled loop over the solver's traced Steps; equal to the interpreted run within 1e-12.

    The compiled loop returns to Python several times a second, to update ``progress`` and to allow an interrupt.

    Args:
        game: one for which ``untraceable_reason`` is None.
        solver: yields the Steps.
        start, reference: log-probabilities, [..., n] for each player.
        tolerance: stop at the first record where the gap of the last or of the average iterate is this small.
        averages: the weight of the t-th played policy, for each average by name; the first is ``Solution.average``.
        points: the iterations to record, in rising order; the last one is the number of iterations.
        keep_policies: keep the policies at every record.
        progress: the progress bar.

    Returns:
        The Solution, as ``solve`` returns it.

    Raises:
        ValueError: a solver that cannot be traced (``trace.UntraceableError``), or whose period is wrong.

    See also:
        ``driver.drive`` with ``executor.TableExecutor``, the interpreted run.
    """
    several = solver.solvers if isinstance(solver, Together) else (solver,)
    recurrence = joined([trace(one, points[-1]) for one in several])
    start_logs, reference_logs = _concatenated(start), _concatenated(reference)
    A, _ = skew(game)
    n, batch = A.shape[-1], tuple(game.batch_shape)
    starts = np.broadcast_shapes(start_logs.shape, reference_logs.shape)[: -1 - len(batch)]
    layout = _Layout(starts, batch, n)
    games, n_starts = layout.games, layout.n_starts
    tables = Tables(A.reshape(games, n, n).contiguous().numpy(), _edges(game, games, n), n < _BLAS)
    whose = np.repeat(np.arange(len(several)), n_starts // len(several))  # the first axis of the starts is the solvers'
    names = ("last", *averages)
    records = Records(
        np.array(points),
        np.empty((len(names), len(points), games, n_starts)),
        np.zeros((len(names), len(points) if keep_policies else 0, games, n_starts, n)),
    )
    chunk_iterations = max(1, int(_CHUNK_COST / (games * max(1, n_starts) * (n + 20) ** 2)))
    # Game by game, unless the games have to stop together; repeated if one was not finite.
    for chunk in (1,) if tolerance is not None or games == 1 else (len(points), 1):
        state = _state(layout.flatten(start_logs), layout.flatten(reference_logs), recurrence.depth + 1, len(averages))
        progress.reset()
        for stop in itertools.chain(range(chunk_iterations, points[-1], chunk_iterations), points[-1:]):
            weights = _weights(averages, state.position[AVERAGED], _averaged_count(recurrence, stop))
            ended = run_recurrence(
                tables, recurrence, whose, weights, state, records, -1.0 if tolerance is None else tolerance, chunk,
                stop,
            )  # fmt: skip
            progress.update(int(state.position[ITERATIONS]) - progress.n)
            if ended:
                break
        recorded = int(state.position[RECORDS])
        if recorded == len(points):
            break
    last = state.probabilities[:, state.position[NEWEST]]
    average = state.sums[:, 0] / state.weights[0] if state.weights[0] > 0 else last
    status = _status(records.gaps[:2, recorded - 1], tolerance)
    if status is Status.NOT_FINITE:
        recorded -= 1
    gaps, policies = (layout.unflatten(values[:, :recorded], 2) for values in (records.gaps, records.policies))
    return Solution(
        last=_profile(game, layout.unflatten(last)),
        average=_profile(game, layout.unflatten(average)),
        gaps={
            name: without_rounding_below_0(torch.from_numpy(side), A.abs().amax((-2, -1)) + abs(game.total))
            for name, side in zip(names, gaps, strict=True)
        },
        iterations=torch.from_numpy(records.points[:recorded]),
        status=status,
        policies={name: _profile(game, side) for name, side in zip(names, policies, strict=True) if keep_policies},
    )


class _Layout(NamedTuple):
    """Arrays as ``solve`` has them, [starts..., games..., n], and as the compiled loop has them, [games, starts, n]."""

    starts: tuple[int, ...]
    batch: tuple[int, ...]
    n: int

    @property
    def games(self) -> int:
        return math.prod(self.batch)

    @property
    def n_starts(self) -> int:
        return math.prod(self.starts)

    def flatten(self, values: Array) -> Array:
        values = np.broadcast_to(values, (*self.starts, *self.batch, self.n))
        return np.ascontiguousarray(values.reshape(self.n_starts, self.games, self.n).swapaxes(0, 1))

    def unflatten(self, values: Array, lead: int = 0) -> Array:
        """[games, starts, ...] as [starts..., games..., ...], behind so many axes that stay."""
        values = values.swapaxes(lead, lead + 1)
        return values.reshape(*values.shape[:lead], *self.starts, *self.batch, *values.shape[lead + 2 :])


def _edges(game: Any, games: int, n: int) -> NDArray[np.int64]:
    """[games, players + 1], where each player's actions begin."""
    edges = np.tile(np.cumsum([0, *game.sizes]), (games, 1))
    if isinstance(game, ContextualGame) and n < _BLAS:  # without the padding
        edges[:, 1] = game.responses.numpy()
    return edges


def _status(gaps: Array, tolerance: float | None) -> Status:
    """How a run ended whose last record has these gaps of the last iterate and of the average."""
    if not np.isfinite(gaps).all():
        return Status.NOT_FINITE
    if tolerance is None:
        return Status.DONE
    return Status.CONVERGED if (gaps.min(0) <= tolerance).all() else Status.NOT_CONVERGED


def _state(start_logs: Array, reference: Array, depth: int, averages: int) -> State:
    """The state of ``run_recurrence`` before the first Step."""
    games, n_starts, n = start_logs.shape
    logs, probabilities = np.zeros((2, games, depth + 2, n_starts, n))
    for values, of_start, of_reference in (
        (logs, start_logs, reference),
        (probabilities, np.exp(start_logs), np.exp(reference)),
    ):
        values[:, depth], values[:, depth + 1] = of_start, of_reference
    payoffs, total = np.zeros((games, depth + 3, n_starts, n)), np.zeros((games, 2 * averages, n_starts, n))
    known, position = np.zeros(depth + 2, dtype=np.bool_), np.array([-1, -1, 0, 0, 0])
    return State(logs, probabilities, payoffs, total, known, np.zeros(averages), position)


def _weights(averages: Mapping[str, Callable[[int], float]], before: int, until: int) -> Array:
    """[averages, until - before], the weights of these played policies; [averages, 0] where all weights are 1."""
    times = range(before + 1, until + 1) if any(weigh is not uniform for weigh in averages.values()) else ()
    return np.array([[weigh(t) for t in times] for weigh in averages.values()], dtype=np.float64)


def _averaged_count(recurrence: Recurrence, iterations: int) -> int:
    """How many policies entered the average after this many iterations."""
    counted, lead = recurrence.averaged[0][:, 0] != PADDING, recurrence.lead
    steps = _step_count(recurrence, iterations)
    rounds, remainder = divmod(max(0, steps - lead), max(1, len(counted) - lead))
    return int(counted[: min(steps, lead + remainder)].sum() + rounds * counted[lead:].sum())


def _step_count(recurrence: Recurrence, iterations: int) -> int:
    """How many Steps this many iterations take."""
    before = np.flatnonzero(np.cumsum(recurrence.is_iterate) >= iterations)
    if len(before):
        return int(before[0]) + 1
    each = recurrence.is_iterate[recurrence.lead :]
    rounds, remainder = divmod(iterations - int(recurrence.is_iterate[: recurrence.lead].sum()), int(each.sum()))
    if not remainder:
        rounds, remainder = rounds - 1, int(each.sum())
    return recurrence.lead + rounds * len(each) + int(np.flatnonzero(np.cumsum(each) >= remainder)[0]) + 1


def _concatenated(players: Players) -> Array:
    lead = torch.broadcast_shapes(*(p.shape[:-1] for p in players))
    return torch.cat([p.expand(*lead, p.shape[-1]) for p in players], -1).numpy()


def _profile(game: Any, values: Array) -> Any:
    players: Players = torch.from_numpy(values).split(list(game.sizes), -1)
    return game.profile(tuple(p.contiguous() for p in players))
