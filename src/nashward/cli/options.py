"""The options of the command line, made from the fields of ``nashward.llm.config``. Imports no torch.

Those of the solvers are in ``solver_options``.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.resources
import math
import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from nashward.errors import NashwardError
from nashward.llm.config import Inputs, Opponents, RunConfig
from nashward.llm.config.fields import Leaf, alternatives, leaves
from nashward.shortened import quoted

from . import hints

# the headings of --help, in its order
GROUPS = (
    "run",
    "models",
    "prompts",
    "solver",
    "sampling",
    "judging",
    "people",
    "servers",
    "loss",
    "training",
    "SFT and limits",
    "memory",
)
LARGEST = 2**63 - 1  # what torch takes as a seed or a size, and TOML as an integer

EXPECTED = {
    str: "a string",
    Path: "a path",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "an array of tables",
}


@dataclasses.dataclass(frozen=True)
class Option:
    """One setting of the command line and of a TOML file.

    Attributes:
        path: its place in a TOML file and in ``run.json``: ("fit", "epochs") is the key ``epochs`` of the section
            ``[fit]``.
        kind: str, int, float, bool, list, or Path for a file or a folder that need not exist.
        text: its help.
        choices: the only values, where there are few.
        none: the word that stands for None, where the setting is a limit.
        group: its heading in ``--help``.
        several: it may be given several times, and its value in a file be an array.
        default: its value where it is not given.
    """

    path: tuple[str, ...]
    kind: type
    text: str
    choices: tuple[str, ...] | None = None
    none: str | None = None
    group: str = ""
    several: bool = False
    default: Any = None

    @classmethod
    def of(cls, leaf: Leaf, section: tuple[str, ...] = ()) -> Option:
        """The option of a field, in a section of the file."""
        parts = alternatives(leaf.hint)
        literal = next((part for part in parts if get_origin(part) is Literal), None)
        choices = None if literal is None else get_args(literal)
        kind = next((kind for kind in (bool, int, float, Path, str) if kind in parts), list if choices is None else str)
        several = any(get_origin(part) is tuple for part in parts)
        return cls((*section, *leaf.path), kind, leaf.text, choices, leaf.none, leaf.group, several, leaf.default)

    @property
    def key(self) -> str:
        return ".".join(self.path)

    def read(self, value: Any) -> Any:
        """A value from TOML or JSON as the setting's own; ValueError where it is of another type."""
        if self.several and isinstance(value, list | tuple) and value:
            read = tuple(map(self.read, value))
            return read if len(read) > 1 else read[0]
        expected = f"one of {', '.join(self.choices)}" if self.choices else EXPECTED[self.kind]
        if self.none is not None:
            if value == self.none:
                return None
            expected += f' or "{self.none}"'
        kinds = {int: (int,), float: (int, float), bool: (bool,), list: (list,)}.get(self.kind, (str,))
        wrong = (
            not isinstance(value, kinds)
            or (isinstance(value, bool) and self.kind is not bool)
            or (isinstance(value, str) and (not value.strip() or "\0" in value))
            or (isinstance(value, int) and abs(value) > LARGEST)
            or (isinstance(value, float) and math.isnan(value))
            or (self.choices is not None and value not in self.choices)
        )
        if wrong:
            near = hints.of_choice(value, self.choices) if self.choices and isinstance(value, str) else ""
            raise NashwardError(f"expected {expected}, got {_described(value)}{near}")
        if isinstance(value, str) and value.startswith("~/"):  # which the shell replaces, and a file's reader does not
            value = str(Path(value).expanduser())
        return self.kind(value)

    def parse(self, text: str) -> Any:
        """A value as it was typed."""
        value: Any = text
        if self.kind is list:
            try:
                value = tomllib.loads(f"value = {text}")["value"]
            except tomllib.TOMLDecodeError:
                value = text  # refused below
        if self.kind in (int, float) and text != self.none:
            try:
                value = self.kind(text)
            except ValueError:
                value = text  # refused below
        elif self.kind is bool:
            value = {"true": True, "false": False}.get(text, text)
        try:
            return self.read(value)
        except ValueError as error:  # of which argparse would keep nothing
            raise argparse.ArgumentTypeError(str(error)) from None


class Several(argparse.Action):
    """An option whose values are collected: the value itself where there is one, else a tuple of them."""

    def __call__(self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: Any = None) -> None:
        before = getattr(namespace, self.dest, None)
        collected = () if before is None else before if isinstance(before, tuple) else (before,)
        setattr(namespace, self.dest, (*collected, values) if collected else values)


whole, number, path = (Option((), kind, "").parse for kind in (int, float, Path))  # types of other arguments


def _described(value: Any) -> str:
    """A value as an error shows it: with its type where that may be what is wrong, and not at length."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | dict):
        return "an array" if isinstance(value, list) else "a table"
    if value == "":
        return "nothing"
    kind = {int: "integer", float: "float", str: "string"}.get(type(value), type(value).__name__)
    return f"the {kind} {quoted(value, 60)}"


def options_of(kind: type[Any], section: tuple[str, ...] = ()) -> dict[str, Option]:
    """The options of a dataclass of settings and of its sections, by their names."""
    return {leaf.option: Option.of(leaf, section) for leaf in leaves(kind)}


INPUTS = options_of(Inputs)
RUN = options_of(RunConfig)
OPPONENTS = options_of(Opponents, ("opponents",))
PROMPT_FIELD = {"prompt-field": RUN["prompt-field"]}
JUDGE = {name: option for name, option in RUN.items() if option.path[0] in ("judge", "endpoint")}


def add(parser: argparse._ActionsContainer, options: Mapping[str, Option], required: bool = False) -> None:
    """Declare options; what is not given stays out of the namespace."""
    for name, option in options.items():
        settings: dict[str, Any] = {"help": option.text, "required": required, "default": argparse.SUPPRESS}
        if option.kind is bool:
            parser.add_argument(f"--{name}", action=argparse.BooleanOptionalAction, **settings)
        else:
            word = {int: "N", float: "X", list: "TABLES"}.get(option.kind, name.rpartition("-")[2].upper())
            words = "{" + ",".join(option.choices) + "}" if option.choices else word
            action: Any = Several if option.several else "store"
            parser.add_argument(f"--{name}", type=option.parse, metavar=words, action=action, **settings)


def add_groups(parser: argparse.ArgumentParser, options: Mapping[str, Option]) -> dict[str, argparse._ArgumentGroup]:
    """Declare options under their headings.

    Returns:
        the groups of the parser, by their headings.
    """
    groups = {}
    for title in GROUPS:
        if members := {name: option for name, option in options.items() if option.group == title}:
            groups[title] = parser.add_argument_group(title)
            add(groups[title], members)
    return groups


def select(options: Mapping[str, Option], names: Collection[str]) -> dict[str, Option]:
    """The options of these names."""
    return {name: option for name, option in options.items() if name in names}


def values(args: argparse.Namespace, options: Mapping[str, Option]) -> dict[str, Any]:
    """The values that were given on the command line, by the names of their fields."""
    arguments = vars(args)
    names = {name.replace("-", "_"): option.path[-1] for name, option in options.items()}
    return {field: arguments[name] for name, field in names.items() if name in arguments}


def prompt_field(args: argparse.Namespace) -> str | None:
    """The field that holds the prompt, where ``PROMPT_FIELD`` was given; refused where there is no file of prompts."""
    given: str | None = getattr(args, "prompt_field", None)
    if given is not None and getattr(args, "prompts", None) is None:
        raise NashwardError(f"--prompt-field {given} is of a file of prompts: give --prompts as well, or leave it out")
    return given


def presets() -> dict[str, Any]:
    """The shipped recipes by name: TOML files as a user writes them."""
    files = importlib.resources.files("nashward.configs").iterdir()
    return {file.name.removesuffix(".toml"): file for file in files if file.name.endswith(".toml")}
