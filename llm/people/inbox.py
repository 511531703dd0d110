"""Files of votes that are dropped into a folder."""

from __future__ import annotations

import time
from pathlib import Path

from ..store.files import disk_errors
from .formats import read_cast_votes
from .store import VoteStore

INBOX = "inbox"
STILL = 1.0  # seconds since the last write to a file, before it is read


class Inbox:
    """The files of votes that are dropped into a folder's ``inbox``: they stay there, and count once.

    Args:
        store: of the folder; its ``inbox`` is created where it is missing.

    Raises:
        OSError: it cannot be created.
    """

    def __init__(self, store: VoteStore) -> None:
        self.store, self._read = store, dict[Path, tuple[int, int]]()
        with disk_errors(self.folder):
            self.folder.mkdir(exist_ok=True)

    @property
    def folder(self) -> Path:
        """Where the files are."""
        return self.store.folder / INBOX

    def read(self) -> int:
        """Read the files that are new or have changed, once nobody has written to them for a moment.

        Returns:
            How many votes are new.

        Raises:
            ValueError: a row that is wrong; the file is named, and not read again before it changes.
        """
        added = 0
        for file in sorted(self.folder.glob("*")):
            if file.suffix not in (".jsonl", ".json", ".csv", ".parquet") or not file.is_file():
                continue  # an editor's lock is a link to nothing
            state = file.stat()
            seen = (state.st_size, state.st_mtime_ns)
            # abs: a file of another machine, or from before the clock was set, may be of a time to come
            if self._read.get(file) != seen and abs(time.time() - state.st_mtime) >= STILL:
                self._read[file] = seen
                added += self.store.add_votes(read_cast_votes(file))
        return added
