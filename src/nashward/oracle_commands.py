"""The commands about oracles themselves: ``fit-oracle`` and ``leaderboard``."""

from __future__ import annotations

import argparse
import csv

from nashward.games import PreferenceGame

from . import options
from .options import Option

KINDS = {
    "pairrm": "reads both responses together, on an encoder",
    "gpm": "embeds each response, so that cycles can be held; on a causal language model",
    "bt": "gives each response a reward; on a model for sequence classification",
}
SETTINGS: dict[str, Option] = {
    "train": Option(("train",), str, "what is trained (default: head)", ("head", "lora", "all")),
    "folds": Option(("folds",), int, "of the cross-validation by prompt (default: 5)"),
    "epochs": Option(("epochs",), int, "at most (default: 20)"),
    "patience": Option(("patience",), int, "epochs without a better held-out loss before training stops (default: 3)"),
    "learning-rate": Option(("learning_rate",), float, "default: 1e-3 for a head, 2e-4 for a LoRA, 2e-5 for all"),
    "weight-decay": Option(("weight_decay",), float, "default: 0.01"),
    "warmup": Option(("warmup",), float, "share of the optimiser steps (default: 0.05)"),
    "batch": Option(("batch",), int, "pairs in an optimiser step (default: 32)"),
    "near-duplicates": Option(
        ("near_duplicates",), float, "added ties of a response with its near copy, as a share (default: 0.1)"
    ),
    "length-matched": Option(
        ("length_matched",), float, "labelled pairs of like length once more, as a share (default: 0.1)"
    ),
    "style-swapped": Option(
        ("style_swapped",), float, "winners in plain text, losers in lists and bold, as a share (default: 0.05)"
    ),
    "weigh-voters": Option(("weigh_voters",), bool, "fit again with each voter weighed by his reliability"),
    "rank": Option(("rank",), int, "of the LoRA (default: 16)"),
    "dimensions": Option(("dimensions",), int, "of a new preference embedding (default: 8)"),
    "ensemble": Option(("ensemble",), bool, "keep the folds' models for a standard error (default)"),
    "half": Option(("half",), bool, "store the weights in float16"),
    "seed": Option(("seed",), int, "of everything (default: 0)"),
}


def add_fit(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--pairs", required=True, metavar="FILE", help="votes, judgements or chosen/rejected pairs")
    parser.add_argument("--base", required=True, metavar="ID_OR_FOLDER", help="the model under the head")
    kinds = "; ".join(f"{name}: {text}" for name, text in KINDS.items())
    parser.add_argument("--kind", required=True, choices=tuple(KINDS), help=kinds)
    parser.add_argument("--out", required=True, type=options.path, metavar="FOLDER", help="a new folder for the oracle")
    parser.add_argument("--device", help="default: cuda where there is one")
    options.add(parser, SETTINGS)


def fit_oracle(given: argparse.Namespace) -> int:
    from nashward.llm import oracles

    typed = vars(given)
    settings = oracles.FitSettings(**{key: typed[key] for option in SETTINGS.values() if (key := option.key) in typed})
    votes = oracles.read_votes(given.pairs)
    fit = oracles.fit_oracle(
        votes, given.base, given.kind, given.out, settings, device=given.device, progress=not given.quiet
    )
    voters = {vote.voter for vote in votes if vote.voter}
    print(
        f"{len(votes)} votes on {len({vote.prompt for vote in votes})} prompts"
        + (f" by {len(voters)} voters" if voters else "")
    )
    print("trained on " + ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in fit.pairs.items() if count))
    print(
        f"held-out log-loss {fit.log_loss:.4f} ± {fit.standard_error:.4f} nats; a coin {fit.chance:.4f}, the length "
        f"alone {fit.length:.4f}; {fit.accuracy:.1%} on the right side"
    )
    if fit.log_loss + 2 * fit.standard_error > min(fit.chance, fit.length):
        print("warning: this is no better than a coin or the length; more votes, another base or --train lora may help")
    for name, found in sorted(fit.voters.items(), key=lambda item: item[1].slope):
        told = f"voter {name}: {found.votes:g} votes, {found.agreement:.0%} as predicted, slope {found.slope:.2f}"
        told += f" ± {found.standard_error:.2f}"
        if found.suspect:
            told += ": no better than chance; --weigh-voters counts these votes less"
        print(told)
    print(f"oracle: {fit.folder}")
    return 0


def add_leaderboard(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "answers",
        type=options.path,
        help="a folder with one .json or .jsonl file of answers a model (or .gz), to be judged; or a .csv, .json or "
        ".jsonl file of battles: model_a, model_b, winner (or wins_a, wins_b, ties) and, if known, prompt",
    )
    parser.add_argument("--prompts", help="of a folder: the prompts, in the order of the answers")
    parser.add_argument("--oracle", help="of a folder: folder or hub id of an oracle, a file of votes, or module:name")
    parser.add_argument("--limit", type=options.whole, help="use the first prompts only")
    parser.add_argument("--cache", type=options.path, help="keep judgements in this file, and look them up")
    parser.add_argument(
        "--save", type=options.path, metavar="TABLE", help="write the table of win probabilities as CSV"
    )


def leaderboard(given: argparse.Namespace) -> int:
    if given.save is not None and given.save.suffix != ".csv":
        raise ValueError(f"--save {given.save}: the table is written as CSV; name a .csv file")
    needs = ("prompts", "oracle")
    if given.answers.is_file():
        if told := [f"--{name}" for name in (*needs, "limit", "cache") if getattr(given, name) is not None]:
            raise ValueError(f"{given.answers} is a file of battles, which are judged already: leave out {told[0]}")
        game = _battles(given)
    else:
        if lacking := [f"--{name}" for name in needs if getattr(given, name) is None]:
            raise ValueError(f"a folder of answers has to be judged: give {' and '.join(lacking)} as well")
        game = _judged(given)
    if given.save is not None:
        given.save.parent.mkdir(parents=True, exist_ok=True)
        with given.save.open("w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file)
            rows.writerow(["", *game.labels])
            rows.writerows([label, *map(repr, row)] for label, row in zip(game.labels, game.P.tolist(), strict=True))
        print(f"table: {given.save} (nashward solve {given.save})")
    return 0


def _battles(given: argparse.Namespace) -> PreferenceGame:
    from nashward import games

    battles = games.read_battles(given.answers)
    bands, ratings, game = battles.bands(), battles.ratings, battles.game
    width = max(map(len, game.labels))
    print(f"{len(game.labels)} models, {battles.met.sum() / 2:g} battles" + _prompts(len(battles.wins)))
    if battles.missing:
        shown = ", ".join(f"{a} and {b}" for a, b in battles.missing[:5])
        print(f"{len(battles.missing)} pairs never met (taken as 1/2): {shown}" + ", ..." * (len(battles.missing) > 5))
    print(f"{'':<{width}}   Nash   {bands.share:.0%} of draws   Bradley-Terry (Elo)")
    order = sorted(range(len(game.labels)), key=lambda i: (-float(bands.lottery[i]), -float(ratings.scores[i])))
    for i in order:
        low, high = float(bands.low[i]), float(bands.high[i])
        nash = f"{float(bands.lottery[i]):6.3f}   {low:.3f} to {high:.3f}   {float(ratings.elo[i]):7.0f}"
        print(f"{game.labels[i]:<{width}}  {nash}")
    winner = int(games.social_choice.condorcet_winner(game.P))
    print(f"beats every other: {game.labels[winner] if winner >= 0 else 'nobody'}")
    if ratings.cycle_p_value == ratings.cycle_p_value:  # not NaN: there are pairs beyond those that scores need
        told = "scores explain the battles" if ratings.cycle_p_value > 0.05 else "scores do not explain the battles"
        print(f"{told} (p = {ratings.cycle_p_value:.2g} without any cycle)")
    return game


def _prompts(count: int) -> str:
    return f" on {count} prompts" if count > 1 else ""


def _judged(given: argparse.Namespace) -> PreferenceGame:
    import numpy as np
    from tqdm import tqdm

    from nashward import games
    from nashward.llm import oracles
    from nashward.llm.tournament import read_answers, read_texts, tournament

    if given.limit is not None and given.limit < 1:
        raise ValueError(f"--limit is {given.limit}; expected at least 1")
    prompts = read_texts(given.prompts)[: given.limit]
    answers = {name: texts[: given.limit] for name, texts in read_answers(given.answers).items()}
    oracle = oracles.as_oracle(given.oracle)
    with tqdm(
        total=len(prompts), desc=f"judging {len(answers)} models", unit="prompt", disable=given.quiet or None
    ) as bar:
        result = tournament(oracle, prompts, answers, cache=given.cache, progress=bar.update)
    game = result.game
    P = game.P.numpy()
    equilibrium = games.nash(game)
    width = max(map(len, game.labels))
    print(f"{len(P)} models, {len(prompts)} prompts, judged by {oracle.name}")
    silent = {name: sum(text is None for text in texts) for name, texts in answers.items()}
    if any(silent.values()):
        print("without an answer: " + ", ".join(f"{name} to {count}" for name, count in silent.items() if count))
    judged = int(result.judged[~np.eye(len(P), dtype=bool)].min())
    if judged < len(prompts):
        print(f"each pair was judged on at least {judged} of {len(prompts)} prompts")
    print(f"{'':<{width}}  win rate           Nash")
    for i in np.argsort(-result.win_rate, kind="stable"):
        share = float(equilibrium.policy[i])
        error = result.win_rate_error[i]
        rate = f"{result.win_rate[i]:8.3f} ± " + (f"{error:.3f}" if np.isfinite(error) else "?    ")
        print(f"{game.labels[i]:<{width}}  {rate}  " + (f"{share:5.3f}" if share > 0 else "    -"))
    winners = [label for label, row in zip(game.labels, P, strict=True) if (row > 0.5).sum() == len(P) - 1]
    print(f"beats every other: {winners[0] if winners else 'nobody'}; duality gap {float(equilibrium.gap):.1e}")
    if not np.isnan(result.curl):
        print(f"share of the logits that no score explains: {result.curl:.3f}")
    return game
