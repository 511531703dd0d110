"""``nashward leaderboard``: models by the maximal lottery, with every other ranking beside it."""

from __future__ import annotations

import argparse
import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nashward import games
from nashward.cli import configuration, json_output, options
from nashward.cli.command import Command
from nashward.errors import NashwardError

ORACLE = options.select(options.INPUTS, ("oracle", "combine", "correct"))


@dataclass(frozen=True)
class Standings:
    """All that is ranked.

    Attributes:
        battles: who beat whom how often.
        origin: lines on how they came about.
        rates: win rates and their standard errors, [n] each, where models were judged.
        logits_curl: the mean share of a prompt's logits that no score explains; None without an oracle.
    """

    battles: games.analysis.leaderboard.Battles
    origin: list[str]
    rates: tuple[Any, Any] | None = None
    logits_curl: float | None = None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "responses",
        type=options.path,
        help="a folder with one .json or .jsonl file of responses a model (or .gz), to be judged; or a .csv, .json or "
        ".jsonl file of battles: model_a, model_b, winner (or wins_a, wins_b, ties) and, if known, prompt",
    )
    parser.add_argument(
        "--prompts",
        help="of a folder: the prompts; answers that name theirs, by text or id, are matched by it, others by order",
    )
    options.add(parser, ORACLE)
    parser.add_argument(
        "--style-control", action="store_true",
        help="of a folder: judge without what length, headers, lists and bold add, as these responses show it",
    )  # fmt: skip
    parser.add_argument("--limit", type=options.whole, help="use the first prompts only")
    parser.add_argument("--cache", type=options.path, help="keep judgements in this file, and look them up")
    parser.add_argument(
        "--save", type=options.path, metavar="TABLE", help="write the table of win probabilities as CSV"
    )
    parser.add_argument("--seed", type=options.whole, default=0, help="of the draws behind the bands (default: 0)")
    parser.add_argument("--json", type=options.path, metavar="FILE", help="write all of it for a machine to read")
    options.add_groups(parser, options.JUDGE)


def run(args: argparse.Namespace) -> int:
    from nashward.llm.processes import processes

    if args.save is not None and args.save.suffix != ".csv":
        raise NashwardError(f"--save {args.save}: the table is written as CSV; name a .csv file")
    if args.save is not None:
        configuration.check_place(args.save)
    if args.json is not None:
        json_output.check(args.json)
    if args.seed < 0:
        raise NashwardError(f"--seed is a whole number >= 0, got {args.seed}")
    if not args.responses.exists():
        raise FileNotFoundError(f"there is no file of battles and no folder of responses {args.responses}")
    args.oracle = getattr(args, "oracle", None)
    needs = ("prompts", "oracle")
    if args.responses.is_file():
        given = {name: getattr(args, name) for name in (*needs, "limit", "cache")} | {
            name: getattr(args, name, None) for name in ("combine", "correct")
        }
        given["style-control"] = args.style_control or None
        if unused := [f"--{name}" for name, value in given.items() if value is not None]:
            raise NashwardError(f"{args.responses} is a file of battles, already judged: leave out {unused[0]}")
        configuration.judge(args, [])
        standings = _fought(args.responses)
    else:
        if missing := [f"--{name}" for name in needs if getattr(args, name) is None]:
            raise NashwardError(f"a folder of responses has to be judged: give {' and '.join(missing)} as well")
        standings = _judged(args)
    processes.decided(lambda: _show(args, standings))
    return 0


def _show(args: argparse.Namespace, standings: Standings) -> None:
    content = _ranked(standings, args.seed)
    _print(standings, content)
    if args.save is not None:
        _save(args.save, standings.battles.game)
        print(f"table: {args.save} (nashward solve {args.save})")
    if args.json is not None:
        json_output.write(args.json, content)
        print(f"json: {args.json}")


def _fought(path: Path) -> Standings:
    battles = games.analysis.leaderboard.read_battles(path)
    prompts = f" on {len(battles.wins)} prompt{'s' * (len(battles.wins) > 1)}" if battles.by_prompt else ""
    origin = [f"{len(battles.labels)} models, {battles.met.sum() / 2:g} battles{prompts}"]
    if battles.missing:
        shown = ", ".join(f"{a} and {b}" for a, b in battles.missing[:5])
        more = ", ..." * (len(battles.missing) > 5)
        origin.append(f"{len(battles.missing)} pairs never met (taken as 1/2): {shown}{more}")
    return Standings(battles, origin)


def _judged(args: argparse.Namespace) -> Standings:
    import numpy as np
    from tqdm import tqdm

    from nashward.llm import oracles
    from nashward.llm.data.responses import read_prompt_keys, read_prompt_texts, read_responses
    from nashward.llm.evaluation.tournament import tournament
    from nashward.llm.oracles.diagnosis.probe import judge_pairs, probe_pairs
    from nashward.llm.oracles.load import base_sources

    if args.limit is not None and args.limit < 1:
        raise NashwardError(f"--limit is {args.limit}; expected at least 1")
    every = read_prompt_texts(args.prompts)
    answered = read_responses(args.responses, every, read_prompt_keys(args.prompts))
    responses = {name: texts[: args.limit] for name, texts in answered.items()}
    prompts = every[: args.limit]
    source = configuration.oracle_of(args)
    oracle = oracles.as_oracle(source, **configuration.judge(args, base_sources(source)))
    if args.style_control:
        oracle = oracles.StyleControl.of(oracle, judge_pairs(oracle, probe_pairs((), prompts, responses), args.cache))
    with tqdm(
        total=len(prompts), desc=f"judging {len(responses)} models", unit="prompt", disable=args.quiet or None
    ) as bar:
        result = tournament(oracle, prompts, responses, cache=args.cache, progress=bar.update)
    origin = [f"{len(responses)} models, {len(prompts)} prompts, judged by {oracle.name}"]
    if result.spread is not None:
        origin.append(f"its members' win probabilities differ by {result.spread:.3f} (standard deviation)")
    unanswered = {name: sum(text is None for text in texts) for name, texts in responses.items()}
    if any(unanswered.values()):
        origin.append(
            "without a response: " + ", ".join(f"{name} to {count}" for name, count in unanswered.items() if count)
        )
    judged = int(result.judged[~np.eye(len(responses), dtype=bool)].min())
    if judged < len(prompts):
        origin.append(f"each pair was judged on at least {judged} of {len(prompts)} prompts")
    return Standings(result.battles, origin, (result.win_rate, result.win_rate_error), result.curl)


def _ranked(standings: Standings, seed: int) -> dict[str, Any]:
    """Every ranking, the models in the order of their lottery and, where they share it, of their ratings."""
    social_choice = games.analysis.social_choice
    battles = standings.battles
    game, bands, labels = battles.game, battles.bands(seed=seed), battles.labels
    winner, smith = int(social_choice.condorcet_winner(game.P)), social_choice.smith_set(game.P).tolist()
    copeland, unique = social_choice.copeland(game.P).tolist(), games.nash(game).unique
    order = sorted(range(len(labels)), key=lambda i: (-float(bands.lottery[i]), -float(bands.elo[i])))
    rows = []
    for i in order:
        row = {
            "model": labels[i],
            "nash": float(bands.lottery[i]), "nash_band": [float(bands.low[i]), float(bands.high[i])],
            "elo": float(bands.elo[i]), "elo_band": [float(bands.elo_low[i]), float(bands.elo_high[i])],
            "copeland": copeland[i], "smith": smith[i],
        }  # fmt: skip
        if standings.rates is not None:
            row |= {"win_rate": float(standings.rates[0][i]), "win_rate_error": float(standings.rates[1][i])}
        rows.append(row)
    return {
        "about": standings.origin,
        "models": rows,
        "nash_unique": None if unique is None else bool(unique),
        "share_of_draws": bands.share,
        "condorcet_winner": labels[winner] if winner >= 0 else None,
        "smith_set": [label for label, member in zip(labels, smith, strict=True) if member],
        "curl": float(social_choice.curl_fraction(game.P - 0.5)),
        "logits_curl": standings.logits_curl,
        "cycle_p_value": battles.cycle_p_value if standings.rates is None else None,
        "never_met": battles.missing,
        "labels": labels,
        "P": game.P,
    }


def _print(standings: Standings, content: dict[str, Any]) -> None:
    rows = content["models"]
    width, judged = max(len(row["model"]) for row in rows), standings.rates is not None
    between = f"{content['share_of_draws']:.0%} of draws"
    print("\n".join(standings.origin))
    print(f"{'':<{width}}" + "         win rate" * judged + f"   Nash  {between:<14}   Elo  {between:<13}  Copeland")
    for row in rows:
        rate = ""
        if judged:
            error = row["win_rate_error"]
            rate = f"  {row['win_rate']:6.3f} ± " + (f"{error:<6.3f}" if error == error else "?     ")  # NaN is not NaN
        nash, elo = row["nash_band"], row["elo_band"]
        print(
            f"{row['model']:<{width}}{rate}  {row['nash']:5.3f}  {nash[0]:.3f} to {nash[1]:.3f}  {row['elo']:4.0f}  "
            f"{elo[0]:4.0f} to {elo[1]:4.0f}   {row['copeland']:+8d}"
        )
    if not content["nash_unique"]:
        known = (
            "the Nash is not the only one" if content["nash_unique"] is False else "the Nash may not be the only one"
        )
        print(f"{known}: the bands hold what any of them gives a model")
    print(f"Condorcet winner: {content['condorcet_winner'] or 'none'}; Smith set: {', '.join(content['smith_set'])}")
    print(f"share of the margins that no score explains (Hodge): {content['curl']:.3f}")
    if standings.logits_curl is not None and standings.logits_curl == standings.logits_curl:
        print(f"share of a prompt's logits that no score explains, mean: {standings.logits_curl:.3f}")
    p = content["cycle_p_value"]
    if p is not None and p == p:  # not NaN: there are pairs beyond those that scores need
        verdict = "scores explain the battles" if p > 0.05 else "scores do not explain the battles"
        print(f"{verdict} (p = {p:.2g} without any cycle)")


def _save(path: Path, game: games.PreferenceGame) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["", *game.labels])
        rows.writerows([label, *map(repr, row)] for label, row in zip(game.labels, game.P.tolist(), strict=True))


COMMAND = Command(
    "nashward leaderboard answers/ --prompts prompts.jsonl --oracle llm-blender/PairRM --cache judgements.sqlite",
    add_arguments,
    run,
    first=("prompts", "oracle", "combine", "correct", "style-control", "cache", "save", "json"),
    divides=True,
)
