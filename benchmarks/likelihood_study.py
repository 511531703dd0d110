"""``nashward likelihood-study``: what SPPO, DPO and IPO do to the likelihoods of the responses they are trained on."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nashward.cli import configuration, options
from nashward.cli.options import Option
from nashward.errors import NashwardError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from nashward.llm import LanguageModel, Prompt
    from nashward.llm.training.losses import Loss

    from .likelihood_fits import Course, Study

COURSES, PICTURE = "courses.jsonl", "likelihoods.png"
LOSSES: tuple[Loss, ...] = ("sppo", "dpo", "ipo")
FIT = ("learning-rate", "epochs", "batch", "tokens", "optimiser")
OTHER = ("responses", "max-new-tokens", "rank", "quantise")
LONGEST = 90  # characters of a default prompt
TEMPERATURES = "0.5,1,2"
SETTINGS = {name: options.RUN[name] for name in (*FIT, *OTHER)}
SMALL = {"learning-rate": 3e-3, "epochs": 3, "batch": 4, "tokens": 1500, "max-new-tokens": 48, "rank": 8,
         "quantise": False}  # fmt: skip
MEASURES = (
    ("log-probability, change (nats)", ("chosen", "rejected")),
    ("margin, change (nats)", ("margin",)),
    ("wins against the start", ("wins",)),
    ("tokens", ("tokens",)),
)


def add_study(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=options.path, default=Path("likelihoods"), help="folder (default: likelihoods)")
    models = {
        "policy": Option(("policy",), str, "folder or hub id of a chat model (default: the pocket policy)"),
        "oracle": Option(("oracle",), str, "as for align (default: the pocket PairRM)"),
        "prompts": Option(("prompts",), str, "as for align (default: prompts made for the pocket models)"),
    }
    options.add(parser, models)
    parser.add_argument("--limit", type=options.whole, default=20, help="prompts (default: 20)")
    parser.add_argument("--seeds", type=options.whole, default=5, help="trainings of each kind (default: 5)")
    parser.add_argument("--temperatures", default=TEMPERATURES, help=f"of the oracle (default: {TEMPERATURES})")
    parser.add_argument("--size", type=options.number, default=10.0, help="eta, 1 / beta, 1 / tau (default: 10)")
    parser.add_argument("--points", type=options.whole, default=4, help="measurements of a training (default: 4)")
    options.add_groups(parser, SETTINGS)


def run(given: argparse.Namespace) -> int:
    """Train, seed after seed; what ``--out`` holds already is not trained again."""
    study, settings = _study(given)
    file = given.out / COURSES
    configuration.check_place(file)
    found = read(file, settings)
    done = {
        seed
        for seed in range(given.seeds)
        if sum(c.seed == seed for c in found) == len(LOSSES) * len(study.temperatures)
    }
    missing = [seed for seed in range(given.seeds) if seed not in done]
    found = [course for course in found if course.seed in done]
    if missing:
        from nashward.llm import oracles

        prompts = _prompts(given)
        model, oracle = _model(given, settings), oracles.as_oracle(settings["oracle"])
        for seed in missing:
            courses = study.run(
                model, oracle, prompts, seed, lambda course: None if given.quiet else print(_said(course))
            )
            found += courses
            _write(file, settings, found)
    figure(found).savefig(given.out / PICTURE, dpi=150)
    print(text(found))
    print(f"figures: {file}; picture: {given.out / PICTURE}")
    return 0


def text(courses: Sequence[Course]) -> str:
    """The claims and the sign tests, a line each."""
    from .likelihood_fits import claims

    lines = [f"{'T':>4}  {'claim':<36}{'mean, nats':>12}{'so in':>9}{'p':>8}  verdict"]
    for temperature in sorted({course.temperature for course in courses}):
        for claim in claims([course for course in courses if course.temperature == temperature]):
            agree = f"{claim.agree} of {claim.seeds}"
            figures = f"{claim.mean:>12.2f}{agree:>9}{claim.p:>8.3f}"
            lines.append(f"{temperature:>4g}  {claim.says:<36}{figures}  {claim.verdict}")
    return "\n".join(lines)


def figure(courses: Sequence[Course]) -> Figure:
    """A column a temperature: log-probabilities, margin, win rate and length over the training, mean and standard error
    over the seeds."""
    from matplotlib.figure import Figure

    from nashward.games import plots

    temperatures = sorted({course.temperature for course in courses})
    page = Figure(figsize=(3.6 * len(temperatures) + 0.6, 9.5), layout="constrained")
    axes = page.subplots(len(MEASURES), len(temperatures), sharex=True, sharey="row", squeeze=False)
    for column, temperature in enumerate(temperatures):
        for row, (label, names) in enumerate(MEASURES):
            own = axes[row, column]
            for loss, colour, mark in zip(LOSSES, plots.COLOURS, plots.MARKS, strict=False):
                for name, style in zip(names, ("-", "--"), strict=False):
                    some = [c for c in courses if (c.loss, c.temperature) == (loss, temperature)]
                    if not some:
                        continue
                    values = np.array([getattr(course, name) for course in some])
                    values = values - values[:, :1] if "change" in label else values
                    mean, error = values.mean(0), values.std(0, ddof=len(values) > 1) / len(values) ** 0.5
                    at = some[0].steps
                    legend = f"{loss}, {name}" if len(names) > 1 else loss
                    own.plot(at, mean, style, color=colour, marker=mark, markersize=4, label=legend)
                    own.fill_between(at, mean - error, mean + error, color=colour, alpha=0.18, linewidth=0)
            own.grid(alpha=0.25)
            if "change" in label:
                own.axhline(0, color="black", linewidth=0.8)
            if column == 0:
                own.set_ylabel(label)
            if row == 0:
                own.set_title(f"oracle at temperature {temperature:g}")
        axes[-1, column].set_xlabel("optimiser steps")
    axes[0, 0].legend(fontsize=7, ncols=2)
    return page


def read(file: Path, settings: dict[str, Any]) -> list[Course]:
    """The courses that a folder holds; none where there is none.

    Raises:
        ValueError: they are of other settings.
    """
    from nashward.llm.store.files import read_jsonl

    from .likelihood_fits import Course

    rows = read_jsonl(file)
    if not rows:
        return []
    held = rows[0].get("settings")
    if held != settings:
        other = [key for key in settings if not isinstance(held, dict) or held.get(key) != settings[key]]
        raise NashwardError(f"{file} is of a study with another {', '.join(other)}; choose another folder with --out")
    return [Course(**row) for row in rows[1:]]


def _write(file: Path, settings: dict[str, Any], courses: Sequence[Course]) -> None:
    from nashward.llm.store.files import atomic_write, to_jsonl

    with atomic_write(file) as unfinished:
        unfinished.write_bytes(to_jsonl([{"settings": settings}, *map(dataclasses.asdict, courses)]))


def _study(given: argparse.Namespace) -> tuple[Study, dict[str, Any]]:
    """The study, and all that it depends on but its seeds, as JSON holds it."""
    from nashward.llm import Fit, Sampling, pocket

    from .likelihood_fits import Study

    if given.seeds < 1 or given.limit < 1:
        raise NashwardError(f"--seeds and --limit must be at least 1, got {given.seeds} and {given.limit}")
    if not given.size > 0:
        raise NashwardError(f"--size must be positive, got {given.size:g}")
    try:
        temperatures = [float(part) for part in given.temperatures.split(",")]
    except ValueError:
        raise NashwardError(f"--temperatures: expected numbers with commas, got {given.temperatures!r}") from None
    chosen = SMALL | {name: setting.value for name, setting in configuration.flags(given, SETTINGS).items()}
    study = Study(
        {loss: given.size for loss in LOSSES},
        temperatures,
        chosen.get("responses", 5),
        given.points,
        Sampling(max_new_tokens=chosen["max-new-tokens"], batch=256),
        Fit(**{SETTINGS[name].path[1]: chosen[name] for name in FIT if name in chosen}),
    )
    settings = {
        "policy": getattr(given, "policy", str(pocket.POLICY)), "oracle": getattr(given, "oracle", str(pocket.PAIRRM)),
        "prompts": getattr(given, "prompts", None), "limit": given.limit, "size": given.size, "points": given.points,
        "temperatures": temperatures, **chosen,
    }  # fmt: skip
    return study, json.loads(json.dumps(settings))


def _prompts(given: argparse.Namespace) -> list[Prompt]:
    from nashward.llm import read_prompts
    from nashward.llm.pocket import styles

    source = getattr(given, "prompts", None)
    if source is None:
        some = styles.held_out_prompts(40 * given.limit)
        source = list(dict.fromkeys(text for text in some if text.strip() and len(text) <= LONGEST))
    return list(read_prompts(source).kept)[: given.limit]


def _model(given: argparse.Namespace, settings: dict[str, Any]) -> LanguageModel:
    from nashward.llm import LanguageModel, Lora

    return LanguageModel.from_pretrained(
        settings["policy"], lora=Lora(rank=settings["rank"]), quantise=settings["quantise"]
    )


def _said(course: Course) -> str:
    return (
        f"seed {course.seed}, T {course.temperature:g}, {course.loss}: chosen {course.change('chosen'):+.2f}, rejected "
        f"{course.change('rejected'):+.2f} nats, wins {course.wins[-1]:.3f}"
    )
