"""Four ways to play the pocket models against themselves, each from several seeds: the gap and what the fits achieved.

    python benchmarks/pocket_solvers.py

MWU, optimistic MWU, magnetic mirror descent and the preset `sppo-paper` on the same prompts, with the pocket policy and
the pocket PairRM. Prints, as mean and standard deviation over the seeds, the duality gap of the style mixture of the
last iterate and of the mixture of the iterates, the win rate of the last against the base, and of the fits the share of
the target, R^2 on held-out prompts and the KL of a step.
"""

from __future__ import annotations

import argparse
import datetime
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nashward import games
from nashward.cli import configuration
from nashward.cli.demo import style_game
from nashward.cli.demo.demo import self_play

SOLVERS: dict[str, games.Solver] = {
    "MWU": games.MWU(step=2.5),
    "optimistic MWU": games.OptimisticMWU(step=2.5),
    "MMD": games.MagneticMirrorDescent(step=1.2, tau=0.3),
}
COLUMNS = ("gap, last", "gap, mixture", "wins, last", "share", "R2 held out", "KL of a step", "seconds")


def preset(play: Any, name: str) -> Any:
    """The run with the solver and the settings of a preset that are not sizes of prompts, responses or iterations."""
    settings = configuration.preset(name)
    with tempfile.TemporaryDirectory() as folder:
        tuned = configuration.self_play({**settings, "out": configuration.Setting(folder, "benchmark")})
    config, sizes = tuned.config, play.config
    sampling = replace(config.sampling, max_new_tokens=sizes.sampling.max_new_tokens, batch=sizes.sampling.batch)
    fit = replace(config.fit, tokens=sizes.fit.tokens)
    config = replace(sizes, sampling=sampling, fit=fit, self_comparison=config.self_comparison)
    return replace(play, solver=tuned.solver, config=config)


def measured(play: Any, seed: int) -> list[float]:
    """The figures of one run, in the order of ``COLUMNS``."""
    began = time.monotonic()
    run = play.run(progress=False)
    style = style_game.measure(play, run, seed)
    fits = [(row["train"]["share"], row["held_out"].get("r2", np.nan), row["train"]["kl"]) for row in run.metrics]
    return [
        style.gaps["last"][-1], style.gaps["average"][-1], style.wins[style.names[-2]].value,
        *np.mean(fits, axis=0), time.monotonic() - began,
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--iterations", type=int, default=3)
    parser.add_argument("--prompts", type=int, help="fewer prompts, for a try")
    parser.add_argument("--json", type=Path, help="write all figures into this file too")
    given = parser.parse_args()
    torch.set_num_threads(1)
    results: dict[str, list[list[float]]] = {name: [] for name in (*SOLVERS, "sppo-paper")}
    for seed in range(given.seeds):
        for name, figures in results.items():
            with tempfile.TemporaryDirectory() as folder:
                play = self_play(Path(folder) / "run", given.iterations, seed)
                play.prompts = play.prompts[: given.prompts]
                play = replace(play, solver=SOLVERS[name]) if name in SOLVERS else preset(play, name)
                figures.append(measured(play, seed))
    print(f"{datetime.date.today()}; {given.iterations} iterations, {given.seeds} seeds: mean and standard deviation")
    print(f"{'':<16}" + "".join(f"{column:>18}" for column in COLUMNS))
    for name, figures in results.items():
        mean, spread = np.mean(figures, 0), np.std(figures, 0, ddof=1 if given.seeds > 1 else 0)
        print(f"{name:<16}" + "".join(f"{f'{m:.3g} ± {s:.1g}':>18}" for m, s in zip(mean, spread, strict=True)))
    if given.json is not None:
        given.json.write_text(json.dumps({"columns": COLUMNS, **results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
