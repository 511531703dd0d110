"""How many boards that scores explain the leaderboard's chi-squared accuses, and of boards with a planted cycle how
many it finds: where each battle has a prompt of its own, beside the plain chi-squared; where all models meet on the
same prompts, which may have tastes of their own, beside the test that takes battles as independent.

python benchmarks/chi_squared.py --tables 400
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
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
PROMPTS = ((3, 100), (4, 30), (6, 20), (6, 100))  # models, prompts on which all of them meet
CYCLE = 2.0  # log-odds in the cycle of the first three models, of battles with prompts of their own
PLANTED = 0.2  # of the shared prompts, on which the first three models go in the same circle


def none(prompts: int, n: int, rng: np.random.Generator) -> np.ndarray:
    """[prompts, n, n] log-odds of a prompt: models are equal."""
    return np.zeros((prompts, n, n))


def far_apart(prompts: int, n: int, rng: np.random.Generator) -> np.ndarray:
    """The same scores on all, with a standard deviation of 3 nats."""
    return np.tile(difference(rng.normal(0, 3, n)), (prompts, 1, 1))


def tastes(prompts: int, n: int, rng: np.random.Generator) -> np.ndarray:
    """Scores of their own, with a standard deviation of 2 nats."""
    return difference(rng.normal(0, 2, (prompts, n)))


def rankings(prompts: int, n: int, rng: np.random.Generator) -> np.ndarray:
    """A ranking of its own, which decides every battle."""
    return 1000 * tastes(prompts, n, rng)


def circles(prompts: int, n: int, rng: np.random.Generator) -> np.ndarray:
    """Each three models in a circle, all of a prompt this way round or that; others are even."""
    return in_circles(rng.choice([-1000.0, 1000.0], prompts), n)


def difference(scores: np.ndarray) -> np.ndarray:
    return scores[..., :, None] - scores[..., None, :]


def in_circles(way: np.ndarray, n: int) -> np.ndarray:
    """[prompts, n, n], of log-odds ``way`` [prompts]."""
    found = np.zeros((len(way), n, n))
    for k in range(0, n - 2, 3):
        for a, b in ((k, k + 1), (k + 1, k + 2), (k + 2, k)):
            found[:, a, b], found[:, b, a] = way, -way
    return found


KINDS: dict[str, Callable[[int, int, np.random.Generator], np.ndarray]] = {
    "nothing": none, "nothing, far apart": far_apart, "tastes": tastes, "a ranking": rankings, "circles": circles,
}  # fmt: skip


def plain(misfit: np.ndarray, p: np.ndarray, met: np.ndarray, players: np.ndarray, design: float) -> float:
    """Pearson's chi-squared as of large counts."""
    spare = standardised_incidence(players, met * p * (1 - p))[1]
    return float(chi2.sf((misfit**2 / (met * p * (1 - p))).sum() / design, spare))


def battles(n: int, mean: float, odds: np.ndarray, ties: float, rng: np.random.Generator) -> Battles:
    """Battles on prompts of their own; of those of equal models a share are ties, of others fewer."""
    i, j = np.triu_indices(n, 1)
    met = rng.poisson(mean, len(i)) if mean < 4 else np.full(len(i), int(mean))
    i, j = np.repeat(i, met), np.repeat(j, met)
    p = expit(odds[i, j])
    tie = 2 * ties * np.minimum(p, 1 - p)
    drawn = rng.random(len(i))
    won = np.where(drawn < tie, 0.5, drawn < tie / 2 + p)
    return Battles(tuple(map(str, range(n))), i, j, won, 1 - won, np.arange(len(i)), len(i), True)


def below(boards: list[Battles]) -> float:
    """The share of boards with a p-value below the level."""
    return float(np.mean([board.fit_p_value() < LEVEL for board in boards]))


def accused(
    n: int, mean: float, spread: float, ties: float, cycle: float, tables: int, seed: int
) -> tuple[float, float]:
    """The shares of boards that are accused: by the leaderboard's test, and by the plain chi-squared."""
    rng = np.random.default_rng(seed)
    odds = difference(rng.normal(0, spread, n))
    if cycle:
        odds[:3, :3] = in_circles(np.array([cycle]), 3)[0]
    drawn = [battles(n, mean, odds, ties, rng) for _ in range(tables)]
    ours = below(drawn)
    with patch.object(misfit, "pearson_p_value", plain):
        return ours, below(drawn)


def on_prompts(n: int, prompts: int, kind: str, planted: float, rng: np.random.Generator) -> Battles:
    """Battles of all pairs on each prompt, with a cycle planted in a share of these."""
    i, j = np.triu_indices(n, 1)
    odds = KINDS[kind](prompts, n, rng)
    same = rng.random(prompts) < planted
    odds[same, :3, :3] = in_circles(np.array([1000.0]), 3)
    p = expit(odds[:, i, j])
    won = (rng.random(p.shape) < p).astype(float).reshape(-1)
    prompt = np.repeat(np.arange(prompts), len(i))
    return Battles(
        tuple(map(str, range(n))), np.tile(i, prompts), np.tile(j, prompts), won, 1 - won, prompt, prompts, True
    )


def accused_on_prompts(n: int, prompts: int, kind: str, planted: float, tables: int, seed: int) -> tuple[float, float]:
    """As ``accused``, by the leaderboard's test and by the one that takes battles as independent."""
    rng = np.random.default_rng(seed)
    drawn = [on_prompts(n, prompts, kind, planted, rng) for _ in range(tables)]
    return below(drawn), below([replace(one, prompt=np.arange(len(one.won)), prompts=len(one.won)) for one in drawn])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    print("| models | battles a pair | scores | here | with ties | plain | with ties | a cycle: here | plain |")
    for n, mean, spread in CASES:
        shares = [accused(n, mean, spread, ties, 0.0, args.tables, args.seed) for ties in (0.0, 0.5)]
        found = accused(n, mean, spread, 0.0, CYCLE, args.tables, args.seed)
        shown = " | ".join(f"{share:.1%}" for share in (*(shares[k][of] for of in (0, 1) for k in (0, 1)), *found))
        print(f"| {n} | {mean:g} | {spread:g} | {shown} |", flush=True)
    print("\n| models | prompts | a prompt's own | here | as if independent | a cycle: here | as if independent |")
    for n, prompts in PROMPTS:
        for kind in KINDS:
            level = accused_on_prompts(n, prompts, kind, 0.0, args.tables, args.seed)
            power = accused_on_prompts(n, prompts, kind, PLANTED, args.tables, args.seed)
            shown = " | ".join(f"{share:.1%}" for share in (*level, *power))
            print(f"| {n} | {prompts} | {kind} | {shown} |", flush=True)


if __name__ == "__main__":
    main()
