"""One iteration of self-play: nashward's traced and interpreted runs, other packages, and the floor.

    python benchmarks/iterations.py [--sizes 3 30 300 3000]

The floor is one product of the table with a vector, by the same library. Gaps of the average policy after the run stand
beside the times, for the packages' updates and averages differ.
"""

import argparse
import importlib.util
import io
import warnings
from contextlib import redirect_stderr
from pathlib import Path

from measure import cpu, in_turns, text, written  # sets the number of threads, so it comes first

# isort: split
import numpy as np
import torch

from nashward import games
from nashward.games.compiled import accelerator

PACKAGES = ("numpy", "scipy", "torch", "numba", "quantecon", "nashpy", "open_spiel")
RECORDS, BAR = ", with records", ", with a bar"
SOLVERS = {
    "MWU": games.MWU(step=0.1),
    "OptimisticMWU": games.OptimisticMWU(step=0.1),
    "ExtraGradient": games.ExtraGradient(step=0.1),
    "MagneticMirrorDescent": games.MagneticMirrorDescent(step=0.1, tau=0.1),
}


def peers(A: np.ndarray, iterations: int) -> dict:
    """Calls that make so many iterations and return the average policy, or what a package gives in its place."""
    n = len(A)
    calls = {}

    def numpy_mwu() -> np.ndarray:
        logits, total = np.zeros(n), np.zeros(n)
        for _ in range(iterations):
            x = np.exp(logits - logits.max())
            x /= x.sum()
            total += x
            logits += 0.1 * (A @ x)
        return total / iterations

    calls["numpy loop, MWU"] = numpy_mwu
    if importlib.util.find_spec("pyspiel"):
        from open_spiel.python.algorithms import projected_replicator_dynamics, regret_matching
        from open_spiel.python.egt import dynamics

        field = dynamics.SinglePopulationDynamics(np.stack([A, -A]), dynamics.replicator)

        def replicator() -> np.ndarray:
            x, total = np.full(n, 1 / n), np.zeros(n)
            for _ in range(iterations):
                total += x
                x = x + 0.1 * field(x)
            return total / iterations

        calls["OpenSpiel replicator, Euler loop"] = replicator
        calls["OpenSpiel projected replicator"] = lambda: np.asarray(
            projected_replicator_dynamics.projected_replicator_dynamics([A, -A], prd_iterations=iterations)[0]
        )
        calls["OpenSpiel regret matching"] = lambda: np.asarray(
            regret_matching.regret_matching([A, -A], iterations=iterations)[0]
        )
    if importlib.util.find_spec("nashpy"):
        import nashpy

        def fictitious() -> np.ndarray:
            *_, (counts, _) = nashpy.Game(A).fictitious_play(iterations=iterations)
            return counts / counts.sum()

        calls["nashpy fictitious play"] = fictitious
        calls["nashpy regret minimization"] = lambda: np.asarray(
            next(nashpy.Game(A).regret_minimization(iterations=iterations))[0]
        )
    if importlib.util.find_spec("quantecon"):
        from quantecon.game_theory import FictitiousPlay, NormalFormGame, Player

        play = FictitiousPlay(NormalFormGame((Player(A), Player(-A.T))))
        calls["QuantEcon fictitious play"] = lambda: play.play(num_reps=iterations)[0]
    return calls


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[3, 30, 300, 3000])
    parser.add_argument("--json", type=Path, default=Path("build/benchmarks/iterations.json"))
    given = parser.parse_args()
    print(f"accelerator: {'numba' if accelerator.ACCELERATED else 'none'}")
    rows = []
    for n in given.sizes:
        game = games.zoo.random_preferences(n, seed=1)
        A, x = game.P.numpy() - 0.5, np.full(n, 1 / n)
        many = {3: 20_000, 30: 10_000, 300: 2000}.get(n, 300)
        few = {3: 1000, 30: 1000, 300: 500}.get(n, 20)
        calls, counts, averages = {"floor: one product": lambda A=A, x=x: A @ x}, {"floor: one product": 1}, {}
        for name, solver in SOLVERS.items():
            for way, traced, count in [("traced", True, many)] * accelerator.ACCELERATED + [
                ("interpreted", False, few)
            ]:
                for what, record, bar in (("", [count], False), (RECORDS, None, False), (BAR, [count], True)):
                    what = f"{way} {name}{what}"
                    calls[what] = lambda g=game, s=solver, r=record, t=count, how=traced, shown=bar: games.solve(
                        g, s, t, record=r, traced=how, progress=shown
                    )
                    counts[what] = count
        calls["incremental fictitious play"] = lambda g=game: games.fictitious_play(g, 20_000, record=[20_000])
        counts["incremental fictitious play"] = 20_000
        for name, call in peers(A, few).items():
            calls[name], counts[name] = call, few
        once = {}
        torch.set_num_threads(1)
        for name, call in calls.items():
            answers: list = []
            with redirect_stderr(io.StringIO()):
                once[name] = cpu(lambda call=call, answers=answers: answers.append(call()))
            answer = answers[0].average.numpy() if isinstance(answers[0], games.Solution) else answers[0]
            averages[name] = 2 * float((A @ answer).max())
        with redirect_stderr(io.StringIO()):  # where the bars are shown
            times = {name: seconds / counts[name] for name, seconds in in_turns(calls, once, rounds=3).items()}
        floor = times["floor: one product"]
        print(f"\nn = {n}, an iteration")
        for name, seconds in times.items():
            reached = "" if name.startswith("floor") else f"gap {averages[name]:.1e} after {counts[name]}"
            for more in (RECORDS, BAR):
                if name.endswith(more):
                    reached += f"; they cost {seconds / times[name.removesuffix(more)] - 1:+.1%}"
            print(f"  {name:42s} {text(seconds):>9s}   {seconds / floor:10.2f} times the floor   {reached}")
            rows.append({"n": n, "what": name, "seconds": seconds, "iterations": counts[name], "gap": averages[name]})
    rows += starts()
    rows += sweeps()
    written(given.json, rows, PACKAGES)


def starts(n: int = 100, many: int = 64, iterations: int = 500) -> list[dict]:
    """Many trajectories at once against one, in the same way, and the two products that they are made of."""
    game = games.zoo.random_preferences(n, seed=1)
    A, points = game.P.numpy() - 0.5, np.random.default_rng(0).dirichlet(np.ones(n), size=many)
    calls, solver = {}, games.MWU(step=0.1)
    for way, traced in [("traced", True)] * accelerator.ACCELERATED + [("interpreted", False)]:
        for count in (1, many):
            start = points[0] if count == 1 else points
            calls[f"{way}, {count}"] = lambda s=start, how=traced: games.solve(
                game, solver, iterations, s, record=[iterations], traced=how
            )
    for count in (1, many):
        columns = points[:count].T.copy()
        calls[f"product, {count}"] = lambda x=columns: [A @ x for _ in range(iterations)]
    times = in_turns(calls, {name: cpu(call) for name, call in calls.items()})
    print(f"\ntrajectories at n = {n}, an iteration of all of them")
    for name, seconds in times.items():
        one = times[name.split(",")[0] + ", 1"]
        print(f"  {name:16s} {text(seconds / iterations):>9s}   {seconds / one:8.2f} times one in the same way")
    way = "traced" if accelerator.ACCELERATED else "interpreted"
    least = times[f"product, {many}"] / times[f"{way}, 1"]
    print(f"  {many} {way} cannot cost less than their product, {least:.1f} times a whole iteration of one")
    one, all_of_them = times[f"{way}, 1"], times[f"{way}, {many}"]
    print(f"  a trajectory of {many} costs {many * one / all_of_them:.1f} times less than one alone")
    return [{"what": f"trajectories: {name}", "seconds": s / iterations} for name, s in times.items()]


def sweeps(many: int = 32, iterations: int = 1000) -> list[dict]:
    """Many steps in one call of ``games.sweep`` against one call of ``solve`` for each."""
    steps, rows = np.geomspace(0.01, 0.4, many), []
    print(f"\n{many} steps, {iterations} iterations of each")
    for n in (3, 30, 100):
        game = games.zoo.random_preferences(n, seed=1)
        for solver, traced in [(games.OptimisticMWU(), None), (games.HistoryMixture(), False)]:
            kind = type(solver)
            calls = {
                "one sweep": lambda g=game, s=solver, t=traced: games.sweep(
                    g, s, iterations, step=steps, record=[iterations], traced=t
                ),
                "a loop": lambda g=game, k=kind, t=traced: [
                    games.solve(g, k(step=float(step)), iterations, record=[iterations], traced=t) for step in steps
                ],
            }
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", games.StepWarning)
                times = in_turns(calls, {name: cpu(call) for name, call in calls.items()}, rounds=3)
            ratio = times["a loop"] / times["one sweep"]
            took = text(times["one sweep"])
            print(f"  n = {n:3d}  {kind.__name__:14s} {took:>9s}   a loop takes {ratio:.1f} times that")
            rows += [{"n": n, "what": f"{name}, {kind.__name__}", "seconds": s} for name, s in times.items()]
    return rows


if __name__ == "__main__":
    main()
