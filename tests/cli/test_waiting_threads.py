"""Threads that wait do not spin, unless the user wants them to."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

PROGRAM = "import sys; from nashward.cli.main import main; sys.exit(main(['solve', 'comal_cycle']))"


@pytest.mark.parametrize(("own", "policy"), [(None, "PASSIVE"), ("active", "ACTIVE")])
def test_openmp_is_told_to_let_waiting_threads_sleep(own: str | None, policy: str) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OMP_")}
    environment |= {"OMP_DISPLAY_ENV": "true"} | ({} if own is None else {"OMP_WAIT_POLICY": own})
    ended = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    found = re.findall(r"OMP_WAIT_POLICY\s*=\s*'(\w+)'", ended.stderr)  # as the library that is loaded says
    if not found:
        pytest.skip("this torch has no OpenMP that shows its settings")
    assert set(found) == {policy}
