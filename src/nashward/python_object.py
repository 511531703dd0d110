"""What a user names as ``module:name:setting=value``, an object of theirs, and the errors that such code may raise."""

from __future__ import annotations

import difflib
import importlib
import inspect
import sys
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, get_args, get_type_hints

from .errors import NashwardError
from .shortened import quoted

LIBRARY_ERRORS = (
    OSError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, AssertionError, ImportError,
    NameError, RuntimeError, SyntaxError, EOFError, BufferError,
)  # fmt: skip
"""What code outside of this package raises on wrong input, or where it is wrong itself."""


NAMED = 5  # of a module, in place of a name that it lacks
LARGEST = 2**63 - 1  # what torch takes as a seed or a size
EXPECTED = {bool: "true or false", int: "a whole number", float: "a number", str: "a word"}  # of a setting
EXAMPLES = {bool: "true", int: "5", float: "0.6", str: "word"}


def first_line(error: BaseException) -> str:
    """The first line of an error's message; the name of its class where it has no message."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def python_object(source: str) -> Any:
    """The object of ``module:name``.

    Args:
        source: a module in the working directory or installed, a colon, and a name in it, with dots where it lies
            inside of another one.

    Raises:
        ValueError: no such module or name, or a module that cannot be imported.

    Example:
        >>> python_object("math:floor")(2.5)
        2
    """
    module, _, name = source.partition(":")
    expected = "expected module:name, the module in the working directory or installed"
    if not all(part.isidentifier() for part in module.split(".")):
        raise NashwardError(f"{source}: {module!r} is no name of a module; {expected}, without a path and without .py")
    if ":" in name:
        name, _, setting = name.partition(":")
        raise NashwardError(
            f"{source}: settings behind {module}:{name} are NAME=VALUE, as in module:Class:scale=0.2, got {setting!r}"
        )
    try:
        value: Any = importlib.import_module(module)
    except (*LIBRARY_ERRORS, SystemExit) as error:  # a script that calls sys.exit
        if isinstance(error, ModuleNotFoundError) and error.name and f"{module}.".startswith(f"{error.name}."):
            without = f"{module.removesuffix('.py')}:{name or 'NAME'}"
            expected = f"write {without}, the module without .py" if module.endswith(".py") else "expected module:name"
            searched = f"in {Path.cwd()}, nor installed beside {sys.executable}"
            raise NashwardError(f"{source}: No module named {error.name!r} {searched}; {expected}") from error
        raise NashwardError(f"{module} cannot be imported: {type(error).__name__}: {first_line(error)}") from error
    try:
        for part in name.split("."):
            holder = value
            value = getattr(value, part)
    except AttributeError as error:
        raise NashwardError(f"{source}: {first_line(error)}{_made_in(holder, part)}; {expected}") from error
    return value


def _made_in(holder: Any, name: str) -> str:
    """What a module has in place of a name that it lacks: the nearest, and the classes and functions made in it."""
    if not inspect.ismodule(holder):
        return ""
    made = [key for key, one in vars(holder).items() if getattr(one, "__module__", None) == holder.__name__]
    made += [key for key in getattr(holder, "__all__", ()) if key not in made]  # a package's names are made elsewhere
    named = [key for key in made if not key.startswith("_")]
    near = difflib.get_close_matches(name, named, 1, 0.5)
    others = [key for key in named if key not in near][: NAMED - len(near)]
    return f"; it has {', '.join([*near, *others])}" + (", ..." if len(named) > NAMED else "") if named else ""


def instantiate(
    source: str,
    further: Mapping[str, Any] | None = None,
    lacks: Callable[[str, str, Collection[str]], str] | None = None,
) -> Any:
    """The object of ``module:name:setting=value``: a class or a function is called where it has settings or needs none.

    Args:
        source: as it was typed.
        further: settings that were given elsewhere; those of the source win.
        lacks: see ``with_settings``.

    Raises:
        ValueError: as ``python_object`` and ``with_settings``, an object with settings behind it, or a call that fails.

    Example:
        >>> instantiate("datetime:timedelta")
        datetime.timedelta(0)
    """
    name, settings = split_settings(source)
    made, values, lacks = python_object(name), dict(further or {}), lacks or no_setting
    if inspect.isclass(made) or inspect.isfunction(made):
        if foreign := next((key for key in values if key not in inspect.signature(made).parameters), None):
            raise NashwardError(lacks(name, foreign, list(inspect.signature(made).parameters)))
        try:
            return with_settings(made, name, settings, lacks, **{k: v for k, v in values.items() if k not in settings})
        except (*LIBRARY_ERRORS, SystemExit) as error:
            if isinstance(error, NashwardError):
                raise
            raise NashwardError(f"{name} cannot be made: {type(error).__name__}: {first_line(error)}") from error
    if given := [*settings, *values]:
        raise NashwardError(f"{name} is an object with its settings; give the class to set {given[0]}")
    return made


def split_settings(text: str) -> tuple[str, dict[str, str]]:
    """A name, and the settings behind it.

    Raises:
        ValueError: a setting without a value, or one that is given twice.

    Example:
        >>> split_settings("mine:Judge:scale=0.1:sign=-1")
        ('mine:Judge', {'scale': '0.1', 'sign': '-1'})
    """
    parts = text.split(":")
    first = next((k for k, part in enumerate(parts) if k and "=" in part), len(parts))
    settings: dict[str, str] = {}
    for pair in parts[first:]:
        key, sign, value = pair.partition("=")
        if not sign:
            raise NashwardError(f"{text}: expected NAME:setting=value, got {pair!r}")
        key = key.replace("-", "_")
        if key in settings:
            raise NashwardError(f"{text}: {key} is given twice")
        settings[key] = value
    return ":".join(parts[:first]), settings


def no_setting(name: str, key: str, own: Collection[str]) -> str:
    """What to say of a setting that something lacks: the nearest one, and those that it has."""
    near = difflib.get_close_matches(key, own, 1)
    advice = f"the nearest is {near[0]}; " if near else ""
    return f"{name} has no {key}; {advice}it has {', '.join(own) or 'no settings'}"


def with_settings(
    make: Callable[..., Any],
    name: str,
    settings: Mapping[str, str],
    lacks: Callable[[str, str, Collection[str]], str] = no_setting,
    **fixed: Any,
) -> Any:
    """Call it with settings as they were typed, each read as its parameter: a number, a truth value, a word.

    Args:
        make: a class or a function; a parameter without a type and a default takes what the text looks like.
        name: as errors call it.
        settings: by the names of the parameters.
        lacks: what to say of one that there is not.
        fixed: further arguments, which cannot be typed.

    Raises:
        ValueError: a setting that it has not, that is missing, or whose value is of another type.

    Example:
        >>> with_settings(round, "round", {"number": "2.75", "ndigits": "1"})
        2.8
    """
    hints = get_type_hints(make.__init__ if inspect.isclass(make) else make)
    kinds: dict[str, type | None] = {}
    needed = []
    for key, parameter in inspect.signature(make).parameters.items():
        if key in fixed or parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        untyped = key not in hints and parameter.default in (parameter.empty, None)
        hint = hints.get(key, type(parameter.default))  # of a class without annotations
        kind = next((kind for kind in EXPECTED if kind in (hint, *get_args(hint))), None)
        if kind is not None or untyped:
            kinds[key] = kind
            needed += [key] * (parameter.default is parameter.empty)
    for key in settings:
        if key not in kinds:
            raise NashwardError(lacks(name, key, list(kinds)))
    if lacking := [key for key in needed if key not in settings]:
        pairs = {**settings, **{key: EXAMPLES[kinds[key] or float] for key in lacking}}
        example = ":".join([name, *(f"{key}={value}" for key, value in pairs.items())])
        raise NashwardError(f"{name} needs {', '.join(lacking)}; for example {example}")
    read = {key: _typed(f"{name}: {key}", kinds[key], text) for key, text in settings.items()}
    return make(**{key: checked_seed(value) if key == "seed" else value for key, value in read.items()}, **fixed)


def checked_seed(value: Any) -> Any:
    """A seed; ValueError below 0."""
    if value < 0:
        raise NashwardError(f"a seed is a whole number >= 0, got {value}")
    return value


def _typed(where: str, kind: type | None, text: str) -> Any:
    """A setting as the type of its parameter; None: as what it looks like."""
    for of in (int, float, bool, str) if kind is None else (kind,):
        try:
            value = {"true": True, "false": False}[text] if of is bool else of(text)
        except (ValueError, KeyError):
            continue
        if text.strip() and value == value and abs(value if of in (int, float) else 0) <= LARGEST:
            return value
    described = f"the string {quoted(text, 60)}" if text else "nothing"
    raise NashwardError(f"{where}: expected {EXPECTED[kind or str]}, got {described}")
