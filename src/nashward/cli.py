"""The command line: ``nashward COMMAND --help``."""

from __future__ import annotations

import argparse
import difflib
import dis
import io
import logging
import os
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from nashward import __version__

from . import (
    best_of_n_command,
    config_command,
    configuration,
    evaluate_command,
    exploit_command,
    fit_oracle_command,
    leaderboard_command,
    likelihood_command,
    mixture_command,
    options,
    plan_command,
    solve_command,
    status_command,
    theory_command,
)

INTERNAL, BAD_INPUT, INTERRUPTED = 1, 2, 130


class Help(argparse.HelpFormatter):
    """Breaks no line within a word, so that the worked line can be copied."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return textwrap.fill(text, width, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)


class Parser(argparse.ArgumentParser):
    """Says what is wrong with the arguments in one line, in place of a page of usage."""

    def error(self, message: str) -> NoReturn:
        if "required: COMMAND" in message:
            message = "a command is needed"
        message = message.removeprefix("argument ").replace("COMMAND: invalid choice:", "there is no command")
        message = message.replace("expected one argument", "expected a value (one that begins with - is joined by =)")
        raise ValueError(f"{message}; see {self.prog} --help")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, 2 for bad input (one line on stderr), 130 or 143 after a signal.

    An error of nashward itself is raised, which ends a process with its traceback and the exit code 1.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    if "" not in sys.path:
        sys.path.append("")  # an oracle that is given as module:name may lie in the working directory
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a label that the terminal's encoding lacks
    try:
        return _run(arguments)
    except BrokenPipeError:  # whoever read the output has enough of it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return INTERNAL
    except KeyboardInterrupt:
        print("\nnashward: interrupted; the same command continues where it stopped", file=sys.stderr)
        return INTERRUPTED
    except (ValueError, ImportError, OSError, MemoryError, RuntimeError) as error:
        told = _told(error)
        if told is None or "--traceback" in arguments:
            raise
        line = " ".join(told.split())
        print("nashward: " + "".join(sign if sign.isprintable() else "?" for sign in line), file=sys.stderr)
        return BAD_INPUT


def _run(arguments: Sequence[str]) -> int:
    given = _parse(arguments)
    if given.quiet or not sys.stderr.isatty():  # the bars of transformers and of the hub, read on their import
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    # a kernel that another package would bring, and that `keep_gradients` keeps away from: nothing to act on
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
    code = given.command(given)
    sys.stdout.flush()
    return code


def _told(error: Exception) -> str | None:
    """What an error says to the user; None where it is one of nashward itself.

    The package raises ValueError and ImportError for bad input, and for nothing else. So does everything below it for
    reasons of its own: only those count that a ``raise`` in the package made, so that a failed ``zip(strict=True)``,
    or a ValueError out of a library that nobody foresaw, is not passed off as the user's mistake. What the machine
    lacks (a file, a permission, space, memory) arrives as OSError or an error of memory, whoever raises it.
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return f"out of memory ({(str(error) or 'on the host').splitlines()[0]}); see nashward plan --help"
    if isinstance(error, OSError):
        return (
            f"{error.filename}: {error.strerror}" if error.filename and error.strerror else error.strerror or str(error)
        )
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None or not isinstance(error, ValueError | ImportError):
        return None
    made = trace.tb_frame.f_globals.get("__name__", "").partition(".")[0] == __package__
    raised = dis.opname[trace.tb_frame.f_code.co_code[trace.tb_lasti]] == "RAISE_VARARGS"
    return str(error) if made and raised else None


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The arguments; of one that is not known the error names the nearest."""
    parser = build_parser()
    for word in arguments:
        if word.startswith("--") and word.endswith("=--"):  # Python 3.11's argparse makes an empty list of that value
            parser.error(f"{word[:-3]}: expected a value, got --")
    given, unknown = parser.parse_known_args(arguments)
    if unknown:
        parser = given.parser
        flag = next((word for word in unknown if word.startswith("-")), unknown[0]).partition("=")[0]
        near = difflib.get_close_matches(flag, [name for name in parser._option_string_actions if len(name) > 2], 1)
        parser.error(f"there is no argument {flag}" + (f"; the nearest is {near[0]}" if near else ""))
    return given


def build_parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="nashward",
        description="From reward to Nash: the policy that no other policy beats, for a table and for a language model.",
        allow_abbrev=False,  # a prefix that is clear today means something else once there is another option
    )
    parser.add_argument("--version", action="version", version=f"nashward {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, function: Any, summary: str, example: str) -> argparse.ArgumentParser:
        command = commands.add_parser(
            name,
            help=summary,
            description=summary,
            epilog=f"example: {example}",
            allow_abbrev=False,
            formatter_class=Help,
        )
        command.set_defaults(command=function, parser=command)
        command.add_argument("--quiet", action="store_true", help="only the result and warnings, no progress")
        command.add_argument("--traceback", action="store_true", help="show where an error came from")
        return command

    demo = add("demo", _demo, "solve a small zoo, then align a pocket model; writes report.html", "nashward demo")
    demo.add_argument("--out", type=options.path, help="folder to write (default: demo; with --proof: proof)")
    demo.add_argument("--iterations", type=options.whole, help="of self-play (default: 6; with --proof: 40)")
    demo.add_argument("--seed", type=options.whole, help="default: 0; the proof draws nothing at random")
    demo.add_argument("--proof", action="store_true", help="show instead that language model and table go the same way")

    solve_command.add_solve(add(
        "solve", solve_command.run, "the Nash equilibrium of a game, and how solvers get there",
        "nashward solve zoo:comal_cycle --solver MWU,OptimisticMWU:step=1,ExtraGradient --plot race.png",
    ))  # fmt: skip

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
        of_run = options.add_run(stage, models, ("cache",) if until == "judge" else None)
        if until is None:
            of_run.add_argument(
                "--from", dest="redo", choices=("sample", "judge", "train"), metavar="STAGE",
                help="make the newest step again from this stage on (sample, judge or train); what it has is set aside",
            )  # fmt: skip

    config = add(
        "config", config_command.run, "the settings of align as a TOML file, each with where it is from; runs nothing",
        "nashward config --preset sppo-paper --config mine.toml --step 3",
    )  # fmt: skip
    options.add_run(config, ("policy", "oracle"))
    status_command.add_status(add(
        "status", status_command.run, "where a run stands and what is left", "nashward status runs/first"
    ))  # fmt: skip
    planned = add(
        "plan", plan_command.run, "will it fit: the peak memory of each phase on a card, before anything is loaded",
        "nashward plan --policy mistralai/Mistral-7B-Instruct-v0.2 --memory 6GiB",
    )  # fmt: skip
    plan_command.add_plan(planned)
    fit = add(
        "fit-oracle", fit_oracle_command.run,
        "a preference oracle of your own, from people's or a judge's verdicts on pairs",
        "nashward fit-oracle --pairs votes.jsonl --base microsoft/deberta-v3-large --kind pairrm --out oracles/mine",
    )  # fmt: skip
    fit_oracle_command.add_fit_oracle(fit)
    leaderboard = add(
        "leaderboard", leaderboard_command.run,
        "models that answered the same prompts, or fought battles: the Nash among them, and every other ranking",
        "nashward leaderboard answers/ --prompts prompts.jsonl --oracle llm-blender/PairRM --cache judgements.sqlite",
    )  # fmt: skip
    leaderboard_command.add_leaderboard(leaderboard)

    mixture_command.add_mix(add(
        "mix", mixture_command.mix, "a mixture of adapters of one base, or one adapter with their averaged weights",
        "nashward mix runs/first runs/second/iteration-02/adapter --weights linear --out mixture.json",
    ))  # fmt: skip
    mixture_command.add_answer(add(
        "answer", mixture_command.answer, "answer prompts with a policy: a base, an adapter or a mixture of them",
        f"nashward answer {fetch} --adapter runs/first/mixture.json --prompts prompts.jsonl --out answers/it.jsonl",
    ))  # fmt: skip
    evaluate_command.add_evaluate(add(
        "evaluate", evaluate_command.run,
        "the iterates of a run against each other: their game, lengths, and what was given up for the oracle",
        "nashward evaluate runs/first --held-out oracles/mine",
    ))  # fmt: skip
    exploit_command.add_exploit(add(
        "exploit", exploit_command.run, "who beats it: a lower bound on the duality gap of a run's policy",
        "nashward exploit runs/first --of mixture",
    ))  # fmt: skip
    best_of_n_command.add_best_of_n(add(
        "best-of-n", best_of_n_command.run, "of n responses to each prompt the one that an oracle prefers",
        "nashward best-of-n --responses ready.jsonl --oracle oracles/mine --out best.jsonl",
    ))  # fmt: skip
    likelihood_command.add_study(add(
        "likelihood-study", likelihood_command.run,
        "what SPPO, DPO and IPO do to the likelihoods of chosen and rejected responses; on pocket models by default",
        "nashward likelihood-study --out likelihoods --seeds 5 --temperatures 0.5,1,2",
    ))  # fmt: skip
    theory_command.add_theory(add(
        "theory", theory_command.run, "the theorems held against the solvers: bound, measured, ratio, verdict",
        "nashward theory --quick",
    ))  # fmt: skip
    report = add(
        "report", _report, "write report.html of a run, finished or not; of several runs, one page that compares them",
        "nashward report runs/first runs/second --out both.html",
    )  # fmt: skip
    report.add_argument("folders", type=options.path, nargs="+", metavar="FOLDER", help="of a run")
    report.add_argument(
        "--out",
        type=options.path,
        help="the page (default: report.html in the folder; of several runs comparison.html)",
    )
    return parser


def _demo(given: argparse.Namespace) -> int:
    named = ("out", "iterations", "seed")
    chosen = {name: getattr(given, name) for name in named if getattr(given, name) is not None}
    if given.proof:
        from .proof import proof

        if "seed" in chosen:
            raise ValueError("--proof draws nothing at random: leave --seed out")
        proof(**chosen, progress=not given.quiet)
    else:
        from .demo import demo

        demo(**chosen, progress=not given.quiet)
    return 0


def _stage(until: Any) -> Any:
    def run(given: argparse.Namespace) -> int:
        from nashward.llm.interrupt import signals

        with signals() as asked:
            return heard(given, asked)

    def heard(given: argparse.Namespace, asked: Any) -> int:
        from nashward.llm import report
        from nashward.llm.selfplay import iterates

        play = configuration.self_play(configuration.settings(given))
        if until in ("judge", "train") and not configuration.run_folder(play.folder).read():
            raise FileNotFoundError(f"{play.folder} holds no run; nashward sample starts one")
        prompts = play.check(until)
        if not given.quiet:
            print(f"prompts: {prompts}")
        redo = getattr(given, "redo", None)
        result = play.run(until, redo, asked.event, progress=not given.quiet)
        if result.interrupted:
            print(f"nashward: {result.stopped}; the same command continues", file=sys.stderr)
            return asked.code
        for row in [] if given.quiet else result.metrics:
            fit, held = row["train"], row["held_out"].get("r2")
            achieved = [
                f"target {_figure(fit['target_rms'])} nats rms",
                f"log-ratio {_figure(fit['log_ratio_rms'])}",
                f"share of the target {_figure(fit['share'], 2)}",
            ]
            if held is not None:
                achieved.append(f"R2 on held-out prompts {held:.2f}")
            if task := row.get("task"):
                achieved.append(f"task {_figure(task['start'])} to {_figure(task['after'])} nats a token")
            print(f"{row['iteration']}: {', '.join(achieved)}")
        if result.stopped:
            over = until == "train" and len(iterates(result.folder)) == play.iterations
            following = "" if over else f" Next: nashward {_NEXT[until]} --out {result.folder}"
            print(f"{result.stopped}.{following}")
        else:
            print(f"adapter: {result.last}")
            print(f"mixture of the iterates: {result.folder / 'mixture.json'}")
        print(f"report: {report.write(result.folder)}")
        return 0

    return run


def _figure(value: float | None, digits: int = 3) -> str:
    return "undefined" if value is None else f"{value:.{digits}g}"


_NEXT = {"sample": "judge --oracle ID_OR_FOLDER", "judge": "train", "train": "sample"}


def _report(given: argparse.Namespace) -> int:
    from nashward.llm import report

    first, *others = given.folders
    if given.out is not None and given.out.is_dir():
        raise ValueError(f"{given.out} is a folder; --out names a page, for example {given.out / 'report.html'}")
    if others:
        page = report.compare(given.folders, given.out or Path("comparison.html"))
    elif not (first / "run.json").exists():
        raise FileNotFoundError(f"{first} holds no run (it has no run.json)")
    else:
        page = report.write(first, file=given.out)
    print(f"report: {page}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
