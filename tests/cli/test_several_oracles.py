"""Several oracles on the command line: the option given again, in a file, in a run's folder, and what is refused."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest

from nashward.cli.main import main
from nashward.llm import pocket
from nashward.llm.store.run_folder import RunFolder

LENGTH, PLAIN = "nashward.llm.oracles:Length", "nashward.llm.oracles:Plain"
BOTH = ["--oracle", LENGTH, "--oracle", PLAIN]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.txt").write_text("one\ntwo\nthree\nfour\n")


def test_a_leaderboard_under_several_judges(capsys: pytest.CaptureFixture[str]) -> None:
    Path("answers").mkdir()
    for name, texts in {"m1": ["a b", "c", "d e f", "g"], "m2": ["long word", "c c c", "d", "gggg g"]}.items():
        Path("answers", f"{name}.json").write_text(json.dumps(texts))
    board = ["leaderboard", "answers", "--prompts", "p.txt", "--json", "board.json"]
    found: dict[int, float] = {}
    for oracles in (BOTH[:2], BOTH[2:], [*BOTH, "--combine", "probability"], BOTH):
        assert main([*board, *oracles]) == 0
        found[len(found)] = json.loads(Path("board.json").read_text())["P"][0][1]
    assert found[2] == pytest.approx((found[0] + found[1]) / 2)
    out = capsys.readouterr().out
    assert "log-odds of length, plain" in out
    lead = abs(found[0] - found[1]) / 2**0.5  # of two members, were they on the same side of each prompt
    differ = re.findall(r"differ by (\d\.\d+)", out)
    assert len(differ) == 2  # of the two ensembles
    assert float(differ[0]) == float(differ[1]) >= lead - 1e-3
    assert "folds" not in out
    assert main([*board, *BOTH[:2], *BOTH[:2]]) == 0  # members that judge alike
    assert "differ by" not in capsys.readouterr().out


def test_several_in_a_file_are_those_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", *BOTH, "--combine", "majority:pessimism=1"]) == 0
    text = capsys.readouterr().out
    settings = tomllib.loads(text)
    assert (settings["oracle"], settings["combine"]) == ([LENGTH, PLAIN], "majority:pessimism=1")
    Path("mine.toml").write_text(text)
    assert main(["config", "--config", "mine.toml"]) == 0
    assert tomllib.loads(capsys.readouterr().out) == settings


def test_a_run_under_several_judges_goes_on_by_what_its_folder_holds(capsys: pytest.CaptureFixture[str]) -> None:
    small = ["--responses", "2", "--max-new-tokens", "6", "--quiet"]
    both = ["--oracle", str(pocket.PAIRRM), "--oracle", LENGTH, "--combine", "probability:weights=3,1"]
    align = ["align", "--policy", str(pocket.POLICY), "--prompts", "p.txt", "--out", "run", *small]
    assert main([*align, *both, "--iterations", "1"]) == 0
    config = RunFolder("run").read()["config"]
    assert config["oracle"] == [str(pocket.PAIRRM.resolve()), LENGTH]
    assert config["combine"] == "probability:weights=3,1"
    assert main(["align", "--out", "run", "--quiet", "--iterations", "2"]) == 0
    assert len(RunFolder("run").steps()) == 2
    capsys.readouterr()
    assert main([*align, *both[:-1], "probability", "--iterations", "2"]) == 2
    assert "combine" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([*BOTH, "--combine", "median"], ["median", "dawid-skene"]),
        ([*BOTH, "--combine", "accuracy"], ["pairs=FILE"]),
        ([*BOTH, "--combine", "dawid-skene:pairs=none.jsonl"], ["none.jsonl"]),
        ([*BOTH, "--oracle", "none"], ["none", "owner/name"]),
        (["--combine", "majority"], ["majority", "--oracle"]),
    ],
)
def test_what_is_refused(arguments: list[str], named: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    align = ["align", "--policy", str(pocket.POLICY), "--prompts", "p.txt", "--out", "run"]
    assert main([*align, *arguments]) == 2
    error = capsys.readouterr().err
    assert all(name in error for name in named)
    assert error.count("\n") == 1
    assert not Path("run").exists()


def test_votes_of_experts_count_more(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        {"prompt": f"p{k}", "a": "Yes, sure." * (k % 3 + 1), "b": "No.", "winner": "a", "voter": "ann"}
        for k in range(8)
    ]
    Path("votes.jsonl").write_text("\n".join(map(json.dumps, rows)))
    fit = ["fit-oracle", "votes.jsonl", "--base", str(pocket.PAIRRM), "--epochs", "1", "--folds", "2", "--quiet"]
    assert main([*fit, "--out", "mine", "--annotator-weights", "ann=3"]) == 0
    for weights, named in (
        ("joe=1", "joe gave no vote"),
        ("ann", "'ann'"),
        ("ann=x", "'x'"),
        ("ann=-1", "ann is -1.0"),
    ):
        assert main([*fit, "--out", "other", "--annotator-weights", weights]) == 2
        assert named in capsys.readouterr().err
