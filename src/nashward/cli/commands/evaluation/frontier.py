"""``nashward frontier``: what a win rate under one objective costs under another, for the policies of a run."""

from __future__ import annotations

import argparse
from typing import Any

from nashward.cli import configuration, options, outputs
from nashward.cli.command import Command
from nashward.counted import counted

from .evaluate import add_of_run, of_run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_of_run(parser)
    parser.add_argument(
        "--objective", action="append", default=[], metavar="NAME=ORACLE", dest="objectives",
        help="a further objective, which the run was not trained on (may be given several times)",
    )  # fmt: skip
    parser.add_argument(
        "--responses", type=options.whole, default=4, help="responses of each policy per prompt (default: 4)"
    )
    parser.add_argument("--picture", type=options.path, help="the file of the picture (default: frontier.png there)")
    options.add_groups(parser, options.JUDGE)


def run(args: argparse.Namespace) -> int:
    from nashward.llm import oracles, report
    from nashward.llm.evaluation.objectives.frontier import FILE, figure, frontier
    from nashward.llm.processes import processes

    picture = args.picture or args.folder / "frontier.png"
    outputs.check_picture("--picture", picture, "frontier.png")
    play, prompts = of_run(args, finished=True)
    named = configuration.named_oracles(args.objectives)
    judge = configuration.judge(args, [*named.values()], "--objective")
    objectives = {name: oracles.check_source(source, **judge) for name, source in named.items()}
    say: Any = (lambda what: None) if args.quiet else print
    found = frontier(play, prompts, objectives, args.responses, args.seed, say)
    processes.decided(lambda: outputs.write_picture(figure(found), picture))
    print(
        f"{args.folder}: {counted(found['prompts'], 'prompt')}, {counted(found['responses'], 'response')} each, "
        "against the start's"
    )
    shown = list(dict.fromkeys(name for rates in found["policies"].values() for name in rates))
    width = max(map(len, found["policies"]))
    print(f"{'':<{width}}  " + "  ".join(f"{name:>15}" for name in shown))
    for policy, rates in found["policies"].items():
        print(f"{policy:<{width}}  " + "  ".join(f"{_rate(rates.get(name)):>15}" for name in shown))
    for pair, front in found["fronts"].items():
        print(
            f"not dominated in {pair}: {', '.join(front)} (no other policy is better in one and not worse in the other)"
        )
    print(f"picture: {picture}")
    print(f"numbers: {args.folder / FILE}")
    print(f"report: {processes.decided(lambda: report.write(args.folder))}")
    return 0


def _rate(rate: dict[str, Any] | None) -> str:
    if rate is None:
        return ""
    return f"{rate['value']:.3f}" + ("" if rate["standard_error"] is None else f" ± {rate['standard_error']:.3f}")


COMMAND = Command(
    "nashward frontier runs/first --objective plain=nashward.llm.oracles:Plain",
    add_arguments,
    run,
    first=("objective", "responses", "prompts", "picture", "oracle"),
    divides=True,
    continues=True,
    writes=("picture",),
)
