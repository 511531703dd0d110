"""A run on the card that is killed three times and goes on, against two undisturbed ones, file by file.

The second undisturbed run tells whether the card computes the same twice at all. All three are played at once.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from gpu_parts.results import parser, report
from nashward.llm import pocket

KILLS = ("iteration-01/responses", "iteration-01/adapter", "iteration-02/judgements")  # where the run is killed
TEXTS = ("Describe the sea.", "Name a river.", "Tell me about bread.", "How do I learn chess?", "What is a comet?")


def command(out: Path, prompts: Path, toy: bool) -> list[str]:
    size = ["--max-new-tokens", "8" if toy else "48", "--responses", "2" if toy else "5", "--iterations", "2"]
    return [
        sys.executable, "-m", "nashward", "align", "--policy", str(pocket.POLICY), "--oracle", str(pocket.PAIRRM),
        "--prompts", str(prompts), "--out", str(out), "--quiet", *size,
    ]  # fmt: skip


def killed(line: list[str], out: Path, log: Path, limit: float) -> int:
    """Run a command, kill it where each of ``KILLS`` appears, and start it again; returns the number of kills."""
    kills, began = 0, time.monotonic()
    for place in (*KILLS, None):
        with log.open("a") as stream:
            process = subprocess.Popen(line, stdout=stream, stderr=stream, start_new_session=True)
            while process.poll() is None and time.monotonic() - began < limit:
                if place is not None and (out / place).exists():
                    os.killpg(process.pid, signal.SIGKILL)
                    kills += 1
                    break
                time.sleep(0.01)
            if process.poll() is None and time.monotonic() - began >= limit:
                os.killpg(process.pid, signal.SIGKILL)
            if process.wait() == 0:
                break
    return kills


def differences(one: Path, other: Path) -> tuple[list[str], float]:
    """The files of responses, judgements and adapters that differ, and the largest difference of adapters' weights."""
    from safetensors.torch import load_file

    different, largest = [], 0.0
    for pattern in ("*/responses/*.jsonl*", "*/judgements/*.jsonl*", "*/adapter/*.safetensors"):
        for file in sorted(one.glob(pattern)):
            name = file.relative_to(one)
            if not (other / name).exists():
                different.append(f"{name} is missing")
            elif file.read_bytes() != (other / name).read_bytes():
                different.append(str(name))
                if name.suffix == ".safetensors":
                    a, b = load_file(file), load_file(other / name)
                    largest = max(largest, *(float((a[k] - b[k]).abs().max()) for k in a))
    return different, largest


def main(arguments: list[str] | None = None) -> None:
    options = parser(__doc__)
    options.add_argument("--limit", type=float, default=150.0, help="seconds for all")
    given = options.parse_args(arguments)
    folder = given.work / f"resume-{os.getpid()}"
    folder.mkdir(parents=True)
    prompts = folder / "prompts.jsonl"
    rows = [{"prompt": f"{text} ({i})"} for i in range(1 if given.toy else 8) for text in TEXTS]
    prompts.write_text("".join(json.dumps(row) + "\n" for row in rows))
    runs = {name: folder / name for name in ("undisturbed", "again", "killed")}
    lines = {name: command(out, prompts, given.toy) for name, out in runs.items()}
    began = time.monotonic()
    others = []
    for name in ("undisturbed", "again"):
        with (folder / f"{name}.log").open("w") as stream:
            others.append(subprocess.Popen(lines[name], stdout=stream, stderr=stream))
    kills = killed(lines["killed"], runs["killed"], folder / "killed.log", given.limit)
    for process in others:
        try:
            process.wait(max(1.0, given.limit - (time.monotonic() - began)))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    report("three runs at once", time.monotonic() - began, "s")
    for name in ("again", "killed"):
        different, largest = differences(runs["undisturbed"], runs[name])
        unfinished = [one for one in ("undisturbed", name) if not (runs[one] / "iteration-02/adapter").exists()]
        what = "an undisturbed run made again" if name == "again" else f"a run that was killed {kills} times"
        report(
            f"{what}: files that differ", None if unfinished else len(different), "",
            largest_difference_of_weights=largest, files=different[:4],
            failed=f"{unfinished[0]} was not finished within {given.limit:g} s" if unfinished else None,
        )  # fmt: skip


if __name__ == "__main__":
    main()
