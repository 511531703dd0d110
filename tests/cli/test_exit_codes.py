"""How a command ends: 0, 2 for bad input, 130 when interrupted, 1 with a traceback for a bug of nashward itself."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nashward import games
from nashward.__main__ import main as begin
from nashward.cli.main import main
from nashward.errors import NashwardError
from nashward.llm import pocket

from ..conftest import ROOT


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a table and the start of a run."""
    here = tmp_path_factory.mktemp("here")
    (here / "good.csv").write_text(",a,b\na,.5,.4\nb,.6,.5\n")
    (here / "prompts.txt").write_text("One?\nTwo?\n")
    sample = ["sample", "--policy", pocket.POLICY, "--prompts", here / "prompts.txt", "--out", here / "run"]
    assert main([*map(str, sample), "--responses", "2", "--max-new-tokens", "4", "--quiet"]) == 0
    return here


def _planted(error: BaseException) -> Callable[..., Any]:
    def raising(*given: Any, **named: Any) -> Any:
        raise error

    return raising


@pytest.mark.parametrize(
    "error",
    [KeyError("x"), AttributeError("x"), TypeError("x"), AssertionError("x"), IndexError("x"), RuntimeError("x"),
     ZeroDivisionError("x"), RecursionError("x"), NotImplementedError("x"), ValueError("x"), ImportError("x")],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
@pytest.mark.parametrize(
    ("place", "command"),
    [
        ("nashward.games.nash", ["solve", "good.csv"]),
        ("nashward.llm.run.executor.AdapterExecutor.start", ["sample", "--out", "run"]),
        ("nashward.cli.configuration.merged", ["config"]),
        ("nashward.llm.report.write", ["report", "run"]),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_planted_bug_ends_in_a_traceback(
    here: Path, place: str, command: list[str], error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ValueError and ImportError too: only ``NashwardError`` is a line for the user."""
    monkeypatch.chdir(here)
    monkeypatch.setattr(place, _planted(error))
    with pytest.raises(type(error), match="x"):
        main(command)


def test_of_value_errors_only_those_raised_on_purpose_are_for_the_user(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(here)
    monkeypatch.setattr(games, "nash", _planted(NashwardError("bad table")))
    assert main(["solve", "good.csv"]) == 2
    assert capsys.readouterr().err == "nashward: bad table\n"
    monkeypatch.setattr(games, "nash", lambda game: int("x"))
    with pytest.raises(ValueError, match="invalid literal"):
        main(["solve", "good.csv"])


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (MemoryError(), "nashward: out of memory (on the host); see nashward plan --help"),
        (OSError(28, "No space left on device", "/disk/file"), "nashward: /disk/file: No space left on device"),
        (PermissionError(13, "Permission denied", "run"), "nashward: run: Permission denied"),
    ],
)
def test_what_the_machine_lacks_is_told_in_one_line(
    here: Path, error: BaseException, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(here)
    monkeypatch.setattr(games, "nash", _planted(error))
    assert main(["solve", "good.csv"]) == 2
    assert capsys.readouterr().err.splitlines() == [line]
    with pytest.raises(type(error)):
        main(["solve", "good.csv", "--traceback"])


def test_an_interrupt_has_its_own_code(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(here)
    monkeypatch.setattr(games, "nash", _planted(KeyboardInterrupt()))
    assert main(["solve", "good.csv"]) == 130
    assert "Traceback" not in capsys.readouterr().err


def _shell(here: Path, line: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(ROOT / "src"), *filter(None, sys.path)])
    known = {**os.environ, "PYTHONPATH": path, "PYTHON": sys.executable}
    return subprocess.run(line, shell=True, cwd=here, capture_output=True, text=True, check=False, env=known)


@pytest.mark.skipif(shutil.which("sh") is None, reason="needs a POSIX shell")
def test_what_a_process_leaves_behind(here: Path) -> None:
    refused = _shell(here, '"$PYTHON" -m nashward solve none.csv')
    line = "nashward: none.csv does not exist; expected a payoff table (.csv, .npy, .npz, .parquet)\n"
    assert (refused.returncode, refused.stdout, refused.stderr) == (2, "", line)
    imports = "from nashward import games; from nashward.cli.main import main"
    planted = f"{imports}; games.nash = {{}}.__getitem__; exit(main(['solve', 'good.csv']))"
    bug = _shell(here, f'"$PYTHON" -c "{planted}"')
    assert bug.returncode == 1
    assert bug.stderr.startswith("Traceback")
    assert "KeyError" in bug.stderr.splitlines()[-1]
    left = _shell(here, '"$PYTHON" -m nashward solve good.csv | true')  # whose reader has gone before a line is written
    assert (left.returncode, left.stderr) == (0, "")


def test_an_interrupt_before_anything_is_imported_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Impatient:
        def find_spec(self, name: str, *more: Any) -> None:
            if name == "nashward.cli":
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "nashward.cli")
    monkeypatch.delattr("nashward.cli")
    monkeypatch.setattr(sys, "meta_path", [Impatient(), *sys.meta_path])
    assert begin() == 130
    assert capsys.readouterr().err == "\nnashward: interrupted before anything was begun\n"
