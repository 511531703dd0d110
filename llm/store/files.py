"""Files and folders that appear whole or not at all, and that tell when they were damaged."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nashward.errors import CorruptFileError

SUMS = "SHA256SUMS"  # of a sealed folder, as `sha256sum --check` reads it
UNFINISHED, REPLACED = ".unfinished", ".replaced"
LEFT = re.compile(rf"\.(.+)\.\d+(\{UNFINISHED}|\{REPLACED})")  # what a process that died may have left


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A path to write to, which takes the place of ``path`` only when the block ends without an error.

    Raises:
        OSError: the disk is full or cannot be written; what was at ``path`` is still there.
    """
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = _beside(path, UNFINISHED)
        try:
            yield unfinished
            _sync(unfinished)
            unfinished.replace(path)
            _sync(path.parent)
        finally:
            unfinished.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A folder to write into, which takes the place of ``path`` only when the block ends without an error.

    No system call swaps two folders everywhere: the old one is moved away first, and ``tidy`` moves it back if the
    process died before the new one had its place.
    """
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        tidy(path.parent, path.name)
        unfinished, replaced = _beside(path, UNFINISHED), _beside(path, REPLACED)
        unfinished.mkdir()
        try:
            yield unfinished
            for inside in (*unfinished.rglob("*"), unfinished):
                _sync(inside)
            if path.exists():
                path.rename(replaced)
            unfinished.rename(path)
            _sync(path.parent)
        finally:
            tidy(path.parent, path.name)


def tidy(folder: Path, name: str | None = None) -> None:
    """Undo what dead processes left half done in a folder: no unfinished files, and what was to be replaced is back.

    Nobody may be writing there now. With ``name`` only what was to become that.
    """
    for ending in (REPLACED, UNFINISHED):  # in this order: what comes back may itself be unfinished
        for entry in list(folder.iterdir()):
            found = LEFT.fullmatch(entry.name)
            if found is None or found[2] != ending or (name is not None and found[1] != name):
                continue
            if ending == REPLACED and not (folder / found[1]).exists():
                entry.rename(folder / found[1])
            elif entry.is_dir():
                shutil.rmtree(entry)
            else:
                entry.unlink()


def seal(folder: Path) -> None:
    """Write the checksums of a folder's files into it."""
    lines = [f"{_hash_file(file)}  {file.name}\n" for file in sorted(folder.iterdir()) if file.name != SUMS]
    (folder / SUMS).write_text("".join(lines), encoding="utf-8")


def check_seal(folder: Path) -> None:
    """Whether a sealed folder's files are those that were sealed.

    Raises:
        CorruptFileError: they are not, or some are gone.
    """
    try:
        lines = (folder / SUMS).read_text(encoding="utf-8").splitlines()
        for line in lines:
            expected, name = line.split("  ", 1)
            if _hash_file(folder / name) != expected:
                raise CorruptFileError(f"{folder / name} was altered or cut")
    except (FileNotFoundError, UnicodeDecodeError, ValueError) as error:
        if isinstance(error, CorruptFileError):
            raise
        raise CorruptFileError(f"{folder} is not whole ({error})") from None
    if not lines:
        raise CorruptFileError(f"{folder / SUMS} is empty")


def write_shard(folder: Path, name: str, number: int, rows: Sequence[dict[str, Any]]) -> Path:
    """Write rows as Parquet; the file's name has the checksum of its content before the suffix."""
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    stream = arrow.BufferOutputStream()
    parquet.write_table(arrow.Table.from_pylist(list(rows)), stream)
    content = stream.getvalue().to_pybytes()
    file = folder / f"{name}.{number:05d}.{_hash(content)[:16]}.parquet"
    with atomic_write(file) as unfinished:
        unfinished.write_bytes(content)
    return file


def read_shard(file: Path, columns: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """The rows of a shard.

    Raises:
        CorruptFileError: the content is not what the file's name says.
    """
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    content = check_shard(file)
    return parquet.read_table(arrow.BufferReader(content), columns=columns and list(columns)).to_pylist()


def check_shard(file: Path) -> bytes:
    """The content of a shard, held against the checksum in its name.

    Raises:
        CorruptFileError: it is another one's.
    """
    content = file.read_bytes()
    if _hash(content)[:16] != file.stem.rsplit(".", 1)[-1]:
        raise CorruptFileError(f"{file} was altered or cut: its content has not the checksum in its name")
    return content


def shards(folder: Path, name: str, number: int | None = None) -> list[Path]:
    """The shards of that name in a folder, in order ("*" is any name); of a number: that one."""
    return sorted(folder.glob(f"{name}.{'?????' if number is None else f'{number:05d}'}.*.parquet"))


def write_json(path: Path, value: Any) -> None:
    with atomic_write(path) as unfinished:
        unfinished.write_text(
            json.dumps(finite(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n",
            encoding="utf-8",
            errors="backslashreplace",  # half of a surrogate pair, as broken JSON has it
        )


def lines(rows: Sequence[dict[str, Any]]) -> bytes:
    """Rows as JSONL holds them."""
    text = "".join(json.dumps(finite(row), ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
    return text.encode(errors="backslashreplace")


def append_line(path: Path, row: dict[str, Any]) -> None:
    """Add a line to a journal; half a line, which a full disk or a kill may leave, is ended first."""
    with disk_errors(path), path.open("ab+") as handle:
        end = handle.seek(0, os.SEEK_END)
        handle.seek(max(end - 1, 0))
        torn = end > 0 and handle.read(1) != b"\n"
        handle.write(b"\n" * torn + lines([row]))


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSONL file that this module wrote; half a line is left out. Empty where there is no file."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    rows = []
    for line in text.split("\n"):  # not at U+2028
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows


def finite(value: Any) -> Any:
    """The value as strict JSON holds it: a number that is not finite (not defined here) becomes null."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _hash_file(file: Path) -> str:
    with file.open("rb") as handle:  # an adapter may be larger than the memory that is left
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}{ending}")


def _sync(path: Path) -> None:
    """Have a file, or the names in a folder, on the disk before going on: a rename may else outrun its content."""
    if path.is_dir() and os.name == "nt":
        return  # a folder cannot be opened there
    handle = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Says of a full or read-only disk what to do."""
    advice = {
        errno.ENOSPC: "the disk is full: make room, and the same command continues",
        errno.EDQUOT: "the quota is used up: make room, and the same command continues",
        errno.EROFS: "the disk is read-only: make it writable, and the same command continues",
        errno.EACCES: "it may not be written: change its permissions, and the same command continues",
    }
    try:
        yield
    except OSError as error:
        home = os.path.abspath(path.parent)
        elsewhere = error.filename is not None and not os.path.abspath(error.filename).startswith(home)
        if error.errno not in advice or elsewhere or str(path.parent) in (error.strerror or ""):
            raise
        raise type(error)(error.errno, f"{path} cannot be written, {advice[error.errno]}") from None
