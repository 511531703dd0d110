"""``nashward diagnose``: what is wrong with a judge, and what that costs."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

from nashward.cli import configuration, json_output, options, outputs
from nashward.cli.command import Command
from nashward.counted import counted
from nashward.errors import NashwardError
from nashward.llm.config import DiagnosisLimits

FOUND = 3  # the exit code where a problem was named
ORACLE = options.select(options.INPUTS, ("oracle",))
COMBINE = options.select(options.INPUTS, ("combine", "correct"))
LIMITS = options.options_of(DiagnosisLimits)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add(parser, ORACLE, required=True)
    options.add(parser, COMBINE)
    parser.add_argument(
        "--labels", metavar="FILE", help="pairs that people or a trusted judge compared, rows as for fit-oracle"
    )
    parser.add_argument(
        "--responses", type=options.path, metavar="FOLDER",
        help="responses to --prompts, one file per author: shows cycles, and with labels whom the judge favours",
    )  # fmt: skip
    parser.add_argument("--prompts", help="the prompts of --responses: " + options.INPUTS["prompts"].text)
    options.add(parser, options.PROMPT_FIELD)
    parser.add_argument(
        "--beside", action="append", default=[], metavar="ORACLE",
        help="another judge to compare with; two of them or more (may be given several times)",
    )  # fmt: skip
    parser.add_argument("--limit", type=options.whole, default=200, help="prompts at most (default: 200)")
    parser.add_argument("--cache", type=options.path, help="keep judgements in this file, and look them up")
    parser.add_argument("--seed", type=options.whole, default=0, help="seed of the draws behind the cost (default: 0)")
    parser.add_argument(
        "--report", type=options.path, default=Path("diagnosis.html"), metavar="FILE",
        help="the page to write (default: diagnosis.html)",
    )  # fmt: skip
    parser.add_argument("--json", type=options.path, metavar="FILE", help="write all of it for a machine to read")
    options.add_groups(parser, options.JUDGE)
    options.add(parser.add_argument_group(f"limits (beyond one the exit code is {FOUND})"), LIMITS)


def run(args: argparse.Namespace) -> int:
    from nashward.llm import oracles
    from nashward.llm.oracles.corrections.correction import base_sources, files_of_pairs
    from nashward.llm.oracles.diagnosis.diagnose import diagnose
    from nashward.llm.oracles.fitting.fit import fitted_to
    from nashward.llm.report.diagnosis import MEANING, write_diagnosis
    from nashward.theory import OracleError

    limits = DiagnosisLimits(**options.values(args, LIMITS))
    _check(args)
    given = configuration.oracle_of(args)
    judging = configuration.judge(args, [*base_sources(given), *args.beside])
    source = oracles.check_source(given, **judging)
    sources = {name: oracles.check_source(name, **judging) for name in args.beside}
    pairs = _pairs(args)
    oracle = oracles.as_oracle(source, **judging, cache=args.cache)
    others = {name: oracles.as_oracle(one, **judging, cache=args.cache) for name, one in sources.items()}
    labelled = {pair.prompt for pair in pairs if pair.n}
    fitted = {one: seen for one in base_sources(given) if (seen := fitted_to(one, labelled))}
    seen_by_any = set().union(*fitted.values())
    diagnosis = diagnose(oracle, pairs, others, limits, args.cache, args.seed, seen_by_any)
    bound = None if diagnosis.cost is None else min(float(OracleError(diagnosis.cost.error).value()), 1.0)
    print(diagnosis.headline)
    print(f"examined on {counted(diagnosis.pairs, 'pair')}, {diagnosis.labelled} of them labelled")
    in_sample = [
        f"in-sample: {one} was fitted to votes on {len(seen)} of {counted(len(labelled), 'prompt')} with labels, which "
        "accuracy, calibration and favour leave out; fit-oracle printed held-out figures of these, and a correction is "
        "to be fitted to others"
        for one, seen in fitted.items()
    ]
    examined = {pair.prompt for pair in pairs}
    for spec, file in files_of_pairs(given).items():
        if known := examined & {vote.prompt for vote in oracles.read_votes(file)}:
            in_sample.append(
                f"in-sample: {spec} was fitted to pairs on {len(known)} of the {counted(len(examined), 'prompt')}, "
                "where what it corrects or weighs looks better than elsewhere: examine it on others"
            )
    for line in in_sample:
        print(line)
    for finding in diagnosis.findings:
        error = "" if math.isnan(finding.standard_error) else f" ± {finding.standard_error:.3f}"
        problem = "PROBLEM: " if finding.named else ""
        note = f" ({finding.note})" if finding.note else ""
        print(f"  {finding.kind:<12} {finding.estimate:z7.3f}{error:<9} {problem}{MEANING[finding.kind]}{note}")
    for needs, kinds in diagnosis.lacking.items():
        print(f"not measured: {', '.join(kinds)} (needs {needs})")
    if diagnosis.cost is not None:
        cost = diagnosis.cost
        print(
            f"its noise, {cost.noise:.2f} in log-odds a judgement, costs an equilibrium of {cost.responses:.0f} "
            f"responses a duality gap of about {cost.gap:.3f}, and at most {bound:.3f}"
        )
    for finding in diagnosis.named:
        print(f"what to do ({finding.kind}): {finding.advice}")
    if args.json is not None:
        json_output.write(args.json, {**diagnosis.as_dict(), "bound": bound})
        print(f"json: {args.json}")
    replaced = " (in place of that of an earlier call)" if args.report.is_file() else ""
    print(f"report: {write_diagnosis(diagnosis, args.report, bound, in_sample)}{replaced}")
    return FOUND if diagnosis.named else 0


def _check(args: argparse.Namespace) -> None:
    """What can be found wrong before anything is judged."""
    from nashward.llm.report.diagnosis import may_replace

    if args.labels is None and args.responses is None:
        raise NashwardError("a judge is examined on pairs: give --labels FILE, or --responses FOLDER with --prompts")
    if (args.responses is None) != (args.prompts is None):
        raise NashwardError("--responses and --prompts belong together; give both or neither")
    if args.limit < 1:
        raise NashwardError(f"--limit is {args.limit}; expected at least 1")
    if args.seed < 0:
        raise NashwardError(f"--seed is a whole number >= 0, got {args.seed}")
    if len(args.beside) == 1:
        raise NashwardError("--beside names one judge; two are needed to tell which of three is wrong")
    if len(set(args.beside)) < len(args.beside):
        raise NashwardError("--beside names a judge twice")
    outputs.check_file("--report", args.report, "judge.html")
    if not may_replace(args.report):
        raise NashwardError(f"{args.report} is there and no page of diagnose; give --report another file")
    outputs.check_file("--json", args.json, "nash.json")


def _pairs(args: argparse.Namespace) -> list[Any]:
    """The pairs on the first prompts, labelled ones first."""
    from nashward.llm.data.responses import read_prompt_keys, read_prompt_texts, read_responses
    from nashward.llm.oracles import read_votes
    from nashward.llm.oracles.diagnosis.probe import probe_pairs

    labels = [] if args.labels is None else read_votes(args.labels)
    column = options.prompt_field(args)
    prompts: list[str] = [] if args.prompts is None else read_prompt_texts(args.prompts, column)
    answers = {}
    if args.responses is not None:
        answers = read_responses(args.responses, prompts, read_prompt_keys(args.prompts))
    pairs = probe_pairs(labels, prompts, answers)
    kept = set(list(dict.fromkeys(pair.prompt for pair in pairs))[: args.limit])
    return [pair for pair in pairs if pair.prompt in kept]


COMMAND = Command(
    "nashward diagnose --oracle llm-blender/PairRM --labels pairs.jsonl --report judge.html",
    add_arguments,
    run,
    writes=("json", "report"),
)
