"""The report of a run, and of several beside each other: one page that needs no other file.

A page is a list of sections, a section a list of content: dataclasses that hold numbers and text. The templates turn
them into HTML and escape all that comes from models and files.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..store.files import atomic_write
from .comparison import compare
from .content import Alert, Content, Details, Download, Heading, Html, Paragraph, Picture, Section, Table
from .page import render
from .panels import PANELS

__all__ = [
    "PANELS",
    "Alert",
    "Content",
    "Details",
    "Download",
    "Heading",
    "Html",
    "Paragraph",
    "Picture",
    "Section",
    "Table",
    "compare",
    "render",
    "write",
]


def write(
    folder: str | Path,
    extra: Sequence[Section] = (),
    title: str = "Self-play",
    file: str | Path | None = None,
) -> Path:
    """Write the report of a run, finished or not.

    Warnings come first, then the ``extra`` sections, then what there is of the run.

    Args:
        folder: of the run.
        extra: sections of one's own.
        title: of the page.
        file: None: ``report.html`` in the folder.

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
    first, *others = [Section(name, panel(folder)) for name, panel in PANELS]
    file = Path(file) if file is not None else folder / "report.html"
    with atomic_write(file) as unfinished:
        unfinished.write_text(render(title, [first, *extra, *others]), encoding="utf-8")
    return file
