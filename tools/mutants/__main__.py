"""Mutants: a sign flipped, a factor doubled, an anchor dropped, in each method in turn. Some test must notice each.

    python -m tools.mutants               # all, two at a time
    python -m tools.mutants nash_md dpo   # those with one of these words in their method's or their file's name

Each change is made in a temporary copy, where the tests that fit run one file after another until one fails. What was
found is kept in build/mutants.jsonl and holds until the changed file or the file of its test is another, so that a run
that stopped goes on. When every mutant has its test, docs/mutants.md is written.
"""

from __future__ import annotations

import datetime
import gc
import hashlib
import importlib.util
import json
import multiprocessing
import os
import resource
import shutil
import signal
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import beartype  # noqa: F401  loaded once, for all forks
import jaxtyping  # noqa: F401
import peft  # noqa: F401
import pytest
import scipy.optimize  # noqa: F401
import torch  # noqa: F401

from . import METHODS, mutants
from .method import ROOT, Mutant, row

if importlib.util.find_spec("numba"):
    import numba  # noqa: F401

PAGE, FOUND = ROOT / "docs" / "mutants.md", ROOT / "build" / "mutants.jsonl"
PARTS = ("benchmarks", "configs", "games", "llm", "theory", "src", "tests", "tools", "docs", "pyproject.toml")
TOGETHER = 2
SECONDS = 600  # of CPU time; a change that never ends is noticed by that
HEAD = """# Mutants
What would notice an error in a method? In each of the [papers' index](papers.md), and in what they stand on, a sign is
flipped, a factor doubled, or what anchors it dropped (the reference, the policy before the step, the start's term of a
bound), one change at a time. The tests that fit run in a changed copy until one fails.

```bash
make mutants
```

On {date}: {count} mutants of {methods} methods, none survives. A test holds that every row of the index is here with
its three kinds of change, or with the reason why it has none, and that every change still fits the present code.
"""


class _First:
    """Keeps the name of the first test that fails."""

    name: str | None = None

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and self.name is None:
            self.name = report.nodeid


def _copied(folder: Path, mutant: Mutant | None) -> None:
    """A copy of the project in ``folder``, changed."""
    text = mutant.text() if mutant else ""
    # compiled loops are kept by function: one that calls a changed one would not be compiled again
    stale = shutil.ignore_patterns("*.nbi", "*.nbc") if "@compiled" in text else None
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, folder / part, symlinks=True, ignore=stale)
        else:
            shutil.copy2(ROOT / part, folder / part)
    if mutant:
        (folder / mutant.file).write_text(text, encoding="utf-8")


def _run(folder: Path, tests: Sequence[Sequence[str]], result: Connection, log: Path) -> None:
    """In a fork, which need not load torch and pytest again: the tests of the copy, with the copy's code, in groups."""
    resource.setrlimit(
        resource.RLIMIT_CPU, (SECONDS, SECONDS + 9)
    )  # a signal that can be told from others, then the end
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    os.chdir(folder)
    sys.path[:0] = [str(folder / "src"), str(folder)]
    for name in [name for name in sys.modules if name.split(".")[0] in ("nashward", "tests", "docs")]:
        del sys.modules[name]
    with log.open("w", encoding="utf-8") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        first, code = _First(), 0
        for group in tests:  # only the name is of interest: no plugins, and no asserts rewritten to tell more
            chosen = ["-x", "-q", "--no-header", "--assert=plain", "-p", "no:cacheprovider", *group]
            code = int(pytest.main(chosen, plugins=[first]))
            if code:
                break
    result.send((code, first.name))
    os._exit(0)


class _Fork(NamedTuple):
    """Tests that run."""

    what: str
    folder: TemporaryDirectory[str]
    process: Any
    result: Connection
    began: float


def _started(mutant: Mutant | None, tests: Sequence[Sequence[str]]) -> _Fork:
    """The groups of tests one after another, in a copy with this change."""
    folder = TemporaryDirectory()
    copy, log = Path(folder.name) / "copy", Path(folder.name) / "log.txt"
    _copied(copy, mutant)
    fork = multiprocessing.get_context("fork")
    result, end = fork.Pipe(duplex=False)
    process = fork.Process(target=_run, args=(copy, tests, end, log))
    process.start()
    end.close()
    return _Fork(str(mutant or "nothing changed"), folder, process, result, time.monotonic())


def _ended(fork: _Fork) -> str | None:
    """The first test that failed; None where all pass.

    Raises:
        RuntimeError: the tests did not run, so that nothing is known.
    """
    try:
        code, name = fork.result.recv()
    except EOFError:
        fork.process.join()
        code, name = 1, None
        if fork.process.exitcode == -signal.SIGXCPU:
            name = f"the limit of {SECONDS} s"
    fork.process.join()
    said = (Path(fork.folder.name) / "log.txt").read_text(encoding="utf-8")
    fork.folder.cleanup()
    if code and name is None:
        raise RuntimeError(f"{fork.what}: the tests did not run: {said[-1500:]}")
    return str(name) if code else None


def killers(chosen: Iterable[Mutant]) -> Iterator[tuple[Mutant, str | None, float]]:
    """Of each mutant, as they are found, the first test that fails (None where all pass) and the seconds it took."""
    gc.freeze()  # what is loaded is not looked through again in each fork
    waiting, running = list(chosen)[::-1], dict[Any, tuple[Mutant, _Fork]]()
    while waiting or running:
        while waiting and len(running) < TOGETHER:
            mutant = waiting.pop()
            fork = _started(mutant, [[test] for test in mutant.tests])
            running[fork.result] = (mutant, fork)
        for result in wait(list(running)):
            mutant, fork = running.pop(result)
            yield mutant, _ended(fork), time.monotonic() - fork.began


def key(mutant: Mutant) -> str:
    """The changed file's fingerprint."""
    return _fingerprint(mutant.file, mutant.text())


def _fingerprint(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


def _test_file(test: str) -> str:
    return (ROOT / test.partition("::")[0]).read_text(encoding="utf-8")


def found() -> dict[str, str]:
    """The killers that are known, by the mutant's key: those whose file is what it was."""
    lines = FOUND.read_text(encoding="utf-8").splitlines() if FOUND.is_file() else []
    results = [json.loads(line) for line in lines]
    return {r["key"]: r["test"] for r in results if r["file"] == _fingerprint(_test_file(r["test"]))}


def page(killed: Sequence[tuple[Mutant, str]], date: str) -> str:
    """The text of docs/mutants.md."""
    lines = [HEAD.format(date=date, count=len(killed), methods=len(METHODS))]
    for method in METHODS:
        lines += [
            f"## {method.name.replace('`', '')}",
            "| change | file | in | from | to | killed by |",
            "| --- " * 6 + "|",
        ]
        for mutant, test in killed:
            if mutant.method == method.name:
                lines.append(f"{row(mutant)} | `{test.partition('[')[0]}` |")
        lines += ["", *(f"No {kind}: {why}.\n" for kind, why in method.lacks.items())]
    return "\n".join(lines)


def main() -> int:
    words, every, known = sys.argv[1:], mutants(), found()
    chosen = [m for m in every if not words or any(word in f"{m.method} {m.file}" for word in words)]
    left = [m for m in chosen if key(m) not in known]
    print(f"{len(chosen)} mutants, {len(chosen) - len(left)} known to be killed", flush=True)
    FOUND.parent.mkdir(exist_ok=True)
    survivors = []
    with FOUND.open("a", encoding="utf-8") as kept:
        for number, (mutant, test, seconds) in enumerate(killers(left), 1):
            if test is None:
                survivors.append(mutant)
            else:
                known[key(mutant)] = test
                result = {"key": key(mutant), "test": test, "file": _fingerprint(_test_file(test))}
                kept.write(json.dumps(result) + "\n")
                kept.flush()
            verdict = f"killed by {test}" if test else "SURVIVED"
            print(f"[{number}/{len(left)}] {mutant}  {verdict}  ({seconds:.0f} s)", flush=True)
    print(f"{len(chosen)} mutants, {len(survivors)} survived")
    for mutant in survivors:
        print(f"survived: {mutant}")
    if survivors or any(key(mutant) not in known for mutant in every):
        return 1 if survivors else 0
    killed = [(mutant, known[key(mutant)]) for mutant in every]
    # a test that fails where nothing is changed would notice nothing
    if (wrong := _ended(_started(None, [sorted({test for _, test in killed})]))) is not None:
        print(f"{wrong} fails where nothing is changed: what it killed is not known")
        return 1
    PAGE.write_text(page(killed, datetime.date.today().isoformat()), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
