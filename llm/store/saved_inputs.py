"""Inputs of a run and of its steps that the folder keeps, verified by the SHA-256 that ``run.json`` holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nashward.errors import NashwardError

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

    home: RunFolder
    file: str
    key: tuple[str, ...]

    @property
    def digest(self) -> str | None:
        """What ``run.json`` has under the key; None where it has nothing."""
        value = self.home.read()
        for name in self.key:
            value = value.get(name) or {}
        return value or None  # type: ignore[return-value]

    def load(self) -> bytes | None:
        """The file's content; None where there is no file, or its content has another SHA-256."""
        path, digest = self.home / self.file, self.digest
        content = path.read_bytes() if path.exists() else None
        return content if content is not None and digest is not None and sha256(content).startswith(digest) else None

    def save(self, content: bytes) -> None:
        """Write the content, whose SHA-256 ``run.json`` holds, unless it is there.

                A file with other content counts as damaged once the run has computed something, and is quarantined;
                before that
        it is overwritten, as somebody corrected the input.

                Raises:
                    OSError: it cannot be written.
        """
        if self.load() is not None:
            return
        path = self.home / self.file
        if self.home.computed and path.exists():
            self.home.quarantine(path, f"{path} was altered or cut")
        with atomic_write(path) as unfinished:
            unfinished.write_bytes(content)


def saved_in_step(home: RunFolder, file: Path, key: str, make: Callable[[], bytes], **values: Any) -> bytes:
    """The content of a file in a step's folder; made and recorded where there is none yet.

    Args:
        key: the one under which ``run.json`` has the file's SHA-256, among the values of the step.
        make: returns what the file holds.
        values: the step's values that are recorded with a file that is made.

    Raises:
        NashwardError: the file is lost, and what would take its place differs from it.
        OSError: it cannot be written.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as home:
        ...     run = RunFolder(home)
        ...     run.write({"solver": {}}, {})
        ...     file = run / "iteration-01" / "shards.json"
        ...     saved_in_step(run, file, "shards", lambda: b"[[3]]"), saved_in_step(run, file, "shards", lambda: b"")
        (b'[[3]]', b'[[3]]')
    """
    step = file.parent.name
    recorded = home.step_values(step).get(key)
    if recorded is not None and file.exists():
        content = file.read_bytes()
        if sha256(content) == recorded:
            return content
        home.quarantine(file, f"{file} was altered or cut")
    content = make()
    if recorded not in (None, sha256(content)):
        raise NashwardError(f"{file} is lost and cannot be made again as it was; redo the step with --from sample")
    with atomic_write(file) as unfinished:
        unfinished.write_bytes(content)
    home.update_step(step, {key: sha256(content), **values})
    return content
