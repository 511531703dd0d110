"""The solvers by their names and the options made from their fields, and all options of a run. Imports no torch."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import inspect
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from nashward.errors import NashwardError
from nashward.games.solvers import MIRROR_STEPS, SOLVERS
from nashward.python_object import python_object

from . import hints
from .options import INPUTS, OPPONENTS, RUN, Option, add_groups, path, presets, select

DEFAULT_SOLVER, DEFAULT_STEP = "OptimisticMWU", 2.5
TEXTS = {
    "step": f"the solver's step size (default: {DEFAULT_STEP} for language models)",
    "tau": "the solver's pull to the reference, where it has one",
    "two_sequences": "OptimisticMWU in ONPO's form, with two sequences of policies",
    "decay": "share of its average that NashEMA keeps at each iteration; 0 is INPO",
    "momentum": "momentum of the anchor, for Momentum; 0 is MWU",
    "nesterov": "Momentum extrapolates the opponent too, as Nesterov's method does",
    "inner": "steps that solve the inner game of ProximalPoint",
    "every": "steps between two moves of MagnetReset's reference",
}


def _of_solvers() -> dict[str, Option]:
    """One option for each field of a solver that a number or a word can set."""
    mirror = ", ".join(kind.__name__ for kind in MIRROR_STEPS)
    text = f"the solver (default: {DEFAULT_SOLVER} for language models): {mirror}, or module:Class, one of yours"
    options = {"solver": Option(("solver", "name"), str, text, group="solver")}
    owners: dict[str, list[str]] = {}
    for kind in SOLVERS:
        hints = get_type_hints(kind)
        for name in (field.name for field in dataclasses.fields(kind)):
            hint = hints[name]
            kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
            scalar = next((t for t in (bool, int, float, str) if t in kinds), None)
            if scalar is None:  # it cannot be typed
                continue
            owners.setdefault(name, []).append(kind.__name__)
            option = name.replace("_", "-")
            option = f"solver-{option}" if option in {**INPUTS, **RUN, **OPPONENTS} else option
            text = TEXTS.get(name, f"a setting of {', '.join(owners[name])}")
            options[option] = Option(("solver", name), scalar, text, group="solver")
    return options


KINDS = {kind.__name__.lower(): kind for kind in SOLVERS}
SOLVER = _of_solvers()
ALL = {**INPUTS, **SOLVER, **OPPONENTS, **RUN}
Made = TypeVar("Made")


def add_run(
    parser: argparse.ArgumentParser, models: Collection[str], names: Collection[str] | None = None
) -> argparse._ArgumentGroup:
    """The options of a run: of the policy and the oracle these, and of the other settings the named ones, or all.

    Returns:
        the first group.
    """
    parser.usage = f"{parser.prog} [OPTION ...]"
    others = [name for name in ALL if name not in ("out", "policy", "oracle")] if names is None else names
    run = add_groups(parser, select(ALL, ("out", *models, *others)))["run"]
    run.add_argument("--config", type=path, metavar="FILE", help="settings in TOML; flags win over them")
    add_preset(run)
    return run


def add_preset(parser: argparse._ActionsContainer) -> None:
    """Declare the option of the shipped recipes."""
    parser.add_argument(
        "--preset",
        action="append",
        choices=sorted(presets()),
        help="a recipe; of several a later one wins, and a file and flags over all",
    )


def solver_name(name: str) -> str:
    """A solver's name in one spelling."""
    if ":" in name:  # a user's own, module:Class
        return name
    return hints.SOLVER_NAMES.get(plain(name), plain(name)).lower()


def plain(name: str) -> str:
    """A name in small letters, without what may stand between its words."""
    return name.replace("-", "").replace("_", "").replace(" ", "").lower()


def is_solver(name: str) -> bool:
    """Whether a solver of the project is called so, in whatever spelling."""
    return solver_name(name) in KINDS


def solver_kind(name: str, listed: Sequence[type[Any]] = SOLVERS) -> type[Any]:
    """The class of the solver that is called so, of a user's own as module:Class; another name is refused, with the
    nearest of those listed, which the command can play."""
    if kind := KINDS.get(solver_name(name)):
        return kind
    if re.fullmatch(r"[\w.]+:[A-Za-z_][\w.]*", name) and not is_solver(name.partition(":")[0]):
        return _own_solver_kind(name)
    near = difflib.get_close_matches(solver_name(name), [kind.__name__.lower() for kind in listed], 1)
    nearest = f"the nearest is {KINDS[near[0]].__name__}; " if near else ""
    if written := re.fullmatch(r"(\w+)\((.*?)\)?", name):  # as Python writes it
        settings = "".join(f":{one.replace(' ', '')}" for one in written[2].split(",") if one.strip())
        nearest = f"its settings stand behind colons: {written[1]}{settings}; {nearest}"
    if is_solver(first := name.partition(":")[0]):
        nearest = f"{first} is one, whose settings are options of their own, as --step; "
    elif ":" in name:
        nearest = f"a class of yours is module:Class, and its settings are options of their own, as --step; {nearest}"
    raise NashwardError(f"no solver {name!r}; {nearest}there are {', '.join(kind.__name__ for kind in listed)}")


def _own_solver_kind(name: str) -> type[Any]:
    kind = python_object(name)
    known = inspect.isclass(kind) and dataclasses.is_dataclass(kind)
    if not (known and (hasattr(kind, "play") or hasattr(kind, "iterate"))):
        raise NashwardError(
            f"{name} is no class of a solver; expected a dataclass of its settings with play(x, reference), see "
            "docs/new-solver.md"
        )
    return kind


def typed_settings(kind: type[Any]) -> list[str]:
    """The settings of a solver that can be typed, by the names of its fields."""
    typed = {option.path[1] for option in SOLVER.values()}
    return [field.name for field in dataclasses.fields(kind) if field.name in typed]


@dataclasses.dataclass(frozen=True)
class Setting:
    """A value, and where it is from: "flag", "file NAME", "preset NAME", "solver TEXT", "folder" or "default"."""

    value: Any
    source: str


Settings = dict[str, Setting]  # by the option's name


def made(make: Callable[[Settings], Made], chosen: Settings) -> Made:
    """What is made of settings; an error begins with those that it is of, as they were given: the option, or the file
    and its key.

    They are the ones without any of which there would be no error, or else another one.

    Args:
        make: of the settings that it is given, the others being as they are by default.
        chosen: all settings.

    Raises:
        ValueError: what ``make`` raises.
    """
    try:
        return make(chosen)
    except NashwardError as error:
        told = str(error)
        others = {name: _refusal(make, {k: v for k, v in chosen.items() if k != name}, told) for name in chosen}
        own = [name for name in chosen if others[name] is None] or [name for name in chosen if others[name] != told]
        if not own or told.startswith(tuple(f"--{name} " for name in own if chosen[name].source == "flag")):
            raise  # it says so itself
        raise NashwardError(f"{_places({name: chosen[name].source for name in own})}: {told}") from None


def _refusal(make: Callable[[Settings], Made], given: Settings, told: str) -> str | None:
    try:
        make(given)
    except NashwardError as error:
        return str(error)
    except Exception:  # noqa: BLE001 - a solver of the user's may need the setting that is left out: nothing is learned
        return told
    return None


def _places(sources: Mapping[str, str]) -> str:
    """Settings as they were given, those of one file together.

    Example:
        >>> _places({"epochs": "file run.toml", "loss": "file run.toml", "step": "flag"})
        'run.toml: fit.epochs and fit.loss, --step'
    """
    named: dict[str, list[str]] = {}
    for name, source in sources.items():
        kind, _, of = source.partition(" ")
        if kind == "flag":
            named.setdefault("", []).append(f"--{name}")
        elif kind == "solver":  # as it stands behind a solver's name
            named.setdefault("", []).append(of)
        else:
            named.setdefault({"file": of, "preset": source}.get(kind, ""), []).append(ALL[name].key)
    return ", ".join(f"{of}: {' and '.join(keys)}" if of else " and ".join(keys) for of, keys in named.items())
