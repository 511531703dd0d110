"""How often the 95% intervals of Dawid and Skene's accuracies hold the true ones, for judges who err independently.

python benchmarks/agreement_intervals.py --sets 400
"""

from __future__ import annotations

import argparse

import numpy as np

from nashward.games.analysis.dawid_skene import dawid_skene

CASES = (  # accuracies, pairs
    ((0.6, 0.6, 0.6), 200), ((0.65, 0.65, 0.65), 200), ((0.65, 0.65, 0.65), 1000), ((0.85, 0.8, 0.75), 200),
    ((0.55, 0.7, 0.8), 200), ((0.6, 0.6, 0.9), 200), ((0.6, 0.6, 0.9), 1000), ((0.6, 0.6, 0.6, 0.6, 0.9), 200),
)  # fmt: skip


def verdicts(accuracies: np.ndarray, pairs: int, rng: np.random.Generator) -> np.ndarray:
    """Which of each pair every judge prefers, [judges, pairs]: the better one with the judge's accuracy."""
    first = rng.random(pairs) < 0.5
    right = rng.random((len(accuracies), pairs)) < accuracies[:, None]
    return np.where(right, first, ~first).astype(float)


def coverage(accuracies: np.ndarray, pairs: int, sets: int, seed: int) -> tuple[np.ndarray, float]:
    """How often each judge's interval holds its accuracy, and the mean width of all intervals."""
    rng = np.random.default_rng(seed)
    low, high = np.array([dawid_skene(verdicts(accuracies, pairs, rng)).interval for _ in range(sets)]).swapaxes(0, 1)
    return ((low <= accuracies) & (accuracies <= high)).mean(0), float((high - low).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=400, help="sets of verdicts of each case (default: 400)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    print("accuracies                pairs  intervals that hold each             mean width")
    for given, pairs in CASES:
        held, width = coverage(np.array(given), pairs, args.sets, args.seed)
        shares = ", ".join(f"{share:.1%}" for share in held)
        print(f"{', '.join(map(str, given)):<24}  {pairs:>5}  {shares:<35}  {width:.2f}")


if __name__ == "__main__":
    main()
