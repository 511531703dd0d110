"""``nashward leaderboard``: models by the maximal lottery, with every other ranking beside it."""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nashward import games
from nashward.cli import configuration, json_output, options, outputs
from nashward.cli.command import Command
from nashward.counted import counted
from nashward.errors import NashwardError
from nashward.shortened import shortened

from .leaderboard_lines import correction_line, print_board

if TYPE_CHECKING:
    from nashward.games.analysis.leaderboard import Bands, Battles, InCategory
    from nashward.llm.oracles.diagnosis.probe import Pair

EXAMPLES, WIDTH = 3, 40  # pairs that never met, and characters of a name among them
CERTAIN = 1.645  # standard errors
MOSTLY = 0.25  # share of a feature of style within models, below which the models explain most of it
ORACLE = options.select(options.INPUTS, ("oracle", "combine", "correct"))


@dataclass(frozen=True)
class Standings:
    """All that is ranked.

    Attributes:
        battles: who beat whom how often.
        origin: lines on how they came about.
        rates: win rates and their standard errors, [n] each, where models were judged.
        original: the battles as they were fought, where style was taken out of them.
        logits_curl: the mean share of a prompt's logits that no score explains; None without an oracle.
        apart: [n, n], the pairs whose lengths hardly overlap, where they are taken out: there is no verdict on these.
        style: the fit of it, where style was taken out.
        corrections: those of the oracle (``corrections_of``), with what was fitted.
        style_left: the share of an oracle's log-odds (mean square) that this leaves over; 1 where it was not.
    """

    battles: Battles
    origin: list[str]
    rates: tuple[Any, Any] | None = None
    logits_curl: float | None = None
    original: Battles | None = None
    apart: Any = None
    style: games.analysis.contextual.ContextualBradleyTerry | None = None
    style_left: float = 1.0
    corrections: Sequence[dict[str, Any]] = ()

    @property
    def hollow(self) -> bool:
        """Whether an oracle judges by style all but alone, so that there is no verdict on what is left of it."""
        from nashward.llm.oracles.corrections.corrected import MOST_TAKEN

        return self.style_left < MOST_TAKEN


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "responses",
        type=options.path,
        help="a folder with one .json or .jsonl file of responses per model (or .gz), to be judged; or a .csv, .json, "
        ".jsonl or .parquet file of battles: model_a, model_b, winner (or wins_a, wins_b, ties) and, if known, prompt; "
        "or a .csv table of counts, how often the model of a row beat that of a column; LMArena's files as they are, "
        "with language, category_tag and conv_metadata",
    )
    parser.add_argument(
        "--prompts",
        help="the prompts of a folder; answers that name theirs, by text or id, are matched by it, others by order",
    )
    options.add(parser, {**options.PROMPT_FIELD, **ORACLE})
    parser.add_argument(
        "--style-control", action="store_true",
        help="rank without what length, headers, lists and bold add, as these responses or battles show it",
    )  # fmt: skip
    parser.add_argument(
        "--category", metavar="NAME", help="only the battles of this category or language, from a file of battles"
    )
    parser.add_argument(
        "--without-annotator", action="append", default=[], metavar="NAME",
        help="leave out the votes of this annotator, in a file of battles (may be given several times)",
    )  # fmt: skip
    parser.add_argument(
        "--without-model", action="append", default=[], metavar="NAME",
        help="of a file: leave out the battles of this model (may be given several times)",
    )  # fmt: skip
    parser.add_argument("--limit", type=options.whole, help="use the first prompts only")
    parser.add_argument("--cache", type=options.path, help="keep judgements in this file, and look them up")
    parser.add_argument(
        "--save", type=options.path, metavar="TABLE", help="write the table of win probabilities as CSV"
    )
    parser.add_argument("--seed", type=options.whole, default=0, help="seed of the draws behind the bands (default: 0)")
    parser.add_argument("--json", type=options.path, metavar="FILE", help="write all of it for a machine to read")
    options.add_groups(parser, options.JUDGE)


def run(args: argparse.Namespace) -> int:
    from nashward.llm.processes import processes

    outputs.check_file("--save", args.save, "table.csv", (".csv",))
    outputs.check_file("--json", args.json, "nash.json")
    if args.seed < 0:
        raise NashwardError(f"--seed is a whole number >= 0, got {args.seed}")
    if not args.responses.exists():
        raise FileNotFoundError(f"there is no file of battles and no folder of responses {args.responses}")
    args.oracle = getattr(args, "oracle", None)
    needs = ("prompts", "oracle")
    if args.responses.is_file():
        given = {name: getattr(args, name) for name in (*needs, "limit", "cache")} | {
            name: getattr(args, name.replace("-", "_"), None) for name in ("combine", "correct", "prompt-field")
        }
        if unused := [f"--{name}" for name, value in given.items() if value is not None]:
            raise NashwardError(f"{args.responses} is a file of battles, already judged: leave out {unused[0]}")
        configuration.judge(args, [])
        standings = _fought(
            args.responses, args.style_control, args.category, args.without_annotator, args.without_model
        )
    else:
        of_files = {"category": args.category, "without-annotator": args.without_annotator,
                    "without-model": args.without_model}  # fmt: skip
        if option := next((f"--{name}" for name, value in of_files.items() if value), ""):
            raise NashwardError(f"{option} is of a file of battles, and {args.responses} is a folder of responses")
        if missing := [f"--{name}" for name in needs if getattr(args, name) is None]:
            raise NashwardError(f"a folder of responses has to be judged: give {' and '.join(missing)} as well")
        standings = _judged(args)
    processes.decided(lambda: _show(args, standings))
    return 0


def _show(args: argparse.Namespace, standings: Standings) -> None:
    content = _ranked(standings, args.seed)
    closed: list[BrokenPipeError] = []  # by head, say: the files are written nevertheless
    with outputs.read_by_none(closed):
        print_board(content, standings.battles)
    if args.save is not None:
        _save(args.save, standings.battles.game)
    if args.json is not None:
        json_output.write(args.json, content)
    if closed:
        raise closed[0]
    if args.save is not None:
        print(f"table: {args.save} (nashward solve {args.save})")
    if args.json is not None:
        print(f"json: {args.json}")


def _fought(path: Path, style: bool, category: str | None, without: list[str], models: list[str]) -> Standings:
    every = games.analysis.leaderboard.read_battles(path, style=style, without=without)
    battles = every if category is None else every.of_category(category).without_idle()
    battles = games.analysis.battles.without_models(battles, models) if models else battles
    if not len(battles.first):
        raise NashwardError(f"{path} has no battles of the category {category!r}")
    prompts = f" on {counted(battles.prompts, 'prompt')}" if every.by_prompt and not (category or models) else ""
    origin = [f"{counted(len(battles.labels), 'model')}, {counted(battles.met.sum() / 2, 'battle')}{prompts}"]
    origin[0] += f" of {every.met.sum() / 2:g}: {category}" if category is not None else ""
    for what, names in (("votes", without), ("battles", models)):
        origin += [f"without the {what} of {', '.join(dict.fromkeys(names))}"] if names else []
    if battles.missing:
        examples = [" and ".join(shortened(pair, WIDTH)) for pair in battles.missing[:EXAMPLES]]
        shown, more = ", ".join(examples), ", ..." * (len(battles.missing) > EXAMPLES)
        origin.append(f"{counted(len(battles.missing), 'pair')} never met (taken as 1/2): {shown}{more}")
    if not style:
        return Standings(battles, origin)
    told, decides = "alike in length and layout", battles.style_of_models
    features = list(zip(games.analysis.style.STYLE, battles.style_within, decides, strict=True))
    if kinds := [kind for kind, _, decided in features if decided]:
        shown = " and ".join(kinds)
        told += f", but for {shown}: who wrote a response decides that, it cannot be told from how good the models are"
    battles = battles.without_style_of_models()
    controlled, fit = battles.style_controlled()
    origin.append(f"at equal style: win probabilities and ratings are of responses that are {told}")
    mostly = [f"{1 - within:.0%} of {kind}" for kind, within, decided in features if within < MOSTLY and not decided]
    if mostly:
        shown = " and ".join(mostly)
        origin.append(f"who wrote a response explains {shown}: what is taken out may be how good the models are")
    assert battles.style is not None, "style was read"
    longer = battles.style[:, games.analysis.style.STYLE.index("length")]
    apart = games.analysis.battles.lengths_apart(longer, battles.first, battles.second, len(battles.labels))
    return Standings(controlled, origin + _apart_line(battles.labels, apart), original=battles, apart=apart, style=fit)


def _judged(args: argparse.Namespace) -> Standings:
    import numpy as np
    from tqdm import tqdm

    from nashward.llm import oracles
    from nashward.llm.data.responses import read_prompt_keys, read_prompt_texts, read_responses
    from nashward.llm.evaluation.tournament import tournament
    from nashward.llm.oracles.corrections.corrected import corrections_of
    from nashward.llm.oracles.corrections.correction import base_sources
    from nashward.llm.oracles.diagnosis.probe import judge_pairs, probe_pairs
    from nashward.llm.oracles.source_names import form_of

    if args.limit is not None and args.limit < 1:
        raise NashwardError(f"--limit is {args.limit}; expected at least 1")
    every = read_prompt_texts(args.prompts, options.prompt_field(args))
    answered = read_responses(args.responses, every, read_prompt_keys(args.prompts))
    responses = {name: texts[: args.limit] for name, texts in answered.items()}
    prompts = every[: args.limit]
    source = configuration.oracle_of(args)
    oracle = oracles.as_oracle(source, **configuration.judge(args, base_sources(source)), cache=args.cache)
    corrections = corrections_of(oracle)
    apart = style = None
    left = 1.0
    if args.style_control:
        pairs = probe_pairs((), prompts, responses)
        control = oracles.StyleControl.of(oracle, judge_pairs(oracle, pairs, args.cache))
        taken_out = dict(zip(games.analysis.style.STYLE, control.coefficients, strict=True))
        apart = _lengths_apart(pairs, list(responses)) if taken_out["length"] else None
        oracle, style, left = control, control.fit, control.left
    with tqdm(
        total=len(prompts),
        desc=f"judging {counted(len(responses), 'model')}",
        unit="prompt",
        disable=args.quiet or None,
    ) as bar:
        result = tournament(oracle, prompts, responses, cache=args.cache, progress=bar.update)
    origin = [f"{counted(len(responses), 'model')}, {counted(len(prompts), 'prompt')}, judged by {oracle.name}"]
    origin += map(correction_line, corrections)
    if result.spread:  # of one member it is 0
        folds = " (its folds)" * (isinstance(source, str) and form_of(source) == "checkpoint")
        origin.append(f"the win probabilities of its members{folds} differ by {result.spread:.3f} (standard deviation)")
    unanswered = {name: sum(text is None for text in texts) for name, texts in responses.items()}
    if any(unanswered.values()):
        origin.append(
            "without a response: " + ", ".join(f"{name} to {count}" for name, count in unanswered.items() if count)
        )
    origin += [line for base in base_sources(source) if (line := _fit_of(base, prompts))]
    judged = int(result.judged[~np.eye(len(responses), dtype=bool)].min())
    if judged < len(prompts):
        origin.append(f"each pair was judged on at least {judged} of {counted(len(prompts), 'prompt')}")
    origin += [] if apart is None else _apart_line(tuple(responses), apart)
    rates = result.win_rate, result.win_rate_error
    return Standings(
        result.battles, origin, rates, result.curl, apart=apart, style=style, style_left=left, corrections=corrections
    )


def _lengths_apart(pairs: Sequence[Pair], names: list[str]) -> Any:
    """[n, n], the pairs of models whose responses to the same prompts hardly overlap in length."""
    import numpy as np

    longer = np.array([float(len(pair.a)) - len(pair.b) for pair in pairs])
    first, second = (
        np.array([names.index(str(getattr(pair, side))) for pair in pairs]) for side in ("author_a", "author_b")
    )
    return games.analysis.battles.lengths_apart(longer, first, second, len(names))


def _apart_line(labels: tuple[str, ...], apart: Any) -> list[str]:
    pairs = _apart_pairs(labels, apart)
    if not pairs:
        return []
    examples = ", ".join(" and ".join(shortened(pair, WIDTH)) for pair in pairs[:EXAMPLES])
    return [
        f"lengths hardly overlap of {examples}{', ...' * (len(pairs) > EXAMPLES)}: what length adds is a guess between "
        "these, and there is no verdict on them"
    ]


def _apart_pairs(labels: tuple[str, ...], apart: Any) -> list[tuple[str, str]]:
    n = len(labels)
    return [] if apart is None else [(labels[i], labels[j]) for i in range(n) for j in range(i + 1, n) if apart[i, j]]


def _fit_of(oracle: Any, prompts: list[str]) -> str:
    """What to know of a fitted oracle: whether these prompts were its own, and which cycles of its votes it lacks."""
    from nashward.llm.oracles.fitting.fit import cycles_not_held, fitted_to
    from nashward.llm.oracles.fitting.summary import ring

    said = []
    if seen := fitted_to(oracle, prompts):
        said.append(
            f"fitted to votes on {len(seen)} of these {counted(len(prompts), 'prompt')}: there it is right more often"
        )
    if lost := cycles_not_held(oracle):
        cycle = ring(lost[0].names) + f" and {len(lost) - 1} more" * (len(lost) > 1)
        said.append(f"it does not hold a cycle of its votes, {cycle}: the Nash is its own, not theirs")
    return f"{oracle}: {'; '.join(said)}" if said else ""


def _ranked(standings: Standings, seed: int) -> dict[str, Any]:
    """Every ranking, the models in the order of their lottery and, where they share it, of their ratings."""
    social_choice = games.analysis.social_choice
    battles, apart, categories = standings.battles, standings.apart, _categories(standings)
    game, bands, labels, lottery = battles.game, battles.bands(seed=seed), battles.labels, battles.lottery
    winner, smith = int(social_choice.condorcet_winner(game.P)), social_choice.smith_set(game.P).tolist()
    untested = winner < 0 or _untested(standings, winner)
    return {
        "about": standings.origin,
        "models": _model_rows(standings, bands, categories, smith),
        "nash_unique": lottery.only,
        "nash_unique_over_classes": lottery.unique,
        "clones": [[labels[i] for i in players] for players in lottery.clones],
        "leans_on": _leans_on(standings),
        "share_of_draws": bands.share,
        "condorcet_winner": labels[winner] if winner >= 0 else None,
        "condorcet_p_value": None if untested else battles.winner_p_value(winner, seed=seed),
        "lengths_apart": _apart_pairs(labels, apart),
        "smith_set": [label for label, member in zip(labels, smith, strict=True) if member],
        "curl": float(social_choice.curl_fraction(game.P - 0.5)),
        "logits_curl": standings.logits_curl,
        "cycle_p_value": _cycle_p_value(standings),
        "cycles": [] if standings.hollow else _cycles(battles, apart, seed),
        "style": None if standings.style is None else _style(standings.style),
        "style_left": standings.style_left,
        "corrections": list(standings.corrections),
        "hollow": standings.hollow,
        "categories": [_category_row(category, labels, len(categories)) for category in categories],
        "never_met": battles.missing,
        "labels": labels,
        "P": game.P,
    }  # fmt: skip


def _untested(standings: Standings, model: int) -> bool:
    """Whether the battles of a model are too few, or its responses too different in length, for a test of its wins."""
    if standings.hollow:
        return True
    battles, apart = standings.battles, standings.apart
    fewest = battles.compared[model, battles.fewest_with(model)]
    return fewest < games.analysis.pair_tests.MIN_PROMPTS or (apart is not None and bool(apart[model].any()))


def _model_rows(
    standings: Standings, bands: Bands, categories: list[InCategory], smith: Sequence[bool]
) -> list[dict[str, Any]]:
    """A row for each model, by its lottery and then by its rating."""
    game_ratings, battles = games.analysis.game_ratings, standings.battles
    labels, P = battles.labels, battles.game.P
    copeland = games.analysis.social_choice.copeland(P).tolist()
    deviations = game_ratings.deviation_ratings(P)
    certain = bool(((P == 0) | (P == 1)).any())  # log-odds of these are not finite
    averaging = None if certain else games.analysis.ratings.ELO * game_ratings.nash_averaging(P)
    rows = []
    for i in sorted(range(len(labels)), key=lambda i: (-float(bands.lottery[i]), -float(bands.elo[i]))):
        row = {
            "model": labels[i], "battles": float(battles.met[i].sum()),
            "nash": float(bands.lottery[i]), "nash_band": [float(bands.low[i]), float(bands.high[i])],
            "nash_alone": float(bands.whole[i]),
            "elo": float(bands.elo[i]), "elo_band": [float(bands.elo_low[i]), float(bands.elo_high[i])],
            "deviation": float(deviations[i]), "nash_averaging": None if averaging is None else float(averaging[i]),
            "copeland": copeland[i], "smith": smith[i], "worst_category": _worst(categories, i),
        }  # fmt: skip
        if standings.rates is not None:
            row |= {"win_rate": float(standings.rates[0][i]), "win_rate_error": float(standings.rates[1][i])}
        rows.append(row)
    return rows


def _category_row(category: InCategory, labels: tuple[str, ...], categories: int) -> dict[str, Any]:
    """A category as one of so many, for which the test of who beats the Nash there is corrected."""
    best, beyond_noise = category.beats_most(categories)
    return {
        "name": category.name, "battles": category.battles,
        "elo": _by_label(labels, category.elo), "elo_error": _by_label(labels, category.elo_error),
        "rate_against_nash": _by_label(labels, category.rate),
        "rate_against_nash_error": _by_label(labels, category.rate_error),
        "beats_nash_most": labels[best], "beyond_noise": beyond_noise,
    }  # fmt: skip


def _leans_on(standings: Standings) -> dict[str, Any] | None:
    """The models of few battles that change who leads, and the Nash without them."""
    battles = standings.battles
    found = games.analysis.battles.few_battles(battles) if standings.rates is None else None
    if found is None:
        return None
    few = [
        {"model": label, "battles": float(met.sum()), "most_with_one": float(met.max())}
        for label, met, is_few in zip(battles.labels, battles.met, found.few, strict=True) if is_few
    ]  # fmt: skip
    without = None if found.without is None else _by_label(battles.labels, found.without)
    return {"models": few, "moved": found.moved, "nash_without": without}


def _cycle_p_value(standings: Standings) -> float | None:
    if standings.original is not None:
        return standings.original.fit_p_value(style=True)
    return standings.battles.cycle_p_value if standings.rates is None else None


def _categories(standings: Standings) -> list[InCategory]:
    """The categories, the one in which the Nash is beaten most surely first."""
    battles = standings.battles if standings.original is None else standings.original
    overall = standings.battles.ratings.elo.numpy()
    lottery, style = standings.battles.lottery.policy, standings.original is not None
    found = games.analysis.battles.by_category(battles, lottery, overall, style)

    def lower_end(category: InCategory) -> float:
        best = category.beats_most(len(found))[0]
        return float(category.rate[best] - CERTAIN * category.rate_error[best])

    return sorted(found, key=lower_end, reverse=True)


def _worst(categories: list[InCategory], model: int) -> dict[str, Any] | None:
    """The category in which a model is most surely low: by the upper end of its rating there, since few battles err."""
    known = [category for category in categories if category.elo_error[model] == category.elo_error[model]]  # not NaN
    if not known:
        return None
    worst = min(known, key=lambda category: category.elo[model] + CERTAIN * category.elo_error[model])
    return {"name": worst.name, "elo": float(worst.elo[model]), "elo_error": float(worst.elo_error[model])}


def _cycles(battles: Battles, apart: Any, seed: int) -> list[dict[str, Any]]:
    P, labels = battles.game.P, battles.labels
    found = []
    for cycle in battles.cycles(seed=seed):
        i, j, k = cycle.players
        if apart is not None and (apart[i, j] or apart[j, k] or apart[k, i]):
            continue
        pairs = [
            {"winner": labels[a], "loser": labels[b], "win_rate": float(P[a, b]), "battles": float(battles.met[a, b])}
            for a, b in ((i, j), (j, k), (k, i))
        ]
        found.append({"models": [labels[i], labels[j], labels[k]], "p_value": cycle.p_value, "floor": cycle.floor,
                      "pairs": pairs})  # fmt: skip
    return found


def _style(fit: games.analysis.contextual.ContextualBradleyTerry) -> dict[str, dict[str, float] | None]:
    """What a standard deviation of each feature adds to the log-odds, with its standard error; None: not measured."""
    columns = zip(fit.coefficients, fit.standard_error, fit.slopes, fit.slope_errors, strict=True)
    names = ("coefficient", "error", "slope", "slope_error")
    return {
        feature: None
        if values[0] == 0 and values[1] != values[1]
        else dict(zip(names, map(float, values), strict=True))
        for feature, values in zip(games.analysis.style.STYLE, columns, strict=True)
    }


def _by_label(labels: tuple[str, ...], values: Any) -> dict[str, float | None]:
    numbers = [None if value != value else float(value) for value in values]  # NaN is not NaN
    return dict(zip(labels, numbers, strict=True))


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
    first=("prompts", "oracle", "combine", "correct", "style-control", "category", "without-annotator",
           "without-model", "cache", "save", "json"),
    divides=True,
    writes=("json", "save"),
)  # fmt: skip
