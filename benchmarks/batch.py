"""Many small games: exact equilibria of 10,000 games of 3 to 16 actions, and multiplicative weights on all of them.

    python benchmarks/batch.py [--games 10000]

Peers loop over the games, in Python and compiled; what takes milliseconds a game is measured on a few of them, scaled,
and marked so. Gaps are recomputed from the answers.
"""

import argparse
import importlib.util
from pathlib import Path

from measure import cpu, in_turns, text, written  # sets the number of threads, so it comes first

# isort: split
import numpy as np
import torch
from iterations import peers

from nashward import games
from nashward.games.compiled import accelerator

PACKAGES = ("numpy", "scipy", "torch", "numba", "quantecon", "nashpy", "open_spiel")
ITERATIONS = 1000
LOOPED = 20  # games that the peers' learning loops are measured on


def cycles(rng: np.random.Generator, n: int) -> np.ndarray:
    """Margins of random sizes with the signs of rock-paper-scissors on n actions."""
    i = np.arange(n)
    signs = np.where((i[None] - i[:, None]) % n * 2 < n, 1.0, -1.0)
    upper = np.triu(signs * rng.uniform(0.05, 0.5, size=(n, n)), 1)
    return upper - upper.T


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--games", type=int, default=10_000)
    parser.add_argument("--json", type=Path, default=Path("build/benchmarks/batch.json"))
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    tables = [cycles(rng, int(n)) for n in rng.integers(3, 17, size=given.games)]
    batch = games.ContextualGame([0.5 + A for A in tables])
    share = min(1.0, 200 / given.games)  # of the games, for peers that take milliseconds each
    few = tables[: max(1, int(share * given.games))]
    print(f"{given.games} games of 3 to 16 actions; accelerator: {'numba' if accelerator.ACCELERATED else 'none'}")

    calls, scales = {"nashward nash(), one call": lambda: games.nash(batch)}, {}
    if importlib.util.find_spec("quantecon"):
        import numba
        from quantecon.optimize.minmax import minmax

        calls["QuantEcon, Python loop"] = lambda: [minmax(A) for A in tables]

        @numba.njit
        def loop(P, sizes, x):  # what a user of QuantEcon would have to write
            for k in range(len(P)):
                n = sizes[k]
                _, first, _ = minmax(np.ascontiguousarray(P[k, :n, :n]) - 0.5)
                x[k, :n] = first

        P, sizes, x = batch.game.P.numpy(), batch.responses.numpy(), np.zeros((given.games, batch.sizes[0]))
        calls["QuantEcon, compiled loop"] = lambda: loop(P, sizes, x)
    from scipy.optimize import linprog

    def highs(A: np.ndarray) -> None:
        n = len(A)
        linprog(np.zeros(n), A_ub=A, b_ub=np.zeros(n), A_eq=np.ones((1, n)), b_eq=[1.0], method="highs")

    calls["scipy HiGHS, Python loop"] = lambda: [highs(A) for A in few]
    scales["scipy HiGHS, Python loop"] = len(few) / given.games
    if importlib.util.find_spec("nashpy"):
        import nashpy

        calls["nashpy, Python loop"] = lambda: [nashpy.Game(A).linear_program() for A in few]
        scales["nashpy, Python loop"] = len(few) / given.games
    rows = report("exact equilibria", calls, scales)
    worst = float(games.nash(batch).gap.max())
    print(f"  the largest gap of nashward: {worst:.1e}")
    if worst > 1e-12:
        raise SystemExit("a gap above 1e-12")

    # No package that was installed has multiplicative weights for tables: these are the learning loops that they have.
    solver, calls = games.MWU(step=0.1), {}
    for way, traced in [("nashward, traced", True)] * accelerator.ACCELERATED + [("nashward, interpreted", False)]:
        calls[way] = lambda how=traced: games.solve(batch, solver, ITERATIONS, record=[ITERATIONS], traced=how)
    prepared = [peers(A, ITERATIONS) for A in tables[:LOOPED]]
    loops = {name: (lambda name=name: [each[name]() for each in prepared]) for name in prepared[0]}
    scales = dict.fromkeys(loops, len(prepared) / given.games)
    calls |= loops
    rows += report(f"{ITERATIONS} iterations: multiplicative weights, and the loops of other packages", calls, scales)
    written(given.json, rows, PACKAGES)


def report(title: str, calls: dict, scales: dict) -> list[dict]:
    torch.set_num_threads(1)
    once = {name: cpu(call) for name, call in calls.items()}
    times = {name: s / scales.get(name, 1.0) for name, s in in_turns(calls, once).items()}
    base = next(iter(times))
    print(f"\n{title}")
    for name, seconds in times.items():
        scaled = f", scaled from {scales[name]:.2%} of the games" if name in scales else ""
        print(f"  {name:36s} {text(seconds):>9s}   {seconds / times[base]:9.2f} times {base}{scaled}")
    return [{"what": title, "solver": name, "seconds": s, "share": scales.get(name, 1.0)} for name, s in times.items()]


if __name__ == "__main__":
    main()
