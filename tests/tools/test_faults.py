"""A few kills and damages of a run, as ``python -m tools.faults`` does many."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from ..conftest import ROOT


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the processes of the run are forks, which Windows has not")
@pytest.mark.parametrize(
    ("kills", "damages", "prompts"), [(3, 2, 30), pytest.param(10, 5, 150, marks=pytest.mark.slow)]
)
def test_a_run_that_is_killed_and_damaged_ends_the_same(kills: int, damages: int, prompts: int) -> None:
    options = {"--kills": kills, "--damages": damages, "--prompts": prompts}
    command = [sys.executable, "-m", "tools.faults", *(str(word) for pair in options.items() for word in pair)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    *_, last = result.stdout.splitlines()
    assert f"{damages} damages, 0 prompts and pairs made twice, 0 problems" in last
    assert int(last.split(" kills")[0]) >= kills
    assert f"({kills // 5} in a rename)" in last


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the processes of the run are forks, which Windows has not")
def test_a_run_of_several_processes_of_which_one_is_killed_ends_the_same() -> None:
    command = [sys.executable, "-m", "tools.faults", "--processes", "3", "--kills", "6", "--prompts", "150"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "6 kills of 2 and 3 processes, 0 prompts and pairs made twice, 0 problems" in result.stdout
