"""The command line: ``nashward COMMAND --help``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nashward import __version__

from . import options, oracle_commands, plan_command, status_command

BAD_INPUT = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, 2 for bad input (one line on stderr), 130 or 143 after a signal."""
    parser = build_parser()
    given = parser.parse_args(arguments)
    if "" not in sys.path:
        sys.path.append("")  # an oracle that is given as module:name may lie in the working directory
    try:
        return given.command(given)
    except (ValueError, OSError, ImportError, MemoryError) as error:
        if given.traceback:
            raise
        print(f"nashward: {' '.join(str(error).split())}", file=sys.stderr)
        return BAD_INPUT
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError" or given.traceback:
            raise
        print(f"nashward: out of memory ({str(error).splitlines()[0]}); see nashward plan --help", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print("\nnashward: interrupted; the same command continues where it stopped", file=sys.stderr)
        return 130


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nashward",
        description="From reward to Nash: the policy that no other policy beats, for a table and for a language model.",
    )
    parser.add_argument("--version", action="version", version=f"nashward {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, function: Any, summary: str, example: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=summary, description=summary, epilog=f"example: {example}")
        command.set_defaults(command=function)
        command.add_argument("--traceback", action="store_true", help="show where an error came from")
        return command

    demo = add("demo", _demo, "solve a small zoo, then align a pocket model; writes report.html", "nashward demo")
    demo.add_argument("--out", type=Path, default=Path("demo"), help="folder to write (default: demo)")
    demo.add_argument("--iterations", type=int, default=6, help="iterations of self-play (default: 6)")
    demo.add_argument("--seed", type=int, default=0)

    solve = add(
        "solve",
        _solve,
        "the Nash equilibrium of a payoff table, and how a solver gets there",
        "nashward solve table.csv --solver optimistic-mwu --step 0.5 --plot table.png",
    )
    solve.add_argument("table", help="a .csv, .npz or .parquet file, or the name of a game in the zoo")
    solve.add_argument(
        "--total", type=float, help="read an n x m game whose payoffs sum to this, not a preference game"
    )
    options.add_solver(solve)
    solve.add_argument("--iterations", type=int, default=1000, help="of the solver (default: 1000)")
    solve.add_argument(
        "--plot", type=Path, nargs="?", const=Path("nash.png"), help="write a picture (default: nash.png)"
    )

    fetch = "--policy mistralai/Mistral-7B-Instruct-v0.2"
    for name, until, models, summary, example in (
        ("align", None, ("policy", "oracle"), "self-play of a language model under a preference oracle",
         f"nashward align {fetch} --oracle llm-blender/PairRM --prompts prompts.jsonl --out runs/first"),
        ("sample", "sample", ("policy",), "the first stage of align alone: draw the responses of the next step",
         f"nashward sample {fetch} --prompts prompts.jsonl --out runs/first"),
        ("judge", "judge", ("oracle",), "the second stage of align alone: the oracle's win probabilities",
         "nashward judge --oracle llm-blender/PairRM --out runs/first"),
        ("train", "train", ("policy",), "the third stage of align alone: fit the adapter of the next step",
         "nashward train --out runs/first"),
    ):  # fmt: skip
        stage = add(name, _stage(until), summary, example)
        options.add_models(stage, models, required=until is None)
        if until == "judge":
            stage.add_argument("--out", required=True, metavar="FOLDER", help="the run folder that `sample` wrote")
            options.add_cache(stage)
        else:
            options.add_run(stage)

        if until is None:
            stage.add_argument(
                "--from", dest="redo", choices=("sample", "judge", "train"), metavar="STAGE",
                help="make the newest step again from this stage on (sample, judge or train); what it has is set aside",
            )  # fmt: skip

    status_command.add_status(add(
        "status", status_command.run, "where a run stands and what is left", "nashward status runs/first"
    ))  # fmt: skip
    planned = add(
        "plan", plan_command.run, "will it fit: the peak memory of each phase on a card, before anything is loaded",
        "nashward plan --policy mistralai/Mistral-7B-Instruct-v0.2 --memory 6GiB",
    )  # fmt: skip
    plan_command.add_plan(planned)
    fit = add(
        "fit-oracle", oracle_commands.fit_oracle,
        "a preference oracle of your own, from people's or a judge's verdicts on pairs",
        "nashward fit-oracle --pairs votes.jsonl --base microsoft/deberta-v3-large --kind pairrm --out oracles/mine",
    )  # fmt: skip
    oracle_commands.add_fit(fit)
    leaderboard = add(
        "leaderboard", oracle_commands.leaderboard,
        "models that answered the same prompts, pairwise: win rates and the Nash equilibrium among them",
        "nashward leaderboard answers/ --prompts prompts.jsonl --oracle llm-blender/PairRM --cache judgements.sqlite",
    )  # fmt: skip
    oracle_commands.add_leaderboard(leaderboard)

    report = add("report", _report, "write report.html of a run, finished or not", "nashward report runs/first")
    report.add_argument("folder", type=Path)
    return parser


def _demo(given: argparse.Namespace) -> int:
    from .demo import demo

    demo(given.out, iterations=given.iterations, seed=given.seed)
    return 0


def _solve(given: argparse.Namespace) -> int:
    from nashward import games

    path = Path(given.table)
    known = given.table in games.zoo.names() and not path.exists()
    game = games.zoo.get(given.table) if known else games.load(path, given.total)
    if game.batch_shape:
        raise ValueError(f"{given.table} holds a batch of games of shape {tuple(game.batch_shape)}; give one game")
    chosen = options.values(given)
    if not given.solver and {"step", "tau"} & chosen.keys():
        raise ValueError("--step and --tau are settings of a solver: give --solver as well")
    if given.plot is not None and given.plot.is_dir():
        raise ValueError(f"{given.plot} is a folder; --plot names a picture, for example {given.plot / 'nash.png'}")
    solver = options.solver(chosen) if given.solver else None
    equilibrium = games.nash(game)
    preference = isinstance(game, games.PreferenceGame)
    sides = (
        [("", game.labels, equilibrium.policy)]
        if isinstance(game, games.PreferenceGame)
        else [
            ("row ", game.row_labels, equilibrium.policy.row),
            ("column ", game.column_labels, equilibrium.policy.column),
        ]
    )
    size = " x ".join(str(n) for n in game.sizes)
    uniqueness = "unique" if bool(equilibrium.unique) else "one of several"
    print(f"{given.table}: {size} actions{'' if preference else f', payoffs sum to {game.total:g}'}")
    print(f"Nash equilibrium ({uniqueness}), value {float(equilibrium.value):.6g}, gap {float(equilibrium.gap):.1e}")
    for side, labels, policy in sides:
        width = max(map(len, labels))
        for i in policy.argsort(descending=True, stable=True).tolist():
            if policy[i] > 0:
                print(f"  {side}{labels[i]:<{width}}  {float(policy[i]):.3f}")
    solution = None
    if solver is not None:
        solution = games.solve(game, solver, iterations=given.iterations)
        print(f"{solver!r}, {given.iterations} iterations from uniform:")
        for which in ("last", "average"):
            print(f"  gap of the {which:<7}  {float(solution.gaps[which][-1]):.3e}")
    if given.plot is not None:
        if solution is not None:
            figure = games.plots.gap_curves({type(solver).__name__: solution}, title=path.name)
        elif isinstance(game, games.PreferenceGame):
            figure = games.plots.payoff_table(game, equilibrium)
        else:
            raise ValueError("the picture of an n x m game shows a solver's gaps: give --solver as well")
        given.plot.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(given.plot, dpi=150)
        print(f"picture: {given.plot}")
    return 0


def _stage(until: Any) -> Any:
    def run(given: argparse.Namespace) -> int:
        play = options.self_play(options.values(given), Path(given.out))
        prompts = play.check(until)
        print(f"prompts: {prompts}")
        from nashward.llm import report
        from nashward.llm.interrupt import signals

        with signals() as asked:
            result = play.run(until, getattr(given, "redo", None), asked.event)
        if result.interrupted:
            print(f"nashward: {result.stopped}; the same command continues", file=sys.stderr)
            return asked.code

        for row in result.metrics:
            fit, held = row["train"], row["held_out"].get("r2")
            achieved = [
                f"target {fit['target_rms']:.3g} nats rms",
                f"log-ratio {fit['log_ratio_rms']:.3g}",
                "share of the target " + ("undefined" if fit["share"] is None else f"{fit['share']:.2g}"),
            ]
            if held is not None:
                achieved.append(f"R2 on held-out prompts {held:.2f}")
            print(f"{row['iteration']}: {', '.join(achieved)}")
        if result.stopped:
            print(f"{result.stopped}. Next: nashward {_NEXT[until]} --out {given.out}")
        else:
            print(f"adapter: {result.last}")
            print(f"mixture of the iterates: {result.folder / 'mixture.json'}")
        print(f"report: {report.write(result.folder)}")
        return 0

    return run


_NEXT = {"sample": "judge --oracle ID_OR_FOLDER", "judge": "train", "train": "sample"}


def _report(given: argparse.Namespace) -> int:
    from nashward.llm import report

    if not (given.folder / "run.json").exists():
        raise FileNotFoundError(f"{given.folder} holds no run (it has no run.json)")
    print(f"report: {report.write(given.folder)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
