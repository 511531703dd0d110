"""``nashward align``, and its stages alone: ``sample``, ``judge``, ``train``."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from nashward.cli import configuration, hints, options, solver_options
from nashward.cli.command import Command
from nashward.console import printable

if TYPE_CHECKING:
    from nashward.llm.run.selfplay import Run, SelfPlay
    from nashward.llm.store.run_folder import Stage

PEOPLE = [name for name in options.RUN if name.startswith("people-")]
_NEXT: dict[str | None, str] = {"sample": "judge --oracle ID_OR_FOLDER", "judge": "train", "train": "sample"}


TRACKERS = ("tensorboard", "wandb", "mlflow", "trackio", "none")


def _add_align(parser: argparse.ArgumentParser) -> None:
    group = solver_options.add_run(parser, ("policy", "oracle"))
    _add_tracker(group)
    group.add_argument(
        "--from", dest="redo", choices=("sample", "judge", "train"), metavar="STAGE",
        help="make the newest step again from this stage on (sample, judge or train); what it has is set aside. From "
        "train on with other options of the fit, as --learning-rate, on the same judged responses",
    )  # fmt: skip


def _add_sample(parser: argparse.ArgumentParser) -> None:
    solver_options.add_run(parser, ("policy",))


def _add_judge(parser: argparse.ArgumentParser) -> None:
    solver_options.add_run(parser, ("oracle", "objective", "combine", "correct"), ("cache", *options.JUDGE, *PEOPLE))


def _add_train(parser: argparse.ArgumentParser) -> None:
    _add_tracker(solver_options.add_run(parser, ("policy",)))


def _add_tracker(group: Any) -> None:
    group.add_argument(
        "--report-to", choices=TRACKERS, default="none",
        help="log every number of the metrics, and the report's pictures, with tensorboard, wandb, mlflow or trackio; "
        "without a server of yours into the run folder (default: none)",
    )  # fmt: skip


def _stage(until: Stage | None, args: argparse.Namespace) -> int:
    from nashward.llm.processes import Interrupted, processes
    from nashward.llm.run.signals import stop_on_signals

    with stop_on_signals() as received:
        try:
            return _play(until, args, received)
        except Interrupted as stopped:  # of the run, or behind it, as while another process writes the report
            if processes.main:
                print(printable(f"nashward: {stopped}; the same command continues"), file=sys.stderr)
            return received.exit_code


def _play(until: Stage | None, args: argparse.Namespace, received: Any) -> int:
    chosen = configuration.settings(args)
    _check_names(chosen)
    from nashward.llm import report
    from nashward.llm.processes import Interrupted, processes
    from nashward.llm.report.alerts import response_alerts
    from nashward.llm.run.inputs.prompts import few_prompts

    play = configuration.self_play(chosen)
    if until in ("judge", "train") and not configuration.run_folder(play.folder).read():
        raise FileNotFoundError(f"{play.folder} holds no run; nashward sample starts one")
    redo = getattr(args, "redo", None)
    prompts = play.check(until, redo)
    if not args.quiet:
        print(f"prompts: {prompts}")
        called = chosen["solver"].value
        if solver_options.plain(called) in hints.SOLVER_NAMES:
            print(f"note: {called} is played as the solver {solver_options.solver_kind(called).__name__}")
        if redo is not None:
            _note_rate(play)
        begun = configuration.run_folder(play.folder).computed
        if (few := few_prompts(len(prompts.kept), play.config.fit)) and not begun:
            print(f"note: {few}")
        if (both := play.combination) is not None and both.rule == "floors" and both.first_multiplier > 1 and not begun:
            print(
                f"note: a floor's multiplier starts at {both.first_multiplier:g}, so that in the first iterations it "
                f"weighs more than {both.names[0]}; in a short run take a limit of {len(both.charged) + 1} or less "
                "(docs/objectives.md)"
            )
    report_to = getattr(args, "report_to", "none") if processes.main else "none"  # one process writes
    tracker = _tracker(report_to, play.folder)
    on_step = (lambda: None) if tracker is None else tracker.update
    result = play.run(until, redo, received.event, progress=not args.quiet, on_step=on_step)
    if tracker is not None:
        tracker.finish()
        print(f"{tracker.kind}: {tracker.place}")
    if result.interrupted:
        raise Interrupted(result.stopped)
    if not args.quiet:
        _print_fits(result.metrics)
    _print_policy(until, play, result)
    for alert in [] if args.quiet else response_alerts(result.folder)[-1:]:
        print(f"note: {alert.text}")
    print(f"report: {processes.decided(lambda: report.write(result.folder))}")
    if not result.stopped and not args.quiet:
        _print_next(play, result, len(prompts.kept))
    return 0


def _check_names(chosen: configuration.Settings) -> None:
    """Refuse names of nothing before what plays is imported, which takes seconds."""
    from nashward.llm.data.packaged import packaged
    from nashward.llm.data.rows import rows_file

    given = {name: str(chosen[name].value) for name in ("policy", "prompts") if name in chosen}
    if "policy" in given:
        packaged(given["policy"])
    begun = "out" in chosen and configuration.run_folder(chosen["out"].value).read()
    if "prompts" in given and not begun:  # a run that has begun has its prompts
        rows_file(given["prompts"])


def _note_rate(play: SelfPlay) -> None:
    """That a step is made again at another learning rate than the run's, which is the run's from there on."""
    record = configuration.run_folder(play.folder).read()
    before = record.get("config", {}).get("fit", {}).get("learning_rate") or "auto"
    now = play.config.fit.learning_rate or "auto"
    if record and now != before:
        print(
            f"note: the learning rate is {now}, where it was {before}; later iterations keep it; "
            f"--from train --learning-rate {before} takes it back"
        )


def _print_fits(rows: Sequence[Mapping[str, Any]]) -> None:
    """What the fit of each Step achieved."""
    ceilings = any(row.get("r2_ceiling") is not None for row in rows)
    for row in rows:
        print(f"{row['iteration']}: {_fit_summary(row, ceilings)}")
        if row["warning"]:
            print(f"{row['iteration']}: warning: {row['warning']}")


def _print_policy(until: Stage | None, play: SelfPlay, result: Run) -> None:
    """Where the policy is, or which stage is next."""
    from nashward.llm.run.selfplay import iterates

    if result.stopped:
        over = until == "train" and len(iterates(result.folder)) == play.config.iterations
        following = "" if over else f" Next: nashward {_NEXT[until]} --out {shlex.quote(str(result.folder))}"
        print(f"{result.stopped}.{following}")
    else:
        print(f"adapter: {result.last}")
        played = [folder.parent.name for folder, _ in result.average.members]
        ends = " to ".join(dict.fromkeys((played[0], played[-1])))
        print(f"mixture of what was played ({ends}): {result.folder / 'mixture.json'}")


def _print_next(play: SelfPlay, result: Run, prompts: int) -> None:
    """What is worth doing with a finished run, which was played on so many prompts."""
    from nashward.llm.evaluation.players import is_start
    from nashward.llm.run.larger_step import larger_step
    from nashward.llm.run.selfplay import iterates
    from nashward.llm.store.run_folder import RunFolder

    home = RunFolder(result.folder)
    if is_start(home, result.last):
        _, deciding, _ = play.config.fit.parts(prompts)
        few = f" (of these {prompts}, {deciding} decide how far a fit goes)" if deciding else ""
        helps = (
            f"more prompts{few}, more responses to each (--responses) or an oracle with more spread let a fit gain "
            "something"
        )
        if result.metrics and not any(row["train"]["target_rms"] for row in result.metrics):
            helps = "the oracle tells no two responses apart: take another one"
        print(f"next: the adapter is the start's, so there is nothing to evaluate; {helps}")
    else:
        if (larger := larger_step(iterates(result.folder), home.read()["config"])) is not None:
            print(f"note: {larger}")
        print(f"next, whether it wins over its start: nashward evaluate {shlex.quote(str(result.folder))}")


def _tracker(kind: str, folder: Any) -> Any:
    from nashward.llm.delivery.trackers import RunTracker

    return None if kind == "none" else RunTracker(folder, kind)  # type: ignore[arg-type]


def _fit_summary(row: Mapping[str, Any], ceilings: bool) -> str:
    """What the fit of a Step achieved.

    Args:
        row: its metrics.
        ceilings: whether it is known of a Step of the run how large R2 can be.
    """
    from nashward.llm.report.content import held_out_r2

    fit, held = row["train"], row["held_out"]
    if row["learning_rate"] is None:
        return "nothing to fit, the mixture is the policy before it"
    r2 = held_out_r2(row)
    elsewhere = "" if r2 is None else f" and {_figure(held['share'], 2)} on held-out prompts"
    achieved = [
        f"target {_figure(fit['target_rms'])} nats rms",
        f"log-ratio {_figure(fit['log_ratio_rms'])}",
        f"share of the target {_figure(fit['share'], 2)} in training{elsewhere}",
    ]
    if r2 is not None:
        most = ""
        if row.get("r2_ceiling") is not None:
            most = f" of at most {row['r2_ceiling']:.2f}"
        elif ceilings and row["opponent"]:
            most = " (how large it can be is known only where a policy plays itself)"
        achieved.append(f"R2 on held-out prompts {r2}{most}")
    if row.get("error_share") is not None:
        achieved.append(f"judges' error {min(row['error_share'], 1):.0%} of the target's variance")
    if row.get("line_fraction") == 0:
        achieved.append("nothing was gained, the policy stays as it was")
    if nll := row.get("sft"):
        achieved.append(f"SFT texts {_figure(nll['start'])} to {_figure(nll['after'])} nats per token")
    return ", ".join(achieved)


def _figure(value: float | None, digits: int = 3) -> str:
    """A figure as it is printed."""
    from nashward.llm.report.content import without_rounding

    return "undefined" if value is None else f"{without_rounding(value):.{digits}g}"


_POLICY = "--policy mistralai/Mistral-7B-Instruct-v0.2"
ALIGN = Command(
    f"nashward align {_POLICY} --oracle llm-blender/PairRM --prompts prompts.jsonl --out runs/first",
    _add_align,
    partial(_stage, None),
    first=(
        "policy", "oracle", "prompts", "out", "iterations", "responses", "max-new-tokens", "solver", "step", "preset",
    ),
    divides=True,
    continues=True,
)  # fmt: skip
SAMPLE = Command(
    f"nashward sample {_POLICY} --prompts prompts.jsonl --out runs/first",
    _add_sample,
    partial(_stage, "sample"),
    first=("policy", "prompts", "out", "responses", "max-new-tokens", "preset"),
    divides=True,
    continues=True,
)
JUDGE = Command(
    "nashward judge --oracle llm-blender/PairRM --out runs/first",
    _add_judge,
    partial(_stage, "judge"),
    first=("oracle", "objective", "out", "cache", "combine"),
    divides=True,
    continues=True,
)
TRAIN = Command(
    "nashward train --out runs/first",
    _add_train,
    partial(_stage, "train"),
    first=("out", "solver", "step", "learning-rate", "epochs"),
    divides=True,
    continues=True,
)
