"""The links of the pages hold, their code prints what they show, and every public name is described."""

from __future__ import annotations

import argparse
import contextlib
import inspect
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import types
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token
from mdit_py_plugins.anchors import anchors_plugin

from docs import architecture, public, tables
from nashward.cli.main import build_parser, main

from .conftest import ROOT

DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [*(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")), *DOCS]
MARKDOWN = MarkdownIt().enable("table").use(anchors_plugin, max_level=6)
PLAIN = [page for page in DOCS if page.name != "oracles.md"]  # whose blocks tests/llm/oracles/test_conformance.py runs
MISTRAL = """{"model_type": "mistral", "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 14336,
"num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "sliding_window": null}"""

relative = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


@cache
def _tokens(page: Path) -> list[Token]:
    return MARKDOWN.parse(page.read_text(encoding="utf-8"))


def _inside(page: Path) -> Iterator[Token]:
    for token in _tokens(page):
        yield from token.children or []


def _blocks(page: Path, language: str) -> Iterator[tuple[str, str]]:
    """The fenced blocks of a language, each with the comment that stands right before it."""
    before = ""
    for token in _tokens(page):
        if token.type == "fence" and token.info == language:
            yield token.content, before
        before = token.content if token.type == "html_block" else ""


@cache
def _anchors(page: Path) -> set[str]:
    return {str(token.attrs["id"]) for token in _tokens(page) if token.type == "heading_open"}


@relative
def test_every_link_has_its_file_and_its_heading(page: Path) -> None:
    targets = [str(token.attrs.get("href") or token.attrs.get("src") or "") for token in _inside(page)]
    for target in filter(None, targets):
        if target.startswith(("https://", "mailto:")):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), target
        assert ROOT in file.parents, target
        assert not anchor or anchor in _anchors(file), target


def test_the_check_of_anchors_sees_headings() -> None:
    assert "mirror-steps" in _anchors(ROOT / "docs" / "solvers.md")


@relative
def test_files_and_tests_that_are_named_exist(page: Path) -> None:
    for token in _inside(page):
        if token.type != "code_inline" or "*" in token.content:
            continue
        for word in token.content.split():
            file, _, test = word.partition("::")
            if re.fullmatch(r"(games|theory|llm|tests|docs|benchmarks|configs|notebooks|src)/[\w/.-]+\.\w+", file):
                assert (ROOT / file).is_file(), word
                assert f"def {test}(" in (ROOT / file).read_text(encoding="utf-8") or not test, word


def _shown(code: str) -> list[str]:
    """The output that comments show: behind a print, or in lines of their own below it."""
    shown = re.findall(r"^ *print\(.*\)((?:  # .*)?(?:\n *# .*)*)$", code, re.MULTILINE)
    return [line.strip().removeprefix("# ") for text in shown for line in text.splitlines() if line]


@pytest.mark.parametrize("page", [p for p in PLAIN if any(_blocks(p, "python"))], ids=lambda page: page.name)
def test_python_runs_from_top_to_bottom_and_prints_what_is_shown(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A block after a comment ``not run: why`` is not; one that begins with ``# name.py`` is a file, too."""
    monkeypatch.chdir(tmp_path)
    for room in ("games", "llm"):
        (tmp_path / room).symlink_to(ROOT / room)
    module = types.ModuleType("page")
    monkeypatch.setitem(sys.modules, "page", module)  # where a dataclass looks for its names
    for code, before in _blocks(page, "python"):
        if re.match(r"<!-- not run: \w", before):
            continue
        if found := re.match(r"# (\w+\.py)\n", code):
            (tmp_path / found[1]).write_text(code, encoding="utf-8")
        with contextlib.redirect_stdout(io.StringIO()) as out:
            exec(compile(code, page.name, "exec"), vars(module))
        assert out.getvalue().splitlines() == _shown(code)


@pytest.mark.parametrize("page", DOCS, ids=lambda page: page.name)
def test_commands_are_taken_by_the_parser(page: Path) -> None:
    lines = [line for block, _ in _blocks(page, "bash") for line in block.replace("\\\n", " ").splitlines()]
    for line in lines:
        if line.startswith("nashward "):
            _parser().parse_args(shlex.split(line.split(" > ")[0], comments=True)[1:])
    for token in _inside(page):
        if token.type == "code_inline" and re.match(r"nashward [a-z]", token.content):
            _known(token.content)


@cache
def _parser() -> argparse.ArgumentParser:
    return build_parser()


def _known(line: str) -> None:
    """A command that is named in a sentence, without all that it needs: it and its options are there."""
    _, command, *words = line.split()
    choices = next(action.choices for action in _parser()._actions if action.choices)
    assert isinstance(choices, dict)
    flags = choices[command]._option_string_actions
    assert [word for word in words if word.startswith("--") and word.partition("=")[0] not in flags] == [], line


@pytest.mark.slow
def test_the_plans_of_the_page_on_cards_are_what_plan_prints(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page, policy = ROOT / "docs" / "align-by-card.md", "mistralai/Mistral-7B-Instruct-v0.2"
    (tmp_path / "config.json").write_text(MISTRAL, encoding="utf-8")
    commands = [block for block, _ in _blocks(page, "bash") if block.startswith("nashward plan")]
    plans = [block for block, _ in _blocks(page, "text")]
    assert len(commands) == len(plans) == 6
    for command, plan in zip(commands, plans, strict=True):
        words = shlex.split(command.replace("\\\n", " "))[1:]
        assert main([str(tmp_path) if word == policy else word for word in words]) == 0
        assert capsys.readouterr().out.replace(str(tmp_path), policy) == plan


def test_every_public_name_is_documented() -> None:
    assert public.undocumented() == []


@pytest.mark.parametrize("room", public.ROOMS)
def test_the_reference_describes_every_public_name_once(room: str) -> None:
    described = [
        (public.home(module, name), name)
        for module, names in public.reference(f"nashward.{room}").items()
        for name in names
    ]
    assert len(set(described)) == len(described)
    assert {name for _, name in described} >= set(public.modules()[f"nashward.{room}"])


def test_references_in_docstrings_are_to_public_names() -> None:
    known = {name for module, names in public.modules().items() for name in [*names, *(f"{module}.{n}" for n in names)]}
    found = set()
    for room in ("games", "theory", "llm"):
        for file in (ROOT / room).rglob("*.py"):
            found |= set(re.findall(r":(?:class|func):`([\w.]+)`", file.read_text(encoding="utf-8")))
    assert found
    assert found <= known


def test_every_page_is_in_the_list_of_pages() -> None:
    listed = re.search(r"^PAGES = \{\n(.*?)^\}", (ROOT / "docs" / "conf.py").read_text(), re.MULTILINE | re.DOTALL)
    assert listed is not None
    names = re.findall(r'"([a-z-]+)"', listed[1])
    assert sorted(names) == sorted(page.stem for page in DOCS if page.stem != "index")


def test_every_page_is_linked_from_the_first() -> None:
    linked = {str(token.attrs.get("href", "")) for token in _inside(ROOT / "docs" / "index.md")}
    assert {page.name for page in DOCS} - {"index.md"} <= linked


@relative
def test_the_markdown_is_what_the_builder_takes_without_a_warning(page: Path) -> None:
    """One title, no level left out, no two headings of one name, languages that can be coloured."""
    levels = [int(token.tag[1]) for token in _tokens(page) if token.type == "heading_open"]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(below - above <= 1 for above, below in pairwise(levels))
    anchors = [str(token.attrs["id"]) for token in _tokens(page) if token.type == "heading_open"]
    assert not [name for name in anchors if re.sub(r"-\d+$", "", name) in anchors and re.search(r"-\d+$", name)]
    for token in _tokens(page):
        if token.type == "fence":
            assert token.info in ("", "bash", "diff", "json", "python", "sh", "text", "toml"), token.info


def test_docstrings_are_plain_enough_for_the_reference() -> None:
    """What is an error in reStructuredText though it reads well: a lone back-tick, an open literal, a norm's bars."""
    for module, names in public.modules().items():
        for name in names:
            value = getattr(sys.modules[module], name)
            told = inspect.getdoc(value) if inspect.isclass(value) or inspect.isroutine(value) else None
            text = re.sub(r"^ *>>>.*(?:\n(?! *$).*)*", "", told or "", flags=re.MULTILINE)  # examples are literal
            assert text.count("``") % 2 == 0, f"{module}.{name}"
            plain = re.sub(r"(:\w+:)?`[^`\n]+`", "", re.sub(r"``.+?``", "", text, flags=re.DOTALL))
            assert "`" not in plain, f"{module}.{name}"
            plain = re.sub(r"^( *)\.\. math::.*\n(?:\1 +.*\n|\n)*", "", plain, flags=re.MULTILINE)
            assert not re.search(r"(?<![\w|])\|[^\s|]", plain), f"{module}.{name}: write ``|A|``"


def test_the_index_of_papers_has_every_solver_every_loss_and_every_theorem() -> None:
    from nashward import games, theory
    from nashward.llm.training.losses import LOSSES

    text = (ROOT / "docs" / "papers.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1:-1] for line in text.splitlines() if line.startswith("| ") and "`" in line]
    named = {name for row in rows for name in re.findall(r"`([\w-]+)", row[0])}
    assert {solver.__name__ for solver in games.solvers.SOLVERS} - named == set()
    assert set(LOSSES) - named == set()
    assert {name for name, value in vars(theory).items() if hasattr(value, "statement")} - named == set()
    for method, paper, equation, read, file, test in rows:
        assert paper.strip(), method
        assert equation.strip(), method
        assert set(read.strip().split("; ")) <= {"text", "cited", "notes", "known", "derived"}, method
        assert re.fullmatch(r" `[\w/]+\.py` ", file), method
        assert re.fullmatch(r" `tests/[\w/]+\.py(::\w+)?` ", test), method


WORKED = [ROOT / "docs" / f"new-{what}.md" for what in ("solver", "oracle", "game", "loss")]
ADDED = ("nashward.games.solvers.mirror_steps.optimistic_inpo", "nashward.llm.oracles.tempered")
CHOSEN = "optimistic_inpo or every_mirror_step or penney or one_game or tempered or plain_loops or public or examples"


@pytest.mark.slow
def test_the_changes_that_the_pages_show_apply_and_pass(tmp_path: Path) -> None:
    """All at once, in a copy: their own tests, the examples of their docstrings, the linters."""
    patches = [block for page in WORKED for block, _ in _blocks(page, "diff")]
    assert len(patches) == len(WORKED)
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in listed.splitlines():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name, follow_symlinks=False)
    for patch in patches:
        subprocess.run(["git", "apply", "-"], cwd=tmp_path, input=patch, text=True, check=True)
    tests = [name for patch in patches for name in re.findall(r"^\+\+\+ b/(tests/\S+)", patch, re.MULTILINE)]
    tests += [f"tests/test_layout.py::test_examples_in_docstrings[{name}]" for name in ADDED]
    tests += ["tests/test_layout.py::test_folders_stay_small", "tests/games/zoo/test_zoo.py", "tests/test_docs.py"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "src")}
    chosen = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-k", f"{CHOSEN} or small", *tests]
    subprocess.run(chosen, cwd=tmp_path, env=environment, check=True)
    lint = [sys.executable, "-m", "ruff", "check", "games", "llm", "src", "tests"]
    subprocess.run(lint, cwd=tmp_path, check=True)


def test_the_picture_of_the_rooms_is_that_of_its_script() -> None:
    """Run `python -m docs.architecture`; a new room needs a line there."""
    assert architecture.PICTURE.read_text(encoding="utf-8") == architecture.picture()


def test_the_tables_are_those_of_the_code() -> None:
    """Run `python -m docs.tables`."""
    for page, text in tables.pages().items():
        assert page.read_text(encoding="utf-8") == text, page.name
