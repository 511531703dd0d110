"""A run's numbers, recorded with where they were made: ``python -m tests.llm.test_golden`` records them anew.

In the environment of the record they are met bit by bit, elsewhere within a tolerance: other processors and libraries
sum in another order.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch

from nashward import games, llm
from nashward.llm.policy.model import WEIGHTS

from . import tiny
from .tiny_run import self_play

RECORD = Path(__file__).with_name("golden.json")
TOLERANCE = 1e-3  # relative, elsewhere


def environment() -> dict[str, str]:
    """What the last bits may depend on."""
    cpu = Path("/proc/cpuinfo")
    about = dict(line.split("\t", 1) for line in cpu.read_text().splitlines() if "\t" in line) if cpu.exists() else {}
    named = [about[key].split(": ")[1] for key in ("model name", "cpu family", "model") if key in about]
    versions = {name: importlib.metadata.version(name) for name in ("torch", "transformers", "peft")}
    return {
        **versions,
        "processor": ", ".join(named) or platform.processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
    }


def numbers(home: Path) -> dict[str, Any]:
    """A short run of optimism in float32: the summary of each iterate, the adapters' hashes and norms."""
    torch.set_num_threads(1)
    run = self_play(
        policy=tiny.policy(home / "policy"), oracle=tiny.high_bytes(), solver=games.OptimisticMWU(2.0),
        prompts=[f"Say {i} things{'!' * (i % 4)}" for i in range(20)], folder=home / "run", iterations=2, responses=3,
        sampling=llm.Sampling(max_new_tokens=6), lora=llm.Lora(rank=2), quantise=False,
        fit=llm.Fit(learning_rate=2e-3, epochs=2, batch=4, held_out=0.2),
    ).run()  # fmt: skip
    adapters = [run.folder / row["iteration"] / "adapter" / WEIGHTS for row in run.metrics]
    return {
        "train": [row["train"] for row in run.metrics],
        "held_out": [row["held_out"] for row in run.metrics],
        "before": [row["before"] for row in run.metrics],
        "after": [row["after"] for row in run.metrics],
        "adapters": [hashlib.sha256(file.read_bytes()).hexdigest() for file in adapters],
    }


def test_the_numbers_are_those_of_the_record(tmp_path: Path) -> None:
    record = json.loads(RECORD.read_text())
    found, expected = numbers(tmp_path), record["numbers"]
    if environment() == record["environment"]:
        assert found == expected
        return
    for name in ("train", "held_out", "before", "after"):
        for own, recorded in zip(found[name], expected[name], strict=True):
            assert own == pytest.approx(recorded, rel=TOLERANCE, abs=1e-4)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        made = {"environment": environment(), "numbers": numbers(Path(folder))}
    RECORD.write_text(json.dumps(made, indent=2) + "\n")
