"""Files that a run folder keeps of what was given, pinned by their fingerprint in ``run.json``."""

from __future__ import annotations

import hashlib

from .files import atomic_write
from .run_folder import RunFolder


def sum_of(content: bytes) -> str:
    """The fingerprint of a file's content."""
    return hashlib.sha256(content).hexdigest()[:16]


def pinned(home: RunFolder, key: str) -> str | None:
    """The fingerprint that ``run.json`` has under a key of its configuration; None where it has none."""
    return home.read().get("config", {}).get(key)


def kept(home: RunFolder, file: str, key: str) -> bytes | None:
    """The content of a kept file; None where there is none, or another one than ``run.json`` has pinned."""
    path = home / file
    content = path.read_bytes() if path.exists() else None
    return content if content is not None and sum_of(content) == pinned(home, key) else None


def keep(home: RunFolder, file: str, key: str, content: bytes) -> None:
    """Write what ``run.json`` pins under the key, if it is not there; what lies in its place is set aside."""
    if kept(home, file, key) is not None:
        return
    if (home / file).exists():
        home.set_aside(home / file, f"{home / file} was altered or cut")
    with atomic_write(home / file) as unfinished:
        unfinished.write_bytes(content)
