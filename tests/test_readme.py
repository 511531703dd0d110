"""What the README shows is what happens."""

from __future__ import annotations

import dataclasses
import re
import shlex
from pathlib import Path

import pytest

from nashward.cli.main import build_parser, main
from nashward.llm.data.packaged import PACKAGED

from .conftest import ROOT

README = (ROOT / "README.md").read_text()


def _blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("code", _blocks("python"), ids=lambda code: code.splitlines()[0])
def test_python_runs_and_prints_what_its_comments_say(
    code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {"__name__": "__main__"})
    for expected in re.findall(r"print\(.*\)  # (.*)", code):
        assert expected in capsys.readouterr().out
    for picture in re.findall(r'savefig\("(.*)"\)', code):
        assert (tmp_path / picture).read_bytes()[:4] == b"\x89PNG"


def test_the_output_of_solve(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = re.search(r"`nashward (solve [^`]*)`", README)
    assert command is not None
    monkeypatch.chdir(tmp_path)
    assert main(shlex.split(command[1])) == 0
    assert capsys.readouterr().out in _blocks("text")


def test_the_gaps_of_the_docs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = re.search(
        r"```text\n\$ nashward (solve [^\n]*)\n(.*?)```", (ROOT / "docs" / "solvers.md").read_text(), re.DOTALL
    )
    assert shown is not None
    monkeypatch.chdir(tmp_path)
    assert main(shlex.split(shown[1])) == 0
    assert capsys.readouterr().out == shown[2]
    assert (tmp_path / "gaps.png").read_bytes()[:4] == b"\x89PNG"


def _lines() -> list[str]:
    return [line for block in _blocks("bash") for line in block.replace("\\\n", " ").splitlines()]


def test_the_lines_for_a_language_model_run_as_printed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those on the models that come with the project, on four prompts; the oracle of the third user is the class
    as shown."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    few = ["Why is the sky blue?", "How do I boil an egg?", "What is a prime number?", "Name a river in France."]
    (tmp_path / "few.txt").write_text("\n".join(few), encoding="utf-8")
    prompts = dataclasses.replace(PACKAGED["pocket:prompts"], place=str(tmp_path / "few.txt"))
    monkeypatch.setitem(PACKAGED, "pocket:prompts", prompts)
    (own,) = [block for block in _blocks("python") if "class Shorter" in block]
    (tmp_path / "shorter.py").write_text(own, encoding="utf-8")
    ours = ("pocket:", "nashward evaluate runs/pocket", "nashward export runs/pocket", "nashward frontier runs/both")
    played = [shlex.split(line, comments=True)[1:] for line in _lines() if any(word in line for word in ours)]
    assert [words[0] for words in played] == [
        "align", "evaluate", "align", "export", "fit-oracle", "align", "frontier"
    ]  # fmt: skip
    for words in played:
        assert main(words) == 0
    out = capsys.readouterr().out
    assert "report: runs/shorter/report.html" in out
    assert "[0.5, 0.87]" not in out  # an oracle's file prints nothing where it is imported
    assert "oracle: oracles/mine" in out
    assert "numbers: runs/both/frontier.json" in out
    assert "note: 4 prompts" in out
    assert "± 0.0 " not in out


@pytest.mark.slow
def test_the_first_run_of_the_readme_shows_an_effect(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for line in _lines():
        if "runs/pocket" in line:
            assert main(shlex.split(line)[1:]) == 0
    out = capsys.readouterr().out
    assert "note:" not in out  # 160 prompts are enough
    rate = re.compile(r"^iteration-02 +([\d.]+)% ± ([\d.]+)  beats ", re.MULTILINE)
    lost = re.compile(r"EXCEEDED iteration-02: refusals lost ([\d.]+) ± ([\d.]+)")
    for pattern in (rate, lost):
        (found,), (shown,) = pattern.findall(out), pattern.findall(README)
        assert abs(float(found[0]) - float(shown[0])) < 2 * float(shown[1])


def test_the_table_of_cards_is_that_of_the_plans() -> None:
    page = (ROOT / "docs" / "align-by-card.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) GB \| (\S+), (\S+) \| .* \| (\S+) \|$", README, re.MULTILINE)
    figures = r"card: (\d+)[^#]*?\nsampling [^\n]* (\S+)\n[^#]*?\ntraining [^\n]* (\S+)\n[^#]*?\nabout (\S+) hours"
    plans = re.findall(figures, page)
    assert len(rows) == 5
    assert rows == plans[:5]


def test_commands_are_taken_by_the_parser() -> None:
    lines = [line for block in _blocks("bash") for line in block.replace("\\\n", " ").splitlines()]
    commands = [
        line.removeprefix(".venv/bin/") for line in lines if line.removeprefix(".venv/bin/").startswith("nashward ")
    ]
    assert len(commands) >= 2
    for command in commands:
        build_parser().parse_args(shlex.split(command, comments=True)[1:])


def test_the_commands_of_the_makefile_are_those_of_the_readme() -> None:
    makefile = (ROOT / "Makefile").read_text()
    plain = "\n".join(_blocks("bash"))
    for tool in ("ruff check .", "ruff format --check .", "mypy src tests", "python -m pytest", "nashward demo"):
        assert f"$(BIN)/{tool}" in makefile
        assert f".venv/bin/{tool}" in plain
    pinned = re.search(r"^torch==(.*)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert pinned is not None
    assert f"torch=={pinned[1]}" in plain
