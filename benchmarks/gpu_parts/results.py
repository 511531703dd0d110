"""What the parts of ``gpu.py`` share: the lines of their results, their options, and the clock of a device."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

RESULT = "RESULT "  # begins a line that the runner reads


def report(what: str, value: float | str | None, unit: str = "", **more: Any) -> None:
    """Print a result as one line: what was measured, its value and unit, and what belongs to it."""
    print(RESULT + json.dumps({"what": what, "value": value, "unit": unit, **more}), flush=True)


def attempt(what: str, measure: Callable[[], None]) -> None:
    """Measure, and report an error as the result, so that the rest of a part is still measured."""
    try:
        measure()
    except (ImportError, RuntimeError, ValueError, OSError, MemoryError, AttributeError, TypeError, KeyError) as error:
        line = (str(error).splitlines() or [""])[0]
        report(what, None, failed=f"{type(error).__name__}: {line:.300}")
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def parser(description: str) -> argparse.ArgumentParser:
    """The options that every part has."""
    options = argparse.ArgumentParser(description=description.splitlines()[0])
    options.add_argument("--device", choices=["cpu", "cuda"], default="cuda")
    options.add_argument("--toy", action="store_true", help="the smallest size, as a rehearsal on a CPU")
    options.add_argument("--work", type=Path, default=Path("build/gpu"), help="where models and runs are written")
    return options


def seconds(call: Callable[[], Any], device: str, repeats: int = 1) -> float:
    """Clock seconds of one call, with all work on the device done."""
    synchronise(device)
    began = time.perf_counter()
    for _ in range(repeats):
        call()
    synchronise(device)
    return (time.perf_counter() - began) / repeats


def synchronise(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
