"""The public names of ``nashward.games``: loaded when first used, the same for type checkers and at run time."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from nashward import games

PUBLIC: list[str] = vars(games)["__all__"]


def _for_type_checkers() -> dict[str, str]:
    """Every name imported under TYPE_CHECKING, with its module."""
    tree = ast.parse(Path(games.__file__).read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    return {alias.name: node.module or "" for node in imports for alias in node.names}


def test_type_checkers_see_every_public_name_and_modules_beside() -> None:
    seen = _for_type_checkers()
    assert len(set(PUBLIC)) == len(PUBLIC) <= 54
    assert set(PUBLIC) <= seen.keys()
    assert {module for name, module in seen.items() if name not in PUBLIC} == {""}


@pytest.mark.parametrize(("name", "module"), _for_type_checkers().items())
def test_a_name_is_that_of_its_module(name: str, module: str) -> None:
    home = importlib.import_module(f"nashward.games.{module}" if module else f"nashward.games.{name}")
    assert getattr(games, name) is (getattr(home, name) if module else home)
    assert name in dir(games)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="NoSolver"):
        getattr(games, "NoSolver")  # noqa: B009


def test_the_package_alone_loads_neither_torch_nor_numpy() -> None:
    code = "import sys, nashward.games; print([name for name in ('torch', 'numpy') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
