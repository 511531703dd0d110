"""The notebooks run from a clean state, and what is committed was made from their sources.

``python -m tests.test_notebooks`` writes the .ipynb of each .py anew.
"""

from __future__ import annotations

import ast
import os
import re
import tempfile
from pathlib import Path
from typing import Any

import jupytext
import nbformat
import pytest
from ipykernel.kernelspec import write_kernel_spec
from nbclient import NotebookClient

from .conftest import ROOT

SOURCES = sorted((ROOT / "notebooks").glob("*.py"))
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
LARGEST = 600_000  # bytes of an .ipynb
LONG = ("03", "04", "05", "06", "08", "09")  # these run with --slow
REAL = ("08",)  # needs the packages of the extra `real`
LEADERBOARD = ROOT / "notebooks" / "07_alpacaeval_as_a_game.py"  # reads data that the project may not ship


def executed(source: Path, folder: Path, data: Path | None = None) -> Any:
    """The notebook of a .py, run in ``folder`` by this interpreter; CellExecutionError where a cell fails.

    It holds nothing that differs between two runs of the same code: no times, no random ids of cells. What may not be
    shipped is read only where ``data`` is given.
    """
    notebook: Any = jupytext.read(source, fmt="py:percent")
    write_kernel_spec(folder / "jupyter" / "kernels" / "python3")  # found first, whatever else is installed
    work = folder / "work"
    work.mkdir()
    environment = {
        "JUPYTER_PATH": str(folder / "jupyter"),
        "JUPYTER_CONFIG_DIR": str(folder / "config"),
        "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
        "IPYTHONDIR": str(folder / "ipython"),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT / "src"), os.environ.get("PYTHONPATH")])),
        "OMP_NUM_THREADS": "1",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        patch.delenv("MPLBACKEND", raising=False)
        if data is not None:
            patch.setenv("NASHWARD_DATA", str(data))
        else:
            patch.delenv("NASHWARD_DATA", raising=False)
        NotebookClient(
            notebook,
            timeout=300,
            kernel_name="python3",
            resources={"metadata": {"path": str(work)}},
            record_timing=False,
            coalesce_streams=True,
        ).execute()
    notebook.metadata = nbformat.from_dict(METADATA)
    notebook.nbformat_minor = 4  # the last without ids of cells
    for cell in notebook.cells:
        cell.pop("id", None)
        cell.metadata.pop("lines_to_next_cell", None)
    nbformat.validate(notebook)
    return notebook


def _pictures(notebook: Any) -> int:
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    return sum("image/png" in output.get("data", {}) for output in outputs)


def _printed(notebook: Any) -> str:
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    return "".join(output.text for output in outputs if output.output_type == "stream")


def test_the_notebooks_are_numbered_from_one_on() -> None:
    assert SOURCES
    assert [int(source.stem[:2]) for source in SOURCES] == list(range(1, len(SOURCES) + 1))
    assert {file.stem for file in (ROOT / "notebooks").glob("*.ipynb")} == {source.stem for source in SOURCES}


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_a_notebook_begins_with_a_question(source: Path) -> None:
    first = jupytext.read(source, fmt="py:percent").cells[0].source
    head = first.splitlines()[0]
    assert head.startswith("# ")
    assert "?" in head


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_the_names_of_the_package_that_a_notebook_uses_exist(source: Path) -> None:
    """Of all notebooks, also of those that only --slow runs."""
    tree = ast.parse(source.read_text(encoding="utf-8"))
    imports: list[ast.stmt] = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom | ast.Import)]
    ours = [node for node in imports if ast.unparse(node).split()[1].startswith("nashward")]
    names: dict[str, Any] = {}
    exec(compile(ast.Module(ours, []), source.name, "exec"), names)
    used = [ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    chains = [text for text in used if re.fullmatch(r"(games|llm|theory)(\.\w+)+", text)]
    assert len(chains) > 5
    for text in chains:
        eval(text, names)
    calls = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    assert [text for text in calls & {*chains, *names} if not callable(eval(text, names))] == []  # a module, say


@pytest.mark.parametrize(
    "source",
    [
        pytest.param(
            path,
            marks=[pytest.mark.slow] * (path.stem[:2] in LONG) + [pytest.mark.real] * (path.stem[:2] in REAL),
        )
        for path in SOURCES
    ],
    ids=[path.stem for path in SOURCES],
)
def test_a_notebook_runs_and_draws(source: Path, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in source.parent.iterdir()}
    notebook = executed(source, tmp_path)
    assert _pictures(notebook) >= 1
    errors = [output for cell in notebook.cells for output in cell.get("outputs", ()) if output.output_type == "error"]
    assert not errors
    complaints = [
        output.text
        for cell in notebook.cells
        for output in cell.get("outputs", ())
        if output.output_type == "stream" and output.name == "stderr"
    ]
    assert not complaints
    assert {path: path.stat().st_mtime_ns for path in source.parent.iterdir()} == before
    if not re.search(r"^from nashward import .*\bllm\b", source.read_text(), re.MULTILINE):
        # a language model's figures may differ by the machine, a table's do not at the digits that are shown
        assert _printed(notebook) == _printed(nbformat.read(source.with_suffix(".ipynb"), as_version=4))


def test_the_leaderboard_is_read_from_alpacaeval_where_its_data_lie(data: Path, tmp_path: Path) -> None:
    printed = _printed(executed(LEADERBOARD, tmp_path, data))
    assert "shown: AlpacaEval's annotations" in printed
    assert "26 models, 805 prompts" in printed  # the 25 and the baseline


def test_what_is_committed_of_the_leaderboard_is_not_from_alpacaeval() -> None:
    committed = _printed(nbformat.read(LEADERBOARD.with_suffix(".ipynb"), as_version=4))
    assert "shown: SPPO paper, Figure 3" in committed


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_what_is_committed_was_made_from_the_source(source: Path) -> None:
    file = source.with_suffix(".ipynb")
    committed = nbformat.read(file, as_version=4)
    cells = [(cell.cell_type, cell.source) for cell in committed.cells]
    expected = [(cell.cell_type, cell.source) for cell in jupytext.read(source, fmt="py:percent").cells]
    assert cells == expected, f"{file.name} is not of {source.name} any more: run `make notebooks`"
    assert _pictures(committed) >= 1
    assert not [cell for cell in committed.cells if "execution" in cell.metadata]
    assert file.stat().st_size < LARGEST


def main() -> None:
    for source in SOURCES:
        with tempfile.TemporaryDirectory() as folder:
            notebook = executed(source, Path(folder))
        file = source.with_suffix(".ipynb")
        nbformat.write(notebook, file)
        print(f"{file.relative_to(ROOT)}: {_pictures(notebook)} pictures, {file.stat().st_size // 1000} kB")


if __name__ == "__main__":
    main()
