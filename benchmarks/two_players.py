"""Exact equilibria of games of two players, n x m: nashward against the solvers of other packages, in the same run.

    python benchmarks/two_players.py [--sizes 3x3 10x8 30x30 100x80 300x200 1000x600]

Payoffs are normal, of sum 0. Every answer is checked: the duality gap of its pair is recomputed and stands beside the
time, in units of the payoffs' span. ``nash`` is timed on a game that is built already, with its policies as arrays, as
the peers give theirs, and "as tensors" with the way from arrays to tensors and back; "with checks" builds the game in
every call. QuantEcon's ``minmax`` takes an array unchecked, as HiGHS does, which is called once for each player. A peer
whose time at the next size is expected beyond the limit is left out of it.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from measure import cpu, in_turns, text, written  # sets the number of threads, so it comes first

# isort: split
import numpy as np

from nashward import games

PACKAGES = ("numpy", "scipy", "torch", "numba", "quantecon", "nashpy", "pygambit")
SIZES = ("3x3", "10x8", "30x30", "100x80", "300x200", "1000x600")
Pair = tuple[np.ndarray, np.ndarray]


def ours(U: np.ndarray) -> Callable[[], Pair]:
    game = games.ConstantSumGame(U, 0.0)
    return lambda: games.nash(game).numpy()


def ours_tensors(U: np.ndarray) -> Callable[[], Pair]:
    game = games.ConstantSumGame(U, 0.0)
    return lambda: tuple(side.numpy() for side in games.nash(game).policy)


def ours_built(U: np.ndarray) -> Callable[[], Pair]:
    return lambda: games.nash(games.ConstantSumGame(U, 0.0)).numpy()


def quantecon(U: np.ndarray) -> Callable[[], Pair]:
    from quantecon.optimize.minmax import minmax

    return lambda: minmax(U)[1:]


def nashpy(U: np.ndarray) -> Callable[[], Pair]:
    import nashpy

    return lambda: nashpy.Game(U).linear_program()


def highs(U: np.ndarray) -> Callable[[], Pair]:
    from scipy.optimize import linprog

    def least(table: np.ndarray) -> np.ndarray:
        n, m = table.shape
        return linprog(
            np.r_[np.zeros(n), -1.0], A_ub=np.c_[-table.T, np.ones(m)], b_ub=np.zeros(m),
            A_eq=np.r_[np.ones(n), 0.0][None], b_eq=[1.0], bounds=[(0, None)] * n + [(None, None)],
        ).x[:n]  # fmt: skip

    return lambda: (least(U), least(-U.T))


def pygambit(U: np.ndarray) -> Callable[[], Pair]:
    import pygambit

    game = pygambit.Game.from_arrays(U, -U)  # not in the time

    def solve() -> Pair:
        profile = pygambit.nash.lp_solve(game, rational=False).equilibria[0]
        row, column = (np.array([float(profile[s]) for s in player.strategies]) for player in game.players)
        return row, column

    return solve


OURS = {"nashward nash()": ours, "as tensors": ours_tensors, "with checks": ours_built}
CALLS = {
    **OURS,
    "QuantEcon minmax": quantecon,
    "HiGHS, both players": highs,
    "nashpy": nashpy,
    "pygambit lp_solve": pygambit,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", default=SIZES, metavar="NxM", help=f"rising (default: {' '.join(SIZES)})")
    parser.add_argument(
        "--limit", type=float, default=30.0, help="seconds after which a peer is left out (default: 30)"
    )
    parser.add_argument("--json", type=Path, default=Path("build/benchmarks/two_players.json"))
    given = parser.parse_args()
    rows: list[dict[str, Any]] = []
    last: dict[str, tuple[float, int]] = {}  # seconds, and entries of the table
    for size in given.sizes:
        n, m = map(int, size.split("x"))
        U = np.random.default_rng(n).normal(size=(n, m))
        calls, once, gaps = {}, {}, {}
        print(f"\n{n} x {m}")
        for name, prepare in CALLS.items():
            seconds, entries = last.get(name, (0.0, n * m))
            if name not in OURS and seconds * (n * m / entries) ** 1.5 > given.limit:  # the cube of the actions, about
                print(f"  {name:22s} over {given.limit:g} s expected")
                rows.append({"size": size, "solver": name, "failed": f"over {given.limit:g} s expected"})
                continue
            try:
                call, answers = prepare(U), []
                once[name] = cpu(lambda call=call, answers=answers: answers.append(call()))
                row, column = map(np.asarray, answers[0])
                gaps[name] = float(((U @ column).max() - (row @ U).min()) / np.ptp(U))
                calls[name] = call
            except (ImportError, TypeError, ArithmeticError, ValueError, RuntimeError) as error:
                print(f"  {name:22s} {type(error).__name__}: {str(error).splitlines()[0][:60]}")
        times = in_turns(calls, once)
        last.update({name: (seconds, n * m) for name, seconds in times.items()})
        for name, seconds in times.items():
            ratio = seconds / times["nashward nash()"]
            print(f"  {name:22s} {text(seconds):>9s}   gap {gaps[name]:8.1e}   {ratio:8.2f} times nash()")
            rows.append({"size": size, "solver": name, "seconds": seconds, "gap": gaps[name]})
    written(given.json, rows, PACKAGES)


if __name__ == "__main__":
    main()
