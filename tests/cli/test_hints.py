"""Names of the field: those that hints know are names of this package, and none hides one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nashward import games
from nashward.cli import configuration, hints
from nashward.cli.commands import COMMANDS
from nashward.cli.configuration import Setting
from nashward.cli.main import _command, build_parser, main


def test_every_hint_leads_to_something_that_there_is() -> None:
    options = {
        name for command in COMMANDS for name in _command(build_parser([command]), command)._option_string_actions
    }
    assert {f"--{name}" for name in hints.OTHER_NAMES} <= options
    assert set(hints.COMMAND_NAMES.values()) <= set(COMMANDS)
    assert not set(hints.COMMAND_NAMES) & set(COMMANDS)
    solvers = {kind.__name__ for kind in games.solvers.SOLVERS}
    assert set(hints.SOLVER_NAMES.values()) <= solvers
    assert not set(hints.SOLVER_NAMES) & {name.lower() for name in solvers}


@pytest.mark.parametrize("command", COMMANDS)
def test_no_option_of_a_command_is_refused_for_another_name(command: str) -> None:
    parser = _command(build_parser([command]), command)
    for flag in parser._option_string_actions:
        assert hints.unknown_option([flag], parser) is None
    for option, others in hints.OTHER_NAMES.items():
        known = list(parser._option_string_actions)
        for name in others.split():
            if f"--{option}" in known and f"--{name}" not in known:
                assert "--" in hints.of_option(f"--{name}", known)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("OMWU", "OptimisticMWU"), ("omwu", "OptimisticMWU"), ("EG", "ExtraGradient"), ("RM+", "RegretMatchingPlus"),
     ("rm", "RegretMatching"), ("PRM+", "PredictiveRegretMatchingPlus"), ("MMD", "MagneticMirrorDescent"),
     ("FP", "FictitiousPlay"), ("Hedge", "MWU"), ("SPPO", "MWU"), ("extra gradient", "ExtraGradient"),
     ("nash-md", "NashMD"), ("Regret-Matching+", "RegretMatchingPlus")],
)  # fmt: skip
def test_solvers_as_papers_write_them(name: str, kind: str) -> None:
    assert type(configuration.solver({"solver": Setting(name, "flag")})).__name__ == kind


def test_a_solver_by_its_short_name_is_played(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    found = {}
    for names in ("OMWU:step=0.3,EG,RM+", "OptimisticMWU:step=0.3,ExtraGradient,RegretMatchingPlus"):
        file = tmp_path / "found.json"
        assert main(["solve", "comal_cycle", "--solver", names, "--iterations", "50", "--json", str(file)]) == 0
        found[names] = json.loads(file.read_text())["solvers"]
    short, long = found.values()
    assert short == long
    assert [one["solver"] for one in short] == ["OptimisticMWU", "ExtraGradient", "RegretMatchingPlus"]


def test_the_settings_of_a_solver_stay_with_it_under_another_name() -> None:
    layers = [{"solver": Setting("omwu", "flag")}, {"solver": Setting("OptimisticMWU", "file"),
                                                    "step": Setting(0.3, "file")}]  # fmt: skip
    assert configuration.merged(layers)["step"].value == 0.3
    layers[0] = {"solver": Setting("EG", "flag")}
    assert "step" not in configuration.merged(layers)


def test_the_hint_for_a_rejected_table_solves_it(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Rock, paper, scissors with stakes: the winner's weights are those of the other pair."""
    table = tmp_path / "stakes.csv"
    table.write_text(",r,p,s\nr,0,-1,2\np,1,0,-3\ns,-2,3,0\n")
    assert main(["solve", str(table)]) == 2
    assert "--total 0" in capsys.readouterr().err
    file = tmp_path / "nash.json"
    assert main(["solve", str(table), "--total", "0", "--json", str(file)]) == 0
    row = json.loads(file.read_text())["nash"]["policy"]["row"]
    assert row == pytest.approx([3 / 6, 2 / 6, 1 / 6], abs=1e-12)


@pytest.mark.parametrize(
    ("text", "named"),
    [("[fit]\nlr = 1\n", "learning_rate [fit]"), ("[lora]\nr = 8\n", "rank [lora]"),
     ("[solver]\nbeta = 0.1\n", "step 1 / beta tau"), ("[solver]\neta = 1\n", "step eta"), ('model = "x"\n', "policy"),
     ('model = "x"\n[fit]\nlr = 1\nloss = "dpo"\n[lora]\nr = 8\n', "policy learning_rate rank")],
)  # fmt: skip
def test_keys_of_a_file_are_answered_likewise(
    text: str, named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(text)
    assert main(["config", "--config", str(file)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "mine.toml" in line
    assert all(word in line for word in named.split()), line


def test_a_table_that_is_nothing_has_no_such_hint(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    table = tmp_path / "odd.csv"
    for text in (",a,b\na,0,2\nb,-1,0\n", ",a,b\na,.5,.9\nb,.2,.5\n", ",a,b,c\na,0,1,2\nb,-1,0,3\n"):
        table.write_text(text)
        assert main(["solve", str(table)]) == 2
        assert "reads it as payoffs" not in capsys.readouterr().err


def test_labels_in_another_order_are_no_payoffs(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    table = tmp_path / "odd.csv"
    for columns, order in (("b,a", True), ("x,y", False)):
        table.write_text(f",{columns}\na,.5,.9\nb,.1,.5\n")
        assert main(["solve", str(table)]) == 2
        said = capsys.readouterr().err
        assert ("order of the rows" in said) == order
        assert ("--total 1" in said) == (not order)


@pytest.mark.parametrize("suffix", ["jsonl", "json", "csv"])
def test_battles_are_sent_to_the_leaderboard(suffix: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    rows = [{"model_a": "x", "model_b": "y", "winner": "model_a"}, {"model_a": "z", "model_b": "y", "winner": "tie"}]
    text = {
        "jsonl": "\n".join(map(json.dumps, rows)),
        "json": json.dumps(rows),
        "csv": "\n".join(",".join(row) for row in ([*rows[0]], *([*row.values()] for row in rows))),
    }
    battles = tmp_path / f"battles.{suffix}"
    battles.write_text(text[suffix])
    assert main(["solve", str(battles)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"nashward leaderboard {battles}" in line
    assert main(["leaderboard", str(battles)]) == 0
    assert main(["solve", str(tmp_path / f"none.{suffix}")]) == 2
    assert "leaderboard" not in capsys.readouterr().err


@pytest.mark.parametrize("written", ["MWU(step=0.1)", "MWU(step=0.1, tau=0)"])
def test_a_solver_as_python_writes_it_is_answered_with_its_settings_behind_colons(
    written: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["solve", "comal_cycle", "--solver", written]) == 2
    assert "MWU:step=0.1" in capsys.readouterr().err


def test_a_setting_that_a_solver_lacks_is_answered_with_its_own_settings(capsys: pytest.CaptureFixture[str]) -> None:
    for text, named in (("omwu:stepp=1", "OptimisticMWU stepp nearest step,"), ("MWU:beta=1", "step 1 / beta")):
        assert main(["solve", "comal_cycle", "--solver", text]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert all(word in line for word in named.split()), line
        assert "nesterov" not in line  # of another solver
