"""Does it matter which prompts an iteration plays on? Four ways of choosing them, at equal numbers of judgements.

    python benchmarks/prompt_selection.py [--out build/prompt-selection] [--policy pocket|smollm2] [--prompts 24]
        [--iterations 2] [--pool 112] [--evaluated 48]

Each arm plays the same number of iterations on the same number of prompts out of one pool, from the same start under
the same oracle: SmolLM2-135M under a majority of three everyday judges (which needs the extra ``real``), or the
pocket policy under a rule that prefers the longer response. The arms are: the next prompts of a shuffled order
(plain), the informative ones, those that cover the pool, and plain ones with variants that the policy writes of the
informative fifth (augmented), which are among the number. Where fewer variants were written than wanted, the arm has
fewer judgements; both are printed.

It prints the win rate of each arm's last iterate over the start on prompts that no arm saw, with its error over these
prompts, the difference from plain on the same prompts with its error, and the R2 of the last fit on held-out prompts.
Every part is kept in the folder, so that the same command goes on where it was stopped. An arm of 24 prompts and two
iterations takes some minutes of one core with SmolLM2.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from responses import drawn_once

from nashward import games, llm
from nashward.llm.oracles import Length, preference_matrices
from nashward.llm.oracles.judges.everyday import EverydayMajority
from nashward.llm.pocket.styles import plain_prompts
from nashward.llm.store.files import read_jsonl, read_shard, shards, write_json
from nashward.llm.store.run_folder import AUGMENTED, RunFolder

ARMS: dict[str, dict[str, Any]] = {
    "plain": {},
    "informative": {"prompt_selection": "informative"},
    "coverage": {"prompt_selection": "coverage"},
    "augmented": {"augment": "policy"},
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("build/prompt-selection"))
    parser.add_argument("--policy", choices=("pocket", "smollm2"), default="pocket")
    parser.add_argument("--prompts", type=int, default=24, help="of an iteration")
    parser.add_argument("--iterations", type=int, default=2)
    parser.add_argument("--pool", type=int, default=112, help="prompts that the arms choose from")
    parser.add_argument("--evaluated", type=int, default=48, help="prompts of the evaluation, which no arm sees")
    parser.add_argument("--responses", type=int, default=4, help="to a prompt")
    parser.add_argument("--tokens", type=int, default=24, help="of a response at most")
    parser.add_argument("--step", type=float, default=2.5, help="of optimistic multiplicative weights")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--arms", nargs="+", choices=tuple(ARMS), default=list(ARMS))
    args = parser.parse_args()
    torch.set_num_threads(1)
    small = args.policy == "pocket"
    wanted = args.pool + args.evaluated
    texts = plain_prompts(wanted) if small else llm.pocket.PROMPTS.read_text(encoding="utf-8").splitlines()
    if len(texts) < wanted:
        parser.error(f"there are {len(texts)} prompts, {wanted} are needed: lower --pool or --evaluated")
    pool, unseen = texts[: args.pool], texts[args.pool : wanted]
    oracle: Any = Length(1.0) if small else EverydayMajority()
    policy = llm.pocket.POLICY if small else "real:smollm2-135m"
    rates: dict[str, np.ndarray] = {}
    rows: dict[str, dict[str, Any]] = {}
    for arm in args.arms:
        config = llm.RunConfig(
            iterations=args.iterations, responses=args.responses, prompts_per_iteration=args.prompts, seed=args.seed,
            quantise=False, sampling=llm.Sampling(max_new_tokens=args.tokens),
            fit=llm.Fit(tokens=1024, validation=0.15, held_out=0.15), **ARMS[arm],
        )  # fmt: skip
        play = llm.SelfPlay(
            policy=policy, oracle=oracle, solver=games.OptimisticMWU(args.step), prompts=pool, folder=args.out / arm,
            config=config,
        )  # fmt: skip
        run = play.run(progress=False)
        start, ours = (
            drawn_once(args.out / f"{name}-responses.jsonl", play, adapter, unseen, args.responses, args.seed + number)
            for number, name, adapter in ((1, "start", run.folder / "start" / "adapter"), (2, arm, run.last))
        )
        rates[arm] = over_the_start(oracle, unseen, ours, start)
        rows[arm] = {**counts(run.folder), "r2": [row["held_out"].get("r2") for row in run.metrics]}
        print(line(arm, rates, rows[arm]), flush=True)
    report = {arm: {**rows[arm], "win_rates": rates[arm].tolist()} for arm in rows}
    write_json(args.out / "result.json", {"settings": vars(args) | {"out": str(args.out)}, "arms": report})
    return 0


def over_the_start(oracle: Any, texts: Sequence[str], ours: Any, start: Any) -> np.ndarray:
    """The mean win probability of a policy's responses over the start's, by prompt."""
    both = [[one.text for one in (*a, *b)] for a, b in zip(ours, start, strict=True)]
    tables = preference_matrices(oracle, list(texts), both)
    k = len(ours[0])
    return np.array([np.asarray(table.P)[:k, k:].mean() for table in tables])


def counts(folder: Path) -> dict[str, int]:
    """How many prompts were judged over the run, in pairs of how many responses, and how many were written."""
    prompts = pairs = written = 0
    for step in RunFolder(folder).steps():
        written += len(read_jsonl(step / AUGMENTED))
        for file in shards(step / "judgements", "*"):
            for row in read_shard(file, ["P"]):
                prompts += 1
                pairs += len(row["P"]) * (len(row["P"]) - 1) // 2
    return {"prompts": prompts, "pairs": pairs, "written": written}


def line(arm: str, rates: dict[str, np.ndarray], row: dict[str, Any]) -> str:
    own = rates[arm]
    text = f"{arm}: win rate over the start {with_error(own)}"
    if arm != "plain" and "plain" in rates:
        text += f", less plain's {with_error(own - rates['plain'])}"
    r2 = ", ".join("-" if value is None else f"{value:.2f}" for value in row["r2"])
    written = f" ({row['written']} written)" if row["written"] else ""
    return f"{text}; R2 held out {r2}; {row['prompts']} prompts{written}, {row['pairs']} pairs judged"


def with_error(values: np.ndarray) -> str:
    return f"{values.mean():.3f} +- {values.std(ddof=1) / np.sqrt(len(values)):.3f}"


if __name__ == "__main__":
    sys.exit(main())
