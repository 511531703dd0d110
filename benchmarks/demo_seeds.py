"""The demo's run with several seeds: does every fit carry over, does every iterate hold its own, does the gap fall?

    python benchmarks/demo_seeds.py [--out build/demo-seeds] [--seeds 5] [--iterations 6] [--held-out 200]

It plays what ``nashward demo`` plays with a language model: optimistic multiplicative weights with the pocket models in
4 bits, on 100 prompts. The demo holds ten of them out, which is too few to tell a small R2 from none: ``--held-out``
prompts more are played on and neither trained on nor asked how far a fit goes. For each seed and iteration it prints R2
and best scale s* of the fit on held-out prompts, the KL per response to the iterate before, and the win rate over it,
measured on one new response a prompt; then the gap of the mix of styles in the game as the oracle learned it, before
and after, and after what the same solver does on the table. Standard errors are over prompts. A seed takes about three
minutes of one core, and leaves its figures in the folder, so that the same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from nashward import llm
from nashward.cli.demo import demo, style_game
from nashward.llm.pocket import styles
from nashward.llm.report.content import with_error
from nashward.llm.store.files import write_json


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("build/demo-seeds"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--iterations", type=int, default=6)
    parser.add_argument("--held-out", type=int, default=200, help="prompts more than the demo's, to measure fits on")
    args = parser.parse_args()
    torch.set_num_threads(1)
    played = [
        figures(args.out / f"{seed}-{args.iterations}-{args.held_out}", args.iterations, seed, args.held_out)
        for seed in range(args.seeds)
    ]
    print("| seed | iteration | R2 held out | s* | KL | win rate over the one before |")
    print("|---|---|---|---|---|---|")
    for seed, found in enumerate(played):
        for number, row in enumerate(found["fits"], 1):
            fit = (
                f"{with_error(row['r2'], row['r2_error'], 2)} | {row['best_scale']:.2f} | {row['kl']:.2f}"
                if row["moved"]
                else "kept as it was | - | 0"
            )
            wins, errors = (found["style"][name][number][number - 1] for name in ("tournament", "tournament_errors"))
            print(f"| {seed} | {number} | {fit} | {wins:.3f} ± {errors:.3f} |")
    print("\n| seed | gap before | last iterate | on the table | mixture | on the table |")
    print("|---|---|---|---|---|---|")
    for seed, found in enumerate(played):
        gaps, errors, table = (found["style"][name] for name in ("gaps", "errors", "table"))
        cells = [f"{gaps['last'][0]:.2f} ± {errors['last'][0]:.2f}"]
        for which in style_game.WHICH:
            cells += [f"{gaps[which][-1]:.2f} ± {errors[which][-1]:.2f}", f"{table[which][-1]:.2f}"]
        print(f"| {seed} | {' | '.join(cells)} |")
    return 0


def with_more_held_out(play: llm.SelfPlay, more: int) -> llm.SelfPlay:
    """The run with ``more`` prompts held out, and as many to train on and to choose by as before."""
    _, validation, held_out = play.config.fit.parts(demo.PROMPTS)
    total = demo.PROMPTS + more
    fit = replace(play.config.fit, validation=validation / total, held_out=(held_out + more) / total)
    return replace(play, prompts=styles.plain_prompts(total), config=replace(play.config, fit=fit))


def figures(folder: Path, iterations: int, seed: int, more: int) -> dict[str, Any]:
    """The fits and the style game of a seed, from the folder where they are there."""
    file = folder / "figures.json"
    if not file.is_file():
        play = with_more_held_out(demo.self_play(folder / "run", iterations, seed), more)
        run = play.run(progress=False)
        fits = [
            {name: row["held_out"][name] for name in ("r2", "r2_error", "best_scale", "kl")}
            | {"moved": row["line_fraction"] > 0}
            for row in run.metrics
        ]
        write_json(file, {"fits": fits, "style": style_game.measure(play, run, seed).numbers()})
    found: dict[str, Any] = json.loads(file.read_text())
    return found


if __name__ == "__main__":
    sys.exit(main())
