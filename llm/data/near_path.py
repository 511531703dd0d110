"""What may have been meant by a path that leads nowhere."""

from __future__ import annotations

import difflib
from contextlib import suppress
from pathlib import Path

NEAR = 0.7  # the least ratio of difflib at which a name is worth suggesting; an equal one has 1


def near_path(path: str | Path) -> str:
    """The path with the nearest name, as errors add it in brackets; nothing where none is near, or the path exists.

    Example:
        >>> near_path(Path(__file__).with_name("naer_path.py"))  # doctest: +ELLIPSIS
        ' (the nearest is ...near_path.py)'
        >>> near_path("nowhere/at/all")
        ''
    """
    near = None
    with suppress(OSError):  # a folder that may not be read, a name that is too long
        near = None if Path(path).exists() else _nearest(Path(path))
    return f" (the nearest is {near})" if near is not None else ""


def _nearest(path: Path) -> Path | None:
    folder = path.parent if path.parent.is_dir() else _nearest(path.parent)
    if folder is None or (folder / path.name).exists():
        return folder and folder / path.name
    near = difflib.get_close_matches(path.name, [entry.name for entry in folder.iterdir()], 1, NEAR)
    return folder / near[0] if near else None
