"""Several objectives on the pocket models: do weights trace the frontier, is the worst case even, is a floor kept?

    python benchmarks/objectives.py                       # all runs, then the table
    python benchmarks/objectives.py --only floor --seed 1   # one of them; a later call has what is done

Two opposed oracles: "long" prefers the longer response (``Length(2)``), "direct" the style that the pocket policy's
shortest answers have. Each run is 10 iterations of optimistic multiplicative weights with step 2 (the worst case: 16 of
multiplicative weights) on 100 prompts with 8 responses each; afterwards the start and the last iterate give 8 responses
to each of 100 other prompts, which are judged by each oracle. Prints for each run and seed the win rate over the start
under both, with standard errors over prompts; of the worst case the entropic value of each objective against its worst
reply and whether they are equal; of floors whether it is kept; and verdicts over the seeds.

A policy makes both values equal on the prompts that it is trained on, which are a sample as those of the evaluation
are: the error of their difference is that over the prompts of the evaluation times sqrt(1 + evaluated / trained).
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch

from nashward import games, llm
from nashward.games.objectives.entropic import adversary
from nashward.llm.data.prompts import read_prompts
from nashward.llm.evaluation.players import START, policies, sample_responses
from nashward.llm.pocket import styles
from nashward.llm.run.selfplay import metrics
from nashward.llm.store.run_folder import RunFolder

TAU, FLOOR = 0.02, 0.5
RULES = {
    "weights 0.2": "weights:long=0.2:direct=0.8",
    "weights 0.5": "weights:long=0.5:direct=0.5",
    "weights 0.8": "weights:long=0.8:direct=0.2",
    "worst case": f"worst-case:tau={TAU}",
    "floor": f"floors:direct={FLOOR}:limit=2",
}
SEEDS = (0, 1, 2)
NAMES = ("long", "direct")
PROMPTS, HELD_OUT, RESPONSES, ITERATIONS, STEP = 100, 100, 8, 10, 2.0
WORST = 16  # iterations of the worst case, whose weights swing before they settle


class Direct(llm.oracles.ScalarOracle):
    """The direct style over all others, by 1.3 logits."""

    name, fingerprint = "direct", "benchmark direct 1"

    def rewards(self, prompts: Sequence[str], candidates: Sequence[Sequence[str]]) -> list[np.ndarray]:
        return [np.array([1.3 * (styles.style_of(text) == 0) for text in texts]) for texts in candidates]


def members() -> list[llm.oracles.PreferenceOracle]:
    return [llm.oracles.Length(2.0), Direct()]


def run(rule: str, seed: int, folder: Path) -> dict[str, Any]:
    """Play one run, or what is left of it, and measure its last iterate."""
    combination = llm.oracles.Combination.read(NAMES, RULES[rule])
    solver = games.MWU(STEP) if combination.rule == "worst-case" else games.OptimisticMWU(STEP)
    texts = styles.plain_prompts(PROMPTS + HELD_OUT)
    play = llm.SelfPlay(
        policy=llm.pocket.POLICY, oracle=llm.oracles.Objectives(members(), combination), solver=solver,
        prompts=texts[:PROMPTS], folder=folder,
        config=llm.RunConfig(
            iterations=WORST if combination.rule == "worst-case" else ITERATIONS, responses=8,
            sampling=llm.Sampling(max_new_tokens=48, batch=256),
            fit=llm.Fit(epochs=3, batch=4, tokens=1500, validation=0.0),
            lora=llm.Lora(rank=8), quantise=False, seed=seed,
        ),
    )  # fmt: skip
    play.run(progress=False)
    home = RunFolder(folder)
    players = policies(home)
    last = [name for name in players if name.startswith("iteration")][-1]
    prompts = read_prompts(texts[PROMPTS:]).kept
    responses: dict[str, Any] = {}
    for k, name in enumerate((START, last)):  # with one seed the two would have random numbers in common
        player = {name: players[name]}
        responses |= sample_responses(
            home, player, lambda: play.model, prompts, RESPONSES, play.sampling, 100 * seed + k
        )
    drawn = {name: [[r.text for r in row] for row in rows] for name, rows in responses.items()}
    tables = [
        np.stack(
            [r.P for r in llm.oracles.preference_matrices(one, [p.text for p in prompts], drawn[last], drawn[START])]
        )
        for one in members()
    ]
    found: dict[str, Any] = {"rule": rule, "seed": seed}
    for name, table in zip(NAMES, tables, strict=True):
        each = table.mean((1, 2))
        found[name] = [float(each.mean()), float(each.std(ddof=1) / len(each) ** 0.5)]
    wins = torch.from_numpy(np.stack([table.mean(1) for table in tables]))
    even, one = torch.full((1, RESPONSES), 1 / RESPONSES, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    values = np.array([[float(adversary(w[None, None], even, one, TAU)[2]) for w in row] for row in wins])
    difference = values[0] - values[1]
    found["worst replies"] = values.mean(1).tolist()
    found["difference"] = [float(difference.mean()), float(difference.std(ddof=1) / len(difference) ** 0.5)]
    found["weights"] = [metrics(folder)[-1]["objectives"]["multipliers"].get(name, 0.0) for name in NAMES]
    (folder / "measured.json").write_text(json.dumps(found))
    return found


def table(results: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Lines of the table, and verdicts."""
    lines = [f"{'':12} seed   {'wins, long':>15}   {'wins, direct':>15}   {'worst replies':>15}   difference"]
    for rule, rows in results.items():
        for row in rows:
            long, direct = (f"{row[name][0]:.3f} ± {row[name][1]:.3f}" for name in NAMES)
            worst = " and ".join(f"{value:.3f}" for value in row["worst replies"])
            lines.append(
                f"{rule:12} {row['seed']:4}   {long:>15}   {direct:>15}   {worst:>15}   "
                f"{row['difference'][0]:+.3f} ± {row['difference'][1]:.3f}"
            )
    weighted = [results[rule] for rule in RULES if rule.startswith("weights")]
    traced = all(
        a["long"][0] < b["long"][0] and a["direct"][0] > b["direct"][0]
        for lighter, heavier in itertools.pairwise(weighted)
        for a, b in zip(lighter, heavier, strict=True)
    )
    left = [-TAU * float(np.log(row["weights"][0] / row["weights"][1])) for row in results["worst case"]]
    differences = [row["difference"] for row in results["worst case"]]
    both = (1 + HELD_OUT / PROMPTS) ** 0.5
    near = [abs(value - o) <= 2 * error for o, (value, error) in zip(left, differences, strict=True)]
    alone = [abs(value) <= 2 * error for value, error in differences]
    even = [abs(value) <= 2 * both * error for value, error in differences]
    kept = [row["direct"][0] >= FLOOR - 2 * row["direct"][1] for row in results["floor"]]
    return [
        *lines,
        f"more weight wins more, under either and for each seed: {'yes' if traced else 'NO'}",
        f"the worst case is even within 2 standard errors, of both samples of prompts: "
        f"{sum(even)} of {len(even)} seeds",
        f"within those of the evaluation's prompts alone: {sum(alone)} of {len(alone)}; but for what tau leaves "
        f"(-tau log of the weights' ratio, {', '.join(f'{o:+.3f}' for o in left)}): {sum(near)} of {len(near)}",
        f"the floor of {FLOOR} is kept within 2 standard errors: {sum(kept)} of {len(kept)} seeds",
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=RULES, help="this run alone")
    parser.add_argument("--seed", type=int, choices=SEEDS, help="this seed alone")
    parser.add_argument("--out", type=Path, default=Path("build/objectives"), help="where the runs are kept")
    args = parser.parse_args()
    results: dict[str, list[dict[str, Any]]] = {}
    for rule in RULES if args.only is None else [args.only]:
        for seed in SEEDS if args.seed is None else [args.seed]:
            folder = args.out / f"{rule.replace(' ', '-')}-{seed}"
            done = folder / "measured.json"
            found = json.loads(done.read_text()) if done.is_file() else run(rule, seed, folder)
            results.setdefault(rule, []).append(found)
            print(json.dumps(found), flush=True)
    if args.only is None and args.seed is None:
        print("\n".join(table(results)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
