"""The list of mutants: of each method of docs/papers.md a sign flipped, a factor doubled, what anchors it dropped."""

from __future__ import annotations

from collections.abc import Sequence

from .games import GAMES
from .language import LANGUAGE
from .losses import LOSSES
from .method import Mutant, rows
from .solvers import SOLVERS
from .theorems import THEOREMS

METHODS = [*SOLVERS, *LOSSES, *THEOREMS, *GAMES, *LANGUAGE]


def mutants() -> list[Mutant]:
    """All of them, in the order of the list."""
    row_tests = rows()
    return [
        Mutant(method.name, kind, file, function, old, new, _tests(method.tests, row_tests.get(method.name)))
        for method in METHODS
        for file, changes in {method.file: method.changes, **method.elsewhere}.items()
        for kind, function, old, new in changes
    ]


def _tests(tests: Sequence[str], row_test: str | None) -> tuple[str, ...]:
    """The method's own tests, with the one of its row in docs/papers.md second."""
    return tuple(tests) if row_test is None else (tests[0], row_test, *tests[1:])
