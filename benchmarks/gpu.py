"""What a machine with a CUDA card reaches: memory, speed, agreement and resuming, part by part, in one command.

    python benchmarks/gpu.py [--parts NAME ...] [--minutes 8] [--toy --device cpu] [--out docs/gpu.json]

It installs nothing and reaches no network: policies have the shape of 7B and 8B models and random weights. A part whose
packages are missing says so; one that fails or takes too long leaves its log in ``build/gpu`` and the others go on.
Results are printed and written as they come. Each part has a time limit, and all of them have ``--minutes`` together: a
part for which no time is left is written down as not measured, and ``--parts`` measures it later, into the same file.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from gpu_parts.results import RESULT
from machine import versions

HERE = Path(__file__).parent
ROOT = HERE.parent
PACKAGES = ("torch", "transformers", "peft", "bitsandbytes", "trl", "liger-kernel", "llm-blender", "numpy", "numba")


@dataclass(frozen=True)
class Part:
    """A part of the measurement.

    Attributes:
        about: what it answers.
        script: in this folder; "pytest" for the tests.
        limit: seconds after which it is ended.
        arguments: of the script on a card.
        toy: of the script where it is rehearsed.
        needs: packages without which it is left out.
        json: whether the script writes a table of figures in place of results line by line.
    """

    about: str
    script: str
    limit: float
    arguments: tuple[str, ...] = ()
    toy: tuple[str, ...] = ("--toy",)
    needs: tuple[str, ...] = ()
    json: bool = False


TRAINING = ("--variants", "ours-batch", "trl-stored", "trl-liger", "ours")
TOY_TRAINING = ("--vocabulary", "1000", "--length", "16", "--variants", "ours", "ours-batch")
LEAST_SECONDS = 20.0  # a part with less time than this is not begun: its model would not even be loaded
PARTS: dict[str, Part] = {  # what is most wanted comes first
    "card": Part("what the card reaches", "gpu_parts/card.py", 40),
    "training": Part(
        "a training step against TRL's QLoRA sppo_hard, a pair of 2048 tokens each", "train_memory_speed.py", 190,
        ("--shape", "mistral-7b", "--length", "2048", *TRAINING), TOY_TRAINING, json=True,
    ),
    "training-5": Part(
        "a training step against TRL's, 5 responses of 1024 tokens to a prompt of 1024", "train_memory_speed.py", 150,
        ("--shape", "mistral-7b", "--length", "2048", "--prompt", "1024", "--responses", "5", *TRAINING),
        ("--responses", "5", *TOY_TRAINING), json=True,
    ),
    "memory-7b": Part("peak memory at a 7B shape against the plan", "gpu_parts/memory.py", 150),
    "judging": Part(
        "pairs a second of a judge of PairRM's shape against llm-blender", "judge_speed.py", 90,
        ("--shape", "deberta-large", "--prompts", "16"), ("--prompts", "1", "--candidates", "2"),
        needs=("llm_blender",), json=True,
    ),
    "equilibria": Part("exact equilibria and iterations on the card", "gpu_parts/equilibria.py", 60),
    "tests": Part("the tests marked gpu", "pytest", 90),
    "sampling": Part("tokens a second of sampling", "gpu_parts/sampling.py", 120),
    "whole-run": Part("a whole run at a 1B shape against the plan's hours", "gpu_parts/whole_run.py", 120),
    "resume": Part("a run that is killed goes on as if it had not been", "gpu_parts/resume.py", 160),
    "memory-8b": Part(
        "peak memory at an 8B shape with 128k words", "gpu_parts/memory.py", 150, ("--shape", "llama-3-8b"),
    ),
}  # fmt: skip
TESTS = ("tests/llm/policy/test_placement.py", "tests/llm/policy/experimental/test_streaming.py",
         "tests/games/equilibria/test_equilibria.py")  # fmt: skip


@dataclass
class Outcome:
    """The results of a part, and how it ended."""

    results: list[dict[str, Any]] = field(default_factory=list)
    status: str = "ok"
    seconds: float = 0.0


def command(name: str, given: argparse.Namespace) -> list[str]:
    """The command line of a part."""
    part = PARTS[name]
    if part.script == "pytest":
        return [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", *TESTS]
    figures = ["--json", str(given.work / f"{name}.json")] if part.json else []
    models = ["--work", str(given.work)] if part.script != "judge_speed.py" else []  # it makes its model itself
    size = part.toy if given.toy else part.arguments
    return [sys.executable, str(HERE / part.script), "--device", given.device, *figures, *models, *size]


def run_part(name: str, given: argparse.Namespace, seconds: float) -> Iterator[dict[str, Any] | Outcome]:
    """The results of a part as they come, and its outcome at the end; it has ``seconds`` at most."""
    part, outcome = PARTS[name], Outcome()
    limit = min(part.limit, seconds)
    if seconds < LEAST_SECONDS:
        outcome.status = f"not measured: no time was left; python benchmarks/gpu.py --parts {name}"
        yield outcome
        return
    missing = [package for package in part.needs if importlib.util.find_spec(package) is None]
    if missing:
        outcome.status = f"left out: {', '.join(missing)} is not installed"
        yield outcome
        return
    began = time.monotonic()
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1", "TOKENIZERS_PARALLELISM": "false"}
    paths = [str(ROOT / "src"), str(HERE), os.environ.get("PYTHONPATH", "")]
    if given.device == "cpu":
        environment["CUDA_VISIBLE_DEVICES"] = ""
    environment["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    log = given.work / f"{name}.log"
    with log.open("w") as stream:
        process = subprocess.Popen(
            command(name, given),
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        lines: queue.Queue[str | None] = queue.Queue()

        def read() -> None:
            for line in process.stdout or ():
                lines.put(line)
            lines.put(None)

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        while True:
            try:
                line = lines.get(timeout=max(0.0, limit - (time.monotonic() - began)))
            except queue.Empty:
                os.killpg(process.pid, signal.SIGKILL)  # its own processes too, which would go on using the card
                outcome.status = f"ended after its {limit:.0f} s"
                break
            if line is None:
                break
            stream.write(line)
            stream.flush()
            if line.startswith(RESULT):
                result = json.loads(line[len(RESULT) :])
                outcome.results.append(result)
                yield result
        code = process.wait()
        reader.join()
        if process.stdout is not None:
            process.stdout.close()
    if code and outcome.status == "ok":
        outcome.status = f"exit code {code}: {_last_line(log)}"
    figures = given.work / f"{name}.json"
    if part.json and figures.exists():
        for what, values in json.loads(figures.read_text()).items():
            result = {"what": what, **values}
            outcome.results.append(result)
            yield result
    if part.script == "pytest":
        result = {"what": _last_line(log)}
        outcome.results.append(result)
        yield result
    outcome.seconds = time.monotonic() - began
    yield outcome


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text().splitlines() if line.strip() and not line.startswith(RESULT)]
    return lines[-1][:300] if lines else ""


def shown(result: dict[str, Any]) -> str:
    """A result as a line of text."""
    value, unit = result.get("value"), result.get("unit", "")
    rest = {k: v for k, v in result.items() if k not in ("what", "value", "unit") and v is not None}
    text = "" if value is None else f"{value:.4g} {unit}" if isinstance(value, float) else f"{value} {unit}"
    more = ", ".join(f"{k.replace('_', ' ')} {v:.4g}" if isinstance(v, float) else f"{k.replace('_', ' ')} {v}"
                     for k, v in rest.items())  # fmt: skip
    return f"  {result['what']}: " + "; ".join(filter(None, (text.strip(), more)))


def hardware(device: str) -> dict[str, Any]:
    """The card, its driver, and the versions of what ran on it."""
    import torch

    about: dict[str, Any] = {
        "date": date.today().isoformat(),
        "python": platform.python_version(),
        "versions": versions(PACKAGES),
    }
    if device == "cuda":
        card = torch.cuda.get_device_properties(0)
        query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        driver = subprocess.run(query, capture_output=True, text=True, check=False).stdout.strip()
        about |= {"card": card.name, "memory_gib": round(card.total_memory / 2**30, 1), "driver": driver}
    return {**about, "cores": os.cpu_count(), "machine": platform.machine()}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="only these, in this order")
    parser.add_argument("--minutes", type=float, default=8.0, help="for all parts together (default: 8)")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda")
    parser.add_argument("--toy", action="store_true", help="a rehearsal at the smallest sizes")
    parser.add_argument("--work", type=Path, default=Path("build/gpu"), help="models, logs and runs; deleted by hand")
    parser.add_argument("--out", type=Path, help="default: docs/gpu.json on a card, else WORK/gpu.json")
    given = parser.parse_args(arguments)
    given.work = given.work.resolve()
    given.work.mkdir(parents=True, exist_ok=True)
    import torch

    if given.device == "cuda" and not torch.cuda.is_available():
        parser.exit(2, "there is no CUDA card here; --device cpu --toy rehearses the parts\n")
    out = given.out or (ROOT / "docs" / "gpu.json" if given.device == "cuda" else given.work / "gpu.json")
    about = hardware(given.device)
    print(" ".join(f"{name} {value}" for name, value in about.items() if name != "versions"))
    print(" ".join(f"{name} {value}" for name, value in about["versions"].items()), flush=True)
    written = json.loads(out.read_text()) if out.exists() and given.parts != list(PARTS) else {}
    parts: dict[str, Any] = written.get("parts", {})
    failed, end = 0, time.monotonic() + 60 * given.minutes
    for name in given.parts:
        print(f"\n{name}: {PARTS[name].about}", flush=True)
        for item in run_part(name, given, end - time.monotonic()):
            if isinstance(item, Outcome):
                parts[name] = {"about": PARTS[name].about, "status": item.status, "seconds": round(item.seconds, 1),
                               "date": about["date"], "card": about.get("card"), "results": item.results}  # fmt: skip
                failed += item.status.startswith(("exit", "ended")) or any(r.get("failed") for r in item.results)
                print(f"  {item.status}, {item.seconds:.0f} s", flush=True)
            else:
                print(shown(item), flush=True)
        out.write_text(json.dumps({**about, "parts": parts}, indent=1) + "\n")
    print(f"\nwritten to {out}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
