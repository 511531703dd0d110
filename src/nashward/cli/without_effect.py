"""Settings of a run that were given and would do nothing beside the others: each is refused, with what it is of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nashward.errors import NashwardError
from nashward.llm.config.inputs import ENDPOINT, PEOPLE
from nashward.llm.config.run import OWN_ENGINE

from .solver_options import ALL

if TYPE_CHECKING:
    from nashward.games import Solver

Values = Mapping[str, Any]  # by the option's name; what is not set has its default
BEGUN = "a run that has begun"  # its folder has the SFT texts, and the names of its oracles
PLAYED = "the solver itself"
STEPS = 4  # Steps of a solver that are looked at
SERVED = ("oracle", "objective", "opponents", "augment")  # what a model behind a server may be


def refuse_without_effect(chosen: Mapping[str, Any], solver: Solver) -> None:
    """Refuse what the command line or its file gives, and no part of this run reads.

    What a preset or the run folder has is passed over, as is a file's default: ``nashward config`` writes them all.

    Args:
        chosen: the settings by the options' names, each with its value and source (``configuration.Setting``).
        solver: that these name.

    Raises:
        NashwardError: the first one, what it is of, and what to give.
    """
    values = {name: option.default for name, option in ALL.items()}
    values |= {name: setting.value for name, setting in chosen.items()}
    values[BEGUN] = any(setting.source == "folder" for setting in chosen.values())
    values[PLAYED] = solver
    for names, used, what in RULES:
        for name in (name for name in names if name in chosen):
            setting = chosen[name]
            file = setting.source.startswith("file ") and setting.value != ALL[name].default
            if (setting.source == "flag" or file) and not used(values):
                given = f"--{name}" if setting.source == "flag" else f"{setting.source.removeprefix('file ')}: {name}"
                raise NashwardError(f"{given} is of {what(values)}")


def _served(values: Values, names: Iterable[str] = SERVED) -> bool:
    """Whether one of these is a model behind a server."""
    of = [values[name] for name in names]
    given = [str(one) for value in of for one in (value if isinstance(value, tuple) else (value,))]
    return any(one.partition("=")[2].startswith(ENDPOINT) or one.startswith(ENDPOINT) for one in given)


def _by_url(values: Values) -> bool:
    return values["engine"] not in (None, OWN_ENGINE)


def _several_judges(values: Values) -> bool:
    """Whether judges may differ: several oracles, an oracle that was fitted with its folds, or an object of the
    user's or a model of the hub, which may be an ensemble."""
    oracle = values["oracle"]
    if values[BEGUN] or values["objective"] is not None or oracle is None or isinstance(oracle, tuple):
        return True
    known = ("pocket:", "real:", ENDPOINT, "judge:", PEOPLE)
    if oracle.startswith(known):
        return False
    from nashward.llm.oracles.models.checkpoint import MEMBERS

    return not Path(oracle).exists() or (Path(oracle) / MEMBERS).is_dir()


def _samples_a_mixture(solver: Any) -> bool:
    """Whether one of a solver's first Steps is a geometric mixture; of a user's own solver it is not known."""
    from nashward.games import Policy
    from nashward.games.solvers import MIRROR_STEPS
    from nashward.games.step import steps_of

    inner = getattr(solver, "solver", solver)
    if type(inner) not in MIRROR_STEPS:
        return True
    start = Policy(None, "start")
    play = steps_of(inner, start, start)
    step, seen = next(play), []
    for number in range(STEPS):
        seen.append(step.opponent is None and not step.is_iterate)
        step = play.send(Policy(None, str(number)))
    return any(seen)


OR_NOT = ", or leave it out"
SERVER = f"calls to a server, and this run makes none: give --oracle {ENDPOINT}MODEL or --engine URL{OR_NOT}"
RULES: tuple[tuple[tuple[str, ...], Callable[[Values], bool], Callable[[Values], str]], ...] = (
    (
        ("prompt-floor",),
        lambda of: of["prompt-selection"] == "informative",
        lambda of: (
            f"informative selection, and this run's is {of['prompt-selection']}: give --prompt-selection "
            f"informative{OR_NOT}"
        ),
    ),
    (
        ("margin",),
        lambda of: of["loss"] == "simpo",
        lambda of: f"the loss simpo, and this run's is {of['loss']}: give --loss simpo{OR_NOT}",
    ),
    (
        ("limit-factor", "limit-lowers"),
        lambda of: of["sft-limit"] is not None or of["win-rate-floor"] is not None,
        lambda of: f"a limit, and this run has none: give --sft-limit or --win-rate-floor{OR_NOT}",
    ),
    (
        ("sft-weight",),
        lambda of: of["sft"] is not None or of[BEGUN],
        lambda of: f"SFT texts, and this run has none: give --sft{OR_NOT}",
    ),
    (
        ("rank", "alpha", "lora-targets"),
        lambda of: of["adapter"] is None,
        lambda of: (
            f"a fresh adapter, and this run starts from {of['adapter']}, which has its own: leave one of the two out"
        ),
    ),
    (
        ("spread-weights",),
        _several_judges,
        lambda of: f"several judges, and this run has one: give --oracle more than once{OR_NOT}",
    ),
    (
        tuple(name for name, option in ALL.items() if option.path[0] == "people"),
        lambda of: of["oracle"] is None or str(of["oracle"]).startswith(PEOPLE),
        lambda of: f"people as the oracle: give --oracle {PEOPLE}FOLDER{OR_NOT}",
    ),
    (
        ("mixtures",),
        lambda of: of["mixtures"] == "fitted" or _samples_a_mixture(of[PLAYED]),
        lambda of: (
            f"a solver that plays against geometric mixtures, and {of['solver']} does not: give --solver NashMD{OR_NOT}"
        ),
    ),
    (("concurrency", "key-variable"), lambda of: _served(of) or _by_url(of), lambda of: SERVER),
    (("timeout", "retries"), lambda of: _served(of) or of["engine"] is not None, lambda of: SERVER),
)
