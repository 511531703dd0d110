"""The report of a run, and of several side by side: one page that needs no other file.

A page is a list of sections, a section a list of content: dataclasses that hold numbers and text. The templates turn
them into HTML and escape all that comes from models and files.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..store.files import atomic_write
from .comparison import compare
from .content import (
    Alert,
    Content,
    Details,
    Download,
    Heading,
    Headline,
    Html,
    Paragraph,
    Picture,
    Pointer,
    Section,
    Table,
)
from .diagnosis import write_diagnosis
from .page import render
from .panels import PANELS, panels
from .summary import DUALITY_GAP, pointers, run_name

__all__ = [
    "DUALITY_GAP",
    "PANELS",
    "Alert",
    "Content",
    "Details",
    "Download",
    "Heading",
    "Headline",
    "Html",
    "Paragraph",
    "Picture",
    "Pointer",
    "Section",
    "Table",
    "compare",
    "pointers",
    "render",
    "run_name",
    "write",
    "write_diagnosis",
]


def write(
    folder: str | Path,
    extra: Sequence[Section] = (),
    title: str | None = None,
    file: str | Path | None = None,
    summary: Sequence[Content] | None = None,
    last: Sequence[Section] = (),
) -> Path:
    """Write the report of a run, finished or not.

    The result comes first, then the ``extra`` sections, the responses, and how they came about. A warning stands in the
    section that it is about.

    Args:
        folder: the run folder.
        extra: further sections, after the summary.
        title: the page's title; None: the run's name.
        file: the page; None: ``report.html`` in the folder.
        summary: one in place of the run's own.
        last: further sections, before the settings of the run.

    Returns:
        The file.

    Raises:
        OSError: it cannot be written.

    See also:
        ``compare``: several runs on one page.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     file = write(folder, [Section("Note", [Paragraph("A first try.")])])
        ...     file.name, "<p>A first try.</p>" in file.read_text(encoding="utf-8")
        ('report.html', True)
    """
    folder = Path(folder)
    first, *others, settings = panels(folder)
    if summary is not None:
        first = Section(first.title, summary)
    file = Path(file) if file is not None else folder / "report.html"
    sections = [first, *extra, *others, *last, settings]
    with atomic_write(file) as unfinished:
        unfinished.write_text(render(title or f"The run {run_name(folder)}", sections), encoding="utf-8")
    return file
