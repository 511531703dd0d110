"""A section of a page."""

from __future__ import annotations


def section(page: str, title: str) -> str:
    """The HTML of a section."""
    return page[page.index(f"<h2>{title}</h2>") :].partition("</section>")[0]
