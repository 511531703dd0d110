"""The options: every setting has one, with help; their defaults, groups and names."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any, get_origin, get_type_hints

import pytest

from nashward import games
from nashward.cli import configuration, options
from nashward.cli.commands import COMMANDS
from nashward.cli.main import _command, build_parser, main
from nashward.cli.solver_options import ALL
from nashward.llm import Phase, SelfPlay, config
from nashward.llm.config.fields import alternatives, leaves, written


def test_every_field_of_the_settings_has_help_and_an_option() -> None:
    kinds: list[Any] = [value for value in vars(config).values() if dataclasses.is_dataclass(value)]
    assert len(kinds) == 17
    for kind in set(kinds) - {Phase}:
        hints = get_type_hints(kind)
        for field in dataclasses.fields(kind):
            section = any(dataclasses.is_dataclass(part) for part in alternatives(hints[field.name]))
            internal = (kind.__name__, field.name) in INTERNAL
            assert section or internal or field.metadata["group"] in (*options.GROUPS, "device", "questions"), (
                kind,
                field.name,
            )


INTERNAL = {
    ("Demand", "sampling_batch"),
    ("Demand", "tokens"),
    ("Demand", "quantise"),
    ("Rates", "step"),
}  # set by the planner alone
SELF_PLAY = {"solver", "opponents", "source", "label", "config"}  # arguments that are no file and no id


def test_the_inputs_are_the_arguments_of_a_run() -> None:
    inputs = {field.name for field in dataclasses.fields(config.Inputs)} - {
        "objective",
        "combine",
        "correct",
    }  # of the oracle
    assert inputs == {field.name for field in dataclasses.fields(SelfPlay) if field.init} - SELF_PLAY


@pytest.mark.parametrize("name", sorted({**options.RUN, **options.options_of(config.FitSettings)}))
def test_the_default_is_a_value_that_the_option_takes(name: str) -> None:
    for kind in (config.RunConfig, config.FitSettings):
        for leaf in leaves(kind):
            if leaf.option == name and not isinstance(leaf.default, bool | tuple | None):
                option = options.Option.of(leaf)
                assert option.parse(written(leaf.default)) == leaf.default
                assert option.choices is None or leaf.default in option.choices
                assert "default" in option.text


def test_a_solver_has_an_option_for_every_number() -> None:
    of_solvers = {place for place in configuration.PLACES if place[0] == "solver"}
    named = {("solver", field.name) for kind in games.solvers.SOLVERS for field in dataclasses.fields(kind)}
    numbers = {place for place in named if not _hints(place[1]) & {tuple}}
    assert of_solvers == {("solver", "name"), *numbers}


def _hints(name: str) -> set[Any]:
    """The types of a setting in the solvers that have it."""
    hints = [
        get_type_hints(kind)[name]
        for kind in games.solvers.SOLVERS
        if name in [f.name for f in dataclasses.fields(kind)]
    ]
    return {get_origin(hint) or hint for hint in hints}


OTHERS = (
    "report-to",
    "config",
    "preset",
    "from",
    "quiet",
    "traceback",
    "help-all",
)  # arguments of align that are no settings


def test_every_option_stands_in_one_group_of_the_help() -> None:
    assert {option.group for option in ALL.values()} == set(options.GROUPS)
    parser = build_parser(["align"]).parse_args(["align"]).parser
    text = parser.format_help()
    assert re.findall(r"^(\w[\w ]*):$", text, re.MULTILINE) == ["options", *options.GROUPS]
    assert sorted(set(re.findall(r"^  --([\w-]+)", text, re.MULTILINE))) == sorted([*ALL, *OTHERS])


def test_help_shows_ten_options_and_help_all_every_one(capsys: pytest.CaptureFixture[str]) -> None:
    shown = {}
    for flag in ("--help", "--help-all"):
        with pytest.raises(SystemExit):
            main(["align", flag])
        shown[flag] = set(re.findall(r"^  --([\w-]+)", capsys.readouterr().out, re.MULTILINE)) - {"help-all"}
    assert len(shown["--help"]) == 10
    assert {"policy", "oracle", "prompts", "out"} < shown["--help"] < shown["--help-all"]
    assert shown["--help-all"] >= set(ALL)


@pytest.mark.parametrize("command", COMMANDS)
def test_what_help_shows_first_are_options_of_the_command(command: str) -> None:
    parser = _command(build_parser([command]), command)
    assert {f"--{name}" for name in COMMANDS[command].load().first} <= set(parser._option_string_actions)


def test_the_names_of_the_options_are_those_that_scripts_use() -> None:
    """A renamed option breaks a user's script: rename it here with a reason."""
    recorded = (Path(__file__).parent / "options.txt").read_text().split()
    actions = build_parser(["align", "fit-oracle", "plan"])._actions[-1].choices
    names = {
        f"{command}{flag}"
        for command in ("align", "fit-oracle", "plan")
        for flag in actions[command]._option_string_actions  # type: ignore[index]
        if flag.startswith("--")
    }
    assert sorted(names) == recorded
