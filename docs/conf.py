"""How Sphinx builds these pages: plain Markdown, the reference from docstrings, nothing fetched from elsewhere.

    make docs    # build/docs/index.html

A warning is an error: a broken link, a page that no list of pages has, an undocumented public name.
"""

from __future__ import annotations

import html
import re
import sys

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.writers.html5 import HTML5Translator

import nashward
from docs import public

project, author, release = "nashward", "The nashward authors", nashward.__version__
copyright = "the nashward authors, Apache-2.0"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["**/.*"]
html_theme = "furo"  # its fonts are the reader's own
html_math_renderer = "mathml"
html_static_path, html_css_files = ["style.css"], ["style.css"]
html_copy_source = False
html_show_sphinx = False
myst_heading_anchors = 4
napoleon_numpy_docstring = False
napoleon_use_ivar = True
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
python_display_short_literal_types = True

PAGES = {
    "Learn": ["tutorial", "explanation", "architecture"],
    "Study convergence": ["theory", "solvers", "equilibria", "new-solver", "new-game"],
    "Align a model": [
        "recipe",
        "real-models",
        "align-by-card",
        "engines",
        "resume",
        "objectives",
        "losses",
        "new-loss",
        "configuration",
        "traps",
        "from-trl",
    ],
    "Choose and check a judge": ["oracles", "judges", "new-oracle"],
    "Let people vote": ["people"],
    "Use several cards": ["many-cards"],
    "Measure and deliver": ["evaluation", "leaderboard", "metrics", "mixtures", "own-adapter", "serve"],
    "Look up": ["glossary", "benchmarks", "limits"],
    "Reference": ["reference-games", "reference-theory", "reference-llm"],
    "For maintainers": ["papers", "mutants"],
}


def setup(app: Sphinx) -> None:
    app.connect("builder-inited", lambda app: _every_public_name_is_documented())
    app.connect("source-read", _add_what_markdown_lacks)
    app.connect("autodoc-process-docstring", _keep_colons, priority=1)
    app.connect("autodoc-process-signature", _shorten_shapes)
    app.add_html_math_renderer("mathml", (_inline_math, None), (_block_math, None))


def _every_public_name_is_documented() -> None:
    for name in public.undocumented():
        logging.getLogger(__name__).warning("%s is public and has no docstring", name)


def _add_what_markdown_lacks(app: Sphinx, page: str, source: list[str]) -> None:
    """The list of pages under the first one, the docstrings under a page of the reference, and Markdown from outside
    ``docs``, which is no page here, as a file to open."""
    source[0] = re.sub(r"\]\((\.\./[^)#]+\.md)(#[^)]*)?\)", r"](path:\1)", source[0])
    if page == "index":
        source[0] += "".join(_toctree(caption, pages) for caption, pages in PAGES.items())
    elif page.startswith("reference-"):
        room = f"nashward.{page.removeprefix('reference-')}"
        source[0] += "".join(_docstrings(module, names) for module, names in public.reference(room).items())


def _toctree(caption: str, pages: list[str]) -> str:
    return "\n".join(["\n```{toctree}", ":hidden:", f":caption: {caption}", "", *pages, "```", ""])


def _docstrings(module: str, names: list[str]) -> str:
    lines = [f"\n## {module}\n", "```{eval-rst}", f".. automodule:: {module}", "   :no-members:", ""]
    for name in sorted(names, key=str.lower):
        value = getattr(sys.modules[module], name)
        kind = "autoclass" if isinstance(value, type) else "autofunction" if callable(value) else "autodata"
        where = public.home(module, name) if kind == "autodata" else module
        # SelfPlay has its settings, checks and models from a base that is not public: they are described as its own
        own = ["   :members:", *(["   :inherited-members:"] if name == "SelfPlay" else [])]
        lines += [f".. {kind}:: {where}.{name}", *(own if kind == "autoclass" else []), ""]
    return "\n".join([*lines, "```", ""])


def _keep_colons(app: Sphinx, kind: str, name: str, value: object, options: object, lines: list[str]) -> None:
    """Napoleon reads "a: b" as type and text where it begins an attribute's docstring; ours have no types."""
    if kind in ("property", "attribute", "data"):
        lines[:0] = ["..", ""]  # an empty comment, which has no colon


def _shorten_shapes(
    app: Sphinx, kind: str, name: str, value: object, options: object, taken: str | None, given: str | None
) -> tuple[str | None, str | None]:
    """``Tensor[*batch n]``, which a reader takes in at once, for the type that carries the shape."""
    shape = re.compile(r"~?(?:\w+\.)*Annotated\[~?(?:\w+\.)*(Tensor|ndarray), ['\"] ?(.*?)['\"]\]")
    return tuple(text and shape.sub(r"\1[\2]", text) for text in (taken, given))


def _inline_math(translator: HTML5Translator, node: nodes.math) -> None:
    translator.body.append(_mathml(node))
    raise nodes.SkipNode


def _block_math(translator: HTML5Translator, node: nodes.math_block) -> None:
    translator.body.append(f"<div class='formula'>{_mathml(node, as_block=True)}</div>")
    raise nodes.SkipNode


def _mathml(node: nodes.Element, as_block: bool = False) -> str:
    """What a browser sets by itself; of a formula that docutils does not know, its source, with a warning."""
    try:
        return tex2mathml(node.astext(), as_block=as_block)
    except MathError as error:
        logging.getLogger(__name__).warning("%s in %s", error, node.astext(), location=node)
        return html.escape(node.astext())
