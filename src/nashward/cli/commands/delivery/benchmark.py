"""``nashward benchmark``: the tasks of the Open LLM Leaderboard through lm_eval, before beside after."""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from nashward.cli import configuration, options
from nashward.cli.command import Command
from nashward.errors import MissingPackageError, NashwardError

TASKS = "openllm"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--policy", required=True, metavar="ID_OR_FOLDER", help="the base, which is before")
    parser.add_argument("--adapter", type=options.path, help="a folder in PEFT's format on that base, which is after")
    parser.add_argument("--merged", type=options.path, help="or a folder that `nashward export --to merged` wrote")
    parser.add_argument("--out", type=options.path, required=True, help="of the results: its folders before and after")
    parser.add_argument("--tasks", default=TASKS, help=f"of lm_eval, with commas (default: {TASKS}, all six)")
    parser.add_argument("--limit", type=options.whole, help="questions of each task at most, for a trial")
    parser.add_argument("--dtype", default="bfloat16", help="of the weights (default: bfloat16)")
    parser.add_argument("--run", action="store_true", help="run lm_eval here; else its lines are printed")


def run(args: argparse.Namespace) -> int:
    from nashward.llm.delivery.benchmarks.leaderboard_tasks import VERSION, changes, command, read_scores, table

    if (args.adapter is None) == (args.merged is None):
        raise NashwardError("what is after is an adapter or a merged folder: give one of --adapter and --merged")
    for folder in (args.adapter, args.merged):
        if folder is not None and not folder.is_dir():
            raise FileNotFoundError(f"there is no folder {folder}")
    if args.adapter is not None and not (args.adapter / "adapter_config.json").is_file():
        raise NashwardError(f"{args.adapter} holds no adapter (it has no adapter_config.json)")
    if args.merged is not None and not (args.merged / "config.json").is_file():
        raise NashwardError(f"{args.merged} holds no model (it has no config.json)")
    configuration.check_place(args.out / "before")
    if args.limit is not None and args.limit < 1:
        raise NashwardError(f"--limit is {args.limit}; expected at least 1")
    after = str(args.merged) if args.merged is not None else args.policy
    lines = {
        "before": command(args.policy, args.out / "before", None, args.tasks, args.limit, args.dtype),
        "after": command(after, args.out / "after", args.adapter, args.tasks, args.limit, args.dtype),
    }
    for line in lines.values():
        print(shlex.join(line))
    if args.run:
        if find_spec("lm_eval") is None:
            raise MissingPackageError(f'--run needs lm_eval: pip install "lm_eval[hf]=={VERSION}"')
        for name, line in lines.items():
            if not _done(args.out / name):
                _evaluate(line)
    done = [_done(args.out / name) for name in lines]
    if not all(done):
        print(f"the table of both is printed by this command once the lines above have written into {args.out}")
        return 0
    print("\n".join(table(changes(read_scores(args.out / "before"), read_scores(args.out / "after")))))
    return 0


def _done(folder: Path) -> bool:
    return any(folder.rglob("results*.json"))


def _evaluate(line: list[str]) -> None:
    found = subprocess.run([sys.executable, "-m", *line], check=False)
    if found.returncode:
        raise NashwardError(f"lm_eval ended with {found.returncode}; its own words are above")


COMMAND = Command(
    "nashward benchmark --policy mistralai/Mistral-7B-Instruct-v0.2 --adapter runs/first/iteration-03/adapter "
    "--out scores/first",
    add_arguments,
    run,
)
