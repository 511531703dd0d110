"""``nashward mix``: several adapters as one policy."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nashward.cli import configuration, options, outputs
from nashward.cli.command import Command
from nashward.errors import NashwardError

from .answer import SAMPLING, answers_of, check_out, loaded

RULES = ("uniform", "linear", "nash")
OF_TOURNAMENT = ("oracle", "combine", "correct", "prompts", "prompt-field", *SAMPLING)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "adapters",
        nargs="+",
        type=options.path,
        metavar="ADAPTER",
        help="a folder of an adapter, or of a run: its start and its iterates",
    )
    parser.add_argument("--out", type=options.path, required=True, help="the file of the mixture, or the merged folder")
    parser.add_argument(
        "--weights", default="uniform", metavar="RULE",
        help="uniform (default), linear (1, 2, 3, ...), nash (of their tournament), or numbers: 0.5,0.3,0.2",
    )  # fmt: skip
    parser.add_argument(
        "--interpolate",
        action="store_true",
        help="average the networks' weights into one adapter, in place of a mixture",
    )
    options.add_groups(parser, options.select({**options.INPUTS, **options.RUN}, ("policy", *OF_TOURNAMENT)))


def run(args: argparse.Namespace) -> int:
    if args.weights != "nash" and (given := configuration.flags(args, OF_TOURNAMENT)):
        raise NashwardError(f"--{next(iter(given))} is of the tournament of --weights nash; leave it out")

    from nashward.llm.policy.adapters.lora import interpolate
    from nashward.llm.policy.mixture import Mixture, adapter_folders, linear, nash_weights, uniform

    adapters = adapter_folders(args.adapters)
    if len({adapter.resolve() for adapter in adapters}) < len(adapters):
        raise NashwardError("an adapter is given twice; name each once, with --weights for how much it counts")
    check_out(args.out, folder=args.interpolate)
    outputs.check_replaced(args.out, ("members",))
    Mixture.of(adapters).check(getattr(args, "policy", None))
    if args.weights == "nash":
        weights = nash_weights(_tournament(args, adapters))
    elif args.weights in RULES:
        weights = {"uniform": uniform, "linear": linear}[args.weights](len(adapters))
    else:
        weights = _numbers(args.weights)
    mixture = Mixture.of(adapters, weights)
    if args.interpolate:
        interpolate(mixture.members, args.out)
    else:
        mixture.save(args.out)
    if not args.quiet:
        for folder, weight in mixture.members:
            print(f"  {weight:.3f}  {folder}")
    print(f"{'adapter' if args.interpolate else 'mixture'}: {args.out}")
    return 0


def _tournament(args: argparse.Namespace, adapters: Sequence[Path]) -> Any:
    """The game of the adapters against each other, one response of each per prompt."""
    from nashward.llm import Mixture, read_prompts
    from nashward.llm.evaluation.tournament import tournament
    from nashward.llm.oracles import as_oracle
    from nashward.llm.policy.chat_template import drop_refused

    source = configuration.oracle_of(args)
    missing = [name for name in ("policy", "oracle", "prompts") if getattr(args, name, None) is None]
    if missing:
        raise NashwardError(f"--weights nash plays a tournament, which needs --{missing[0]}")
    prompts, oracle = read_prompts(args.prompts, options.prompt_field(args)), as_oracle(source)
    model, sampling, seed = loaded(args, Mixture.of(adapters))
    ids = drop_refused(model.tokenizer, prompts)
    if prompts.dropped:
        print(prompts)
    answers = {str(a): answers_of(model, Mixture(((a, 1.0),)), ids, sampling, seed) for a in adapters}
    return tournament(oracle, [prompt.text for prompt in prompts.kept], answers).game


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise NashwardError(f"--weights: expected {', '.join(RULES)} or numbers with commas, got {text!r}") from None


COMMAND = Command(
    "nashward mix runs/first runs/second/iteration-02/adapter --weights linear --out mixture.json",
    add_arguments,
    run,
    writes=("out",),
)
