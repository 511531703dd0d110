"""Games, solvers and feedback as they are typed: ``NAME:setting=value:setting=value``."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from nashward import games
from nashward.errors import NashwardError
from nashward.games.forms.labels_of_csv import Labels
from nashward.python_object import checked_seed, instantiate, split_settings, with_settings

from . import configuration, hints, solver_options
from .configuration import Setting, Settings
from .options import Option

# Names, not functions: ``nashward solve --help`` lists them without importing torch.
GENERATORS = ("tournament", "scores_and_cycles", "low_rank", "disc", "blotto", "three_cycle")  # settings are numbers
FEEDBACK = {"samples": "SampledFeedback", "duels": "DuelingFeedback"}
SOLVER = {option.path[1]: name for name, option in solver_options.SOLVER.items() if name != "solver"}


def game(
    text: str, total: float | None = None, labels: Labels | None = None, rounding: float | None = None
) -> games.PreferenceGame | games.ConstantSumGame:
    """The game of a file, of ``zoo:NAME`` or ``generator:NAME``, or of a name in the zoo alone; a file wins.

    Args:
        text: as it was typed.
        total, labels: as for ``games.load``.
        rounding: its tolerance.
    """
    path, (kind, _, rest) = Path(text), text.partition(":")
    prefixed = kind in ("zoo", "generator")
    if path.exists() or not (prefixed or kind in games.zoo.GAMES):
        if not (path.exists() or path.suffix):
            raise NashwardError(f"there is no file {text}, nor a {_unknown('game', text, games.zoo.names())}")
        try:
            return games.load(path, total, labels, tolerance=rounding)
        except NashwardError as error:
            if _holds_battles(path):
                raise NashwardError(
                    f"{text} holds battles, who won how often, not a table of payoffs: nashward leaderboard {text}"
                ) from None
            if not (total is None is rounding) or (advice := _advice(path, labels)) is None:
                raise
            raise NashwardError(f"{error}; {advice}") from None
    for option, value in (("--labels", labels), ("--rounding", rounding)):
        if value is not None:
            raise NashwardError(f"{option} goes with a file; {text} is not one")
    if total is not None:
        raise NashwardError(f"--total goes with a file; {text} is a preference game")
    name, settings = _split(rest if prefixed else text)
    if kind == "generator":
        if name not in GENERATORS:
            raise NashwardError(f"there is no {_unknown('generator', name, GENERATORS)}")
        return with_settings(getattr(games.zoo.generators, name), f"{kind}:{name}", settings, hints.no_setting)
    if name not in games.zoo.GAMES:
        raise NashwardError(f"there is no {_unknown('game', name, games.zoo.names())}")
    return with_settings(games.zoo.GAMES[name].make, name, settings, hints.no_setting)


def _holds_battles(path: Path) -> bool:
    """Whether a file that is no table of numbers is one of battles."""
    from nashward.games.forms.io import read_table  # brings torch

    try:
        read_table(path, None, symmetric=True)
    except NashwardError:
        try:
            games.analysis.leaderboard.read_battles(path)
        except (NashwardError, OSError):
            return False
        return True
    return False


def _advice(path: Path, labels: Labels | None) -> str | None:
    """How a table that is no preference game is read, as by --total; None where it is none, or is read as one."""
    try:
        game = games.load(path, 0.0, labels)
    except NashwardError:
        return None
    if not isinstance(game, games.ConstantSumGame):
        return None
    if game.row_labels != game.column_labels and set(game.row_labels) == set(game.column_labels):
        return "put the columns in the order of the rows"
    payoff = game.payoff
    if payoff.dim() != 2 or payoff.shape[0] != payoff.shape[1]:
        return None
    sums = payoff + payoff.mT
    total, span = float(sums.median()), float(payoff.abs().max())
    if float((sums - total).abs().max()) > 1e-9 * span:
        return None
    total = float(f"{total:.12g}") if abs(total) > 1e-9 * span else 0.0
    kind = "it is antisymmetric: " if total == 0 else f"entry [i, j] and [j, i] sum to {total:g}: "
    return f"{kind}--total {total:g} reads it as payoffs"


def entry(text: str) -> games.zoo.Entry | None:
    """The entry of the zoo for the game of that text; None for one with settings of its own, or a file."""
    return None if Path(text).exists() else games.zoo.GAMES.get(text.removeprefix("zoo:"))


def solvers(texts: list[str], shared: Settings) -> list[Any]:
    """The solvers, each with its own settings and, of those that it does not give itself, the shared ones.

    A solver of one's own is module:Class, or module:name for an object, with its settings behind further colons.

    Raises:
        ValueError: no such solver, a setting that it has not, one solver twice, a shared setting that each of them
            gives itself.
    """
    chosen: list[Any] = []
    own_settings = [split_settings(text)[1] for several in texts for text in several.split(",")]
    for name, setting in shared.items():
        key = solver_options.SOLVER[name].path[1]
        if texts and all(key in own for own in own_settings):
            raise NashwardError(f"--{name} {setting.value} is for no solver: {','.join(texts)} gives {key} itself")
    for text in [one for several in texts for one in several.split(",")]:
        if _is_own(text):
            solver = _own_solver(text, shared)
            if solver in chosen:
                raise NashwardError(f"{text}: this solver is given twice; give another one, or other settings")
            chosen.append(solver)
            continue
        name, settings = _split(text)
        kind, given = solver_options.solver_kind(name), Settings()
        for key, value in settings.items():
            if key not in (own := solver_options.typed_settings(kind)):
                raise NashwardError(f"{text}: {hints.no_setting(kind.__name__, key, own)}")
            given[SOLVER[key]] = Setting(_value(text, key, solver_options.SOLVER[SOLVER[key]], value), f"solver {text}")
        several = len(texts) > 1 or "," in texts[0]
        solver = configuration.solver({**shared, **given, "solver": Setting(name, "flag")}, several)
        if solver in chosen:
            raise NashwardError(f"{text}: this solver is given twice; give another one, or other settings")
        chosen.append(solver)
    return chosen


def _is_own(text: str) -> bool:
    """Whether a name stands behind the first colon, not a setting, and no solver of the project before it."""
    first, *parts = text.split(":")
    return bool(parts and parts[0]) and "=" not in parts[0] and not solver_options.is_solver(first)


def _own_solver(text: str, shared: Settings) -> Any:
    values = {solver_options.SOLVER[key].path[1]: setting.value for key, setting in shared.items()}
    made = instantiate(text, values, hints.no_setting)
    if not isinstance(made, games.solvers.TableSolver):
        try:
            games.driver.require_steps(made)
        except TypeError as error:
            raise NashwardError(f"{split_settings(text)[0]}: {error}") from None
    return made


def feedback(text: str, seed: int | None) -> games.feedback.Feedback:
    """``exact``, or ``samples`` or ``duels`` with their settings and that seed."""
    name, settings = _split(text)
    if name == "exact" and not settings:
        if seed is not None:
            raise NashwardError("--seed is of the draws: give --feedback samples or --feedback duels as well")
        return games.feedback.exact
    if name not in FEEDBACK:
        raise NashwardError(f"there is no feedback {text!r}; there are: exact, {', '.join(FEEDBACK)}")
    if "seed" in settings:
        raise NashwardError(f"{text}: the seed is given by --seed")
    make = getattr(games.feedback, FEEDBACK[name])
    return with_settings(make, name, settings, hints.no_setting, seed=checked_seed(seed or 0))


def _unknown(what: str, name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), 1)
    return f"{what} {name!r}; " + (f"the nearest is {near[0]}" if near else f"there are: {', '.join(known)}")


def _split(text: str) -> tuple[str, dict[str, str]]:
    name, settings = split_settings(text)
    if ":" in name:
        raise NashwardError(f"{text}: expected NAME:setting=value, got {name.split(':')[1]!r}")
    return name, settings


def _value(where: str, key: str, option: Option, text: str) -> Any:
    try:
        return option.parse(text)
    except argparse.ArgumentTypeError as error:
        raise NashwardError(f"{where}: {key}: {error}") from None
