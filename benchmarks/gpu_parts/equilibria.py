"""Exact equilibria of many small games and of large ones on the card, and multiplicative weights there."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch

from gpu_parts.results import attempt, parser, report, seconds
from nashward import games


def margins(rng: np.random.Generator, *shape: int) -> torch.Tensor:
    """Random margins A = -A^T, ``[..., n, n]``."""
    A = rng.uniform(-0.5, 0.5, size=shape)
    return torch.from_numpy((A - A.swapaxes(-1, -2)) / 2)


def main(arguments: list[str] | None = None) -> None:
    given = parser(__doc__).parse_args(arguments)
    device, rng = given.device, np.random.default_rng(0)
    batches = ((20, 5),) if given.toy else ((10_000, 5), (10_000, 16))
    large = (20,) if given.toy else (1000, 3000)
    iterated = ((20, 10),) if given.toy else ((100, 2000), (4096, 1000))

    def batch(count: int, n: int) -> None:
        P = 0.5 + margins(rng, count, n, n)
        there, here = games.PreferenceGame(P.to(device)), games.PreferenceGame(P)
        games.nash(games.PreferenceGame(P[:4].to(device)))
        taken, cpu = seconds(lambda: games.nash(there), device), seconds(lambda: games.nash(here), "cpu")
        gap = float(games.nash(there).gap.max())
        report(f"{count} games of {n} actions, exactly", taken, "s", cpu=round(cpu, 4), largest_gap=gap)

    def one(n: int) -> None:
        P = 0.5 + margins(rng, n, n)
        taken = seconds(lambda: games.nash(games.PreferenceGame(P.to(device))), device)
        cpu = seconds(lambda: games.nash(games.PreferenceGame(P)), "cpu")
        report(f"one game of {n} actions, exactly", taken, "s", cpu=round(cpu, 4))

    def iterations(n: int, T: int) -> None:
        P = 0.5 + margins(rng, n, n)
        results = {}
        for where in dict.fromkeys([device, "cpu"]):
            game = games.PreferenceGame(P.to(where))
            games.solve(game, games.MWU(step=0.1), 10, record=[10])
            play = partial(games.solve, game, games.MWU(step=0.1), T, record=[T])
            results[where] = seconds(play, where) / T * 1e6
        A, x = P.to(device), torch.full((n,), 1 / n, dtype=torch.float64, device=device)
        A @ x
        floor = seconds(lambda: A @ x, device, 100) * 1e6
        report(f"multiplicative weights, n = {n}, an iteration", results[device], "us", cpu=round(results["cpu"], 2),
               one_product=round(floor, 2))  # fmt: skip

    for count, n in batches:
        attempt(f"{count} games of {n} actions", partial(batch, count, n))
    for n, T in iterated:
        attempt(f"multiplicative weights, n = {n}", partial(iterations, n, T))
    for n in large:
        attempt(f"one game of {n} actions", partial(one, n))


if __name__ == "__main__":
    main()
