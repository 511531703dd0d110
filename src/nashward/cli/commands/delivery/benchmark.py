"""``nashward benchmark``: before beside after on public benchmarks, by lm_eval or by a judge behind a server."""

from __future__ import annotations

import argparse
import dataclasses
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nashward.cli import configuration, json_output, options
from nashward.cli.command import Command
from nashward.errors import MissingPackageError, NashwardError

if TYPE_CHECKING:
    from nashward.llm.delivery.benchmarks.answer_files import Answers, Question
    from nashward.llm.delivery.benchmarks.judged_scores import BenchmarkJudge, Mean

TASKS = "openllm"
# of the judge's settings those that a benchmark's own protocol leaves open
JUDGE = (
    "judge-url", "judge-temperature", "judge-max-tokens", "judge-budget", "judge-price", "key-variable", "concurrency",
    "timeout", "retries",
)  # fmt: skip
OF_LM_EVAL = ("policy", "adapter", "merged", "tasks", "dtype", "run")
OF_JUDGED = ("questions", "answers", "judge", "references", "baseline", "style_control")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--policy", metavar="ID_OR_FOLDER", help="the base, which is before")
    parser.add_argument("--adapter", type=options.path, help="a folder in PEFT's format on that base, which is after")
    parser.add_argument("--merged", type=options.path, help="or a folder that `nashward export --to merged` wrote")
    parser.add_argument(
        "--out", type=options.path, required=True,
        help="a folder for the results: lm_eval's folders before and after; with --format the verdicts and the scores",
    )  # fmt: skip
    parser.add_argument("--tasks", help=f"tasks of lm_eval, with commas (default: {TASKS}, all six)")
    parser.add_argument("--limit", type=options.whole, help="questions (of each task) at most, for a trial")
    parser.add_argument("--dtype", help="precision of the weights (default: bfloat16)")
    parser.add_argument("--run", action="store_true", help="run lm_eval here; else its lines are printed")
    judged = parser.add_argument_group("answers that a judge scores")
    judged.add_argument(
        "--format", choices=("mt-bench", "arena-hard"),
        help="score answer files (`nashward answer --format`) with a judge: MT-Bench's grades from 1 to 10, or "
        "Arena-Hard's win rate over a baseline",
    )  # fmt: skip
    judged.add_argument("--questions", metavar="FILE", help="the benchmark's question.jsonl, from its repository")
    judged.add_argument(
        "--answers", nargs="+", type=options.path, metavar="FILE", help="answers of one model each: before, then after"
    )
    judged.add_argument("--judge", metavar="openai:MODEL", help="a language model behind a server")
    judged.add_argument(
        "--references", type=options.path, metavar="FILE",
        help="MT-Bench's reference_answer/gpt-4.jsonl: what is right, for maths, reasoning and coding",
    )  # fmt: skip
    judged.add_argument(
        "--baseline", action="append", metavar="FILE",
        help="Arena-Hard's answers of the baseline; for one category CATEGORY=FILE (may be given several times)",
    )  # fmt: skip
    judged.add_argument("--style-control", action="store_true", help="Arena-Hard's win rate at equal style too")
    options.add(judged, options.select(options.RUN, JUDGE))


def run(args: argparse.Namespace) -> int:
    if args.limit is not None and args.limit < 1:
        raise NashwardError(f"--limit is {args.limit}; expected at least 1")
    if args.format is not None:
        _check_other(args, OF_LM_EVAL, f"goes with lm_eval's tasks, not with --format {args.format}")
        return _judged(args)
    _check_other(args, OF_JUDGED, "goes with a judged benchmark: give --format mt-bench or arena-hard")
    if given := configuration.flags(args, options.select(options.RUN, JUDGE)):
        raise NashwardError(f"--{next(iter(given))} goes with a judged benchmark: give --format mt-bench or arena-hard")
    return _tasks(args)


def _check_other(args: argparse.Namespace, names: Sequence[str], why: str) -> None:
    for name in names:
        if getattr(args, name):
            raise NashwardError(f"--{name.replace('_', '-')} {why}")


def _tasks(args: argparse.Namespace) -> int:
    """The tasks of the Open LLM Leaderboard through lm_eval."""
    from nashward.llm.delivery.benchmarks.leaderboard_tasks import (
        VERSION,
        changes,
        check_results,
        command,
        read_scores,
        table,
    )

    if args.policy is None:
        raise NashwardError("--policy is missing: the base, which is before; or --format, for answers that are judged")
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
    after = str(args.merged) if args.merged is not None else args.policy
    tasks, dtype = args.tasks or TASKS, args.dtype or "bfloat16"
    lines = {
        "before": command(args.policy, args.out / "before", None, tasks, args.limit, dtype),
        "after": command(after, args.out / "after", args.adapter, tasks, args.limit, dtype),
    }
    for name, base, adapter in (("before", args.policy, None), ("after", after, args.adapter)):
        if _done(args.out / name):
            check_results(args.out / name, base, adapter, args.limit)
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


def _judged(args: argparse.Namespace) -> int:
    """Answers to MT-Bench or Arena-Hard, scored by a judge."""
    from nashward.llm.delivery.benchmarks.answer_files import read_answers, read_questions
    from nashward.llm.delivery.benchmarks.judged_scores import BenchmarkJudge

    for name in ("questions", "answers", "judge"):
        if not getattr(args, name):
            raise NashwardError(f"--format {args.format} needs --{name}")
    foreign = ("baseline", "style_control") if args.format == "mt-bench" else ("references",)
    _check_other(args, foreign, f"is not of {args.format}")
    configuration.check_place(args.out / "verdicts.sqlite")
    if args.out.is_file():
        raise NashwardError(f"{args.out} is a file; --out names a folder")
    questions = read_questions(args.questions, args.format)[: args.limit]
    models: list[Answers] = []
    for path in args.answers:
        answers = read_answers(path, args.format)
        answers.check(questions, path)
        if answers.name in [model.name for model in models]:
            raise NashwardError(f"{path}: another file has the answers of {answers.name} already; name each model once")
        models.append(answers)
    settings = configuration.judge(args, [args.judge], "--judge")
    made = BenchmarkJudge(args.judge, settings["judge"], settings["endpoint"], args.out / "verdicts.sqlite")
    score = _mt_bench if args.format == "mt-bench" else _arena_hard
    lines = score(args, made, questions, models)
    print(f"{args.format}, {len(questions)} questions, judged by {made.calls.served.model or made.model}")
    print("\n".join([*lines, f"verdicts and scores: {args.out}"]))
    return 0


def _mt_bench(
    args: argparse.Namespace, judge: BenchmarkJudge, questions: Sequence[Question], models: Sequence[Answers]
) -> list[str]:
    from nashward.llm.delivery.benchmarks import mt_bench
    from nashward.llm.delivery.benchmarks.answer_files import read_answers
    from nashward.llm.delivery.benchmarks.judged_scores import table
    from nashward.llm.store.files import write_jsonl

    references = None if args.references is None else read_answers(args.references, "mt-bench")
    grades = {model.name: mt_bench.grade(judge, questions, model, references) for model in models}
    write_jsonl(args.out / "judgments.jsonl", [one.row(judge.model) for own in grades.values() for one in own])
    scores = {name: mt_bench.scores(own) for name, own in grades.items()}
    change = mt_bench.changes(*grades.values()) if len(grades) == 2 else None
    lines = table(
        {name: {row: _shown(mean) for row, mean in own.items()} for name, own in scores.items()},
        None if change is None else {row: _shown(mean, sign="+") for row, mean in change.items()},
    )
    for name, own in grades.items():
        if unread := sum(one.rating is None for one in own):
            lines.append(f"{name}: {unread} of {len(own)} outputs have no rating and are left out")
    _write(args, judge, scores)
    return lines


def _arena_hard(
    args: argparse.Namespace, judge: BenchmarkJudge, questions: Sequence[Question], models: Sequence[Answers]
) -> list[str]:
    from nashward.llm.delivery.benchmarks import arena_hard
    from nashward.llm.delivery.benchmarks.judged_scores import table
    from nashward.llm.store.files import write_jsonl

    baselines = _baselines(args.baseline or [], questions)
    battles = {model.name: arena_hard.fight(judge, questions, model, baselines) for model in models}
    write_jsonl(args.out / "judgments.jsonl", [one.row(judge.model) for own in battles.values() for one in own])
    rates = {name: arena_hard.win_rates(own, args.style_control) for name, own in battles.items()}
    columns: dict[str, dict[str, str]] = {}
    for name, own in rates.items():
        column = columns.setdefault(name, {})
        for category, found in own.items():
            column[category] = f"{_shown(found.rate, 100)} % ({100 * found.low:.1f} to {100 * found.high:.1f})"
            if found.equal_style is not None:
                column[f"{category}, equal style"] = f"{_shown(found.equal_style, 100)} %"
    lines = [f"win rate over {', '.join(sorted({one.name for one in baselines.values()}))}", *table(columns)]
    for name, own in rates.items():
        if dropped := sum(found.dropped for found in own.values()):
            lines.append(f"{name}: {dropped} of {len(questions)} questions lack a verdict and are left out")
    _write(args, judge, rates)
    return lines


def _baselines(given: Sequence[str], questions: Sequence[Question]) -> dict[str | None, Answers]:
    """The baseline's answers by category; a file without a category is of all others."""
    from nashward.llm.delivery.benchmarks.answer_files import read_answers

    categories = list(dict.fromkeys(question.dataset for question in questions))
    files: dict[str | None, str] = {}
    for one in given:
        category, sign, file = one.partition("=")
        named = bool(sign) and category in categories
        key, path = (category, file) if named else (None, one)
        if key in files:
            raise NashwardError(f"--baseline {one}: {key or 'all categories'} has one already; give CATEGORY=FILE")
        files[key] = path
    found: dict[str | None, Answers] = {}
    for own in categories:
        path = files.get(own, files.get(None, ""))
        if not path:
            raise NashwardError(
                f"--format arena-hard needs --baseline: the baseline's answers to {own}, from model_answer of its data"
            )
        found[own] = read_answers(Path(path), "arena-hard")
        found[own].check([question for question in questions if question.dataset == own], Path(path))
    return found


def _write(args: argparse.Namespace, judge: BenchmarkJudge, scores: Mapping[str, Mapping[str, Any]]) -> None:
    by_model = {name: {row: dataclasses.asdict(found) for row, found in own.items()} for name, own in scores.items()}
    record = {"format": args.format, "judge": judge.calls.served.model or judge.model, "scores": by_model}
    json_output.write(args.out / "scores.json", record)


def _shown(mean: Mean, times: float = 1.0, sign: str = "") -> str:
    return f"{times * mean.value:{sign}.{1 if times > 1 else 2}f} ± {times * mean.standard_error:.2f}"


COMMAND = Command(
    "nashward benchmark --policy mistralai/Mistral-7B-Instruct-v0.2 --adapter runs/first/iteration-03/adapter "
    "--out scores/first",
    add_arguments,
    run,
    continues=True,
    writes=("out/scores.json",),
)
