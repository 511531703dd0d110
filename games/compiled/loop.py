"""The loop of a traced solver, compiled: all Steps for every game and every start (needs the accelerator)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .accelerator import compiled
from .trace import NOTHING, REFERENCE, START

Array = NDArray[np.float64]
Indices = NDArray[np.int64]
Flags = NDArray[np.bool_]


@compiled
def run(
    A: Array, edges: Indices,
    anchor: Indices, anchor_weight: Array, opponent: Indices, opponent_weight: Array,
    counts: Indices, count_weight: Array,
    size: Array, is_last: Flags, lead: int, weights: Array, points: Indices, tolerance: float,
    summed: bool, loop: bool, chunk: int, stop: int,
    all_logs: Array, all_probabilities: Array, all_payoffs: Array, all_total: Array, known: Flags, place_in: Indices,
    weight_of: Array,
    gaps: Array, kept: Array,
) -> bool:  # fmt: skip
    """Run on to ``stop`` iterations, or to the first of ``points`` where all gaps are small or one is not finite.

    The newest ``depth`` policies of each game lie in a ring, START and REFERENCE behind them. A policy's payoffs are
    computed once, when first needed; those of blends, and of the average where it is ``summed``, are sums of these. So
    a Step costs one product at most, and a record costs none that the next Step does not need.

    Args:
        A: [games, n, n], skew.
        edges: [games, players + 1], where each player's actions begin; what lies behind them is padding.
        summed: what is counted is among the opponents of the same Step.
        loop: multiply by loops, not by the library.
        weights: [averages, counted], of each policy that is counted here; [averages, 0] where all have the same.
        chunk: how many records each game makes before the next game's turn; it may stop at the end of a chunk only.
        stop: no more than the last of ``points``.
        all_logs, all_probabilities, all_payoffs, all_total: [games, depth + 2, starts, n], the same, [games, depth + 3,
            starts, n] (the last for blends) and [games, 2 averages, starts, n] (sums of policies and of payoffs by
            turns), changed in place, as the rest.
        known: [depth + 2], whose payoffs are known.
        place_in: newest slot, line, policies counted, iterations done, records made.
        weight_of: [averages], the weight of what was counted.
        gaps, kept: [1 + averages, records, games, starts] and [1 + averages, records or 0, games, starts, n], of the
            last iterate and of the averages; the run ends by the first of them.

    Returns:
        Whether it has come to an end before ``stop``.
    """
    # In arrays of its own, of which the compiler knows that no two overlap: a fifth faster.
    logs, probabilities = all_logs.copy(), all_probabilities.copy()
    payoffs, total = all_payoffs.copy(), all_total.copy()
    depth, ended = logs.shape[1] - 2, False
    blend = depth + 2  # the slot of a blend's payoffs
    known_now, weight, counted = known.copy(), weight_of.copy(), place_in[2]
    while place_in[3] < stop and not ended:
        made = place_in[4]
        end = min(stop, points[min(made + chunk, len(points)) - 1])
        newest, line, played, done, point = -1, -1, 0, 0, 0
        for game in range(len(A)):
            newest, line, played, done, point = place_in[0], place_in[1], place_in[2], place_in[3], made
            known_now[:], weight[:] = known, weight_of
            table, edge = A[game], edges[game]
            log, chance, payoff, summa = logs[game], probabilities[game], payoffs[game], total[game]
            n = edge[-1]
            while done < end:
                line = line + 1 if line + 1 < len(size) else lead
                slot = newest + 1 if newest + 1 < depth else 0
                against = blend
                if size[line] != 0.0:
                    for k in range(opponent.shape[1]):
                        if opponent[line, k] != NOTHING:
                            learn(table, chance, payoff, known_now, place(opponent[line, k], newest, depth), n, loop)
                    if opponent_weight[line, 0] == 1.0:  # weights sum to 1, so there is no other member
                        against = place(opponent[line, 0], newest, depth)
                    else:
                        for k in range(opponent.shape[1]):
                            if opponent[line, k] != NOTHING:
                                source = place(opponent[line, k], newest, depth)
                                add(payoff, blend, opponent_weight[line, k], payoff, source, n, k == 0)
                for k in range(anchor.shape[1]):
                    if anchor[line, k] != NOTHING:
                        source = place(anchor[line, k], newest, depth)
                        extend(log, slot, anchor_weight[line, k], source, size[line], payoff, against, n, k == 0)
                for player in range(len(edge) - 1):
                    normalise(log, chance, slot, edge[player], edge[player + 1])
                if counts[line, 0] != NOTHING:
                    for m in range(len(weight)):
                        w = weights[m, played - counted] if weights.shape[1] else 1.0
                        weight[m] += w
                        for k in range(counts.shape[1]):
                            if counts[line, k] != NOTHING:
                                source = place(counts[line, k], newest, depth)
                                add(summa, 2 * m, w * count_weight[line, k], chance, source, n, False)
                                if summed:
                                    add(summa, 2 * m + 1, w * count_weight[line, k], payoff, source, n, False)
                    played += 1
                newest, known_now[slot] = slot, False
                done += is_last[line]
                if is_last[line] and done == points[point]:
                    learn(table, chance, payoff, known_now, newest, n, loop)
                    for r in range(log.shape[1]):
                        gaps[0, point, game, r] = gap(payoff, newest, r, edge)
                    if kept.shape[1]:
                        kept[0, point, game] = chance[newest]
                    for m in range(len(weight)):
                        own = weight[m] > 0.0  # else nothing was counted, and the average is the last iterate
                        if own and not summed:
                            multiply(table, summa, 2 * m, summa, 2 * m + 1, n, loop)
                        for r in range(log.shape[1]):
                            found = gap(summa, 2 * m + 1, r, edge) / weight[m] if own else gaps[0, point, game, r]
                            gaps[1 + m, point, game, r] = found
                        if kept.shape[1]:
                            kept[1 + m, point, game] = summa[2 * m] / weight[m] if own else chance[newest]
                    point += 1
        place_in[0], place_in[1], place_in[2], place_in[3] = newest, line, played, done
        known[:], weight_of[:] = known_now, weight
        for record in range(made, point):
            place_in[4] += 1
            finite, small = True, tolerance >= 0.0
            for game in range(len(A)):
                for r in range(logs.shape[2]):
                    a, b = gaps[0, record, game, r], gaps[1, record, game, r]
                    finite = finite and np.isfinite(a) and np.isfinite(b)
                    small = small and min(a, b) <= tolerance
            if small or not finite:
                ended = True
                break
    all_logs[:], all_probabilities[:], all_payoffs[:], all_total[:] = logs, probabilities, payoffs, total
    return ended


@compiled
def place(age: int, newest: int, depth: int) -> int:
    if age == START:
        return depth
    if age == REFERENCE:
        return depth + 1
    slot = newest - age
    return slot if slot >= 0 else slot + depth


# Slots are given by their number: a view made in each Step would cost as much as the arithmetic of a small game.


@compiled
def learn(table: Array, chance: Array, payoff: Array, known: Flags, slot: int, n: int, loop: bool) -> None:
    """Compute the payoffs against the policy in ``slot``, unless they are known."""
    if not known[slot]:
        multiply(table, chance, slot, payoff, slot, n, loop)
        known[slot] = True


@compiled
def multiply(table: Array, x: Array, at: int, out: Array, to: int, n: int, loop: bool) -> None:
    """``out[to, r] = A x[at, r]``."""
    if loop:
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
def add(out: Array, to: int, w: float, values: Array, at: int, n: int, anew: bool) -> None:
    """``out[to] += w values[at]``, or ``=`` where it is begun anew."""
    for r in range(out.shape[1]):
        for i in range(n):
            out[to, r, i] = w * values[at, r, i] + (0.0 if anew else out[to, r, i])


@compiled
def extend(
    log: Array, slot: int, w: float, at: int, size: float, payoff: Array, against: int, n: int, anew: bool
) -> None:
    """Add a member to an anchor, the first one to ``size`` times the payoffs; what it excludes stays excluded."""
    for r in range(log.shape[1]):
        for i in range(n):
            before = log[slot, r, i]
            if anew:
                before = size * payoff[against, r, i] if size != 0.0 else 0.0
            member = log[at, r, i]
            log[slot, r, i] = -np.inf if member == -np.inf or before == -np.inf else before + w * member


@compiled
def normalise(log: Array, chance: Array, slot: int, low: int, high: int) -> None:
    """The softmax over some actions; their largest log is made 0."""
    for r in range(log.shape[1]):
        top, mass = -np.inf, 0.0
        for i in range(low, high):
            top = max(top, log[slot, r, i])
        for i in range(low, high):
            log[slot, r, i] -= top
            chance[slot, r, i] = np.exp(log[slot, r, i])
            mass += chance[slot, r, i]
        share = 1 / mass
        for i in range(low, high):
            chance[slot, r, i] *= share


@compiled
def gap(payoff: Array, at: int, r: int, edge: Indices) -> float:
    """The duality gap from the margins of all actions: twice the best one of a symmetric game, else both players'."""
    total = 0.0
    for player in range(len(edge) - 1):
        top = -np.inf
        for i in range(edge[player], edge[player + 1]):
            top = max(top, payoff[at, r, i])
        total += top + 0.0 * payoff[at, r, edge[player]]  # a policy that is not finite makes all payoffs so
    return 2 * total if len(edge) == 2 else total
