"""What a package index shows of the README, and which files a wheel has to hold."""

from __future__ import annotations

import re

from setup import description
from tools.release import RELATIVE, packaged

from ..conftest import ROOT


def test_the_description_needs_no_repository() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = description(readme)
    assert RELATIVE.search(readme)
    assert not RELATIVE.search(shown)
    assert "![" not in shown
    assert "make test" not in shown
    assert "<details>" not in shown
    blocks = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    assert all(block in shown for block in blocks)
    assert [line for line in readme.splitlines() if line.startswith("## ")][1:-1] == [
        line for line in shown.splitlines() if line.startswith("## ")
    ][1:]


def test_a_link_into_the_repository_is_named_and_a_page_of_the_web_stays() -> None:
    readme = "See [limits](docs/limits.md#a), [docs/x.md](docs/x.md) and [a paper](https://arxiv.org).\n\n---\n[b](c)\n"
    assert description(readme) == "See limits, docs/limits.md, docs/x.md and [a paper](https://arxiv.org).\n"


def test_where_a_wheel_has_the_files() -> None:
    assert packaged(["games/step.py", "src/nashward/py.typed", "docs/index.md"]) == {
        "nashward/games/step.py",
        "nashward/py.typed",
    }
