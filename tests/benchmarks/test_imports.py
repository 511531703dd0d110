"""Benchmarks are run by hand and rarely: what they take from the project is there."""

from __future__ import annotations

import ast
import importlib
import importlib.util
from pathlib import Path

import pytest

from ..conftest import ROOT

FILES = sorted((ROOT / "benchmarks").rglob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_every_name_that_a_benchmark_takes_from_the_project_is_there(file: Path) -> None:
    taken = [
        (node.module, alias.name)
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.level == 0 and str(node.module).split(".")[0] == "nashward"
        for alias in node.names
    ]
    for module, name in taken:
        found = importlib.import_module(str(module))
        assert hasattr(found, name) or importlib.util.find_spec(f"{module}.{name}"), f"{module} has no {name}"
