"""The loop of a traced solver, compiled: all Steps for every game and every start (needs the accelerator)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .accelerator import compiled
from .recurrence import NOTHING, REFERENCE, START

Array = NDArray[np.float64]
Indices = NDArray[np.int64]
Flags = NDArray[np.bool_]


@compiled
def run(
    A: Array, edges: Indices, first: Array, pull: Array,
    anchor: Indices, anchor_weight: Array, opponent: Indices, opponent_weight: Array,
    counts: Indices, count_weight: Array,
    size: Array, is_last: Flags, lead: int, depth: int, weights: Array, points: Indices, tolerance: float,
    summed: bool, loop: bool, chunk: int, last: Array, average: Array, gaps: Array, kept: Array,
) -> int:  # fmt: skip
    """Run to the last of ``points``, or to the first where all gaps are within ``tolerance`` or one is not finite.

    The newest ``depth`` policies of each game lie in a ring, START and REFERENCE behind them. A policy's payoffs are
    computed once, when first needed; those of blends, and of the average where it is ``summed``, are sums of these. So
    a Step costs one product at most, and a record costs none that the next Step does not need.

    Args:
        A: [games, n, n], skew.
        edges: [games, players + 1], where each player's actions begin; what lies behind them is padding.
        first, pull: [games, starts, n], logs.
        summed: what is counted is among the opponents of the same Step.
        loop: multiply by loops, not by the library.
        chunk: how many records each game makes before the next game's turn; it may stop at the end of a chunk only.
        last, average, gaps, kept: [games, starts, n], the same, [2, records, games, starts], [2, records or 0, ...].

    Returns:
        How many records were made.
    """
    games, many, width = first.shape
    blend = depth + 2  # the slot of a blend's payoffs
    logs, probabilities = np.zeros((games, depth + 2, many, width)), np.zeros((games, depth + 2, many, width))
    payoffs, total = np.zeros((games, depth + 3, many, width)), np.zeros((games, 2, many, width))
    logs[:, depth], logs[:, depth + 1] = first, pull
    probabilities[:, depth], probabilities[:, depth + 1] = np.exp(first), np.exp(pull)
    known, known_then = np.zeros(depth + 2, dtype=np.bool_), np.zeros(depth + 2, dtype=np.bool_)
    then, made = (-1, -1, 0, 0, 0.0), 0
    for begin in range(0, len(points), chunk):
        end = min(begin + chunk, len(points))
        newest, line, played, done, weight = then
        for game in range(games):
            newest, line, played, done, weight = then
            known[:] = known_then
            table, edge, point = A[game], edges[game], begin
            log, chance, payoff, summa = logs[game], probabilities[game], payoffs[game], total[game]
            n = edge[-1]
            while point < end:
                line = line + 1 if line + 1 < len(size) else lead
                slot = newest + 1 if newest + 1 < depth else 0
                against = blend
                if size[line] != 0.0:
                    for k in range(opponent.shape[1]):
                        if opponent[line, k] != NOTHING:
                            learn(table, chance, payoff, known, place(opponent[line, k], newest, depth), n, loop)
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
                    w = weights[played]
                    played += 1
                    weight += w
                    for k in range(counts.shape[1]):
                        if counts[line, k] != NOTHING:
                            source = place(counts[line, k], newest, depth)
                            add(summa, 0, w * count_weight[line, k], chance, source, n, False)
                            if summed:
                                add(summa, 1, w * count_weight[line, k], payoff, source, n, False)
                newest, known[slot] = slot, False
                done += is_last[line]
                if is_last[line] and done == points[point]:
                    learn(table, chance, payoff, known, newest, n, loop)
                    if weight > 0.0 and not summed:
                        multiply(table, summa, 0, summa, 1, n, loop)
                    for r in range(many):
                        gaps[0, point, game, r] = gap(payoff, newest, r, edge)
                        own = weight > 0.0  # else nothing was counted, and the average is the last iterate
                        gaps[1, point, game, r] = gap(summa, 1, r, edge) / weight if own else gaps[0, point, game, r]
                    if kept.shape[1]:
                        kept[0, point, game] = chance[newest]
                        kept[1, point, game] = summa[0] / weight if weight > 0.0 else chance[newest]
                    point += 1
        then = (newest, line, played, done, weight)
        known_then[:] = known
        for point in range(begin, end):
            made += 1
            finite, small = True, tolerance >= 0.0
            for game in range(games):
                for r in range(many):
                    a, b = gaps[0, point, game, r], gaps[1, point, game, r]
                    finite = finite and np.isfinite(a) and np.isfinite(b)
                    small = small and min(a, b) <= tolerance
            if small or not finite:
                end = -1
                break
        if end < 0:
            break
    newest, _, _, _, weight = then
    last[:] = probabilities[:, newest]
    average[:] = total[:, 0] / weight if weight > 0.0 else last
    return made


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
