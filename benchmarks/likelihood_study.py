"""What SPPO, DPO and IPO do to the likelihoods of the responses that they are trained on: one start, the same pairs.

    python benchmarks/likelihood_study.py

Trains each loss at each temperature of the oracle, seed after seed, and tests the claims of the abstract of arXiv
2405.00675 by sign tests over the seeds. By default on the pocket models: seven minutes. The folder ``--out`` receives
the measurements of each training (``training_curves.jsonl``) and their picture (``likelihoods.png``); seeds that it
already holds are not trained again.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
from likelihood_fits import Study, TrainingCurve, claims
from matplotlib.figure import Figure

from nashward.errors import NashwardError
from nashward.games import plots
from nashward.llm import Fit, LanguageModel, Lora, Prompt, Sampling, oracles, pocket, read_prompts
from nashward.llm.pocket import styles
from nashward.llm.store.files import atomic_write, read_jsonl, to_jsonl
from nashward.llm.training.losses import Loss
from nashward.llm.training.optimize import Optimiser

CURVES, PICTURE = "training_curves.jsonl", "likelihoods.png"
LOSSES: tuple[Loss, ...] = ("sppo", "dpo", "ipo")
LONGEST = 90  # characters of a default prompt
MEASURES = (
    ("log-probability, change (nats)", ("chosen", "rejected")),
    ("margin, change (nats)", ("margin",)),
    ("wins against the start", ("wins",)),
    ("tokens", ("tokens",)),
)
NOT_SETTINGS = ("out", "seeds", "quiet")  # arguments that no training depends on


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--out", type=Path, default=Path("likelihoods"), help="folder (default: %(default)s)")
    add("--policy", default=str(pocket.POLICY), help="folder or hub id of a chat model (default: the pocket policy)")
    add("--oracle", default=str(pocket.PAIRRM), help="as for nashward align (default: the pocket PairRM)")
    add("--prompts", help="as for nashward align (default: prompts made for the pocket models)")
    add("--limit", type=int, default=20, help="prompts (default: %(default)s)")
    add("--seeds", type=int, default=5, help="trainings of each kind (default: %(default)s)")
    add("--temperatures", type=_numbers, default="0.5,1,2", help="of the oracle (default: %(default)s)")
    add("--size", type=float, default=10.0, help="eta, 1 / beta, 1 / tau (default: %(default)g)")
    add("--points", type=int, default=4, help="measurements of a training (default: %(default)s)")
    add("--responses", type=int, default=5, help="K, responses per prompt (default: %(default)s)")
    add("--max-new-tokens", type=int, default=48, help="longer responses are cut (default: %(default)s)")
    add("--learning-rate", type=float, default=3e-3, help="default: %(default)g")
    add("--epochs", type=int, default=3, help="passes over the pairs (default: %(default)s)")
    add("--batch", type=int, default=4, help="prompts in an optimiser step (default: %(default)s)")
    add("--tokens", type=int, default=1500, help="padded tokens in a forward pass of training (default: %(default)s)")
    add("--optimiser", choices=get_args(Optimiser), default="adamw", help="default: %(default)s")
    add("--rank", type=int, default=8, help="of the adapter (default: %(default)s)")
    add("--quantise", action=argparse.BooleanOptionalAction, default=False, help="keep the base in 4 bits")
    add("--quiet", action="store_true", help="print the result only")
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Train what ``--out`` does not hold yet; print the claims, draw the picture."""
    options = parser()
    given = options.parse_args(arguments)
    try:
        curves = measure(given)
    except NashwardError as error:
        options.error(str(error))
    figure(curves).savefig(given.out / PICTURE, dpi=150)
    print(text(curves))
    print(f"figures: {given.out / CURVES}; picture: {given.out / PICTURE}")


def measure(given: argparse.Namespace) -> list[TrainingCurve]:
    """The curves of all seeds, those of the folder and those that were trained for it.

    Raises:
        ValueError: a setting is out of its range, or the folder holds curves of other settings.
    """
    if given.seeds < 1 or given.limit < 1:
        raise NashwardError(f"--seeds and --limit must be at least 1, got {given.seeds} and {given.limit}")
    if not given.size > 0:
        raise NashwardError(f"--size must be positive, got {given.size:g}")
    settings = {name: value for name, value in vars(given).items() if name not in NOT_SETTINGS}
    study = Study(
        {loss: given.size for loss in LOSSES},
        given.temperatures,
        given.responses,
        given.points,
        Sampling(max_new_tokens=given.max_new_tokens, batch=256),
        Fit(
            learning_rate=given.learning_rate,
            epochs=given.epochs,
            batch=given.batch,
            tokens=given.tokens,
            optimiser=given.optimiser,
        ),
    )
    file = given.out / CURVES
    stored = read(file, settings)
    complete = {
        seed
        for seed in range(given.seeds)
        if sum(curve.seed == seed for curve in stored) == len(LOSSES) * len(study.temperatures)
    }
    curves = [curve for curve in stored if curve.seed in complete]
    missing = [seed for seed in range(given.seeds) if seed not in complete]
    if missing:
        given.out.mkdir(parents=True, exist_ok=True)
        prompts = _prompts(given.prompts, given.limit)
        model = LanguageModel.from_pretrained(given.policy, lora=Lora(rank=given.rank), quantise=given.quantise)
        oracle = oracles.as_oracle(given.oracle)
        for seed in missing:
            curves += study.run(model, oracle, prompts, seed, _ignore if given.quiet else _print_ends)
            _write(file, settings, curves)
    return curves


def text(curves: Sequence[TrainingCurve]) -> str:
    """The claims and their sign tests, a line each."""
    rows = [f"{'T':>4}  {'claim':<36}{'mean, nats':>12}{'so in':>9}{'p':>8}  verdict"]
    for temperature in sorted({curve.temperature for curve in curves}):
        for claim in claims([curve for curve in curves if curve.temperature == temperature]):
            agree = f"{claim.agree} of {claim.seeds}"
            figures = f"{claim.mean:>12.2f}{agree:>9}{claim.p:>8.3f}"
            rows.append(f"{temperature:>4g}  {claim.statement:<36}{figures}  {claim.verdict}")
    return "\n".join(rows)


def figure(curves: Sequence[TrainingCurve]) -> Figure:
    """A column a temperature: log-probabilities, margin, win rate and length over the training, mean and standard error
    over the seeds."""
    temperatures = sorted({curve.temperature for curve in curves})
    figure = Figure(figsize=(3.6 * len(temperatures) + 0.6, 9.5), layout="constrained")
    grid = figure.subplots(len(MEASURES), len(temperatures), sharex=True, sharey="row", squeeze=False)
    for column, temperature in enumerate(temperatures):
        for row, (label, names) in enumerate(MEASURES):
            axes = grid[row, column]
            for loss, colour, mark in zip(LOSSES, plots.COLOURS, plots.MARKS, strict=False):
                seeds = [curve for curve in curves if (curve.loss, curve.temperature) == (loss, temperature)]
                if not seeds:
                    continue
                for name, style in zip(names, ("-", "--"), strict=False):
                    values = np.array([getattr(curve, name) for curve in seeds])
                    values = values - values[:, :1] if "change" in label else values
                    mean, error = values.mean(0), values.std(0, ddof=len(values) > 1) / len(values) ** 0.5
                    steps = seeds[0].steps
                    legend = f"{loss}, {name}" if len(names) > 1 else loss
                    axes.plot(steps, mean, style, color=colour, marker=mark, markersize=4, label=legend)
                    axes.fill_between(steps, mean - error, mean + error, color=colour, alpha=0.18, linewidth=0)
            axes.grid(alpha=0.25)
            if "change" in label:
                axes.axhline(0, color="black", linewidth=0.8)
            if column == 0:
                axes.set_ylabel(label)
            if row == 0:
                axes.set_title(f"oracle at temperature {temperature:g}")
        grid[-1, column].set_xlabel("optimiser steps")
    grid[0, 0].legend(fontsize=7, ncols=2)
    return figure


def read(file: Path, settings: dict[str, Any]) -> list[TrainingCurve]:
    """The curves that a file holds; none where there is no file.

    Raises:
        ValueError: they are of other settings.
    """
    rows = read_jsonl(file)
    if not rows:
        return []
    stored = rows[0].get("settings")
    if stored != settings:
        differing = [key for key in settings if not isinstance(stored, dict) or stored.get(key) != settings[key]]
        raise NashwardError(
            f"{file} is of a study with another {', '.join(differing)}; choose another folder with --out"
        )
    return [TrainingCurve(**row) for row in rows[1:]]


def _write(file: Path, settings: dict[str, Any], curves: Sequence[TrainingCurve]) -> None:
    with atomic_write(file) as unfinished:
        unfinished.write_bytes(to_jsonl([{"settings": settings}, *map(dataclasses.asdict, curves)]))


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected numbers with commas, got {text!r}") from None


def _prompts(source: str | None, limit: int) -> list[Prompt]:
    """The first prompts of a source as ``nashward align`` reads it; None: short ones for the pocket models."""
    if source is not None:
        return list(read_prompts(source).kept)[:limit]
    generated = styles.held_out_prompts(40 * limit)
    short = list(dict.fromkeys(text for text in generated if text.strip() and len(text) <= LONGEST))
    return list(read_prompts(short).kept)[:limit]


def _ignore(curve: TrainingCurve) -> None:
    pass


def _print_ends(curve: TrainingCurve) -> None:
    print(
        f"seed {curve.seed}, T {curve.temperature:g}, {curve.loss}: chosen {curve.change('chosen'):+.2f}, rejected "
        f"{curve.change('rejected'):+.2f} nats, wins {curve.wins[-1]:.3f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
