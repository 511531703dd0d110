"""How many duels it takes to know the von Neumann winner of a table: challengers of the current policy, or any pairs.

With ``--columns m`` the first m columns are the actions of a second player, and the equilibrium of that n x m game is
sought. A run has arrived at the first round from which on the gap of its policy stays at or below the target until the
horizon.

    python benchmarks/duels_to_winner.py
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import takewhile
from statistics import median
from typing import Any

import numpy as np

from nashward import games
from nashward.games.analysis.dueling import (
    Choice,
    challengers,
    equilibrium_from_duels,
    uniform_pairs,
    winner_from_duels,
)


def arrival(
    game: games.PreferenceGame | games.ConstantSumGame, choose: Choice, seed: int, target: float, horizon: int
) -> int:
    """The duels after which the gap stays at or below the target; the horizon where it does not."""
    P = (game.P if isinstance(game, games.PreferenceGame) else game.payoff).numpy()
    outcomes = np.random.default_rng([seed, 1])

    def duel(pairs: np.ndarray) -> np.ndarray:
        return outcomes.random(len(pairs)) < P[pairs[:, 0], pairs[:, 1]]

    learn: Iterator[tuple[int, Any]]
    if isinstance(game, games.PreferenceGame):
        learn = winner_from_duels(duel, len(P), seed, choose)
    else:
        learn = equilibrium_from_duels(duel, (P.shape[0], P.shape[1]), seed, choose)
    gaps = [(n, float(games.duality_gap(game, x))) for n, x in takewhile(lambda step: step[0] <= horizon, learn)]
    late = [n for n, gap in gaps if gap > target]
    return min([n for n, _ in gaps if not late or n > late[-1]], default=horizon)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--game", default="mujoco_soccer", help="of the zoo (default: mujoco_soccer)")
    parser.add_argument("--columns", type=int, help="actions of a second player (default: none, one set of actions)")
    parser.add_argument("--target", type=float, default=0.05, help="duality gap (default: 0.05)")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--horizon", type=int, default=16_000, help="duels of a run (default: 16000)")
    given = parser.parse_args()
    game, duels = games.zoo.get(given.game), {}
    if given.columns:
        game = games.ConstantSumGame(game.P[:, : given.columns])
    for choose in (uniform_pairs, challengers):
        runs = [arrival(game, choose, seed, given.target, given.horizon) for seed in range(given.seeds)]
        duels[choose.__name__] = median(runs)
        quarter, _, three_quarters = np.quantile(runs, [0.25, 0.5, 0.75])
        print(
            f"{choose.__name__:<14} median {median(runs):>7.0f} duels (quartiles {quarter:.0f}, {three_quarters:.0f})"
        )
    print(f"ratio          {duels['uniform_pairs'] / duels['challengers']:.2f}")


if __name__ == "__main__":
    main()
