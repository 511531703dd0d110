"""Exact equilibria of one game: nashward against the solvers of other packages, in the same run.

    python benchmarks/nash_exact.py [--sizes 3 10 30 100 300 1000 3000] [--kinds random strengths ...]

Every answer is checked: its duality gap is recomputed from it and stands beside the time. ``nash`` is timed on a game
that is built already, as a user holds it; "with checks" builds it in every call. QuantEcon takes the margins unchecked.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

from measure import cpu, in_turns, text, written  # sets the number of threads, so it comes first

# isort: split
import numpy as np
import torch

from nashward import games
from nashward.games.compiled import accelerator
from nashward.games.equilibria import selection

PACKAGES = ("numpy", "scipy", "torch", "numba", "quantecon", "nashpy", "pygambit", "open_spiel")
Array = np.ndarray


def skew(upper: Array) -> Array:
    upper = np.triu(upper, 1)
    return upper - upper.T


def rank_ten(rng: np.random.Generator, n: int) -> Array:
    left, right = rng.normal(size=(2, n, 5))
    A = left @ right.T - right @ left.T
    return A / (2 * np.abs(A).max())


def strengths(rng: np.random.Generator, n: int) -> Array:
    """Bradley-Terry strengths and cycles of rank 6: what preferences look like."""
    strength, (left, right) = rng.normal(size=n), rng.normal(size=(2, n, 3))
    cycles = (left @ right.T - right @ left.T) / np.sqrt(3)
    return 1 / (1 + np.exp(strength[None] - strength[:, None] - cycles)) - 0.5


def duplicated(rng: np.random.Generator, n: int) -> Array:
    copies = rng.integers(0, max(3, n // 2), size=n)
    return skew(rng.integers(-5, 6, size=(n, n)) / 10)[np.ix_(copies, copies)]


KINDS: dict[str, Callable[[np.random.Generator, int], Array]] = {
    "random": lambda rng, n: skew(rng.uniform(-0.5, 0.5, size=(n, n))),
    "strengths": strengths,
    "tournament": lambda rng, n: skew(rng.integers(0, 2, size=(n, n)) - 0.5),
    "rank 10": rank_ten,
    "duplicated": duplicated,
}


def ours(A: Array) -> Callable[[], torch.Tensor]:
    """From a game that is built, and so checked, once: the peers check nothing."""
    game = games.PreferenceGame(0.5 + A)
    return lambda: games.nash(game).policy


def ours_built(A: Array) -> Callable[[], torch.Tensor]:
    """The game is built and checked in every call."""
    P = 0.5 + A
    return lambda: games.nash(games.PreferenceGame(P)).policy


def ours_arrays(A: Array) -> Callable[[], Array]:
    return lambda: selection.solve_one(A, 0.0)[0]


def highs(method: str) -> Callable[[Array], Callable[[], Array]]:
    def prepare(A: Array) -> Callable[[], Array]:
        from scipy.optimize import linprog

        n = len(A)
        return lambda: linprog(
            np.r_[np.zeros(n), 1.0], A_ub=np.c_[A, -np.ones(n)], b_ub=np.zeros(n), A_eq=np.r_[np.ones(n), 0.0][None],
            b_eq=[1.0], bounds=[(0, None)] * n + [(None, None)], method=method,
        ).x[:n]  # fmt: skip

    return prepare


def quantecon(A: Array) -> Callable[[], Array]:
    from quantecon.optimize.minmax import minmax

    return lambda: minmax(A)[1]


def nashpy(A: Array) -> Callable[[], Array]:
    import nashpy

    game = nashpy.Game(A)
    return lambda: np.asarray(game.linear_program()[0])


def pygambit(A: Array) -> Callable[[], Array]:
    import pygambit

    game = pygambit.Game.from_arrays(A, -A)  # not in the time
    strategies = next(iter(game.players)).strategies

    def solve() -> Array:
        profile = pygambit.nash.lp_solve(game, rational=False).equilibria[0]
        return np.array([float(profile[strategy]) for strategy in strategies])

    return solve


def open_spiel(A: Array) -> Callable[[], Array]:
    import pyspiel
    from open_spiel.python.algorithms import lp_solver

    game = pyspiel.create_matrix_game(A.tolist(), (-A).tolist())
    return lambda: np.asarray(lp_solver.solve_zero_sum_matrix_game(game)[0]).flatten()


PEERS = {
    "QuantEcon minmax": quantecon,
    "HiGHS simplex": highs("highs-ds"),
    "HiGHS interior point": highs("highs-ipm"),
    "nashpy": nashpy,
    "pygambit lp_solve": pygambit,
    "OpenSpiel": open_spiel,
}
OURS = {"nashward nash()": ours, "with checks": ours_built, "nashward on arrays": ours_arrays}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[3, 10, 30, 100, 300, 1000, 3000])
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))
    parser.add_argument(
        "--limit", type=float, default=30.0, help="seconds after which a peer is left out (default: 30)"
    )
    parser.add_argument(
        "--low-rank", type=int, nargs="*", default=[100_000, 1_000_000], metavar="N", help="actions of games of rank 10"
    )
    parser.add_argument("--json", type=Path, default=Path("build/benchmarks/nash_exact.json"))
    given = parser.parse_args()
    print(
        f"accelerator: {'numba' if accelerator.ACCELERATED else 'none'}; pivoting up to {selection.PIVOTING} actions, "
    )
    print(f"beyond {selection.ORACLE} a double oracle first; the order by size:")
    for n in given.sizes:
        simplex = accelerator.ACCELERATED and selection.SIMPLEX < n <= selection.PIVOTING
        first = ["by_double_oracle"] if n > selection.ORACLE else ["simplex"] if simplex else []
        print(f"  {n:5d}  " + ", then ".join(first + [route.__name__ for route in selection.routes(n)]))
    rows = []
    for kind in given.kinds:
        last: dict[str, float] = {}
        for n in given.sizes:
            A = KINDS[kind](np.random.default_rng(n), n)
            calls, failed, gaps = {}, {}, {}
            for name, prepare in {**OURS, **PEERS}.items():
                expected = last.get(name, 0.0) * 20  # sizes grow about threefold, the work with their cube
                if name in PEERS and expected > given.limit:
                    failed[name] = f"over {given.limit:g} s expected"
                    continue
                try:
                    call = prepare(A)
                    answers = []
                    seconds = cpu(lambda call=call, answers=answers: answers.append(call()))
                    gaps[name] = 2 * float((A @ np.asarray(answers[0])).max())
                except (ImportError, TypeError, ArithmeticError, ValueError, RuntimeError) as error:
                    failed[name] = f"{type(error).__name__}: {str(error).splitlines()[0][:60]}"
                    continue
                calls[name], last[name] = call, seconds
            times = in_turns(calls, last)
            last.update(times)
            peers = {name: seconds for name, seconds in times.items() if name in PEERS and gaps[name] <= 1e-10}
            best = min(peers, key=peers.__getitem__, default=None)
            print(f"\n{kind}, n = {n}")
            for name in (*OURS, *PEERS):
                if name in failed:
                    print(f"  {name:22s} {failed[name]}")
                    rows.append({"kind": kind, "n": n, "solver": name, "failed": failed[name]})
                    continue
                ratio = times[name] / times["nashward nash()"]
                print(f"  {name:22s} {text(times[name]):>9s}   gap {gaps[name]:8.1e}   {ratio:8.2f} times nash()")
                rows.append({"kind": kind, "n": n, "solver": name, "seconds": times[name], "gap": gaps[name]})
            if best:
                arrays, complete = (peers[best] / times[name] for name in ("nashward on arrays", "nashward nash()"))
                print(f"  {'fastest peer':22s} {best}: nash() is {complete:.2f} times as fast, on arrays {arrays:.2f}")
    for n in given.low_rank:
        left, right = np.random.default_rng(n).normal(size=(2, n, 5)) / 10
        game = games.LowRankGame(left, right)
        answers = []
        seconds = cpu(lambda game=game, answers=answers: answers.append(games.nash(game)))
        gap = float(answers[0].gap)
        print(f"\nrank 10, never a table, n = {n}\n  {'nashward nash()':22s} {text(seconds):>9s}   gap {gap:8.1e}")
        rows.append({"kind": "low rank", "n": n, "solver": "nashward nash()", "seconds": seconds, "gap": gap})
    written(given.json, rows, PACKAGES)


if __name__ == "__main__":
    main()
