"""How a command ends: 0, 2 for bad input, 130 when interrupted, 1 with a traceback for a bug of nashward itself."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nashward import __main__ as start
from nashward import games
from nashward.__main__ import main as begin
from nashward.cli.main import main
from nashward.errors import NashwardError
from nashward.llm import pocket
from nashward.llm.run import signals

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
        (MemoryError(), "nashward: out of memory (on the host); give a game of fewer actions, or fewer iterations"),
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


def test_out_of_memory_names_plan_where_there_is_a_language_model(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(here)
    monkeypatch.setattr("nashward.llm.report.write", _planted(MemoryError()))
    assert main(["report", "run"]) == 2
    assert "nashward plan --help" in capsys.readouterr().err


def test_an_interrupt_has_its_own_code(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(here)
    monkeypatch.setattr(games, "nash", _planted(KeyboardInterrupt()))
    assert main(["solve", "good.csv"]) == 130
    said = capsys.readouterr().err
    assert "nothing was kept" in said
    assert "continues" not in said


@pytest.mark.parametrize("command", ["demo --out d", "leaderboard t.csv --cache kept.sqlite"])
def test_what_an_interrupted_command_keeps(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from nashward.cli.commands.evaluation import leaderboard
    from nashward.cli.commands.tables import demo

    for module in (demo, leaderboard):
        interrupted = dataclasses.replace(module.COMMAND, run=_planted(KeyboardInterrupt()))
        monkeypatch.setattr(module, "COMMAND", interrupted)
    assert main(command.split()) == 130
    assert ("continues" if command.startswith("demo") else "kept.sqlite") in capsys.readouterr().err


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
def test_a_terminated_command_that_goes_on_says_so(here: Path) -> None:
    (here / "slow.py").write_text(
        "import dataclasses, os, signal, sys\n"
        "from nashward.cli.commands.tables import demo, solve\n"
        "from nashward.cli.main import main\n"
        "for module in (demo, solve):\n"
        "    ended = lambda args: os.kill(os.getpid(), signal.SIGTERM)\n"
        "    module.COMMAND = dataclasses.replace(module.COMMAND, run=ended)\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    for command, said in (("demo", "same command continues"), ("solve good.csv", "")):
        ended = _shell(here, f'exec "$PYTHON" slow.py {command}')
        assert ended.returncode == -15
        assert said in ended.stderr
        assert bool(said) == bool(ended.stderr)


def _shell(here: Path, line: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(ROOT / "src"), *filter(None, sys.path)])
    known = {**os.environ, "PYTHONPATH": path, "PYTHON": sys.executable}
    return subprocess.run(line, shell=True, cwd=here, capture_output=True, text=True, check=False, env=known)


@pytest.mark.slow
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


@pytest.mark.skipif(shutil.which("sh") is None, reason="needs a POSIX shell")
def test_quick_interrupts_are_one(here: Path) -> None:
    (here / "slow.py").write_text(
        "import os, signal, sys, time\n"
        "from nashward import games\n"
        "from nashward.__main__ import main\n"
        "def press(times):\n"
        "    for _ in range(times):\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "        time.sleep(0.01)\n"
        "def nash(game):\n"
        "    try: press(1)\n"
        "    finally: press(4)\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell's background has it ignored
        "games.nash = nash\n"
        "sys.exit(main())\n"
    )
    ended = _shell(here, '"$PYTHON" slow.py solve good.csv')
    assert (ended.returncode, ended.stdout) == (130, "")
    assert ended.stderr == "\nnashward: interrupted; nothing was kept\n"


def test_quick_interrupts_of_a_run_are_two(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first requests an end, the second is the end, and those behind it change nothing; later ones do."""
    before = signal.signal(signal.SIGINT, start._interrupt)
    monkeypatch.setattr(start, "_last", -start.QUICK)
    try:
        with signals.stop_on_signals() as request:
            os.kill(os.getpid(), signal.SIGINT)
            assert request.event.wait(5)
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGINT)
            for _ in range(3):
                os.kill(os.getpid(), signal.SIGINT)
        monkeypatch.setattr(start, "_last", -start.QUICK)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.skipif(shutil.which("sh") is None, reason="needs a POSIX shell")
@pytest.mark.parametrize(
    ("line", "code", "error"),
    [
        ("solve good.csv >&-", 0, ""),  # closed before it began
        ("status run >&-", 0, ""),
        ("status none 2>&-", 2, ""),
        ("status run >&- 2>&- <&-", 0, ""),
        ("--version >&-", 0, ""),
        ("status run >/dev/full", 2, "nashward: standard output: No space left on device"),
    ],
)
def test_an_output_that_takes_nothing(here: Path, line: str, code: int, error: str) -> None:
    if "/dev/full" in line and not Path("/dev/full").exists():
        pytest.skip("no /dev/full")
    ended = _shell(here, f'"$PYTHON" -m nashward {line}')
    assert (ended.returncode, ended.stderr.strip()) == (code, error)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["solve", "good.csv"], 141), (["status", "run"], 141), (["--help"], 0), ([], 141), (["solve", "--help"], 0)],
)
def test_a_reader_that_has_gone_ends_a_command_without_a_word(here: Path, arguments: list[str], code: int) -> None:
    read, write = os.pipe()
    os.close(read)
    path = os.pathsep.join([str(ROOT / "src"), *filter(None, sys.path)])
    ended = subprocess.run(
        [sys.executable, "-m", "nashward", *arguments], stdout=write, stderr=subprocess.PIPE, cwd=here, check=False,
        text=True, env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    os.close(write)
    assert (ended.returncode, ended.stderr) == (code, "")


def test_an_error_in_an_oracle_of_the_user_is_one_line_with_its_place(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(here)
    monkeypatch.syspath_prepend(here)
    (here / "dividing.py").write_text(
        "from nashward.llm.oracles import PreferenceOracle\n\n\nclass Divides(PreferenceOracle):\n    name = 'd'\n\n"
        "    def raw_logits(self, prompts, candidates, pairs):\n        return 1 / 0\n"
    )
    (here / "pairs.jsonl").write_text('{"prompt": "p", "chosen": "a", "rejected": "b"}\n' * 2)
    line = ["diagnose", "--oracle", "dividing:Divides", "--labels", "pairs.jsonl"]
    assert main(line) == 2
    (message,) = capsys.readouterr().err.splitlines()
    assert "dividing.py, line 8, in raw_logits: ZeroDivisionError" in message
    with pytest.raises(ZeroDivisionError):
        main([*line, "--traceback"])


@pytest.mark.parametrize("name", ["\x1b[31mred", "a\x07b", "\x9b2J", "c\rd", "e\u202ef", "g\x7fh"], ids=ascii)
def test_what_a_terminal_would_obey_is_cleaned(
    name: str, here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    table, battles = Path(f"{name}.csv"), Path(f"{name}.jsonl")
    table.write_text(f",a,{json.dumps(name)}\na,.5,.4\n{json.dumps(name)},.6,.5\n", newline="")
    battles.write_text(json.dumps({"model_a": name, "model_b": "y", "winner": "y"}) + "\n")
    shutil.copytree(here / "run", name)
    assert main(["solve", str(table)]) == 0
    assert main(["leaderboard", str(battles)]) == 0
    assert main(["status", name]) == 0
    assert main(["report", name]) == 0
    assert main(["solve", f"{name}.none"]) == 2
    out, err = capsys.readouterr()
    seen = out + err
    assert "?" in seen
    assert not [sign for sign in seen if sign not in "\n\t" and unicodedata.category(sign) in ("Cc", "Cf")]
    assert main(["report", name, name, "--out", "both.html"]) in (0, 2)
    capsys.readouterr()
    for page in (Path(name) / "report.html", Path("both.html")):
        text = page.read_text(encoding="utf-8") if page.exists() else ""
        assert not [sign for sign in text if sign not in "\n\t" and unicodedata.category(sign) == "Cc"]
