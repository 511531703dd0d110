"""Packages whose names are loaded when they are first used: type checkers see those that there are, no others."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

import nashward

PACKAGES = (
    "nashward", "nashward.games", "nashward.games.analysis", "nashward.games.analysis.battles", "nashward.games.zoo",
    "nashward.llm", "nashward.llm.evaluation", "nashward.llm.oracles", "nashward.llm.people",
)  # fmt: skip


def _body(package: str) -> list[ast.stmt]:
    """The statements of a package that type checkers read."""
    tree = ast.parse(Path(str(importlib.import_module(package).__file__)).read_text(encoding="utf-8"))
    found: list[ast.stmt] = []
    for node in tree.body:
        test = ast.unparse(node.test) if isinstance(node, ast.If) else ""
        if test != "not TYPE_CHECKING":
            found += node.body if isinstance(node, ast.If) and test == "TYPE_CHECKING" else [node]
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_type_checkers_see_the_names_that_there_are(package: str) -> None:
    there = importlib.import_module(package)
    imports = [node for node in _body(package) if isinstance(node, ast.ImportFrom)]
    seen = {alias.asname or alias.name for node in imports for alias in node.names}
    assert {name for name in vars(there).get("__all__", []) if name != "__version__"} <= seen
    assert [name for name in seen - {"annotations"} if not hasattr(there, name) and name != "TYPE_CHECKING"] == []


@pytest.mark.parametrize("package", PACKAGES)
def test_to_type_checkers_an_unknown_name_is_an_error(package: str) -> None:
    names = [ast.unparse(node) for node in _body(package) if isinstance(node, ast.Assign | ast.FunctionDef)]
    assert not any("__getattr__" in name.splitlines()[0] for name in names)
    with pytest.raises(AttributeError, match="no_such_name"):
        getattr(importlib.import_module(package), "no_such_name")  # noqa: B009


def test_every_lazy_package_is_known() -> None:
    source = Path(nashward.__file__).parent
    files = [file for room in ("games", "llm", "theory") for file in (source / room).resolve().rglob("__init__.py")]
    lazy = {file.parent.name for file in files if "__getattr__" in file.read_text(encoding="utf-8")}
    assert lazy <= {package.rpartition(".")[2] for package in PACKAGES}
