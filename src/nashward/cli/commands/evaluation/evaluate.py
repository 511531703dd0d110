"""``nashward evaluate``: the iterates of a run against each other, and what was given up for the oracle."""

from __future__ import annotations

import argparse
import random
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nashward.cli import configuration, options
from nashward.cli.command import Command
from nashward.cli.opponents import files_of
from nashward.counted import counted
from nashward.errors import NashwardError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_of_run(parser)
    parser.add_argument(
        "--held-out", action="append", default=[], metavar="ORACLE",
        help="judge by this oracle as well, which the run was not trained on (may be given several times)",
    )  # fmt: skip
    parser.add_argument(
        "--adapter", action="append", default=[], type=options.path, metavar="PATH",
        help="let this adapter, or mixture (a mixture.json), on the same base play as well, of any rank, on any layers "
        "(may be given several times)",
    )  # fmt: skip
    parser.add_argument(
        "--answers", action="append", default=[], metavar="SOURCE",
        help="let other models play by their responses: a file, named as the model is, or a folder with one file "
        "per model; rows of a prompt and its response, found by the prompt (may be given several times)",
    )  # fmt: skip
    parser.add_argument(
        "--labels", metavar="FILE",
        help="people's votes on pairs of the responses to some prompts, drawn at random (about 100; rows as for "
        "fit-oracle): win rates that hold whatever the oracle's biases are",
    )  # fmt: skip
    options.add_groups(parser, options.JUDGE)


def add_of_run(parser: argparse.ArgumentParser) -> None:
    """The arguments of what is computed from a run."""
    parser.add_argument("folder", type=options.path, help="the run folder; the run need not be finished")
    parser.add_argument("--prompts", help="other prompts than the run's: " + options.INPUTS["prompts"].text)
    options.add(parser, options.PROMPT_FIELD)
    parser.add_argument(
        "--limit", type=options.whole, default=200, help="prompts at most, drawn by seed (default: 200)"
    )
    parser.add_argument("--policy", default=argparse.SUPPRESS, help="where the run's base is now, if it was moved")
    parser.add_argument("--oracle", default=argparse.SUPPRESS, help="where the run's oracle is now, if it was moved")
    parser.add_argument("--seed", type=options.whole, default=0, help="seed of what is drawn here (default: 0)")


def of_run(args: argparse.Namespace, finished: bool = False) -> tuple[Any, list[Any]]:
    """The run of a folder, and the prompts to respond to; with ``finished`` a run without an iterate is refused."""
    from nashward.llm import read_prompts
    from nashward.llm.evaluation.players import compared_policies
    from nashward.llm.policy.base.checks import check_policy
    from nashward.llm.policy.chat_template import drop_refused
    from nashward.llm.store.run_folder import PROMPTS

    if args.limit < 1:
        raise NashwardError(f"--limit is {args.limit}; expected at least 1")
    if args.seed < 0:
        raise NashwardError(f"--seed is a whole number >= 0, got {args.seed}")
    column = options.prompt_field(args)
    if args.folder.is_file():
        raise NashwardError(f"{args.folder} is a file; expected a run folder")
    home = configuration.run_folder(args.folder)
    if not args.folder.is_dir() or not home.read():
        raise FileNotFoundError(f"{args.folder} holds no run (it has no run.json)")
    if finished:  # first: a run that was only sampled has no oracle
        compared_policies(home)
    play = configuration.run_of(args)
    if play.oracle is None:
        raise NashwardError(
            f"{args.folder} is only sampled, and has no judge yet: give one as --oracle ID_OR_FOLDER, or judge the run "
            f"first: nashward judge --oracle ID_OR_FOLDER --out {shlex.quote(str(args.folder))}"
        )
    try:
        _ = play.oracle_source  # before anything is sampled
    except (NashwardError, OSError) as error:
        raise NashwardError(
            f"the run's oracle is not here: {error}; --oracle names it (module:name for an object in Python)"
        ) from None
    prompts = read_prompts(home / PROMPTS if args.prompts is None else args.prompts, column)
    if args.prompts is not None:  # the run's own are those that it was played on
        drop_refused(check_policy(str(play.policy), play.config.chat_template), prompts, play.config.max_prompt_tokens)
        if prompts.dropped:
            print(prompts)
    if len(prompts.kept) > args.limit:
        return play, random.Random(args.seed).sample(prompts.kept, args.limit)
    return play, prompts.kept


def run(args: argparse.Namespace) -> int:
    from nashward.llm import Mixture, oracles, report
    from nashward.llm.evaluation.evaluate import GAIN, evaluate, same_as_start
    from nashward.llm.evaluation.players import FOLDER
    from nashward.llm.evaluation.win_rates.labelled import TO_LABEL
    from nashward.llm.policy.adapters.adapter_config import adapter_config
    from nashward.llm.processes import processes
    from nashward.llm.report.results import unjudged_sentences

    play, prompts = of_run(args, finished=True)
    judge = configuration.judge(args, args.held_out, "--held-out")
    sources = {name: oracles.check_source(name, **judge) for name in args.held_out}
    others = {_name(path): Mixture.at(path) for path in args.adapter}
    for mixture in others.values():
        for folder, _ in mixture.members:
            adapter_config(folder, None if play.policy is None else str(play.policy))
    if len(others) < len(args.adapter):
        raise NashwardError(
            f"two adapters would have one name ({', '.join(map(_name, args.adapter))}); rename a folder"
        )
    models: dict[str, Path] = {}
    for source in args.answers:
        files = files_of(Path(source))
        if twice := sorted(set(files) & set(models)):
            raise NashwardError(f"--answers has two files for {twice[0]}: {models[twice[0]]} and {files[twice[0]]}")
        models |= files
    labels = [] if args.labels is None else oracles.read_votes(args.labels)
    say: Any = (lambda what: None) if args.quiet else print
    results = evaluate(play, prompts, sources, others, seed=args.seed, progress=say, answers=models, labels=labels)
    if results["against_start"]:
        print(f"{args.folder}: {counted(results['prompts'], 'prompt')}, one response each")
    if results["same_as_start"]:
        print(f"{same_as_start(results['same_as_start'])}: there is nothing to compare")
    if results["against_start"]:
        for name in results["games"]:
            _show(name, results)
        _by_objective(results)
        for sentence in unjudged_sentences(results):
            print(f"\nwarning: {sentence}")
        _labelled(results, args.folder / FOLDER / TO_LABEL)
        _over_optimisation(results)
    else:
        print(GAIN)
    print(f"numbers: {args.folder / 'evaluation.json'}")
    print(f"report: {processes.decided(lambda: report.write(args.folder))}")
    return 0


def _name(path: Path) -> str:
    """What an adapter is called in the tables: its folder, or the folder around one that is called adapter; a mixture:
    its file, with the folder around it."""
    place = path.resolve()
    if place.is_file():
        return f"{place.parent.name}/{place.stem}"
    return f"{place.parent.parent.name}/{place.parent.name}" if place.name == "adapter" else place.name


def _show(oracle: str, results: dict[str, Any]) -> None:
    from nashward.llm.evaluation.win_rates.win_rate import COUNTS_A_LOSS
    from nashward.llm.report.results import game_sentences, missing_sentences, role

    game, rates = results["games"][oracle], results["against_start"][oracle]
    width = max(map(len, game["players"]))
    print(f"\njudged by {results['oracles'][oracle]} ({oracle if oracle == 'training' else role(oracle, results)})")
    print(
        f"{'':<{width}}  against the start  {'beyond noise':<22}  minimal   Nash  90% band        exploitability  "
        "tokens"
    )
    for name in game["players"]:
        rate = rates.get(name)
        error = "  ?  " if rate is None or rate["standard_error"] is None else f"± {rate['standard_error']:.1f}"
        against = "" if rate is None else f"{rate['win_rate']:5.1f}% {error}"
        verdict = "" if rate is None else rate.get("verdict") or "?"
        minimal = "" if rate is None else _number(rate["minimal"], 1)
        low, high = _band(game, name)
        print(
            f"{name:<{width}}  {against:>17}  {verdict:<22}  {minimal:>7}  {game['lottery'][name]:5.3f}  {low} to "
            f"{high}  {game['exploitability'][name]:14.3f}  {results['tokens'][name]:6.1f}"
        )
    if any(rate["standard_error"] is None for rate in rates.values()):
        print("one prompt is too few for an error (?): --prompts FILE with more of them")
    if any(_beyond_two_errors(rate) for rate in rates.values()):
        print(f"not told apart though two errors away: {COUNTS_A_LOSS}")
    print("\n".join([*game_sentences(game), *missing_sentences(oracle, results)]))


def _beyond_two_errors(rate: Mapping[str, Any]) -> bool:
    """Whether a win rate that decides nothing is more than two of its standard errors from one half.

    Example:
        >>> _beyond_two_errors({"win_rate": 63.2, "standard_error": 3.8, "verdict": "is not told apart from"})
        True
    """
    from nashward.llm.evaluation.win_rates.win_rate import UNDECIDED

    error = rate["standard_error"]
    return error is not None and rate.get("verdict") == UNDECIDED and abs(rate["win_rate"] - 50) > 2 * error


def _by_objective(results: dict[str, Any]) -> None:
    """What is won over the start under each objective, with its floor, beside what is played for."""
    from nashward.llm.report.objectives import columns_by_objective

    if "objectives" not in results:
        return
    print(f"\nwins over the start, by objective; what is played for is {results['payoff']}")
    columns = columns_by_objective(results)
    widths = [max(map(len, column)) for column in columns]
    for row in zip(*columns, strict=True):
        print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


def _labelled(results: dict[str, Any], pairs: Path) -> None:
    """The win rates against the start by people's labels and each oracle."""
    if "labelled" not in results:
        print(f"\npairs to label for win rates that hold whatever the oracle is worth: {pairs} (then --labels)")
        return
    print("\nagainst the start by people's labels, and the oracle's judgements of the other prompts (95% intervals)")
    for oracle, rates in results["labelled"].items():
        for name, rate in rates.items():
            low, high = rate["interval"]
            fewest, most = rate["labels_interval"]
            print(
                f"  {name}: {rate['win_rate']:.1f}% ({low:.1f} to {high:.1f}) with {oracle}; "
                f"{counted(rate['labels'], 'label')} "
                f"alone {rate['labels_alone']:.1f}% ({fewest:.1f} to {most:.1f}), the oracle alone "
                f"{rate['oracle_alone']:.1f}%"
            )
        if not rates:
            print(f"  {oracle}: no player has 10 labels against the start")


def _over_optimisation(results: dict[str, Any]) -> None:
    from nashward.llm.report.content import with_error

    print("\nwhat was given up for the oracle, beside the start")
    exceeding = [
        (player, measure)
        for player, measures in results["over_optimisation"].items()
        for measure in measures
        if measure["exceeded"]
    ]
    for player, measure in exceeding:
        print(
            f"  EXCEEDED {player}: {measure['measure']} {measure['value']:.3f} ± {measure['standard_error']:.3f}, "
            f"threshold {measure['threshold']:g}"
        )
    if not exceeding:
        print("  nothing is beyond its threshold")
    shares = [
        f"{name} {100 * share:.0f}%"
        + (f" ({100 * results['refusals'][name]:.0f}%)" if name in results["refusals"] else "")
        for name, share in results["prompt_refusals"].items()
    ]
    print("  refused of these prompts (of requests that should be refused): " + ", ".join(shares))
    if len(results["oracles"]) == 1:
        print("  win rates under other oracles are not known: give one with --held-out")
    if results["kl"]:
        divergences = [
            f"{name} {with_error(one['value'], one['standard_error'], 2) or 'not known (it went too far)'}"
            for name, one in results["kl"].items()
        ]
        print("  KL from the start, nats per response: " + ", ".join(divergences))


def _band(game: dict[str, Any], name: str) -> tuple[str, str]:
    band = game["lottery_band"]
    return ("  ?  ", "  ?  ") if band is None else (f"{band['low'][name]:5.3f}", f"{band['high'][name]:5.3f}")


def _number(value: float | None, digits: int) -> str:
    return "?" if value is None else f"{value:.{digits}f}"


COMMAND = Command(
    "nashward evaluate runs/first --held-out oracles/mine",
    add_arguments,
    run,
    first=("prompts", "held-out", "answers", "adapter", "labels", "oracle"),
    divides=True,
    continues=True,
)
