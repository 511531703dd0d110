"""The log on the console: which line goes to which stream, shown once, with nothing left behind."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from pathlib import Path

import pytest

from nashward.console import ConsoleHandler, console_log

LOGGER = logging.getLogger("nashward.test")


@pytest.mark.parametrize(("quiet", "out"), [(False, "10 prompts\n"), (True, "")])
def test_warnings_go_to_stderr_and_the_rest_to_stdout_once(
    quiet: bool, out: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # without those of pytest
    with console_log(quiet), console_log(), console_log(always=True):
        LOGGER.info("10 prompts")
        LOGGER.warning("%s was altered or cut", "a file of 100%")
    assert capsys.readouterr() == (out, "a file of 100% was altered or cut\n")


def test_the_logger_is_as_it_was_also_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # without those of pytest
    logger = logging.getLogger("nashward")
    before = (list(logger.handlers), logger.level)

    def fail() -> None:
        with console_log():
            assert [type(handler) for handler in logger.handlers] == [ConsoleHandler]
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert (logger.handlers, logger.level) == before


def test_logging_that_the_user_configured_is_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    """Here by pytest, whose handlers are at the root."""
    with console_log():
        LOGGER.info("10 prompts")
        LOGGER.warning("a warning")
        assert not logging.getLogger("nashward").handlers
    assert capsys.readouterr() == ("", "")


RUN = """
import logging, sys
from nashward import games, llm
def run(progress):
    play = llm.SelfPlay(
        policy=llm.pocket.POLICY, oracle=llm.oracles.Length(), solver=games.MWU(2.0), prompts=["a", "b"],
        folder=sys.argv[1],
        config=llm.RunConfig(iterations=1, responses=2, sampling=llm.Sampling(max_new_tokens=4)),
    )
    play.run("sample", progress=progress)
run(True)
(shard,) = __import__("pathlib").Path(sys.argv[1]).glob("iteration-01/responses/*")
shard.write_bytes(b"")
run(False)
assert logging.getLogger("nashward").handlers == logging.getLogger().handlers == []
"""


@pytest.mark.slow
def test_a_run_from_python_shows_its_log(tmp_path: Path) -> None:
    """With progress all of it, without it the warnings; here on no terminal."""
    command = [sys.executable, "-c", RUN, str(tmp_path / "run")]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    (line,) = result.stdout.splitlines()
    assert re.match(r"iteration-01: sampling start: 2 prompts in .+; \S+ tokens a second", line)
    (warning,) = [line for line in result.stderr.splitlines() if "set aside" in line]
    assert warning.startswith(f"{tmp_path / 'run'}")
    assert "was altered or cut" in warning
