"""A whole run at 1B shape under a judge of PairRM's shape: the seconds that `plan` foretold beside those it took."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from typing import Any

import torch

from gpu_parts.card import RATES
from gpu_parts.random_policy import policy_folder, texts
from gpu_parts.results import attempt, parser, report
from nashward.llm.config import Demand, Rates
from nashward.llm.oracles.load import oracle_shape
from nashward.llm.planner import cost
from nashward.llm.planner.plan import GIB, plan


def main(arguments: list[str] | None = None) -> None:
    options = parser(__doc__)
    options.add_argument("--shape", default="llama-1b")
    options.add_argument("--prompts", type=int, default=32)
    given = options.parse_args(arguments)
    attempt("a whole run", lambda: _run(given))


def _run(given: Any) -> None:
    import judge_speed  # a script beside this folder

    toy = given.toy
    shape, number, words, new = ("toy", 4, 8, 8) if toy else (given.shape, given.prompts, 128, 128)
    policy = policy_folder(given.work, shape, given.device, quantised=False)
    oracle = given.work / f"judge-{'tiny' if toy else 'deberta-large'}"
    if not (oracle / "config.json").exists():
        oracle.mkdir(parents=True, exist_ok=True)
        judge_speed.build(oracle, "tiny" if toy else "deberta-large")
    prompts = given.work / "whole-run.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in texts(number, words)))
    out = given.work / f"whole-run-{int(time.time())}"
    settings = {"responses": 5, "iterations": 1, "max-prompt-tokens": words, "max-new-tokens": new, "epochs": 2}
    line = [sys.executable, "-m", "nashward", "align", "--policy", str(policy), "--oracle", str(oracle), "--prompts",
            str(prompts), "--out", str(out), "--quiet",
            *(text for name, value in settings.items() for text in (f"--{name}", str(value)))]  # fmt: skip
    began = time.perf_counter()
    ended = subprocess.run(line, capture_output=True, text=True, check=False)
    taken = time.perf_counter() - began
    (given.work / "whole-run.log").write_text(ended.stdout + ended.stderr)
    if ended.returncode:
        raise RuntimeError(f"align ended with {ended.returncode}: {(ended.stderr.strip().splitlines() or [''])[-1]}")
    phases: Counter[str] = Counter()
    for text in (out / "timings.jsonl").read_text().splitlines():
        row = json.loads(text)
        phases[row["phase"]] += row["seconds"]
    demand = Demand(prompts=number, iterations=1, prompt_tokens=words, new_tokens=new)
    memory = torch.cuda.mem_get_info()[0] if given.device == "cuda" else 24 * GIB
    memory_plan = plan(str(policy), memory, demand, oracle=oracle_shape(str(oracle)))
    foretold = {"by assumed rates": cost.seconds(memory_plan)}
    if (given.work / RATES).exists():
        rates = json.loads((given.work / RATES).read_text())
        foretold["by this card's rates"] = cost.seconds(memory_plan, Rates(**rates))
    for phase in cost.seconds(memory_plan):
        more = {name: round(seconds[phase], 2) for name, seconds in foretold.items()}
        report(f"{shape}, {number} prompts: {phase}", phases[phase], "s", **more)
    report(
        f"{shape}: the phases together", sum(phases.values()), "s", command=round(taken, 1),
        **{name: round(sum(seconds.values()), 2) for name, seconds in foretold.items()},
    )  # fmt: skip


if __name__ == "__main__":
    main()
