"""``nashward evaluate``: the iterates of a run against each other, and what was given up for the oracle."""

from __future__ import annotations

import argparse
import random
from pathlib import Path
from typing import Any

from nashward.cli import configuration, options
from nashward.cli.command import Command
from nashward.cli.opponents import files_of
from nashward.errors import NashwardError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_of_run(parser)
    parser.add_argument(
        "--held-out", action="append", default=[], metavar="ORACLE",
        help="judge by this oracle as well, which the run was not trained on (may be given several times)",
    )  # fmt: skip
    parser.add_argument(
        "--adapter", action="append", default=[], type=options.path, metavar="FOLDER",
        help="let this adapter on the same base play as well, of any rank (may be given several times)",
    )  # fmt: skip
    parser.add_argument(
        "--answers", action="append", default=[], metavar="SOURCE",
        help="let other models play by their responses: a file, named as the model is, or a folder with one file a "
        "model; rows of a prompt and its response, found by the prompt (may be given several times)",
    )  # fmt: skip


def add_of_run(parser: argparse.ArgumentParser) -> None:
    """The arguments of what is computed from a run."""
    parser.add_argument("folder", type=options.path, help="the run folder; the run need not be finished")
    parser.add_argument("--prompts", help="of others than the run's: " + options.INPUTS["prompts"].text)
    parser.add_argument(
        "--limit", type=options.whole, default=200, help="prompts at most, drawn by seed (default: 200)"
    )
    parser.add_argument("--policy", default=argparse.SUPPRESS, help="where the run's base is now, if it was moved")
    parser.add_argument("--oracle", default=argparse.SUPPRESS, help="where the run's oracle is now, if it was moved")
    parser.add_argument("--seed", type=options.whole, default=0, help="of what is drawn here (default: 0)")


def of_run(given: argparse.Namespace) -> tuple[Any, list[Any]]:
    """The run of a folder, and the prompts to ask."""
    from nashward.llm import read_prompts
    from nashward.llm.store.run_folder import PROMPTS

    if given.limit < 1:
        raise NashwardError(f"--limit is {given.limit}; expected at least 1")
    if given.seed < 0:
        raise NashwardError(f"--seed is a whole number >= 0, got {given.seed}")
    if given.folder.is_file():
        raise NashwardError(f"{given.folder} is a file; expected a run folder")
    home = configuration.run_folder(given.folder)
    if not given.folder.is_dir() or not home.read():
        raise FileNotFoundError(f"{given.folder} holds no run (it has no run.json)")
    moved = configuration.flags(given, ("policy", "oracle"))
    chosen = configuration.merged([moved, configuration.from_folder(given.folder)])
    play = configuration.self_play({**chosen, "out": configuration.Setting(given.folder, "flag")})
    prompts = read_prompts(given.prompts if given.prompts is not None else home / PROMPTS).kept
    if len(prompts) > given.limit:
        prompts = random.Random(given.seed).sample(prompts, given.limit)
    return play, prompts


def run(given: argparse.Namespace) -> int:
    from nashward.llm import Mixture, oracles, report
    from nashward.llm.evaluation.evaluate import evaluate
    from nashward.llm.policy.loading import adapter_config

    play, prompts = of_run(given)
    sources = {name: oracles.check_source(name) for name in given.held_out}
    for folder in given.adapter:
        adapter_config(folder, None if play.policy is None else str(play.policy))
    others = {_name(folder): Mixture(((folder, 1.0),)) for folder in given.adapter}
    if len(others) < len(given.adapter):
        raise NashwardError(
            f"two adapters would have one name ({', '.join(map(_name, given.adapter))}); rename a folder"
        )
    models: dict[str, Path] = {}
    for source in given.answers:
        files = files_of(Path(source))
        if twice := sorted(set(files) & set(models)):
            raise NashwardError(f"--answers has two files for {twice[0]}: {models[twice[0]]} and {files[twice[0]]}")
        models |= files
    say: Any = (lambda what: None) if given.quiet else print
    found = evaluate(play, prompts, sources, others, seed=given.seed, progress=say, answers=models)
    print(f"{given.folder}: {found['prompts']} prompts, one response each")
    for name in found["games"]:
        _show(name, found)
    _over_optimisation(found)
    print(f"numbers: {given.folder / 'evaluation.json'}")
    print(f"report: {report.write(given.folder)}")
    return 0


def _name(folder: Path) -> str:
    """What an adapter is called in the tables: its folder, or the folder around one that is called adapter."""
    place = folder.resolve()
    return f"{place.parent.parent.name}/{place.parent.name}" if place.name == "adapter" else place.name


def _show(oracle: str, found: dict[str, Any]) -> None:
    game, rates = found["games"][oracle], found["against_start"][oracle]
    width = max(map(len, game["players"]))
    print(f"\njudged by {found['oracles'][oracle]} ({oracle if oracle == 'training' else 'held out'})")
    print(f"{'':<{width}}  against the start  minimal   Nash    90% of draws  exploitability  tokens")
    for name in game["players"]:
        rate = rates.get(name)
        against = "" if rate is None else f"{rate['win_rate']:5.1f}% ± {_number(rate['standard_error'], 1)}"
        minimal = "" if rate is None else _number(rate["minimal"], 1)
        low, high = _band(game, name)
        print(
            f"{name:<{width}}  {against:>17}  {minimal:>7}  {game['lottery'][name]:5.3f}  {low} to {high}  "
            f"{game['exploitability'][name]:14.3f}  {found['tokens'][name]:6.1f}"
        )
    print(f"beats every other: {game['condorcet_winner'] or 'nobody'}")
    misses, curl = game["bradley_terry"]["largest_residual"], 100 * game["curl"]
    print(f"scores (Bradley-Terry) miss a win rate by up to {misses:.3f}; {curl:.1f}% of the log-odds go round")
    rings = [" > ".join([*cycle["players"], cycle["players"][0]]) for cycle in game["cycles"]]
    print("cycles beyond noise: " + ("; ".join(rings) or "none"))


def _over_optimisation(found: dict[str, Any]) -> None:
    print("\nwhat was given up for the oracle, beside the start")
    loud = [(player, one) for player, own in found["over_optimisation"].items() for one in own if one["called_out"]]
    for player, one in loud:
        print(
            f"  CALLED OUT {player}: {one['measure']} {one['value']:.3f} ± {one['standard_error']:.3f}, "
            f"threshold {one['threshold']:g}"
        )
    if not loud:
        print("  nothing is beyond its threshold")
    if len(found["oracles"]) == 1:
        print("  win rates under other oracles are not known: give one with --held-out")
    if found["kl"]:
        told = [
            f"{k} {_number(one['value'], 2)} ± {_number(one['standard_error'], 2)}" for k, one in found["kl"].items()
        ]
        print("  KL from the start, nats a response: " + ", ".join(told))


def _band(game: dict[str, Any], name: str) -> tuple[str, str]:
    band = game["lottery_band"]
    return ("  ?  ", "  ?  ") if band is None else (f"{band['low'][name]:5.3f}", f"{band['high'][name]:5.3f}")


def _number(value: float | None, digits: int) -> str:
    return "?" if value is None else f"{value:.{digits}f}"


COMMAND = Command(
    "nashward evaluate runs/first --held-out oracles/mine",
    add_arguments,
    run,
)
