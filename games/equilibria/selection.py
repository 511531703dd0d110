"""The methods for each kind and size of game, in the order in which they are tried."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from ..compiled.accelerator import ACCELERATED
from ..shapes import Float, Int
from .closed_form import closed_form
from .compiled_pivoting import pivot_one, solve_game, solve_games
from .crossover import crossover, in_doubt
from .double_oracle import double_oracle
from .interior_point import central_path
from .linear_program import linear_program
from .pivoting import pivot, pivot_limit
from .polish import DUST, GOOD, gap, normalise_support, polish
from .two_players.simplex import solve_pair

# An equilibrium, and the least basic variable: NaN if it is not known.
Vertex: TypeAlias = tuple[Float[np.ndarray, " n"], float]
Route: TypeAlias = Callable[[Float[np.ndarray, "n n"]], Vertex | None]

TINY = 1e-300

PIVOTING = 300 if ACCELERATED else 24  # a single game of at most so many actions is pivoted first
SIMPLEX = 150  # above this, up to PIVOTING, the simplex method comes first: its pivots are twice as quick
ORACLE = 300 if ACCELERATED else 150  # above this, double oracle comes first
BATCHED = 64  # without the accelerator, batches of games of at most so many actions are pivoted together


def solve_batch(
    P: Float[Tensor, "games n n"], half: float = 0.5, sizes: Int[Tensor, " games"] | None = None
) -> tuple[Float[Tensor, "games n"], Float[Tensor, " games"], Float[Tensor, " games"]]:
    """An equilibrium of each symmetric game of a batch.

    Args:
        P: [games, n, n] with ``P - half`` skew.
        sizes: [games], how many actions each game has, in the upper left corner of its table; n when not given.

    Returns:
        ``x`` [games, n]; [games] the least basic variable (NaN: not known); [games] the duality gap of ``x``. All in
        float64, on P's device.
    """
    games, n = P.shape[:2]
    if ACCELERATED and n <= PIVOTING and P.device.type == "cpu":
        return _compiled(P, half, sizes)
    x = torch.zeros(games, n, dtype=torch.float64, device=P.device)
    least = torch.full((games,), torch.nan, dtype=torch.float64, device=P.device)
    if games == 1 and n > PIVOTING:
        m = n if sizes is None else int(sizes[0])
        y, low, _ = solve_one(P[0, :m, :m].to(torch.float64).contiguous().cpu().numpy(), half)
        x[0, :m], least[0] = torch.from_numpy(y), low
    else:
        many = torch.full((games,), n) if sizes is None else sizes.cpu()
        for m in many.unique().tolist():
            members = (many == m).nonzero()[:, 0].to(P.device)
            x[members, :m], least[members] = _same_size(P[members, :m, :m].to(torch.float64) - half)
    x = torch.where(x > DUST * x.amax(-1, keepdim=True), x, 0.0)
    x = x / x.sum(-1, keepdim=True)
    return x, least, 2 * ((P.to(torch.float64) @ x[..., None])[..., 0] - half).amax(-1)


def _compiled(
    P: Float[Tensor, "games n n"], half: float, sizes: Int[Tensor, " games"] | None
) -> tuple[Float[Tensor, "games n"], Float[Tensor, " games"], Float[Tensor, " games"]]:
    tables = P.numpy().astype(np.float64, copy=False)
    games, n = tables.shape[:2]
    x, least, gaps = np.zeros((games, n)), np.empty(games), np.empty(games)
    each = np.full(games, n) if sizes is None else sizes.numpy()
    solve_games(np.ascontiguousarray(tables), half, each, pivot_limit(n), x, least, gaps)
    for game in np.flatnonzero(~(gaps <= GOOD) | np.isnan(least)):
        m = int(each[game])
        x[game, :m], least[game], gaps[game] = solve_one(np.ascontiguousarray(tables[game, :m, :m]), half)
    return torch.from_numpy(x), torch.from_numpy(least), torch.from_numpy(gaps)


def _same_size(A: Float[Tensor, "games n n"]) -> tuple[Float[Tensor, "games n"], Float[Tensor, " games"]]:
    """``x`` and the least basic variables of games of one size, without the accelerator or on a GPU."""
    games, n = A.shape[:2]
    x, least = torch.zeros_like(A[..., 0]), A.new_full((games,), torch.nan)
    if n <= 3:
        x, least = closed_form(A)
    elif n <= PIVOTING or (games > 1 and n <= BATCHED):
        x, least = pivot(A / (2 * A.abs().amax((-2, -1), keepdim=True)).clamp_min(TINY), pivot_limit(n))
    wrong = ~((2 * (A @ x[..., None]).amax((-2, -1)) <= GOOD) & least.isfinite())
    for game in wrong.nonzero()[:, 0].tolist():
        y, low, _ = solve_one(A[game].cpu().numpy(), 0.0)
        x[game], least[game] = torch.from_numpy(y).to(x), low
    return x, least


def solve_one(P: Float[np.ndarray, "n n"], half: float) -> tuple[Float[np.ndarray, " n"], float, float]:
    """An equilibrium of one game with ``P - half`` skew, its least basic variable, and its duality gap."""
    n = len(P)
    if ACCELERATED and n <= PIVOTING:
        x = np.empty(n)
        if n > SIMPLEX:
            _, of_both, span = solve_pair(P, pivot_limit(2 * n), GOOD, x, np.empty(n))
            if of_both <= GOOD * span and (reached := _gap(P, half, x)) <= GOOD:  # x is not filled if it gave up
                return x, np.nan, reached
        least, reached = solve_game(P, half, pivot_limit(n), x)
        if reached <= GOOD and least == least:
            return x, least, reached
    vertex = by_double_oracle(P, half) if n > ORACLE else None
    if vertex is None or _gap(P, half, vertex[0]) > GOOD:
        vertex = solve_margins(P - half)
    return *vertex, _gap(P, half, vertex[0])


def _gap(P: Float[np.ndarray, "n n"], half: float, x: Float[np.ndarray, " n"]) -> float:
    return 2 * float((P @ x).max() - half)


def solve_margins(A: Float[np.ndarray, "n n"]) -> Vertex:
    """An equilibrium of one game with margins A: from the first method that reaches the gap, else the best of all.

    Returns:
        The policy [n] and its least basic variable."""
    if len(A) > PIVOTING and len(kinds := one_of_each(A)) < len(A):
        x = np.zeros(len(A))
        x[kinds] = solve_margins(A[np.ix_(kinds, kinds)])[0]
        return x, np.nan
    largest = np.abs(A).max()
    A = A / (2 * largest) if largest > TINY else A
    best: Vertex = (np.full(len(A), 1 / len(A)), np.nan)
    for route in routes(len(A)):
        vertex = route(A)
        if vertex is not None:
            x, least = normalise_support(vertex[0]), vertex[1]
            if gap(A, x) > GOOD:
                x = polish(A, x, x > 0)
            if gap(A, x) <= GOOD:
                return x, least
            best = min(best, (x, np.nan), key=lambda each: gap(A, each[0]))
    return best


def one_of_each(A: Float[np.ndarray, "n n"]) -> Int[np.ndarray, " kinds"]:
    """The first action of each kind; actions are of one kind if their margins against all actions are equal.

    An equilibrium of the game with one action of each kind is one of the whole game: the others earn the same.

    Args:
        A: [n, n], skew.

    Returns:
        [kinds], in rising order.
    """
    rows = np.ascontiguousarray(A + 0.0)  # + 0.0 turns -0 into 0, so that equal rows have equal bytes
    whole = rows.view(np.dtype((np.void, rows.itemsize * rows.shape[1]))).ravel()
    return np.sort(np.unique(whole, return_index=True)[1])


def routes(n: int) -> tuple[Route, ...]:
    """The methods for one game of n actions whose margins are at hand, in the order in which they are tried."""
    first: tuple[Route, ...] = (by_closed_form,) if n <= 3 else (by_pivoting,) if n <= PIVOTING else ()
    return (*first, by_interior_point, by_linear_program)


def by_closed_form(A: Float[np.ndarray, "n n"]) -> Vertex:
    """The closed form of at most three actions."""
    x, least = closed_form(torch.from_numpy(A)[None])
    return x[0].numpy(), float(least)


def by_pivoting(A: Float[np.ndarray, "n n"]) -> Vertex | None:
    """A vertex by principal pivoting, or None on a ray or at the pivot limit."""
    if ACCELERATED:
        x = np.zeros(len(A))
        least = pivot_one(np.ascontiguousarray(A), 0.0, pivot_limit(len(A)), x)
        return None if np.isnan(least) else (x, least)
    y, low = pivot(torch.from_numpy(A)[None], pivot_limit(len(A)))
    return None if bool(low.isnan()) else (y[0].numpy(), float(low))


def by_double_oracle(P: Float[np.ndarray, "n n"], half: float = 0.5) -> Vertex | None:
    """A vertex with a small support; None where the support turns out large. Reads few rows of the table."""
    restricted = double_oracle(
        margins=lambda actions, weights: -(weights @ (P[actions] - half)),
        rows=lambda actions, columns: P[np.ix_(actions, columns)] - half,
        solve=solve_margins,
        tolerance=GOOD / 4,
        most=max(len(P) // 4, 96),
        dense=True,
    )
    if not restricted.settled:
        return None
    x = np.zeros(len(P))
    x[restricted.actions] = restricted.weights
    return x, restricted.least


def by_interior_point(A: Float[np.ndarray, "n n"]) -> Vertex | None:
    """A vertex by an interior point in float32 and pivots, else the centre by an interior point in float64."""
    n = len(A)
    for single in (True, False):
        bound = np.inf
        for x, s in central_path(torch.from_numpy(A)[None], single=single):
            y, slack = x[0].numpy(), s[0].numpy()
            before, bound = bound, float(y @ slack)
            if bound < 1e-2 and in_doubt(y, slack) <= n // 6 + 8:
                vertex = crossover(A, y, slack)
                if vertex is not None and gap(A, normalise_support(vertex[0])) <= GOOD:
                    return vertex
            if bound < 1e-15 or (bound < 1e-4 and bound > before * 0.9):  # float32 stalls near 1e-7
                break
    return polish(A, y, y > slack), np.nan


def by_linear_program(A: Float[np.ndarray, "n n"]) -> Vertex | None:
    """An equilibrium by HiGHS."""
    return linear_program(A), np.nan
