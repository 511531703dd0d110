"""The list of mutants is whole and fits the code; docs/mutants.md tells of these and of no others. None is run."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import get_args

import pytest
from tools.mutants import METHODS, mutants
from tools.mutants.method import Kind, row, rows, same

from ..conftest import ROOT

EVERY, KINDS = mutants(), get_args(Kind)


def test_every_row_of_the_index_has_each_kind_of_mutant_or_a_reason() -> None:
    names = Counter(method.name for method in METHODS)
    assert max(names.values()) == 1
    assert set(rows()) - set(names) == set()
    assert (
        rows()["`MWU`"] == "tests/games/solvers/test_mirror_steps.py::test_iterates_are_those_of_the_update_written_out"
    )
    for method in METHODS:
        kinds = {mutant.kind for mutant in EVERY if mutant.method == method.name}
        assert kinds.isdisjoint(method.lacks), method.name
        assert all(method.lacks.values()), method.name
        if method.name in rows():
            assert {"sign", "factor", "anchor"} - kinds - set(method.lacks) == set(), method.name


@pytest.mark.parametrize("file", sorted({mutant.file for mutant in EVERY}))
def test_every_change_fits_once_and_is_another_program(file: str) -> None:
    now = (ROOT / file).read_text(encoding="utf-8")
    assert [mutant for mutant in EVERY if mutant.file == file and same(mutant.text(), now)] == []


def test_a_change_that_does_not_fit_or_changes_words_alone_is_seen() -> None:
    with pytest.raises(ValueError, match=r"mwu.py, MWU.play, holds 0 times 'size_of_a_cat'; expected once"):
        EVERY[0]._replace(old="size_of_a_cat").text()
    with pytest.raises(ValueError, match="holds 0 times"):
        EVERY[0]._replace(function="MWU.no_such_method").text()
    with pytest.raises(ValueError, match=r"holds [2-9] times 'x'; expected once"):
        EVERY[0]._replace(old="x").text()
    assert same('def f():\n    """One."""\n    return 1  # one', 'def f():\n    """Two."""\n    return 1')
    assert not same("x = 1", "x = -1")


def test_layout_and_comments_do_not_matter(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The code is found by its syntax tree, in its own function alone."""
    (tmp_path / "file.py").write_text(
        "class A:\n    def f(x):\n        return (x\n          + 1)  # more\ndef g(x): return x + 1"
    )
    monkeypatch.setattr("tools.mutants.method.ROOT", tmp_path)
    mutant = EVERY[0]._replace(file="file.py", function="A.f", old="x + 1", new="x - 1")
    assert same(mutant.text(), "class A:\n    def f(x): return x - 1\ndef g(x): return x + 1")
    assert same(
        mutant._replace(old="return x + 1", new="pass").text(), "class A:\n    def f(x): pass\ndef g(x): return x + 1"
    )


def test_no_change_is_there_twice_and_every_test_is_there() -> None:
    assert max(Counter((mutant.file, mutant.function, mutant.old, mutant.new) for mutant in EVERY).values()) == 1
    for test in sorted({test for mutant in EVERY for test in mutant.tests}):
        file, _, name = test.partition("::")
        assert not name or f"def {name}(" in (ROOT / file).read_text(encoding="utf-8"), test


def test_the_page_tells_of_each_and_of_no_other() -> None:
    lines = (ROOT / "docs" / "mutants.md").read_text(encoding="utf-8").splitlines()
    told = Counter(line.rpartition(" | ")[0] for line in lines if line.startswith(tuple(f"| {k} |" for k in KINDS)))
    assert told == Counter(row(mutant) for mutant in EVERY)
    reasons = {f"No {kind}: {why}." for method in METHODS for kind, why in method.lacks.items()}
    assert reasons <= set(lines)
