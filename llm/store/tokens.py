"""Token ids that wait in a file, so that a run's memory does not grow with its responses."""

from __future__ import annotations

import tempfile
import weakref
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, overload

from .files import disk_errors

KIND = "i"
SIZE = array(KIND).itemsize


class Tokens:
    """Sequences of token ids in a file without a name, which goes when nobody reads it any more.

    Args:
        folder: on whose disk.

    Raises:
        OSError: the disk is full.

    Example:
        >>> tokens = Tokens(Path("."))
        >>> first, second = tokens.add([5, 6, 7]), tokens.add([8])
        >>> len(first), [*first, *second], first[-1]
        (3, [5, 6, 7, 8], 7)
    """

    def __init__(self, folder: Path):
        self._place = folder / "tokens"
        with disk_errors(self._place):
            self._file: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115, open as long as it is read
        weakref.finalize(self, self._file.close)
        self._end = 0

    def add(self, ids: Sequence[int]) -> Stretch:
        with disk_errors(self._place):
            self._file.seek(self._end * SIZE)
            self._file.write(array(KIND, ids).tobytes())
            self._file.flush()
        self._end += len(ids)
        return Stretch(self, self._end - len(ids), len(ids))

    def read(self, begin: int, length: int) -> array[int]:
        self._file.seek(begin * SIZE)
        return array(KIND, self._file.read(length * SIZE))


@dataclass(frozen=True, slots=True)
class Stretch(Sequence[int]):
    """Token ids one after another, read anew each time."""

    tokens: Tokens
    begin: int
    length: int

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[int]:
        return iter(self.tokens.read(self.begin, self.length))

    @overload
    def __getitem__(self, place: int) -> int: ...
    @overload
    def __getitem__(self, place: slice) -> array[int]: ...
    def __getitem__(self, place: int | slice) -> int | array[int]:
        return self.tokens.read(self.begin, self.length)[place]
