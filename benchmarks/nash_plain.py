"""What ``games.nash`` takes without the accelerator, on random games: the median and the range of several.

python benchmarks/nash_plain.py
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from typing import Any

hidden: dict[str, Any] = sys.modules
hidden["numba"] = None  # before nashward looks for it

from nashward import games
from nashward.games.compiled.accelerator import ACCELERATED


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[3, 10, 30, 100, 300])
    parser.add_argument("--games", type=int, default=5)
    given = parser.parse_args()
    assert not ACCELERATED
    print(f"{'n':>5}{'median':>12}{'least':>12}{'most':>12}   milliseconds of CPU")
    for n in given.sizes:
        taken = []
        for seed in range(given.games):
            game = games.zoo.random_preferences(n, seed=seed)
            games.nash(game)  # once unmeasured
            began = time.process_time()
            equilibrium = games.nash(game)
            _ = equilibrium.policy
            taken.append(1000 * (time.process_time() - began))
            assert float(equilibrium.gap) <= 1e-12
        print(f"{n:>5}{statistics.median(taken):12.2f}{min(taken):12.2f}{max(taken):12.2f}")


if __name__ == "__main__":
    main()
