"""What a mutant is, and how it reads in docs/mutants.md."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

ROOT = Path(__file__).parents[2]
Kind = Literal["sign", "factor", "anchor", "other"]
Change: TypeAlias = tuple[Kind, str, str]
"""What it is, the text, which stands once in its file, and what stands there instead."""


class Mutant(NamedTuple):
    """One change of a method's file, and the tests that may notice it, in the order in which they are asked."""

    method: str
    kind: Kind
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.file}  {' '.join(self.old.split())} -> {' '.join(self.new.split())}"

    def text(self) -> str:
        """The changed file.

        Raises:
            ValueError: the text to change does not stand there exactly once.
        """
        text = (ROOT / self.file).read_text(encoding="utf-8")
        if text.count(self.old) != 1:
            raise ValueError(f"{self.file} holds {text.count(self.old)} times {self.old!r}; expected once")
        return text.replace(self.old, self.new)


@dataclass(frozen=True)
class Method:
    """The changes of a method.

    Attributes:
        name: how its row in docs/papers.md begins, up to the colon; of a method without a row, what it is.
        file: where it is.
        tests: files or single tests, quick ones first; the test of its row comes second.
        changes: of that file.
        elsewhere: of other files.
        lacks: a kind of change that it does not have, and why.
    """

    name: str
    file: str
    tests: Sequence[str]
    changes: Sequence[Change]
    elsewhere: Mapping[str, Sequence[Change]] = field(default_factory=dict)
    lacks: Mapping[Kind, str] = field(default_factory=dict)


def rows() -> dict[str, str]:
    """The methods of the index of papers, each with its test."""
    lines = (ROOT / "docs" / "papers.md").read_text(encoding="utf-8").splitlines()
    cells = [line.split("|")[1:-1] for line in lines if line.startswith("| ") and "`" in line]
    return {cell[0].split(": ")[0].strip(): cell[-1].strip(" `") for cell in cells}


def row(mutant: Mutant) -> str:
    """Its row in docs/mutants.md, up to the test that killed it."""
    cells = (" ".join(text.split()).replace("|", "\\|") for text in (mutant.old, mutant.new))
    old, new = (f"`{cell}`" if cell else "nothing" for cell in cells)
    return f"| {mutant.kind} | `{mutant.file}` | {old} | {new}"


def same(first: str, second: str) -> bool:
    """Whether two texts are one program, but for comments, layout and docstrings."""
    return _program(first) == _program(second)


@cache
def _program(text: str) -> str:
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            node.value = ast.Constant(None)
    return ast.dump(tree)
