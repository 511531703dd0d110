"""``nashward leaderboard``: models by the maximal lottery, with every other ranking beside it."""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nashward import games
from nashward.cli import configuration, json_output, options, outputs
from nashward.cli.command import Command
from nashward.counted import counted
from nashward.errors import NashwardError
from nashward.shortened import shortened

from .leaderboard_lines import correction_line, print_board
from .standings import Standings, apart_pairs, ranked

if TYPE_CHECKING:
    from nashward.llm.oracles.diagnosis.probe import Pair

EXAMPLES, WIDTH = 3, 40  # pairs that never met, and characters of a name among them
MOSTLY = 0.25  # share of a feature of style within models, below which the models explain most of it
ORACLE = options.select(options.INPUTS, ("oracle", "combine", "correct"))


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
    content = ranked(standings, args.seed)
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
    if (together := games.analysis.style.entangled_in_words(battles.style)) is not None:
        origin.append(f"warning: {together}")
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
    pairs = apart_pairs(labels, apart)
    if not pairs:
        return []
    examples = ", ".join(" and ".join(shortened(pair, WIDTH)) for pair in pairs[:EXAMPLES])
    return [
        f"lengths hardly overlap of {examples}{', ...' * (len(pairs) > EXAMPLES)}: what length adds is a guess between "
        "these, and there is no verdict on them"
    ]


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
