"""Exact equilibria on the card: many small games, n x m games, ties and large games; multiplicative weights there."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

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
    rectangular = ((20, 3, 5),) if given.toy else ((10_000, 5, 8), (1000, 30, 20))
    many_ties = ((20, 6),) if given.toy else ((10_000, 8), (1000, 30), (1, 1000))  # the last too large to pivot
    large = (20,) if given.toy else (1000, 3000)
    iterated = ((20, 10),) if given.toy else ((100, 2000), (4096, 1000))

    def both(what: str, build: Callable[[str, int], Any], count: int, span: torch.Tensor | float = 1.0) -> None:
        """The time on the card and here, the largest gap there, and how far the values are apart, of the span."""
        there, here = build(device, count), build("cpu", count)
        games.nash(build(device, min(count, 4)))
        taken, cpu = seconds(lambda: games.nash(there), device), seconds(lambda: games.nash(here), "cpu")
        found, known = games.nash(there), games.nash(here)
        report(f"{what}, exactly", taken, "s", cpu=round(cpu, 4), largest_gap=float((found.gap.cpu() / span).max()),
               values_apart=float(((found.value.cpu() - known.value).abs() / span).max()))  # fmt: skip

    def batch(what: str, P: torch.Tensor) -> None:
        both(what, lambda where, k: games.PreferenceGame(P[:k].to(where)), len(P))

    def ties(count: int, n: int) -> torch.Tensor:
        """Every margin is one of five, and of the actions some are copies of others."""
        A = np.triu(rng.integers(-2, 3, size=(count, n, n)) / 4, 1)
        copies = rng.integers(0, max(3, n // 2), size=n)
        return torch.from_numpy(0.5 + (A - A.swapaxes(-1, -2))[:, copies][:, :, copies])

    def two_players(what: str, U: torch.Tensor) -> None:
        span = U.amax((-2, -1)) - U.amin((-2, -1))
        both(what, lambda where, k: games.ConstantSumGame(U[:k].to(where), 0.0), len(U), span)

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
        what = f"{count} games of {n} actions"
        attempt(what, partial(batch, what, 0.5 + margins(rng, count, n, n)))
    for count, n, m in rectangular:
        what = f"{count} games of {n} x {m} actions"
        attempt(what, partial(two_players, what, torch.from_numpy(rng.normal(size=(count, n, m)))))
    for count, n in many_ties:
        what = f"{count} games of {n} actions with many ties"
        attempt(what, partial(batch, what, ties(count, n)))
    for n, T in iterated:
        attempt(f"multiplicative weights, n = {n}", partial(iterations, n, T))
    for n in large:
        attempt(f"one game of {n} actions", partial(one, n))


if __name__ == "__main__":
    main()
