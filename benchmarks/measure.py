"""Measuring candidates fairly: one thread, CPU time, warmed up, in turns, the median of the rounds."""

import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import torch
from machine import versions

torch.set_num_threads(1)
SHORTEST = 2e-2  # a call is repeated until a measurement takes this many seconds


def cpu(call: Callable[[], Any], repeats: int = 1) -> float:
    """CPU seconds of one call in this thread; idle threads that a library keeps spinning do not count."""
    began = time.thread_time()
    for _ in range(repeats):
        call()
    return (time.thread_time() - began) / repeats


def in_turns(
    calls: dict[str, Callable[[], Any]], once: dict[str, float], rounds: int = 5, limit: float = 20.0
) -> dict[str, float]:
    """The median CPU seconds of each call. They take turns, so that what else the machine does meets all of them.

    ``once`` holds the seconds of a first call of each, which may have compiled. A call that takes long is measured in
    fewer rounds: as many as fit ``limit`` / 2 seconds, one at least.
    """
    torch.set_num_threads(1)  # importing QuantEcon sets it to the number of cores
    once = {name: cpu(call) if once[name] < limit / 2 else once[name] for name, call in calls.items()}
    taken: dict[str, list[float]] = {name: [seconds] if seconds > limit / 2 else [] for name, seconds in once.items()}
    for name, call in calls.items():
        if once[name] < SHORTEST:
            once[name] = cpu(call, max(1, int(SHORTEST / once[name])))
    for round_ in range(rounds):
        for name, call in calls.items():
            if once[name] * (round_ + 1) < limit / 2:
                taken[name].append(cpu(call, max(1, int(SHORTEST / once[name]))))
    return {name: statistics.median(values) for name, values in taken.items()}


def text(seconds: float) -> str:
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


def written(path: Path, rows: list[dict[str, Any]], packages: tuple[str, ...]) -> None:
    """The rows as JSON, with what they were measured on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    about = {"date": date.today().isoformat(), "machine": platform.machine(), "python": platform.python_version()}
    path.write_text(json.dumps({**about, "versions": versions(packages), "rows": rows}, indent=1))
    print(f"written to {path}")
