"""The rooms: what is packaged, what may import what, what must not be imported at all."""

from __future__ import annotations

import ast
import doctest
import importlib
import pkgutil
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import nashward
from nashward import games

from .conftest import ROOT

ROOMS = ("configs", "games", "llm", "theory")


def _run(code: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, check=False)


def test_every_folder_with_code_is_packaged() -> None:
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    found = {"nashward"} | {
        ".".join(("nashward", *file.parent.relative_to(ROOT).parts))
        for room in ROOMS
        for file in (ROOT / room).rglob("__init__.py")
    }
    source = ROOT / "src"
    found |= {".".join(f.parent.relative_to(source).parts) for f in (source / "nashward" / "cli").rglob("__init__.py")}
    assert not found - listed, "only on disk"
    for name in listed - found:  # folders of data, which setuptools wants listed as well
        folder = ROOT.joinpath(*name.split(".")[1:])
        assert folder.is_dir(), f"only in pyproject.toml: {name}"
        assert not list(folder.glob("*.py"))


@pytest.mark.parametrize("room", ROOMS)
def test_links_lead_to_the_rooms(room: str) -> None:
    link = ROOT / "src" / "nashward" / room
    assert not link.is_symlink() or link.resolve() == ROOT / room


@pytest.mark.parametrize("room", ["games", "llm", "theory"])
def test_a_bare_import_fails_with_advice(room: str) -> None:
    result = _run(f"import {room}")
    assert result.returncode != 0
    assert f"import nashward.{room}, not {room}" in result.stderr


def test_games_need_no_language_model_packages() -> None:
    heavy = ("transformers", "peft", "datasets", "matplotlib.pyplot")
    code = f"import sys, nashward.games, nashward.theory, nashward.cli; print([m for m in {heavy} if m in sys.modules])"
    assert _run(code).stdout.strip() == "[]"


@pytest.mark.parametrize("code", ["import nashward.llm.config", "from nashward.__main__ import main; main()"])
def test_the_settings_and_the_help_need_no_torch(code: str) -> None:
    heavy = ("torch", "transformers", "numpy", "matplotlib")
    loaded = f"atexit.register(lambda: print([m for m in {heavy} if m in sys.modules]))"
    result = _run(f"import atexit, sys; sys.argv = ['nashward', '--help']; {loaded}; {code}")
    assert result.stdout.strip().endswith("[]"), result


def test_llm_without_its_extra_says_what_to_install(tmp_path: Path) -> None:
    # A finder that hides transformers stands in for an environment without the extra.
    code = (
        "import importlib.util as u; real = u.find_spec; "
        "u.find_spec = lambda name, *a: None if name == 'transformers' else real(name, *a); "
        "from nashward.llm import SelfPlay"
    )
    result = _run(code, tmp_path)
    assert 'nashward.llm needs transformers: pip install "nashward[llm]"' in result.stderr


def _imports(file: Path) -> set[str]:
    """What a file imports of the project, as room names."""
    found = set()
    depth = len(file.relative_to(ROOT).parts)
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom):
            module = node.module or ""
            names = [module] if module else [alias.name for alias in node.names]
            if node.level == depth:  # relative to the package nashward itself
                found |= {name.split(".")[0] for name in names}
            elif module.startswith("nashward"):
                found |= {module.split(".")[1]} if "." in module else {alias.name for alias in node.names}
    return found & set(ROOMS)


@pytest.mark.parametrize(("room", "allowed"), [("games", set()), ("theory", {"games"}), ("llm", {"games"})])
def test_arrows_run_one_way(room: str, allowed: set[str]) -> None:
    for file in (ROOT / room).rglob("*.py"):
        assert _imports(file) <= allowed | {room}, file


def test_the_check_of_arrows_sees_an_import() -> None:
    assert _imports(ROOT / "llm" / "run" / "selfplay.py") == {"games"}


def test_no_solver_is_named_in_llm() -> None:
    names = [solver.__name__ for solver in games.solvers.SOLVERS]
    assert len(names) >= 4
    for file in (ROOT / "llm").rglob("*.py"):
        assert not [name for name in names if re.search(rf"\b{name}\b", file.read_text())], file


def test_version_is_the_packaged_one() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert nashward.__version__ == project["version"]


def _modules() -> list[str]:
    return [
        module.name
        for room in (games, importlib.import_module("nashward.theory"), importlib.import_module("nashward.llm"))
        for module in pkgutil.walk_packages(room.__path__, room.__name__ + ".")
    ]


@pytest.mark.parametrize("name", _modules())
def test_examples_in_docstrings(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    result = doctest.testmod(importlib.import_module(name))
    assert result.failed == 0
