"""Does it pay to weigh responses by how far several judges agree on them? Planted judges on the pocket policy.

    python benchmarks/spread_weights.py [--out build/spread-weights] [--seeds 5] [--cases prompts styles alike]

The truth is the planted table of styles. Three judges see it with errors of their own: a response's merit is off by a
normal number of log-odds, drawn for each judge and text. How large it is depends on the case: large on every third
prompt and small on the others (prompts), large on responses of two styles and small on others (styles), or the same
everywhere, so that the weights have only chance to go by (alike). `--large` and `--small` are the standard deviations.

Each seed plays one step of multiplicative weights twice, from the same responses and judgements: with all responses
alike and with --spread-weights. Of each it prints, on prompts that no run saw, the R2 of the log-ratio against the
targets that the truth sets, and the win rate over the start under the truth; and of their differences the mean over
seeds with its standard error. Every part is kept in the folder, so that the same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from responses import drawn

from nashward import games, llm
from nashward.llm.data.rollouts import Rollout
from nashward.llm.oracles import Ensemble, PreferenceOracle, preference_matrices
from nashward.llm.pocket.styles import judged_table, plain_prompts, style_of
from nashward.llm.run.selfplay import SelfPlay
from nashward.llm.store.files import read_jsonl, write_jsonl
from nashward.llm.training import regression
from nashward.llm.training.batches import MicroBatch

CASES = ("prompts", "styles", "alike")
UNSURE = (1, 2)  # the styles on which judges differ: steps and friendly


@dataclass
class Judge(PreferenceOracle):
    """The planted table, with an error of each text's merit that is this judge's own.

    Attributes:
        seed: of its errors; None: the truth.
        case: where they are large.
        large, small: their standard deviations, log-odds.
    """

    seed: str | None = None
    case: str = "alike"
    large: float = 0.0
    small: float = 0.0
    name: str = "the truth"
    symmetric: bool = True

    def raw_logits(self, prompts: Any, candidates: Any, pairs: Any) -> list[np.ndarray]:
        table = np.log(judged_table() / judged_table().T)
        found = []
        for prompt, texts, own in zip(prompts, candidates, pairs, strict=True):
            styles = [4 if (style := style_of(text)) is None else style for text in texts]
            merits = [self._error(prompt, text, style) for text, style in zip(texts, styles, strict=True)]
            found.append(np.array([table[styles[i], styles[j]] + merits[i] - merits[j] for i, j in own]))
        return found

    def _error(self, prompt: str, text: str, style: int) -> float:
        if self.seed is None:
            return 0.0
        large = {"prompts": _draw(prompt).integers(3) == 0, "styles": style in UNSURE, "alike": True}[self.case]
        return float((self.large if large else self.small) * _draw(self.seed, prompt, text).normal())


def _draw(*of: str) -> np.random.Generator:
    return np.random.default_rng(list(hashlib.sha256("\0".join(of).encode()).digest()[:8]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("build/spread-weights"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=CASES)
    parser.add_argument("--judges", type=int, default=3)
    parser.add_argument("--large", type=float, default=3.0)
    parser.add_argument("--small", type=float, default=0.3)
    parser.add_argument("--prompts", type=int, default=96)
    parser.add_argument("--evaluated", type=int, default=64, help="prompts that no run sees")
    parser.add_argument("--responses", type=int, default=4, help="to a prompt")
    parser.add_argument("--step", type=float, default=3.0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    print("| judges differ on | seed | judges' error | R2 alike | R2 weighed | win rate alike | win rate weighed |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for case in args.cases:
        rows = [of_seed(case, seed, args) for seed in range(args.seeds)]
        found = np.array(rows)
        gains = found[:, [2, 4]] - found[:, [1, 3]]
        means, errors = found.mean(0), gains.std(0, ddof=1) / len(rows) ** 0.5 if len(rows) > 1 else [np.nan] * 2
        print(f"| {case} | mean | {means[0]:.0%} | " + " | ".join(f"{value:.3f}" for value in means[1:]) + " |")
        print(
            f"{case}: weighed minus alike, R2 {gains[:, 0].mean():+.3f} ± {errors[0]:.3f}, "
            f"win rate {gains[:, 1].mean():+.4f} ± {errors[1]:.4f}",
            flush=True,
        )


def of_seed(case: str, seed: int, args: Any) -> list[float]:
    """The judges' share of the targets' variance, R2 of both fits and their win rates."""
    shape = [args.judges, args.large, args.small, args.prompts, args.evaluated, args.responses, args.step]
    home = args.out / f"{case}-{seed}-{hashlib.sha256(repr(shape).encode()).hexdigest()[:8]}"
    if not (home / "result.jsonl").exists():
        texts = plain_prompts(args.prompts + args.evaluated)
        judges = [Judge(f"{seed} {k}", case, args.large, args.small, f"judge {k}") for k in range(args.judges)]
        fits: dict[bool, Any] = {}
        for weighed in (False, True):
            play = SelfPlay(
                policy=llm.pocket.POLICY, oracle=Ensemble(judges), solver=games.MWU(args.step),
                prompts=texts[: args.prompts], folder=home / ("weighed" if weighed else "alike"),
                config=llm.RunConfig(
                    iterations=1, responses=args.responses, seed=seed, quantise=False,
                    sampling=llm.Sampling(max_new_tokens=24), fit=llm.Fit(tokens=1024, spread_weights=weighed),
                ),
            )  # fmt: skip
            run = play.run(progress=False)
            fits[weighed] = (run.metrics[0]["error_share"], *scores(play, run, texts[args.prompts :], seed, args))
        write_jsonl(home / "result.jsonl", [{"alike": fits[False], "weighed": fits[True]}])
    (found,) = read_jsonl(home / "result.jsonl")
    (share, *alike), (_, *weighed) = found["alike"], found["weighed"]
    row = [share, alike[0], weighed[0], alike[1], weighed[1]]
    print(f"| {case} | {seed} | {share:.0%} | " + " | ".join(f"{value:.3f}" for value in row[1:]) + " |", flush=True)
    return row


def scores(play: Any, run: Any, prompts: Sequence[str], seed: int, args: Any) -> tuple[float, float]:
    """R2 against the targets of the truth, and the win rate over the start under it."""
    ids = [play.model.encode(prompt) for prompt in llm.read_prompts(list(prompts)).kept]
    start, K = run.folder / "start" / "adapter", args.responses
    old, new = (
        [[replace(one, weight=1 / K) for one in row] for row in drawn(play, adapter, prompts, K, seed + 1)]
        for adapter in (start, run.last)
    )
    both = [[one.text for one in (*a, *b)] for a, b in zip(new, old, strict=True)]
    tables = np.stack([table.P for table in preference_matrices(Judge(), list(prompts), both)])
    won = float(tables[:, :K, K:].mean())
    weights = torch.full((len(prompts), K), 1 / K, dtype=torch.float64)
    payoffs = regression.win_rates(torch.tensor(tables[:, K:, K:]), weights, torch.arange(K))
    rollouts = [Rollout(str(k), ids[k], own, payoffs[k]) for k, own in enumerate(old)]
    batches = [MicroBatch([rollout]) for rollout in rollouts]
    logprobs = []
    for adapter in (start, run.last):
        with play.model.use_adapter(adapter) as network:
            logprobs.append(torch.cat([batch.logprobs(network, play.model.pad_id) for batch in batches]).double())
    target = regression.targets(payoffs, args.step, weights, "centred")
    return regression.fit_metrics(logprobs[1] - logprobs[0], target, weights, "centred")["r2"], won


if __name__ == "__main__":
    main()
