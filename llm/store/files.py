"""Atomic writes of files and folders, and checksums that detect what was damaged."""

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
from tempfile import TemporaryDirectory
from typing import Any

from nashward.errors import CorruptFileError

CHECKSUMS = "SHA256SUMS"  # as `sha256sum --check` reads it
UNFINISHED, REPLACED = ".unfinished", ".replaced"
TEMPORARY = re.compile(rf"\.(.+)\.\d+(\{UNFINISHED}|\{REPLACED})")  # the names that a killed process may leave


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A temporary path to write to, which replaces ``path`` only when the block ends without an error.

    A link stays, and what it leads to is replaced. A device or a pipe (``/dev/null``, ``/dev/stdout``) cannot be
    replaced: the content is written to it.

    Raises:
        OSError: the disk is full or cannot be written; ``path`` is then unchanged.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        with TemporaryDirectory() as folder:
            yield (unfinished := Path(folder) / path.name)
            with disk_errors(path), unfinished.open("rb") as content, path.open("wb") as stream:
                shutil.copyfileobj(content, stream)
        return
    path = _behind_links(path)
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
    """A temporary folder to write into, which replaces ``path`` only when the block ends without an error.

    No portable system call swaps two folders: the old one is moved away first, and ``recover`` moves it back if the
    process died before the new one was in its place.

    Raises:
        OSError: the disk is full or cannot be written; ``path`` is then unchanged.
    """
    path = _behind_links(path)
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        recover(path.parent, path.name)
        unfinished, replaced = _beside(path, UNFINISHED), _beside(path, REPLACED)
        unfinished.mkdir()
        try:
            yield unfinished
            mode = unfinished.stat().st_mode & 0o666  # as the user's umask has it; safetensors' own is the user's alone
            for entry in (*unfinished.rglob("*"), unfinished):
                if entry.is_file():
                    entry.chmod(mode)
                _sync(entry)
            if path.exists():
                path.rename(replaced)
            unfinished.rename(path)
            _sync(path.parent)
        finally:
            recover(path.parent, path.name)


def _behind_links(path: Path) -> Path:
    """Where a link leads to, which may lie on another disk; any other path as it is."""
    return path.resolve() if path.is_symlink() else path


def recover(folder: Path, name: str | None = None) -> None:
    """Undo the unfinished writes of killed processes: temporary files go, and what was being replaced comes back.

    No other process may be writing there. With ``name``, only the writes to the entry of that name are undone.
    """
    for ending in (REPLACED, UNFINISHED):  # in this order: what comes back may itself be unfinished
        for entry in list(folder.iterdir()):
            match = TEMPORARY.fullmatch(entry.name)
            if match is None or match[2] != ending or (name is not None and match[1] != name):
                continue
            if ending == REPLACED and not (folder / match[1]).exists():
                entry.rename(folder / match[1])
            elif entry.is_dir():
                shutil.rmtree(entry)
            else:
                entry.unlink()


def write_checksums(folder: Path) -> None:
    """Write the SHA-256 of each file of a folder into its ``SHA256SUMS``."""
    lines = [f"{_sha256_of_file(file)}  {file.name}\n" for file in sorted(folder.iterdir()) if file.name != CHECKSUMS]
    (folder / CHECKSUMS).write_text("".join(lines), encoding="utf-8")


def verify_checksums(folder: Path) -> None:
    """Compare the files of a folder with its ``SHA256SUMS``.

    Raises:
        CorruptFileError: a file was altered or is missing, or there are no checksums.
    """
    try:
        lines = (folder / CHECKSUMS).read_text(encoding="utf-8").splitlines()
        for line in lines:
            expected, name = line.split("  ", 1)
            if _sha256_of_file(folder / name) != expected:
                raise CorruptFileError(f"{folder / name} was altered or cut")
    except (FileNotFoundError, UnicodeDecodeError, ValueError) as error:
        if isinstance(error, CorruptFileError):
            raise
        raise CorruptFileError(f"{folder} is incomplete ({error})") from None
    if not lines:
        raise CorruptFileError(f"{folder / CHECKSUMS} is empty")


def write_shard(folder: Path, name: str, number: int, rows: Sequence[dict[str, Any]]) -> Path:
    """Write rows as Parquet, in a file whose name holds the SHA-256 of its content: ``name.00000.<16 digits>.parquet``.

    Returns:
        The file.
    """
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    stream = arrow.BufferOutputStream()
    parquet.write_table(arrow.Table.from_pylist(list(rows)), stream)
    content = stream.getvalue().to_pybytes()
    file = folder / f"{name}.{number:05d}.{sha256(content)[:16]}.parquet"
    with atomic_write(file) as unfinished:
        unfinished.write_bytes(content)
    return file


def read_shard(file: Path, columns: Sequence[str] | None = None, optional: Sequence[str] = ()) -> list[dict[str, Any]]:
    """The rows of a shard, with these columns (None: all), and with those optional ones that it has.

    Raises:
        CorruptFileError: the content does not have the checksum in the file's name.
    """
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    content = verify_shard(file)
    if columns is not None and optional:
        there = set(parquet.read_schema(arrow.BufferReader(content)).names)
        columns = [*columns, *(name for name in optional if name in there)]
    return parquet.read_table(arrow.BufferReader(content), columns=columns and list(columns)).to_pylist()


def verify_shard(file: Path) -> bytes:
    """The content of a shard, compared with the checksum in its name.

    Raises:
        CorruptFileError: the content has another checksum.
    """
    content = file.read_bytes()
    if sha256(content)[:16] != file.stem.rsplit(".", 1)[-1]:
        raise CorruptFileError(f"{file} was altered or cut: its content has not the checksum in its name")
    return content


def shards(folder: Path, name: str, number: int | None = None) -> list[Path]:
    """The files of the shards of a name ("*": any), in order; with ``number``, of that shard alone."""
    return sorted(folder.glob(f"{name}.{'?????' if number is None else f'{number:05d}'}.*.parquet"))


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented strict JSON, atomically."""
    with atomic_write(path) as unfinished:
        unfinished.write_text(
            json.dumps(finite(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n",
            encoding="utf-8",
            errors="backslashreplace",  # half of a surrogate pair, which broken JSON may have
        )


def to_jsonl(rows: Sequence[dict[str, Any]]) -> bytes:
    """Rows as the bytes of a JSONL file."""
    text = "".join(json.dumps(finite(row), ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
    return text.encode(errors="backslashreplace")


def write_jsonl(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write rows as JSONL, atomically."""
    with atomic_write(path) as unfinished:
        unfinished.write_bytes(to_jsonl(rows))


def append_jsonl(path: Path, row: dict[str, Any]) -> None:
    """Append a row to a JSONL file; an incomplete last line, which a full disk or a kill may leave, is ended first."""
    with disk_errors(path), path.open("ab+") as handle:
        end = handle.seek(0, os.SEEK_END)
        handle.seek(max(end - 1, 0))
        torn = end > 0 and handle.read(1) != b"\n"
        handle.write(b"\n" * torn + to_jsonl([row]))


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSONL file that this module wrote, without incomplete lines; empty where there is no file."""
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
    """The value with null in place of each number that is not finite, which strict JSON lacks."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def sha256(content: bytes) -> str:
    """The SHA-256 of some bytes, in 64 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def _sha256_of_file(file: Path) -> str:
    with file.open("rb") as handle:  # in parts: an adapter may be larger than the memory that is left
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}{ending}")


def _sync(path: Path) -> None:
    """Flush a file, or the entries of a folder, to the disk: otherwise a rename may reach it before the content."""
    if path.is_dir() and os.name == "nt":
        return  # a folder cannot be opened there
    handle = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Raise the errors of a full or read-only disk with a message that names ``path`` and says what to do."""
    advice = {
        errno.ENOSPC: "the disk is full: make room, and the same command continues",
        errno.EDQUOT: "the quota is used up: make room, and the same command continues",
        errno.EROFS: "the disk is read-only: make it writable, and the same command continues",
        errno.EACCES: "it may not be written: change its permissions, and the same command continues",
    }
    try:
        yield
    except OSError as error:
        folder = os.path.abspath(path.parent)
        elsewhere = error.filename is not None and not os.path.abspath(error.filename).startswith(folder)
        if error.errno not in advice or elsewhere or str(path.parent) in (error.strerror or ""):
            raise
        raise type(error)(error.errno, f"{path} cannot be written, {advice[error.errno]}") from None
