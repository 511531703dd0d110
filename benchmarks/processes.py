"""What a second process saves: the phases of one iteration of the pocket models by 1, 2, ... processes of one thread.

    python benchmarks/processes.py                  # 1 and 2 processes, three rounds by turns, CPU
    python benchmarks/processes.py --processes 1 2 4 --prompts 512

Each run is torchrun's, with gloo. Seconds are those of the clock, of a phase as the first process sees it, from its
beginning until all have left it; models are loaded before. The ratio is that of the medians to those of one process.
The machine must have a free core for each process.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from machine import versions

GROUPS = {"sampling and judging": ("sampling", "judging"), "training": ("training",),
          "scoring and measuring": ("scoring", "measuring")}  # fmt: skip
REQUIRED = {"sampling and judging": 0.62, "training": 0.65}  # of two processes


def work(folder: Path, prompts: int, responses: int, tokens: int) -> None:
    """One of the processes: a run of one iteration; the first one writes the seconds of each phase."""
    import torch

    from nashward import games, llm
    from nashward.llm.processes import processes
    from nashward.llm.run.progress import Progress

    torch.set_num_threads(1)
    seconds: dict[str, float] = {}
    timed = Progress.phase

    @contextmanager
    def watched(self: Progress, step: str, phase: str, *more: Any, **named: Any) -> Iterator[Any]:
        began = time.monotonic()
        with timed(self, step, phase, *more, **named) as advance:
            yield advance
        seconds[phase] = seconds.get(phase, 0.0) + time.monotonic() - began

    Progress.phase = watched  # type: ignore[method-assign]
    policy = llm.LanguageModel.from_pretrained(llm.pocket.POLICY, quantise=False, device="cpu")
    oracle = llm.oracles.PairRM.from_pretrained(llm.pocket.PAIRRM, device="cpu")
    texts = [f"Tell me {'more ' * (k % 9)}about number {k}." for k in range(prompts)]
    with processes.session():
        llm.SelfPlay(
            policy=policy, oracle=oracle, solver=games.MWU(2.0), prompts=texts, folder=folder / "run",
            config=llm.RunConfig(
                iterations=1, responses=responses, sampling=llm.Sampling(max_new_tokens=tokens),
                fit=llm.Fit(learning_rate=1e-3, tokens=1024),
            ),
        ).run(progress=False)  # fmt: skip
    if processes.main:
        (folder / "seconds.json").write_text(json.dumps(seconds))


def launched(count: int, given: argparse.Namespace) -> dict[str, float]:
    """The seconds of each phase by so many processes."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count), __file__,
            "--worker", folder, "--prompts", str(given.prompts), "--responses", str(given.responses),
            "--tokens", str(given.tokens),
        ]  # fmt: skip
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if result.returncode:
            raise SystemExit(result.stdout + result.stderr)
        return json.loads((Path(folder) / "seconds.json").read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--prompts", type=int, default=512)
    parser.add_argument("--responses", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=48, help="of a response, at most")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker is not None:
        work(given.worker, given.prompts, given.responses, given.tokens)
        return
    if 1 not in given.processes:
        raise SystemExit("the ratios are to one process: --processes 1 2")
    taken: dict[int, list[dict[str, float]]] = {count: [] for count in given.processes}
    for _ in range(given.rounds):
        for count in given.processes:
            taken[count].append(launched(count, given))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    about = ", ".join(f"{name} {version}" for name, version in versions(("torch",)).items())
    print(f"{given.prompts} prompts x {given.responses} responses, {given.rounds} rounds; {cores} cores; {about}")
    print(f"{'':<24}" + "".join(f"{count:>8} process{'es' * (count > 1):<2} ratio" for count in given.processes))
    for group, phases in GROUPS.items():
        medians = {
            count: statistics.median(sum(row.get(phase, 0.0) for phase in phases) for row in rows)
            for count, rows in taken.items()
        }
        cells = "".join(f"{medians[count]:14.2f} s {medians[count] / medians[1]:7.2f}" for count in given.processes)
        required = f"  (of two: at most {REQUIRED[group]})" if group in REQUIRED else ""
        print(f"{group:<24}{cells}{required}")


if __name__ == "__main__":
    main()
