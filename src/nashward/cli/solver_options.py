"""The options of the solvers, made from their fields, and all options of a run. Imports no torch."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Collection
from types import UnionType
from typing import Union, get_args, get_origin, get_type_hints

from nashward.games.solvers import MIRROR_STEPS, SOLVERS, TABLES_ONLY

from .options import INPUTS, OPPONENTS, RUN, Option, add_groups, path, presets, select

DEFAULT_SOLVER, DEFAULT_STEP = "OptimisticMWU", 2.5
TEXTS = {
    "step": f"the solver's step size (default: {DEFAULT_STEP} for language models)",
    "tau": "the solver's pull to the reference, where it has one",
}


def _of_solvers() -> dict[str, Option]:
    """One option for each field of a solver that a number or a word can set."""
    mirror, tables = (", ".join(kind.__name__ for kind in kinds) for kinds in (MIRROR_STEPS, TABLES_ONLY))
    text = f"a mirror-step solver (default: {DEFAULT_SOLVER} for language models): {mirror}; on tables also {tables}"
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
            text = TEXTS.get(name, f"of {', '.join(owners[name])}")
            options[option] = Option(("solver", name), scalar, text, group="solver")
    return options


SOLVER = _of_solvers()
ALL = {**INPUTS, **SOLVER, **OPPONENTS, **RUN}


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
