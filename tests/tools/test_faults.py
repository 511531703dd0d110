"""A few kills and damages of a run, as ``python -m tools.faults`` does many."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from ..conftest import ROOT


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the processes of the run are forks, which Windows has not")
def test_a_run_that_is_killed_and_damaged_ends_the_same() -> None:
    command = [sys.executable, "-m", "tools.faults", "--kills", "5", "--damages", "2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    *_, last = result.stdout.splitlines()
    assert ", 2 damages, 0 prompts and pairs made twice, 0 problems" in last
    assert int(last.split(" kills")[0]) >= 5
    assert "(1 in a rename)" in last
