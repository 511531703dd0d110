"""The settings of a run put together: flags over a file over a preset over what the run folder holds."""

from __future__ import annotations

import argparse
import difflib
import logging
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nashward.errors import NashwardError
from nashward.games.solvers import MIRROR_STEPS, SOLVERS
from nashward.llm.config import (
    Endpoint,
    Fit,
    JudgeSettings,
    Limits,
    Lora,
    Opponents,
    People,
    Phase,
    RunConfig,
    Sampling,
)
from nashward.llm.config.inputs import ENDPOINT, LOCAL_JUDGE, PEOPLE
from nashward.python_object import LIBRARY_ERRORS, first_line
from nashward.shortened import quoted

from . import hints, options
from .opponents import joined, unwrapped
from .solver_options import (
    ALL,
    DEFAULT_SOLVER,
    DEFAULT_STEP,
    SOLVER,
    Setting,
    Settings,
    is_solver,
    made,
    solver_kind,
    solver_name,
    typed_settings,
)
from .without_effect import refuse_without_effect

if TYPE_CHECKING:
    from nashward.games import Solver
    from nashward.llm import SelfPlay
    from nashward.llm.store.run_folder import RunFolder

logger = logging.getLogger(__name__)
PLACES = {option.path: name for name, option in ALL.items()}
# prompts and SFT texts are in files beside; a folder may be from elsewhere: no program that it names is started
UNREAD = ("prompts", "sft", "out", "engine-python", "engine-options")
JUDGED_BY = {"oracle", "objective"}  # a run has one of these settings
SECTIONS = list(dict.fromkeys(path[0] for path in PLACES if len(path) > 1))


def flags(args: argparse.Namespace, known: Iterable[str] = ALL) -> Settings:
    """The settings that were given on the command line, and no other."""
    arguments = vars(args)
    return {name: Setting(arguments[key], "flag") for name in known if (key := name.replace("-", "_")) in arguments}


def settings(args: argparse.Namespace) -> Settings:
    """The settings of the command line, the file and the presets, and the others as the run folder has them.

    Raises:
        ValueError, OSError: the file cannot be read, or has an unknown key or a value of another type.
    """
    chosen = merged(given := layers(args))
    if "out" in chosen:
        chosen = merged(_of_one_judge([*given, from_folder(chosen["out"].value)]))
    chosen.setdefault("solver", Setting(DEFAULT_SOLVER, "default"))
    kind = solver_kind(chosen["solver"].value, MIRROR_STEPS)
    if kind in SOLVERS and "step" in typed_settings(kind):
        chosen.setdefault("step", Setting(DEFAULT_STEP, "default"))
    return chosen


def layers(args: argparse.Namespace) -> list[Settings]:
    """The settings of the command line, of the file, and of each preset, a later one first; the first that has a
    setting decides. What the first with ``oracle`` or ``objective`` has replaces the oracles of those below.

    Raises:
        ValueError, OSError: as ``settings``.
    """
    found = [flags(args)]
    if file := getattr(args, "config", None):
        found.append(from_toml(read_text(file, "configuration file"), str(file), f"file {file}"))
    for name in reversed(getattr(args, "preset", None) or ()):
        found.append(preset(name))
    return _of_one_judge(found)


def _of_one_judge(found: list[Settings]) -> list[Settings]:
    """Layers without the oracles of those that have the other one of ``oracle`` and ``objective`` than the first."""
    chosen: set[str] = next((kinds for layer in found if (kinds := JUDGED_BY & layer.keys())), JUDGED_BY)
    others = JUDGED_BY | {"combine", "correct"}
    return [
        layer if JUDGED_BY & layer.keys() <= chosen else {k: v for k, v in layer.items() if k not in others}
        for layer in found
    ]


def merged(layers: list[Settings]) -> Settings:
    """The first layer that has a setting decides; the settings of a solver go with it when another one is chosen."""
    chosen: Settings = {}
    for layer in layers:
        other = (
            "solver" in chosen
            and "solver" in layer
            and solver_name(chosen["solver"].value) != solver_name(layer["solver"].value)
        )
        for name, setting in layer.items():
            if not (other and name in SOLVER):
                chosen.setdefault(name, setting)
    return chosen


def preset(name: str) -> Settings:
    """The settings of a shipped recipe."""
    return from_toml(options.presets()[name].read_text(encoding="utf-8"), name, f"preset {name}")


def read_text(path: Path, what: str) -> str:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is a folder, not a {what}" if path.is_dir() else f"there is no {what} {path}")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise NashwardError(
            f"{path} is no {what}: it is not UTF-8 ({error.reason} at byte {error.start}); save it so"
        ) from None


def from_toml(text: str, name: str, source: str) -> Settings:
    """The settings of a TOML file, whose sections are those of ``RunConfig``.

    Raises:
        ValueError: no TOML, an unknown key or section (the message names the nearest one), a value of another type.
    """
    try:
        content = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise NashwardError(f"{name} is not valid TOML: {error}") from None
    found = _leaves(content, name)
    unknown = [
        f"there is no setting {quoted('.'.join(path), 80)}; {_nearest(path)}" for path, _ in found if path not in PLACES
    ]
    if unknown:
        raise NashwardError(f"{name}: {'. And '.join(unknown)}")
    return {PLACES[path]: Setting(_read(PLACES[path], value, name), source) for path, value in found}


def check_place(path: Path) -> None:
    """ValueError where nothing can be written at that path because a file stands where a folder should."""
    for parent in path.parents:
        if parent.exists() and not parent.is_dir():
            raise NashwardError(f"{path} cannot be written: {parent} is a file")


def run_folder(path: str | Path) -> RunFolder:
    from nashward.llm.store.run_folder import RunFolder

    path = Path(path)
    if path.exists() and not path.is_dir():
        raise NashwardError(f"{path} is a file; --out names a folder for the run")
    check_place(path)
    return RunFolder(path)


def from_folder(folder: Path, plays: bool = True) -> Settings:
    """What a run folder's ``run.json`` holds; nothing where there is no run yet. ``UNREAD`` is left out.

    Args:
        folder: of the run.
        plays: whether Steps are played; else a solver that is not named by its settings (a user's own, one with a
            schedule) need not be at hand, and the default one stands for it.
    """
    config = run_folder(folder).read().get("config", {})
    if config:
        inner, shares = unwrapped(config["solver"])
        if not plays and (not is_solver(inner["name"]) or any(isinstance(v, list | dict) for v in inner.values())):
            step = inner.get("step")
            inner = {"name": DEFAULT_SOLVER, "step": step if isinstance(step, int | float) else DEFAULT_STEP}
        config = {**config, "solver": inner, "opponents": {"shares": shares}}
    settings: Settings = {}
    for name, option in ALL.items():
        value: Any = config
        for key in option.path:
            value = value.get(key) if isinstance(value, dict) else None
        if value is None and name == "max-grad-norm" and config:
            value = float("inf")  # JSON has no infinity
        if name not in UNREAD and value is not None:
            settings[name] = Setting(_read(name, value, str(folder / "run.json")), "folder")
    return settings


def _leaves(content: dict[str, Any], name: str) -> list[tuple[tuple[str, ...], Any]]:
    leaves: list[tuple[tuple[str, ...], Any]] = []
    for key, value in content.items():
        if key in SECTIONS:
            if not isinstance(value, dict):
                raise NashwardError(f"{name}: {key} is a section: write [{key}] and its settings under it")
            leaves += [((key, inner), leaf) for inner, leaf in value.items()]
        elif isinstance(value, dict) and (key,) not in PLACES:
            near = difflib.get_close_matches(key, SECTIONS, 1)
            advice = f"the nearest is [{near[0]}]" if near else f"there are {', '.join(f'[{s}]' for s in SECTIONS)}"
            raise NashwardError(f"{name}: there is no section {quoted(f'[{key}]', 80)}; {advice}")
        else:
            leaves.append(((key,), value))
    return leaves


def _nearest(path: tuple[str, ...]) -> str:
    """The nearest setting: of the same name elsewhere, of the flag's name, or alike."""
    if synonym := hints.of_setting(path[-1], ALL):
        name = synonym.split()[0].rstrip(",")
        *sections, key = ALL[name].path
        return f"it is {key}{synonym.removeprefix(name)}" + "".join(
            f"; it stands in [{section}]" for section in sections
        )
    known = [option.key for option in ALL.values()]
    flag, leaf = path[-1].replace("_", "-"), path[-1].replace("-", "_")
    named = [key for key in known if key.rpartition(".")[2] == leaf]
    near = (
        [ALL[flag].key] if flag in ALL else named or difflib.get_close_matches(".".join([*path[:-1], leaf]), known, 1)
    )
    if near:
        where, _, key = near[0].rpartition(".")
        return f"the nearest is {key} in [{where}]" if where else f"the nearest is {key}, above the first section"
    return f"there are {', '.join(place[-1] for place in PLACES if place[:-1] == path[:-1])}"


def _read(name: str, value: Any, where: str) -> Any:
    try:
        return ALL[name].read(value)
    except ValueError as error:
        raise NashwardError(f"{where}: {ALL[name].key}: {error}") from None


def solver(chosen: Settings, several: bool = False) -> Solver:
    """The solver of that name with the settings given; a setting that it does not have is refused.

    Args:
        chosen: the settings, among them the name.
        several: other solvers are chosen beside it; the refusal says how these get an option that this one lacks.
    """
    kind = solver_kind(chosen["solver"].value)
    given, own = {}, typed_settings(kind)
    for name in SOLVER:
        if name == "solver" or name not in chosen:
            continue
        key, setting = ALL[name].path[1], chosen[name]
        if key not in own:
            option = f"--{name}: " if setting.source == "flag" else ""
            behind = f"; set it behind a solver that has it: SOLVER:{key}={setting.value}" if several else ""
            raise NashwardError(f"{option}{hints.no_setting(kind.__name__, key, own)}{behind}")
        given[name] = key
    try:
        return made(lambda own: kind(**{key: own[name].value for name, key in given.items() if name in own}), chosen)
    except LIBRARY_ERRORS as error:
        if isinstance(error, NashwardError):
            raise
        raise NashwardError(f"{chosen['solver'].value}: {type(error).__name__}: {first_line(error)}") from error


def run_of(args: argparse.Namespace) -> SelfPlay:
    """The run of a folder, with policy and oracle where they are now if they were moved; it is not played on."""
    moved, held = flags(args, ("policy", "oracle")), from_folder(args.folder, plays=False)
    if "oracle" in moved and "objective" in held:
        objectives = " ".join(f"--objective {one}" for one in _several(held["objective"].value))
        raise NashwardError(
            f"{args.folder} was played for several objectives ({objectives}), which --oracle "
            f"{moved['oracle'].value} cannot stand for: leave it out"
        )
    return self_play({**merged([moved, held]), "out": Setting(args.folder, "flag")})


def self_play(chosen: Settings) -> SelfPlay:
    """The run of these settings; each part checks its own.

    Raises:
        ValueError: a value that a part refuses, no run folder.
        FileNotFoundError: no such chat template.
    """
    from nashward.llm import SelfPlay

    top = _section("", chosen)
    if top.get("chat_template") is not None:
        top["chat_template"] = template(top["chat_template"])
    if "folder" not in top:
        raise NashwardError('a run folder is needed: --out FOLDER, or folder = "FOLDER" in the file of --config')
    top.pop("phases", None)
    phases = made(lambda own: tuple(map(Phase.read, _section("", own).get("phases", []))), chosen)
    _check_phases(phases, chosen)
    inputs: dict[str, Any] = {"policy": None, "oracle": None, "prompts": None}
    inputs |= {key: top.pop(key) for key in [option.key for option in options.INPUTS.values()] if key in top}
    usual = JudgeSettings()
    objectives = inputs.pop("objective", None)
    own = [
        name for name, given in chosen.items()
        if given.source != "folder" and (at := _in(name, "judge")) and given.value != getattr(usual, at)
    ]  # fmt: skip
    if own and (oracle := inputs["oracle"] or objectives) is not None:
        _check_judged(own[0], [one.partition("=")[2] if objectives else one for one in _several(oracle)])
    for name in ("combine", "correct"):
        inputs.pop(name, None)
    judged = ("oracle", "combine", "correct", "objective")
    inputs["oracle"] = made(lambda own: oracle_source(*map(_section("", own).get, judged)), chosen)
    alone = solver(chosen)
    wrapped, opponents = made(lambda own: joined(Opponents(**_section("opponents", own)), alone), chosen)
    kinds = {"lora": Lora, "sampling": Sampling, "judge": JudgeSettings, "endpoint": Endpoint, "fit": Fit,
             "limits": Limits, "people": People}  # fmt: skip
    sections = {name: _part(name, kind, chosen) for name, kind in kinds.items()}

    def run_config(own: Settings) -> RunConfig:
        above = {key: top[key] for key in _section("", own) if key in top}
        return RunConfig(**above, phases=phases, **sections, placement=_section("placement", own) or None)

    config = made(run_config, chosen)
    if str(inputs["oracle"]).startswith(PEOPLE):
        from nashward.llm.people import PeopleOracle

        folder = inputs["oracle"].removeprefix(PEOPLE)
        if not folder.strip():
            raise NashwardError(f"{PEOPLE} lacks a folder: {PEOPLE}FOLDER, where their votes are kept")
        inputs["oracle"] = PeopleOracle(folder, config.people, seed=config.seed)
    play = SelfPlay(**inputs, solver=wrapped, opponents=opponents, config=config)
    play.check_settings()
    refuse_without_effect(chosen, wrapped)
    return play


def _section(name: str, given: Settings) -> dict[str, Any]:
    """The values of a section's settings by their keys; of "" those above the first section."""
    place = (name,) if name else ()
    return {ALL[of].path[-1]: setting.value for of, setting in given.items() if ALL[of].path[:-1] == place}


def _part(name: str, kind: Any, chosen: Settings) -> Any:
    return made(lambda own: kind(**_section(name, own)), chosen)


def _check_phases(phases: Sequence[Phase], chosen: Settings) -> None:
    """What a phase has of its own stands above a flag: one that no phase takes is refused, one that some do is told."""
    for name in ("step", "learning-rate"):
        key, flag = name.replace("-", "_"), name in chosen and chosen[name].source == "flag"
        own = [f"{given:g} in phase {n}" for n, p in enumerate(phases, 1) if flag and (given := getattr(p, key))]
        listed = ", ".join(own)
        if own and len(own) == len(phases):
            raise NashwardError(f"--{name} has no effect: each phase has its own {key} ({listed}); change it there")
        if own:
            logger.warning(f"--{name} is for the phases without a {key} of their own, which is {listed}")


def oracle_source(oracle: Any, combine: str | None = None, correct: Any = None, objectives: Any = None) -> Any:
    """What ``as_oracle`` makes the oracle of: that which was given, an ensemble of several, and either corrected; or
    several objectives, each NAME=ORACLE."""
    if objectives is not None:
        return _objectives(oracle, combine, correct, _several(objectives))
    if oracle is None:
        for name, value in (("combine", combine), ("correct", correct)):
            if value is not None:
                raise NashwardError(f"--{name} {value} is of an oracle: give it with --oracle")
        return None
    if isinstance(oracle, str) and combine is None and correct is None:
        return oracle
    from nashward.llm.oracles import CorrectedSource, EnsembleSource

    source = oracle
    if not isinstance(oracle, str) or combine is not None:
        source = EnsembleSource(oracle if isinstance(oracle, tuple) else (oracle,), combine or "log-odds")
    for correction in (correct,) if isinstance(correct, str) else correct or ():
        source = CorrectedSource(source, correction)
    return source


def _several(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def _objectives(oracle: Any, combine: str | None, correct: Any, given: tuple[str, ...]) -> Any:
    named = named_oracles(given)
    if oracle is not None:
        raise NashwardError("--objective names the oracles of several objectives: leave --oracle out")
    if correct is not None:  # the objectives may be those of the run folder
        raise NashwardError(f"--correct does not go with several objectives ({', '.join(named)}): leave it out")
    from nashward.llm.oracles import EnsembleSource

    return EnsembleSource(tuple(named.values()), combine or "weights", tuple(named))


def named_oracles(given: Sequence[str]) -> dict[str, str]:
    """The oracles of objectives that are written NAME=ORACLE.

    Raises:
        ValueError: one is written otherwise, or has the name of another one.
    """
    named: dict[str, str] = {}
    for one in given:
        name, sign, source = one.partition("=")
        if not (name and sign and source):
            raise NashwardError(f"--objective {quoted(one, 80)}: expected NAME=ORACLE")
        if name in named:
            raise NashwardError(f"--objective {name} is given twice; each has a name of its own")
        named[name] = source
    return named


def oracle_of(args: argparse.Namespace) -> Any:
    """``oracle_source`` of the options --oracle, --combine and --correct of a command."""
    return oracle_source(*(getattr(args, name, None) for name in ("oracle", "combine", "correct")))


def judge(args: argparse.Namespace, oracles: Sequence[str], flag: str = "--oracle") -> dict[str, Any]:
    """How a language model behind a server judges, and how it is called, as the command line says.

    Raises:
        ValueError: a value that is refused, or any where none of the oracles is such a model.
    """
    given = flags(args, options.JUDGE)
    if given:
        _check_judged(next(iter(given)), oracles, flag)
    kinds: dict[str, Any] = {"judge": JudgeSettings, "endpoint": Endpoint}
    return {section: _part(section, kind, given) for section, kind in kinds.items()}


def _in(name: str, section: str) -> str | None:
    """The field of a setting of that section; None for one of another section."""
    head, *rest = ALL[name].path
    return rest[0] if head == section and rest else None


def _check_judged(name: str, oracles: Sequence[str], flag: str = "--oracle") -> None:
    if not any(str(oracle).startswith((ENDPOINT, LOCAL_JUDGE)) for oracle in oracles):
        raise NashwardError(f"--{name} is of a language model as a judge: give {flag} openai:MODEL or judge:MODEL")


def template(given: str) -> str:
    """A chat template: the text itself, which Jinja's braces give away, or that of a file."""
    if "{{" in given or "{%" in given:
        return given
    text = read_text(Path(given), "chat template")
    if "{{" not in text and "{%" not in text:
        raise NashwardError(f"{given} is no chat template: there is no {{{{ and no {{% in it")
    return text
