"""The report of a run, and of several beside each other: one page that needs nothing beside itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..store.files import atomic_write
from .compare import compare
from .page import page, picture, table
from .panels import PANELS

__all__ = ["PANELS", "compare", "page", "picture", "table", "write"]


def write(
    folder: str | Path,
    extra: Sequence[tuple[str, str]] = (),
    title: str = "Self-play",
    file: str | Path | None = None,
) -> Path:
    """Write the report of a run, ``report.html`` in its folder unless told.

    Warnings come first, then the ``extra`` sections, then what there is of the run; it need not be finished.

    Args:
        folder: of the run.
        extra: sections of one's own, each a head and its HTML.
        title: of the page.
        file: None: ``report.html`` in the folder.

    Returns:
        The file.

    Raises:
        OSError: it cannot be written.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     file = write(folder, [("Note", "<p>A first try.</p>")])
        ...     file.name, "<h2>Note</h2><p>A first try.</p>" in file.read_text(encoding="utf-8")
        ('report.html', True)
    """
    folder = Path(folder)
    (first, *others) = [(head, panel(folder)) for head, panel in PANELS]
    file = Path(file) if file is not None else folder / "report.html"
    with atomic_write(file) as unfinished:
        unfinished.write_text(page(title, [first, *extra, *others]), encoding="utf-8")
    return file
