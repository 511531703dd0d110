"""The rooms: what is packaged, how large a folder is, what must not be imported. `make lint` holds the arrows."""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import pkgutil
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path

import pytest

import nashward
from nashward import games

from .conftest import ROOT

PARTS = ("configs", "games", "llm", "theory")
CODE = (*(ROOT / part for part in PARTS), ROOT / "src" / "nashward")
MOST = 14  # files of a folder
LONGEST = 450  # lines of a file


def _run(code: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, check=False)


def _files(folder: Path) -> list[Path]:
    """Its Python files, each once: not through the links of ``src``."""
    return [file for file in sorted(folder.rglob("*.py")) if not any(p.is_symlink() for p in file.parents)]


def _package(folder: Path) -> str:
    source = ROOT / "src"
    inside = (
        folder.relative_to(source).parts if source in folder.parents else ("nashward", *folder.relative_to(ROOT).parts)
    )
    return ".".join(inside)


def test_every_folder_with_code_is_packaged() -> None:
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    present = {_package(file.parent) for folder in CODE for file in _files(folder) if file.name == "__init__.py"}
    assert {"nashward", "nashward.cli", "nashward.games"} <= present
    assert present - listed == set(), "only on disk"
    for name in listed - present:  # folders of data, which setuptools wants listed as well
        folder = ROOT.joinpath(*name.split(".")[1:])
        assert folder.is_dir(), f"only in pyproject.toml: {name}"
        assert not list(folder.glob("*.py"))


def test_every_file_beside_the_code_is_packaged() -> None:
    """What an installed package would lack: a table, a template, a prompt file."""
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    beside = [
        file
        for folder in CODE
        for file in folder.rglob("*")
        if file.is_file()
        and file.suffix != ".py"
        and file.parent.name != "__pycache__"
        and not any(p.is_symlink() for p in file.parents)
    ]
    assert ROOT / "llm" / "pocket" / "prompts.txt" in beside
    lacking = [file for file in beside if not any(file.match(p) for p in patterns.get(_package(file.parent), ()))]
    assert lacking == []


def test_folders_stay_small() -> None:
    sizes = Counter(file.parent.relative_to(ROOT).as_posix() for folder in CODE for file in _files(folder))
    assert {folder: size for folder, size in sizes.items() if size > MOST} == {}


def test_files_stay_short() -> None:
    lines = {
        file.relative_to(ROOT).as_posix(): file.read_text(encoding="utf-8").count("\n")
        for folder in CODE
        for file in _files(folder)
    }
    assert len(lines) > 400
    assert {file for file, count in lines.items() if count > LONGEST} == set()


def test_no_file_name_occurs_twice_in_a_room() -> None:
    """A room is a folder of games, of llm or of the command line, with all that is in it."""
    rooms = [room for part in (*PARTS, "src/nashward/cli") for room in sorted((ROOT / part).iterdir()) if room.is_dir()]
    assert len(rooms) > 15
    for room in rooms:
        names = Counter(file.name for file in _files(room) if file.name != "__init__.py")
        assert [name for name, count in names.items() if count > 1] == [], room


@pytest.mark.parametrize("room", PARTS)
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


def test_llm_without_its_extra_says_what_to_install(tmp_path: Path) -> None:
    # A finder that hides transformers stands in for an environment without the extra.
    code = (
        "import importlib.util as u; real = u.find_spec; "
        "u.find_spec = lambda name, *a: None if name == 'transformers' else real(name, *a); "
        "import nashward.llm; nashward.llm.SelfPlay"
    )
    result = _run(code, tmp_path)
    assert "needs transformers" in result.stderr


def _identifiers(tree: ast.AST) -> set[str]:
    """What code refers to by name or by an exact string; docstrings and comments are free."""
    names: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.Constant(value=str(name)):
                names.add(name)
            case ast.alias(name=name):
                names |= {*name.split("."), str(node.asname)}
            case ast.ImportFrom(module=str(module)):
                names |= set(module.split("."))
    return names


def test_no_solver_is_named_in_llm() -> None:
    solvers = {solver.__name__ for solver in games.solvers.SOLVERS}
    assert len(solvers) >= 4
    for file in _files(ROOT / "llm"):
        assert _identifiers(ast.parse(file.read_text(encoding="utf-8"))) & solvers == set(), file


@pytest.mark.parametrize(
    "code", ["from nashward.games import MWU", "games.MWU(0.5)", "x: MWU", 'if name == "MWU": ...', "import a as MWU"]
)
def test_the_check_of_names_sees_a_solver(code: str) -> None:
    assert "MWU" in _identifiers(ast.parse(code))
    assert "MWU" not in _identifiers(ast.parse('"""Of MWU."""\nx = 1  # MWU'))


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
    module = importlib.import_module(name)
    if ">>>" in inspect.getsource(module):  # most have none, and looking through all members for them takes longer
        assert doctest.testmod(module).failed == 0
