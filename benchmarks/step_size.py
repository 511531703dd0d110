"""How large a step may be where the judge is cyclic: the demo's run with several steps, iteration by iteration.

    python benchmarks/step_size.py [--out build/step-size] [--steps 2.5 5 10] [--seeds 3] [--iterations 4]

Optimistic multiplicative weights with the pocket models in 4 bits, on the demo's 100 prompts. For each step and
iteration it prints, as means over the seeds with their standard errors, the duality gap of the mix of styles that the
policy answers in and of the mixture so far, that of the same solver on the table of styles, how much of the target the
fit met on held-out prompts (share), the KL per response to the iterate before, and the share of the prompts on which
the responses that the iteration sampled are cyclic. A run takes about two minutes of one core, and leaves its figures
in the folder, so that the same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nashward import games
from nashward.cli.demo import demo, style_game
from nashward.llm.store.files import write_json


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("build/step-size"))
    parser.add_argument("--steps", nargs="+", type=float, default=[2.5, 5.0, 10.0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--iterations", type=int, default=4)
    args = parser.parse_args()
    torch.set_num_threads(1)
    columns = ("gap, last iterate", "on the table", "gap, mixture", "share", "KL", "cyclic prompts")
    print(f"| step | iteration | {' | '.join(columns)} |")
    print("|" + "---|" * (2 + len(columns)))
    for step in args.steps:
        found = [figures(args.out, step, args.iterations, seed) for seed in range(args.seeds)]
        for number in range(1, args.iterations + 1):
            print(f"| {step:g} | {number} | {' | '.join(cells(found, number))} |", flush=True)
    return 0


def figures(out: Path, step: float, iterations: int, seed: int) -> dict[str, Any]:
    """What a run gave, which is played where it is not there yet."""
    folder = out / f"{step:g}-{iterations}-{seed}"
    file = folder / "figures.json"
    if not file.exists():
        play = demo.self_play(folder / "run", iterations, seed)
        play = replace(play, solver=games.OptimisticMWU(step=step))
        run = play.run(progress=False)
        style = style_game.measure(play, run, seed)
        fits = [
            {
                "share": row["held_out"].get("share", row["train"]["share"]),
                "kl": row["train"]["kl"],
                "cyclic": row["cyclic_prompts"],
            }
            for row in run.metrics
        ]
        gaps = {name: style.gaps[name].tolist() for name in style_game.WHICH}
        write_json(file, {"fits": fits, "gaps": gaps, "table": style.table["last"].tolist()})
    content: dict[str, Any] = json.loads(file.read_text())
    return content


def cells(found: list[dict[str, Any]], number: int) -> list[str]:
    """The figures of an iteration, from 1, over the seeds."""
    fits = [one["fits"][number - 1] for one in found]
    return [
        figure([one["gaps"]["last"][number] for one in found]),
        figure([one["table"][number] for one in found]),
        figure([one["gaps"]["average"][number] for one in found]),
        *(figure([fit[name] for fit in fits]) for name in ("share", "kl", "cyclic")),
    ]


def figure(values: list[float]) -> str:
    """A mean over seeds, with its standard error where there are several."""
    text = f"{np.mean(values):.2f}"
    return text if len(values) == 1 else f"{text} ± {np.std(values, ddof=1) / len(values) ** 0.5:.2f}"


if __name__ == "__main__":
    sys.exit(main())
