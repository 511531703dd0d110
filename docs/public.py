"""The public names: what each room exports, and which of them say nothing of themselves.

Public is what a room's ``__init__`` lists in ``__all__`` or imports as itself (``from .step import Step as Step``),
with the members of such classes; of a module that is exported whole, the functions and classes that it defines without
a leading underscore, and data that it describes.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

ROOMS = ("games", "theory", "llm")


def modules() -> dict[str, list[str]]:
    """The public modules with their public names, modules apart."""
    found: dict[str, list[str]] = {}
    waiting = [f"nashward.{room}" for room in ROOMS]
    while waiting:
        module = importlib.import_module(waiting.pop(0))
        exported = {name: getattr(module, name) for name in _exported(module)}
        found[module.__name__] = [name for name, value in exported.items() if not inspect.ismodule(value)]
        waiting += [value.__name__ for value in exported.values() if inspect.ismodule(value)]
    return found


def reference(room: str) -> dict[str, list[str]]:
    """The public modules of a room, each with the names that no module before it has: a name is described once."""
    described: set[tuple[str, str]] = set()
    chosen = {}
    for module, names in modules().items():
        if module == room or module.startswith(f"{room}."):
            homes = {name: (home(module, name), name) for name in names}
            chosen[module] = [name for name in names if homes[name] not in described]
            described.update(homes.values())
    return chosen


def _exported(module: ModuleType) -> list[str]:
    if hasattr(module, "__all__"):
        return list(module.__all__)
    tree = _tree(module)
    imported = [
        a.name for node in tree.body if isinstance(node, ast.ImportFrom) for a in node.names if a.name == a.asname
    ]
    defined = [name for name, told in _assigned(tree) if told]
    defined += [node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    return imported or [name for name in defined if not name.startswith("_")]


def home(module: str, name: str) -> str:
    """The module that a name is defined in, found by following imports."""
    node = sys.modules[module]
    for statement in _imports(_tree(node)):
        if isinstance(statement, ast.ImportFrom) and name in [alias.asname or alias.name for alias in statement.names]:
            package = module if Path(str(node.__file__)).name == "__init__.py" else module.rpartition(".")[0]
            source = "." * statement.level + (statement.module or "")
            return home(importlib.import_module(source, package).__name__, name)
    return module


def _imports(tree: ast.Module) -> list[ast.stmt]:
    """The statements of a module, with those under ``if TYPE_CHECKING``, which a lazy room has for type checkers."""
    guarded = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    return [*tree.body, *(statement for node in guarded for statement in node.body)]


def undocumented() -> list[str]:
    """Public names, and members of public classes, that have no docstring.

    A member of a protocol is described there, once, for all classes that have it.
    """
    found, public = [], modules()
    described = _described_by_protocols()
    for module, names in public.items():
        for name in names:
            value = getattr(sys.modules[module], name)
            if inspect.isclass(value):
                if not _told(value):
                    found.append(f"{module}.{name}")
                found += [f"{module}.{name}.{member}" for member in _silent_members(value) if member not in described]
            elif inspect.isroutine(value) and value.__module__.startswith("nashward"):
                found += [] if inspect.getdoc(value) else [f"{module}.{name}"]
            elif not _data_docstring(home(module, name), name):
                found.append(f"{module}.{name}")
    return found


def _described_by_protocols() -> set[str]:
    loaded = [module for name, module in sys.modules.items() if name.startswith("nashward.")]
    classes = {value for module in loaded for value in vars(module).values() if inspect.isclass(value)}
    protocols = [value for value in classes if getattr(value, "_is_protocol", False) and "nashward" in value.__module__]
    return {name for value in protocols for name, member in vars(value).items() if getattr(member, "__doc__", None)}


def _told(value: type) -> bool:
    """Whether a class has a docstring of its own, not the signature that a dataclass gets in place of one."""
    return bool(value.__doc__) and not str(value.__doc__).startswith(f"{value.__name__}(")


def _silent_members(value: type) -> list[str]:
    own = {name: member for name, member in vars(value).items() if not name.startswith("_")}
    code = [name for name, member in own.items() if _is_code(member)]
    return [name for name in code if not inspect.getdoc(getattr(value, name)) and not _is_attribute(value, name)]


def _is_attribute(value: type, name: str) -> bool:
    """Whether the docstring of the class lists it."""
    return re.search(rf"^ +(\w+, )*{name}(, \w+)*: ", value.__doc__ or "", re.MULTILINE) is not None


def _is_code(member: Any) -> bool:
    return isinstance(member, property | classmethod | staticmethod) or inspect.isfunction(member)


def _data_docstring(module: str, name: str) -> str | None:
    """The string literal below an assignment."""
    return dict(_assigned(_tree(importlib.import_module(module)))).get(name)


def _assigned(tree: ast.Module) -> list[tuple[str, str | None]]:
    found = []
    for statement, below in zip(tree.body, [*tree.body[1:], None], strict=True):
        if isinstance(statement, ast.Assign):
            targets = statement.targets
        elif isinstance(statement, ast.AnnAssign):
            targets = [statement.target]
        else:
            continue
        told = isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant) and below.value.value
        found += [(target.id, str(told) if told else None) for target in targets if isinstance(target, ast.Name)]
    return found


def _tree(module: ModuleType) -> ast.Module:
    return ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))


if __name__ == "__main__":
    print("\n".join(undocumented()))
