"""The defaults of a run on two models: what one iteration achieves, by judge, number of prompts and seed.

    NASHWARD_DATA=FOLDER python benchmarks/defaults.py [--policies pocket smollm2] [--prompts 64 512] [--seeds 3]
        [--presets none careful mlp] [--steps 2.5 10] [--limit SECONDS]

The policies are the pocket model and SmolLM2-135M (the extra ``real``). Each plays one iteration under each of two
judges at the defaults of ``nashward align``, with 4 responses of at most 24 tokens (32 for SmolLM2) and the base as it
is, on a CPU; a preset changes what it names but for the number of iterations, and mlp trains adapters of the MLPs
alone (--lora-targets mlp). It is held against its start on prompts that neither trained it nor fitted a judge, under
the judge of the run and under the other one:

- pocket: the PairRM that comes with it, and the preferences between styles that it was fitted to;
- SmolLM2: an oracle fitted to AlpacaEval's public verdicts on half of the prompts, and the majority of three everyday
  judges; the other one is fitted to the verdicts on the other half.

Every cell is a process of its own and leaves its figures in the folder, so that the same command goes on where it was
stopped. It prints a row for each model, judge, preset and number of prompts: means over the seeds, with their standard
errors, and how many of the seeds are done; and of each preset the difference to none.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import resource
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from real_policy import POLICY as SMOLLM2
from real_policy import Alpaca, fitted, summary
from responses import drawn_once

from nashward import llm
from nashward.cli import configuration
from nashward.cli.solver_options import DEFAULT_SOLVER, DEFAULT_STEP
from nashward.llm.evaluation.win_rates.win_rate import win_rate
from nashward.llm.oracles.judges.everyday import EverydayMajority
from nashward.llm.pocket import styles
from nashward.llm.store.files import write_json

JUDGES = {"pocket": ("pairrm", "planted"), "smollm2": ("verdicts", "everyday")}
TOKENS = {"pocket": 24, "smollm2": 32}
EVALUATED = {"pocket": 200, "smollm2": 100}
RESPONSES = 4


@dataclass(frozen=True)
class Cell:
    policy: str
    judge: str
    preset: str
    prompts: int
    seed: int
    step: float = DEFAULT_STEP

    def folder(self, out: Path) -> Path:
        step = "" if self.step == DEFAULT_STEP else f"-step-{self.step:g}"
        return out / self.policy / f"{self.judge}-{self.preset}-{self.prompts}-{self.seed}{step}"


class Planted(llm.oracles.PreferenceOracle):
    """The preferences between styles that the pocket models were made with."""

    name, symmetric, fingerprint = "planted styles", True, "planted styles 1"

    def raw_logits(self, prompts: Any, candidates: Any, pairs: Any) -> list[np.ndarray]:
        table = styles.judged_table()
        logits = np.log(table / (1 - table))
        known = [[4 if (style := styles.style_of(text)) is None else style for text in texts] for texts in candidates]
        return [np.array([logits[row[i], row[j]] for i, j in wanted]) for row, wanted in zip(known, pairs, strict=True)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("build/defaults"))
    parser.add_argument("--policies", nargs="+", default=list(JUDGES), choices=list(JUDGES))
    parser.add_argument("--presets", nargs="+", default=["none"], choices=("none", "careful", "mlp"))
    parser.add_argument("--prompts", nargs="+", type=int, default=[64, 512])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", nargs="+", type=float, default=[DEFAULT_STEP], help="of the solver")
    parser.add_argument("--limit", type=float, default=float("inf"), help="seconds after which no further cell begins")
    parser.add_argument("--cell", type=json.loads, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.cell:
        measure(Cell(**args.cell), args.out)
        return 0
    cells = [
        Cell(policy, judge, preset, prompts, seed, step)
        for policy in args.policies
        for prompts, preset, seed, judge, step in itertools.product(
            args.prompts, args.presets, range(args.seeds), JUDGES[policy], args.steps
        )
    ]
    if "smollm2" in args.policies and not os.environ.get("NASHWARD_DATA"):
        print("smollm2 skipped: set NASHWARD_DATA to a folder with alpacaeval/verdicts.jsonl.gz")
        cells = [cell for cell in cells if cell.policy != "smollm2"]
    began = time.monotonic()
    for cell in cells:
        if (cell.folder(args.out) / "cell.json").exists() or time.monotonic() - began > args.limit:
            continue
        print(f"{cell}", file=sys.stderr, flush=True)
        command = [sys.executable, __file__, "--out", str(args.out), "--cell", json.dumps(asdict(cell))]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    show(cells, args.out)
    return 0


def oracles(cell: Cell, out: Path) -> dict[str, Any]:
    """The judge of the run, and the other one."""
    if cell.policy == "pocket":
        both: dict[str, Any] = {"pairrm": llm.oracles.as_oracle(str(llm.pocket.PAIRRM)), "planted": Planted()}
        return {cell.judge: both.pop(cell.judge), **both}
    alpaca = Alpaca(Path(os.environ["NASHWARD_DATA"]) / "alpacaeval")
    halves = [fitted(out, "bt", half, "keep", alpaca) for half in ("first", "second")]
    return {cell.judge: halves[0] if cell.judge == "verdicts" else EverydayMajority(), "other": halves[1]}


def prompts(cell: Cell) -> tuple[list[str], list[str]]:
    """Those of the run, other ones for each seed, and those of the evaluation."""
    if cell.policy == "pocket":
        return styles.plain_prompts(cell.prompts, 30_000 + cell.seed), styles.held_out_prompts(EVALUATED["pocket"])
    alpaca = Alpaca(Path(os.environ["NASHWARD_DATA"]) / "alpacaeval")
    order = np.random.default_rng(cell.seed).permutation(alpaca.training)[: cell.prompts]
    return [alpaca.prompts[i] for i in order], alpaca.evaluated[: EVALUATED["smollm2"]]


def measure(cell: Cell, out: Path) -> None:
    """Play a cell and write its figures."""
    torch.set_num_threads(1)
    folder, shared = cell.folder(out), out / cell.policy
    folder.mkdir(parents=True, exist_ok=True)
    played, texts = prompts(cell)
    judges = oracles(cell, shared)
    if cell.preset == "mlp":
        settings = {"lora-targets": configuration.Setting("mlp", "benchmark")}
    else:
        settings = {} if cell.preset == "none" else configuration.preset(cell.preset)
    chosen = {"responses": configuration.Setting(RESPONSES, "benchmark"), **settings}
    chosen |= {
        name: configuration.Setting(value, "benchmark")
        for name, value in {
            "out": folder / "run", "solver": DEFAULT_SOLVER, "step": cell.step, "iterations": 1, "seed": cell.seed,
            "max-new-tokens": TOKENS[cell.policy], "quantise": False,
        }.items()
    }  # fmt: skip
    base = str(llm.pocket.POLICY) if cell.policy == "pocket" else SMOLLM2
    play = replace(configuration.self_play(chosen), policy=base, oracle=next(iter(judges.values())), prompts=played)
    began = time.process_time()
    run = play.run(progress=False)
    seconds = time.process_time() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    last = run.metrics[-1]["iteration"]
    start = drawn_once(shared / "evaluation-start.jsonl", play, run.folder / "start" / "adapter", texts, RESPONSES, 1)
    ours = drawn_once(folder / f"evaluation-{last}.jsonl", play, run.folder / last / "adapter", texts, RESPONSES, 2)
    first, second = ([[response.text for response in row] for row in policy] for policy in (ours, start))
    rates = [win_rate(oracle, texts, first, second) for oracle in judges.values()]
    write_json(
        folder / "cell.json",
        {
            **asdict(cell), **summary(run.metrics[-1]), "wins": rates[0].value, "wins_error": rates[0].standard_error,
            "wins_other": rates[1].value, "wins_other_error": rates[1].standard_error, "cpu_seconds": seconds,
            "peak_gib": peak,
        },
    )  # fmt: skip


COLUMNS = {"target_rms": "target, nats", "learning_rate": "rate", "r2": "R2 held out", "share": "share",
           "best_scale": "s*", "kl": "KL", "cyclic_prompts": "cyclic",
           "promised_win_rate": "promised", "wins": "wins, judge of the run", "wins_other": "wins, other judge",
           "cpu_seconds": "CPU s", "peak_gib": "GiB"}  # fmt: skip
DIGITS = {"learning_rate": ".1e", "cpu_seconds": ".0f", "kl": ".3f", "peak_gib": ".1f", "wins": ".3f",
          "wins_other": ".3f", "promised_win_rate": ".3f"}  # fmt: skip
PAIRED = ("r2", "best_scale", "kl", "wins", "wins_other")


def show(cells: list[Cell], out: Path) -> None:
    """A row for each model, judge, preset and number of prompts, over its seeds."""
    groups: dict[tuple[Any, ...], dict[int, dict[str, Any]]] = {}
    for cell in cells:
        if (file := cell.folder(out) / "cell.json").exists():
            key = (cell.policy, cell.judge, cell.preset, cell.prompts, cell.step)
            groups.setdefault(key, {})[cell.seed] = json.loads(file.read_text())
    print("| policy | judge | preset | prompts | step | seeds | " + " | ".join(COLUMNS.values()) + " |")
    print("|" + "---|" * (6 + len(COLUMNS)))
    for key, rows in sorted(groups.items()):
        figures = [figure(name, [row.get(name) for row in rows.values()]) for name in COLUMNS]
        print(f"| {' | '.join(map(str, key))} | {len(rows)} | {' | '.join(figures)} |")
    plain_of = {key: (*key[:2], "none", *key[3:]) for key in groups if key[2] != "none"}
    compared = {key: groups[plain] for key, plain in plain_of.items() if plain in groups}
    if compared:
        print("\nMore than without a preset, with the same seed:\n")
        print(
            "| policy | judge | preset | prompts | step | seeds | "
            + " | ".join(COLUMNS[name] for name in PAIRED)
            + " |"
        )
        print("|" + "---|" * (6 + len(PAIRED)))
    for key, plain in sorted(compared.items()):
        seeds = sorted(groups[key].keys() & plain.keys())
        figures = [figure(name, [_more(name, groups[key][seed], plain[seed]) for seed in seeds]) for name in PAIRED]
        print(f"| {' | '.join(map(str, key))} | {len(seeds)} | {' | '.join(figures)} |")


def _more(name: str, row: dict[str, Any], plain: dict[str, Any]) -> float | None:
    return None if row[name] is None or plain[name] is None else row[name] - plain[name]


def figure(name: str, given: list[float | None]) -> str:
    """A mean over seeds, with its standard error where there are several."""
    values = [value for value in given if value is not None]
    if not values:
        return "-"
    form = DIGITS.get(name, ".2f")
    text = format(float(np.mean(values)), form)
    if len(values) > 1 and name not in ("learning_rate", "cpu_seconds", "peak_gib", "target_rms"):
        text += f" ± {format(float(np.std(values, ddof=1) / len(values) ** 0.5), form)}"
    return text


if __name__ == "__main__":
    sys.exit(main())
