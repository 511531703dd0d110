"""How often the 95% intervals of Dawid and Skene's accuracies hold the true ones, for judges who err independently.

Those of profile likelihood, and beside them Wald's: the log-odds less and plus 1.96 standard errors.

python benchmarks/agreement_intervals.py --sets 400
"""

from __future__ import annotations

import argparse

import numpy as np
from scipy.special import expit

from nashward.games.analysis.dawid_skene import CONFIDENCE, dawid_skene

CASES = (  # accuracies, pairs
    ((0.6, 0.6, 0.6), 200), ((0.65, 0.65, 0.65), 200), ((0.65, 0.65, 0.65), 1000), ((0.85, 0.8, 0.75), 200),
    ((0.55, 0.7, 0.8), 200), ((0.6, 0.6, 0.9), 200), ((0.6, 0.6, 0.9), 1000), ((0.6, 0.6, 0.6, 0.6, 0.9), 200),
)  # fmt: skip


def verdicts(accuracies: np.ndarray, pairs: int, rng: np.random.Generator) -> np.ndarray:
    """Which of each pair every judge prefers, [judges, pairs]: the better one with the judge's accuracy."""
    first = rng.random(pairs) < 0.5
    right = rng.random((len(accuracies), pairs)) < accuracies[:, None]
    return np.where(right, first, ~first).astype(float)


def coverage(
    accuracies: np.ndarray, pairs: int, sets: int, seed: int
) -> tuple[tuple[np.ndarray, float], tuple[np.ndarray, float]]:
    """How often each judge's interval holds its accuracy, and the mean width; and so of Wald's intervals."""
    rng = np.random.default_rng(seed)
    fits = [dawid_skene(verdicts(accuracies, pairs, rng)) for _ in range(sets)]
    spread = [np.multiply.outer([-CONFIDENCE, CONFIDENCE], fit.standard_error) for fit in fits]
    walds = expit(np.array([fit.weights + ends for fit, ends in zip(fits, spread, strict=True)]))
    own, wald = (
        (((low <= accuracies) & (accuracies <= high)).mean(0), float((high - low).mean()))
        for low, high in (ends.swapaxes(0, 1) for ends in (np.array([fit.interval for fit in fits]), walds))
    )
    return own, wald


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=400, help="sets of verdicts of each case (default: 400)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    print(f"{'accuracies':<24}  pairs  {'intervals that hold each':<34}  width  {'of Wald':<34}  width")
    for given, pairs in CASES:
        found = coverage(np.array(given), pairs, args.sets, args.seed)
        columns = "  ".join(f"{', '.join(f'{share:.0%}' for share in held):<34}  {width:5.2f}" for held, width in found)
        print(f"{', '.join(map(str, given)):<24}  {pairs:>5}  {columns}")


if __name__ == "__main__":
    main()
