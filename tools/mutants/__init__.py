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
    own = rows()
    return [
        Mutant(method.name, kind, file, old, new, _asked(method.tests, own.get(method.name)))
        for method in METHODS
        for file, changes in {method.file: method.changes, **method.elsewhere}.items()
        for kind, old, new in changes
    ]


def _asked(tests: Sequence[str], own: str | None) -> tuple[str, ...]:
    return tuple(tests) if own is None else (tests[0], own, *tests[1:])
