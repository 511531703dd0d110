"""How many tables that scores explain the leaderboard's chi-squared accuses, beside the plain chi-squared.

python benchmarks/chi_squared.py --tables 400
"""

from __future__ import annotations

import argparse
from unittest.mock import patch

import numpy as np
from scipy.special import expit
from scipy.stats import chi2

from nashward.games.analysis.battles import Battles, misfit
from nashward.games.analysis.ratings import standardised_incidence

LEVEL = 0.05
CASES = (  # models, battles a pair (at random with that mean below 4), standard deviation of the scores in nats
    (8, 100, 0.5), (8, 36, 5.0), (8, 5, 0.5), (20, 20, 1.5), (20, 1, 0.5), (20, 3, 3.0), (40, 2, 3.0),
)  # fmt: skip
PROMPTS = ((6, 100, "tastes"), (6, 30, "tastes"), (3, 100, "circles"), (6, 100, "circles"))  # models, prompts


def plain(misfit: np.ndarray, p: np.ndarray, met: np.ndarray, players: np.ndarray, design: float) -> float:
    """Pearson's chi-squared as of large counts."""
    spare = standardised_incidence(players, met * p * (1 - p))[1]
    return float(chi2.sf((misfit**2 / (met * p * (1 - p))).sum() / design, spare))


def battles(n: int, mean: float, scores: np.ndarray, ties: float, rng: np.random.Generator) -> Battles:
    """Battles that scores explain; of those of equal models a share are ties, of others fewer."""
    i, j = np.triu_indices(n, 1)
    met = rng.poisson(mean, len(i)) if mean < 4 else np.full(len(i), int(mean))
    i, j = np.repeat(i, met), np.repeat(j, met)
    p = expit(scores[i] - scores[j])
    tie = 2 * ties * np.minimum(p, 1 - p)
    drawn = rng.random(len(i))
    won = np.where(drawn < tie, 0.5, drawn < tie / 2 + p)
    return Battles(tuple(map(str, range(n))), i, j, won, 1 - won, np.arange(len(i)), len(i), True)


def accused(n: int, mean: float, spread: float, ties: float, tables: int, seed: int) -> tuple[float, float]:
    """The shares of tables with a p-value below the level: of the leaderboard's, and of the plain chi-squared."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(0, spread, n)
    drawn = [battles(n, mean, scores, ties, rng) for _ in range(tables)]
    ours = [one.fit_p_value() for one in drawn]
    with patch.object(misfit, "pearson_p_value", plain):
        peer = [one.fit_p_value() for one in drawn]
    return float(np.mean(np.array(ours) < LEVEL)), float(np.mean(np.array(peer) < LEVEL))


def on_prompts(n: int, prompts: int, kind: str, rng: np.random.Generator) -> Battles:
    """All pairs on each prompt, of equal models: each prompt has scores of its own, or goes in circles either way."""
    i, j = np.triu_indices(n, 1)
    if kind == "tastes":
        scores = rng.normal(0, 2, (prompts, n))
        p = expit(scores[:, i] - scores[:, j])
    else:
        step = np.where(i // 3 == j // 3, np.where(j - i == 1, 0.5, -0.5), 0.0)  # all circles of a prompt go one way
        p = 0.5 + step * rng.choice([-1, 1], (prompts, 1))
    won = (rng.random(p.shape) < p).astype(float).reshape(-1)
    prompt = np.repeat(np.arange(prompts), len(i))
    return Battles(
        tuple(map(str, range(n))), np.tile(i, prompts), np.tile(j, prompts), won, 1 - won, prompt, prompts, True
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    print("| models | battles a pair | scores | here | with ties | plain chi-squared | with ties |")
    for n, mean, spread in CASES:
        shares = [accused(n, mean, spread, ties, args.tables, args.seed) for ties in (0.0, 0.5)]
        shown = " | ".join(f"{shares[k][of]:.1%}" for of in (0, 1) for k in (0, 1))
        print(f"| {n} | {mean:g} | {spread:g} | {shown} |", flush=True)
    print("\n| models | prompts | each prompt has | here | as if pairs were independent |")
    for n, prompts, kind in PROMPTS:
        rng = np.random.default_rng(args.seed)
        drawn = [on_prompts(n, prompts, kind, rng) for _ in range(args.tables)]
        ours = [one.fit_p_value() < LEVEL for one in drawn]
        with patch.object(misfit, "_dependence", lambda *_: 1.0):
            apart = [one.fit_p_value() < LEVEL for one in drawn]
        print(f"| {n} | {prompts} | {kind} | {np.mean(ours):.1%} | {np.mean(apart):.1%} |", flush=True)


if __name__ == "__main__":
    main()
