"""Names of nothing are refused before what plays is imported, which takes seconds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys
from nashward.cli.main import main
code = main(sys.argv[1:])
assert "torch" not in sys.modules, "torch was imported"
sys.exit(code)
"""


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"--policy": "real:smollm"}, "there is no real:smollm; there are "),
        ({"--prompts": "promts.csv"}, "there is no prompts file promts.csv"),
        ({"--oracle": "EverydayMajority"}, "no oracle EverydayMajority"),
    ],
)
def test_a_name_of_nothing_is_refused_before_torch_is_imported(
    wrong: dict[str, str], named: str, tmp_path: Path
) -> None:
    given = {"--policy": "pocket:policy", "--oracle": "pocket:pairrm", "--prompts": "pocket:prompts"} | wrong
    words = [word for option in given.items() for word in option]
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, "align", *words, "--out", "run"], cwd=tmp_path, capture_output=True, text=True
    )
    assert ended.returncode == 2, ended.stderr
    assert named in ended.stderr
    assert not (tmp_path / "run").exists()
