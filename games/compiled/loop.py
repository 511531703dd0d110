"""The loop of a traced solver, compiled: all Steps for every game and every start (needs the accelerator)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .accelerator import compiled
from .trace import PADDING, REFERENCE, START, Recurrence

Array = NDArray[np.float64]
Indices = NDArray[np.int64]
Flags = NDArray[np.bool_]
NEWEST, LINE, AVERAGED, ITERATIONS, RECORDS = range(5)  # of a position


class Tables(NamedTuple):
    """The games.

    Attributes:
        A: [games, n, n], skew.
        edges: [games, players + 1], where each player's actions begin; behind the last edge there is padding.
        use_loops: multiply by loops instead of BLAS.
    """

    A: Array
    edges: Indices
    use_loops: bool


class State(NamedTuple):
    """Where a run is; changed in place.

    The newest ``depth`` policies of each game lie in a ring buffer of slots, followed by START and REFERENCE.

    Attributes:
        logs, probabilities: [games, depth + 2, starts, n].
        payoffs: [games, depth + 3, starts, n], the last slot for those of blends.
        sums: [games, 2 averages, starts, n], alternating sums of policies and of payoffs.
        known: [depth + 2], whether the payoffs of a slot are known.
        weights: [averages], the sum of the weights so far.
        position: the newest slot, the line, and the numbers of policies averaged, iterations done and records done, at
            ``NEWEST``, ``LINE``, ``AVERAGED``, ``ITERATIONS`` and ``RECORDS``.
    """

    logs: Array
    probabilities: Array
    payoffs: Array
    sums: Array
    known: Flags
    weights: Array
    position: Indices


class Records(NamedTuple):
    """What is recorded, and when; of the last iterate and of the averages.

    Attributes:
        points: [records], the iterations to record.
        gaps: [1 + averages, records, games, starts]; those of the last iterate and of the first average decide when the
            run ends.
        policies: [1 + averages, records or 0, games, starts, n].
    """

    points: Indices
    gaps: Array
    policies: Array


@compiled
def run_recurrence(
    tables: Tables, recurrence: Recurrence, whose: Indices, weights: Array, state: State, records: Records,
    tolerance: float, chunk: int, stop: int,
) -> bool:  # fmt: skip
    """Run up to ``stop`` iterations, or to the first record at which all gaps are small or one is not finite.

    A policy's payoffs are computed once, when first needed; those of blends, and with ``sum_payoffs`` those of the
    average, are sums of these. So a Step costs at most one product, and a record costs none that the next Step does not
    need.

    Args:
        whose: [starts], which solver's weights and sizes a start has.
        weights: [averages, policies], the weights of the policies averaged in this call; [averages, 0] where all are 1.
        state, records: changed in place.
        tolerance: below 0 the run ends only where a gap is not finite.
        chunk: how many records each game makes before the next game's turn; a run may stop only at the end of a chunk.
        stop: no more than the last of the points.

    Returns:
        Whether the run ended before ``stop``.
    """
    # One function: with the parts of a Step in functions of their own, inlined or not, small games took 2 to 13 times
    # as long, and with the test for the end in one a record took an eighth longer.
    A, edges, use_loops = tables
    anchor, anchor_weight = recurrence.anchor
    opponent, opponent_weight = recurrence.opponent
    averaged, averaged_weight = recurrence.averaged
    size, is_iterate = recurrence.size, recurrence.is_iterate
    lead, sum_payoffs = recurrence.lead, recurrence.sum_payoffs
    points, gaps, recorded_policies = records
    known, total_weights, position = state.known, state.weights, state.position
    # In arrays of their own, which the compiler knows not to overlap: a fifth faster.
    logs, probabilities, payoffs, total = (
        state.logs.copy(), state.probabilities.copy(), state.payoffs.copy(), state.sums.copy()
    )  # fmt: skip
    depth, ended = logs.shape[1] - 2, False
    blend = depth + 2  # the slot of a blend's payoffs
    known_now, weight, counted = known.copy(), total_weights.copy(), position[AVERAGED]
    while position[ITERATIONS] < stop and not ended:
        records_done = position[RECORDS]
        end = min(stop, points[min(records_done + chunk, len(points)) - 1])
        newest, line, played, done, point = -1, -1, 0, 0, 0
        for game in range(len(A)):
            newest, line, played, done = position[NEWEST], position[LINE], position[AVERAGED], position[ITERATIONS]
            point = records_done
            known_now[:], weight[:] = known, total_weights
            table, edge = A[game], edges[game]
            log, probability, payoff, sums = logs[game], probabilities[game], payoffs[game], total[game]
            n = edge[-1]
            while done < end:
                line = line + 1 if line + 1 < len(size) else lead
                slot = newest + 1 if newest + 1 < depth else 0
                against = blend
                if size[line, 0] != 0.0:  # size 0 for one solver is size 0 for all
                    for k in range(opponent.shape[1]):
                        if opponent[line, k] != PADDING:
                            source = slot_of(opponent[line, k], newest, depth)
                            compute_payoffs(table, probability, payoff, known_now, source, n, use_loops)
                    if opponent.shape[1] == 1 or opponent[line, 1] == PADDING:  # weights sum to 1, so it is 1
                        against = slot_of(opponent[line, 0], newest, depth)
                    else:
                        for k in range(opponent.shape[1]):
                            if opponent[line, k] != PADDING:
                                source = slot_of(opponent[line, k], newest, depth)
                                add(payoff, blend, 1.0, opponent_weight, line, k, whose, payoff, source, n, k == 0)
                for k in range(anchor.shape[1]):
                    if anchor[line, k] != PADDING:
                        source = slot_of(anchor[line, k], newest, depth)
                        add_to_anchor(
                            log, slot, anchor_weight, line, k, whose, source, size, payoff, against, n, k == 0
                        )
                for player in range(len(edge) - 1):
                    normalise(log, probability, slot, edge[player], edge[player + 1])
                if averaged[line, 0] != PADDING:
                    for m in range(len(weight)):
                        w = weights[m, played - counted] if weights.shape[1] else 1.0
                        weight[m] += w
                        for k in range(averaged.shape[1]):
                            if averaged[line, k] != PADDING:
                                source = slot_of(averaged[line, k], newest, depth)
                                add(sums, 2 * m, w, averaged_weight, line, k, whose, probability, source, n, False)
                                if sum_payoffs:
                                    add(sums, 2 * m + 1, w, averaged_weight, line, k, whose, payoff, source, n, False)
                    played += 1
                newest, known_now[slot] = slot, False
                done += is_iterate[line]
                if is_iterate[line] and done == points[point]:
                    compute_payoffs(table, probability, payoff, known_now, newest, n, use_loops)
                    for r in range(log.shape[1]):
                        gaps[0, point, game, r] = gap(payoff, newest, r, edge)
                    if recorded_policies.shape[1]:
                        recorded_policies[0, point, game] = probability[newest]
                    for m in range(len(weight)):
                        has_average = weight[m] > 0.0  # else nothing was averaged: the average is the last iterate
                        if has_average and not sum_payoffs:
                            multiply(table, sums, 2 * m, sums, 2 * m + 1, n, use_loops)
                        for r in range(log.shape[1]):
                            value = (
                                gap(sums, 2 * m + 1, r, edge) / weight[m] if has_average else gaps[0, point, game, r]
                            )
                            gaps[1 + m, point, game, r] = value
                        if recorded_policies.shape[1]:
                            recorded_policies[1 + m, point, game] = (
                                sums[2 * m] / weight[m] if has_average else probability[newest]
                            )
                    point += 1
        position[NEWEST], position[LINE], position[AVERAGED], position[ITERATIONS] = newest, line, played, done
        known[:], total_weights[:] = known_now, weight
        for record in range(records_done, point):
            position[RECORDS] += 1
            finite, small = True, tolerance >= 0.0
            for game in range(len(A)):
                for r in range(logs.shape[2]):
                    a, b = gaps[0, record, game, r], gaps[1, record, game, r]
                    finite = finite and np.isfinite(a) and np.isfinite(b)
                    small = small and min(a, b) <= tolerance
            if small or not finite:
                ended = True
                break
    state.logs[:], state.probabilities[:], state.payoffs[:], state.sums[:] = logs, probabilities, payoffs, total
    return ended


@compiled
def slot_of(age: int, newest: int, depth: int) -> int:
    if age == START:
        return depth
    if age == REFERENCE:
        return depth + 1
    slot = newest - age
    return slot if slot >= 0 else slot + depth


# Slots are passed by number: a view made in each Step would cost as much as the arithmetic of a small game.


@compiled
def compute_payoffs(
    table: Array, probability: Array, payoff: Array, known: Flags, slot: int, n: int, use_loops: bool
) -> None:
    """Compute the payoffs against the policy in ``slot``, unless they are known."""
    if not known[slot]:
        multiply(table, probability, slot, payoff, slot, n, use_loops)
        known[slot] = True


@compiled
def multiply(table: Array, x: Array, at: int, out: Array, to: int, n: int, use_loops: bool) -> None:
    """``out[to, r] = A x[at, r]``."""
    if use_loops:
        for r in range(x.shape[1]):
            for i in range(n):
                total = 0.0
                for j in range(n):
                    total += table[i, j] * x[at, r, j]
                out[to, r, i] = total
    elif x.shape[1] == 1:
        np.dot(table, x[at, 0], out[to, 0])
    else:
        np.dot(x[at], table.T, out[to])


@compiled
def add(
    out: Array, to: int, factor: float, weights: Array, line: int, k: int, whose: Indices, values: Array, at: int,
    n: int, anew: bool,
) -> None:  # fmt: skip
    """``out[to] += w values[at]``, or ``=`` for the first member; w is ``factor`` times the solver's weight."""
    for r in range(out.shape[1]):
        w = factor * weights[line, k, whose[r]]
        for i in range(n):
            out[to, r, i] = w * values[at, r, i] + (0.0 if anew else out[to, r, i])


@compiled
def add_to_anchor(
    log: Array, slot: int, weights: Array, line: int, k: int, whose: Indices, at: int, sizes: Array, payoff: Array,
    against: int, n: int, anew: bool,
) -> None:  # fmt: skip
    """Add a member to an anchor, the first to ``size`` times the payoffs; actions that it excludes stay excluded."""
    for r in range(log.shape[1]):
        w, size = weights[line, k, whose[r]], sizes[line, whose[r]]
        for i in range(n):
            before = log[slot, r, i]
            if anew:
                before = size * payoff[against, r, i] if size != 0.0 else 0.0
            member = log[at, r, i]
            log[slot, r, i] = -np.inf if member == -np.inf or before == -np.inf else before + w * member


@compiled
def normalise(log: Array, probability: Array, slot: int, low: int, high: int) -> None:
    """The softmax over some actions; their largest log is shifted to 0."""
    for r in range(log.shape[1]):
        top, mass = -np.inf, 0.0
        for i in range(low, high):
            top = max(top, log[slot, r, i])
        for i in range(low, high):
            log[slot, r, i] -= top
            probability[slot, r, i] = np.exp(log[slot, r, i])
            mass += probability[slot, r, i]
        share = 1 / mass
        for i in range(low, high):
            probability[slot, r, i] *= share


@compiled
def gap(payoff: Array, at: int, r: int, edge: Indices) -> float:
    """The duality gap from the margins of all actions: twice the best in a symmetric game, else both players' best."""
    total = 0.0
    for player in range(len(edge) - 1):
        top = -np.inf
        for i in range(edge[player], edge[player + 1]):
            top = max(top, payoff[at, r, i])
        total += top + 0.0 * payoff[at, r, edge[player]]  # a policy that is not finite makes all payoffs not finite
    return 2 * total if len(edge) == 2 else total
