"""The shapes that annotations tell, checked while the tests run, by jaxtyping and beartype."""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cached_property, wraps
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import FunctionType, ModuleType
from typing import Any, get_args, get_origin

import jaxtyping
from beartype import beartype

NAMES = "nashward.games.shapes"
LIGHT = "nashward.games.solvers."  # modules that do not import torch
KINDS = {name: getattr(jaxtyping, name) for name in ("Bool", "Float", "Int", "Num")}
MOST = 10  # calls of a function that are checked in one test: a check costs as much as a Step
CALLS: Counter[FunctionType] = Counter()  # conftest.py begins anew with each test


def install() -> None:
    """Check what is imported of the package from now on: shapes alone, other types are mypy's.

    Nothing where some of it is there already, as in a script that imports a test: half would not be checked.
    """
    if "nashward" not in sys.modules:
        sys.meta_path.insert(0, _Finder())


class _Finder(MetaPathFinder):
    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path, target) if name.startswith("nashward.") else None
        if spec is not None and type(spec.loader) is SourceFileLoader:
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


class _Loader(SourceFileLoader):
    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        if module.__name__ == NAMES:
            vars(module).update(KINDS)
        else:
            if module.__name__.startswith(LIGHT):
                _import_types(module)
            _check(module)


def _import_types(module: ModuleType) -> None:
    """Import what the module imports for its annotations alone, so that its shapes are checked too."""
    for node in ast.parse(inspect.getsource(module)).body:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            exec(compile(ast.Module(node.body, []), str(module.__file__), "exec"), vars(module))


def _check(module: ModuleType) -> None:
    """Put a checked function in the place of each one of the module that tells a shape, methods among them."""
    for name, value in list(vars(module).items()):
        if getattr(value, "__module__", None) == module.__name__:
            if isinstance(value, type):
                for member, method in list(vars(value).items()):
                    _replace(value, member, method)
            else:
                _replace(module, name, value)


def _replace(owner: ModuleType | type, name: str, value: Any) -> None:
    if isinstance(value, FunctionType):
        checked: Any = _checked(value)
    elif isinstance(value, classmethod | staticmethod):
        checked = type(value)(_checked(value.__func__))
    elif isinstance(value, property):
        checked = property(_checked(value.fget), value.fset, value.fdel, value.__doc__)
    elif isinstance(value, cached_property):
        value.func, checked = _checked(value.func), value
    else:
        return
    setattr(owner, name, checked)


def _checked(function: Any) -> Any:
    shapes = _shapes(function)
    if not shapes:
        return function
    told, function.__annotations__ = function.__annotations__, shapes
    checked = jaxtyping.jaxtyped(typechecker=beartype)(function)
    function.__annotations__ = told

    @wraps(function)
    def counted(*args: Any, **settings: Any) -> Any:
        CALLS[function] += 1
        return (checked if CALLS[function] <= MOST else function)(*args, **settings)

    return counted


def _shapes(function: FunctionType) -> dict[str, Any]:
    """Those of the annotations that tell a shape, themselves or by an alias."""
    names = {name for name, value in function.__globals__.items() if name in KINDS or _tells(value)}
    return {
        parameter: eval(hint, function.__globals__)
        for parameter, hint in function.__annotations__.items()
        if isinstance(hint, str) and names.intersection(re.findall(r"\w+", hint))
    }


def _tells(hint: Any) -> bool:
    """Whether a value of the type holds an array, in a tuple, a list or a union; callables are not looked into."""
    if isinstance(hint, type):
        return issubclass(hint, jaxtyping.AbstractArray)
    return get_origin(hint) is not Callable and any(map(_tells, get_args(hint)))
