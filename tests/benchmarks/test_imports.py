"""Benchmarks are run by hand and rarely: what they take from the project, and from each other, is there."""

from __future__ import annotations

import ast
import importlib
import importlib.util
from pathlib import Path

import pytest

from ..conftest import ROOT

FILES = sorted((ROOT / "benchmarks").rglob("*.py"))


def taken(file: Path) -> list[tuple[str, str]]:
    """The modules of which a file takes names, and the names."""
    return [
        (str(node.module), alias.name)
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.level == 0
        for alias in node.names
    ]


def defined(file: Path) -> set[str]:
    """The names that a file gives a value at its top, without running it: a benchmark's own packages may be absent."""
    names = set[str]()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.asname or alias.name for alias in node.names}
        else:
            names |= {one.id for one in ast.walk(node) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)}
    return names


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_every_name_that_a_benchmark_takes_from_the_project_is_there(file: Path) -> None:
    for module, name in taken(file):
        if module.split(".")[0] != "nashward":
            continue
        found = importlib.import_module(str(module))
        assert hasattr(found, name) or importlib.util.find_spec(f"{module}.{name}"), f"{module} has no {name}"


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_every_name_that_a_benchmark_takes_from_another_is_there(file: Path) -> None:
    for module, name in taken(file):
        sibling = (ROOT / "benchmarks" / module.replace(".", "/")).with_suffix(".py")
        if sibling.is_file():
            assert name in defined(sibling), f"{module} has no {name}"
