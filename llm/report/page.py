"""A page that needs no other file: sections rendered by the templates, with images and numbers inline."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import jinja2
from markupsafe import Markup

from nashward.console import printable
from nashward.pages import document

from .content import Section, pieces


def render(title: str, sections: Sequence[Section]) -> str:
    """A page of HTML from its sections. Everything is escaped but ``Html``; a section without content is left out.

    Example:
        >>> from nashward.llm.report import Paragraph
        >>> text = render("P & Q", [Section("Here", [Paragraph("<x>")]), Section("Nothing", [])])
        >>> text[text.index("<h1>"):].replace("\\n", "")
        '<h1>P &amp; Q</h1><section id="here"><h2>Here</h2><p>&lt;x&gt;</p></section></body></html>'
    """
    filled = [section for section in sections if section.content]
    return document(printable(title), _environment().get_template("page.html.j2").render(sections=filled))


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("nashward.llm.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_finalized,
    )
    environment.filters["pieces"] = pieces
    return environment


def _finalized(value: object) -> object:
    """Names of files and texts of models may hold control characters, which HTML forbids."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value
