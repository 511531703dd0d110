"""What a mutant is, and how it reads in docs/mutants.md."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

ROOT = Path(__file__).parents[2]
Kind = Literal["sign", "factor", "anchor", "other"]
Change: TypeAlias = tuple[Kind, str, str, str]
"""Its kind, the qualified name of a function or class ("" for the module), the code there, and the code in its place.

Both are a complete expression or a complete statement. The first occurs once in the function, compared as a syntax
tree, so that neither layout nor comments matter.
"""
_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


class Mutant(NamedTuple):
    """One change of a method's file, and the tests that may notice it, in the order in which they are run."""

    method: str
    kind: Kind
    file: str
    function: str
    old: str
    new: str
    tests: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.file}  {self.function or 'module'}: {' '.join(self.old.split())} -> {' '.join(self.new.split())}"

    def text(self) -> str:
        """The changed file, without its comments.

        Raises:
            ValueError: the code to change does not occur in the function exactly once.
        """
        tree = ast.parse((ROOT / self.file).read_text(encoding="utf-8"))
        old, new = _code(self.old), _code(self.new)
        if isinstance(old, ast.expr) != isinstance(new, ast.expr):  # a call that becomes ``pass``
            old, new = _statement(old), _statement(new)
        same_code = [node for scope in _scopes(tree, self.function) for node in _occurrences(scope, old)]
        if len(same_code) != 1:
            where = f"{self.file}, {self.function or 'module'}"
            raise ValueError(f"{where}, holds {len(same_code)} times {self.old!r}; expected once")
        return ast.unparse(_Replace(same_code[0], new).visit(tree))


def _code(text: str) -> ast.expr | ast.stmt:
    (statement,) = ast.parse(text).body
    return statement.value if isinstance(statement, ast.Expr) else statement


def _statement(code: ast.expr | ast.stmt) -> ast.stmt:
    return ast.Expr(code) if isinstance(code, ast.expr) else code


def _scopes(node: ast.AST, function: str) -> list[ast.AST]:
    """The definitions of that qualified name; the node itself for no name."""
    if not function:
        return [node]
    name, _, rest = function.partition(".")
    return [scope for child in _definitions(node) if child.name == name for scope in _scopes(child, rest)]


def _definitions(node: ast.AST) -> Iterator[_Definition]:
    """Those directly inside, under conditions too."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, _Definition):
            yield child
        else:
            yield from _definitions(child)


def _occurrences(scope: ast.AST, code: ast.AST) -> list[ast.AST]:
    dump = ast.dump(code)
    return [node for node in ast.walk(scope) if type(node) is type(code) and ast.dump(node) == dump]


class _Replace(ast.NodeTransformer):
    """Puts ``new`` in the place of the node ``old``."""

    def __init__(self, old: ast.AST, new: ast.AST) -> None:
        self.old, self.new = old, new

    def visit(self, node: ast.AST) -> ast.AST:
        return self.new if node is self.old else super().visit(node)


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
    old, new = (" ".join(text.split()).replace("|", "\\|") for text in (mutant.old, mutant.new))
    function = f"`{mutant.function}`" if mutant.function else "the module"
    return f"| {mutant.kind} | `{mutant.file}` | {function} | `{old}` | `{new}`"


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
