"""Inputs of a run that its folder keeps, verified by the SHA-256 that ``run.json`` holds."""

from __future__ import annotations

from dataclasses import dataclass

from .files import atomic_write, sha256
from .run_folder import RunFolder


@dataclass(frozen=True)
class SavedInput:
    """One file in a run folder, and where ``run.json`` has its SHA-256 or the first digits of it.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from nashward.llm.store.fingerprints import fingerprint_content
        >>> with TemporaryDirectory() as home:
        ...     folder = RunFolder(home)
        ...     folder.write({"solver": {}, "sft": fingerprint_content(b"texts")}, {})
        ...     texts = SavedInput(folder, "sft.jsonl", ("config", "sft"))
        ...     texts.save(b"texts")
        ...     texts.load()
        b'texts'
    """

    folder: RunFolder
    file: str
    key: tuple[str, ...]

    @property
    def digest(self) -> str | None:
        """What ``run.json`` has under the key; None where it has nothing."""
        value = self.folder.read()
        for name in self.key:
            value = value.get(name) or {}
        return value or None  # type: ignore[return-value]

    def load(self) -> bytes | None:
        """The file's content; None where there is no file, or its content has another SHA-256."""
        path, digest = self.folder / self.file, self.digest
        content = path.read_bytes() if path.exists() else None
        return content if content is not None and digest is not None and sha256(content).startswith(digest) else None

    def save(self, content: bytes) -> None:
        """Write the content, whose SHA-256 ``run.json`` holds, unless it is there; a damaged file is quarantined.

        Raises:
            OSError: it cannot be written.
        """
        if self.load() is not None:
            return
        path = self.folder / self.file
        if self.folder.started and path.exists():
            self.folder.quarantine(path, f"{path} was altered or cut")
        with atomic_write(path) as unfinished:
            unfinished.write_bytes(content)
