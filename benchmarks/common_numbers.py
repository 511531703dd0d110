"""What random numbers in common do to a win rate: policies of a run, paired by the same draw and by different ones.

    python benchmarks/common_numbers.py [--out build/common-numbers] [--responses 8] [--iterations 3]

The pocket policy plays the pocket PairRM on its 160 prompts. Then each policy draws several responses to each prompt,
all with the same random numbers. Responses of two policies that have the same number come from the same draw, those of
different numbers are independent. Of each pair of policies it prints the win rate over both kinds of pairs, with
standard errors over prompts, and how many responses of the same draw are the same text. A win rate is the mean over
independent draws; what the others give beside it is no noise, and does not vanish with more prompts.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from pathlib import Path

import numpy as np
import torch

from nashward import games, llm
from nashward.llm.evaluation.players import policies, sample_responses
from nashward.llm.store.run_folder import RunFolder


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("build/common-numbers"))
    parser.add_argument("--responses", type=int, default=8, help="of each policy to a prompt")
    parser.add_argument("--iterations", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    config = llm.RunConfig(
        iterations=args.iterations, responses=4, quantise=False, sampling=llm.Sampling(max_new_tokens=24)
    )
    play = llm.SelfPlay(
        policy=llm.pocket.POLICY, oracle=llm.pocket.PAIRRM, solver=games.OptimisticMWU(2.5),
        prompts=llm.pocket.PROMPTS, folder=args.out, config=config,
    )  # fmt: skip
    run = play.run(progress=False)
    home, prompts = RunFolder(run.folder), run.prompts.kept
    players = policies(home)
    rows = sample_responses(
        home, players, lambda: play.model, prompts, args.responses, play.sampling, play.config.seed, common=True
    )
    texts = {name: [[one.text for one in row] for row in drawn] for name, drawn in rows.items()}
    print("| first | second | independent | same draw | difference | the same text |")
    print("|" + "---|" * 6)
    for second, first in itertools.combinations(texts, 2):
        table = wins(play.judge, [prompt.text for prompt in prompts], texts[first], texts[second])
        same = np.eye(args.responses, dtype=bool)
        independent, paired = table[:, ~same].mean(1), table[:, same].mean(1)
        equal = np.mean(
            [a == b for x, y in zip(texts[first], texts[second], strict=True) for a, b in zip(x, y, strict=True)]
        )
        figures = " | ".join(f"{values.mean():.3f} ± {error(values):.3f}" for values in (independent, paired))
        apart = paired - independent
        print(
            f"| {first} | {second} | {figures} | {apart.mean():+.3f} ± {error(apart):.3f} | {equal:.0%} |", flush=True
        )
    return 0


def wins(judge: object, prompts: list[str], first: list[list[str]], second: list[list[str]]) -> np.ndarray:
    """[prompts, K, K], the win probability of each of the first's responses over each of the second's."""
    both = [[*a, *b] for a, b in zip(first, second, strict=True)]
    k = len(first[0])
    return np.array([np.asarray(table.P)[:k, k:] for table in llm.oracles.preference_matrices(judge, prompts, both)])


def error(values: np.ndarray) -> float:
    return float(values.std(ddof=1) / len(values) ** 0.5)


if __name__ == "__main__":
    sys.exit(main())
