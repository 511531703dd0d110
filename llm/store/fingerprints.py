"""Fingerprints of what was given: of a model's folder, without all of its weights being read, and of a file."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path

from .files import sha256

SMALL = 1 << 20  # bytes: a smaller file is read in full
BLOCK = 1 << 12  # bytes that are read of a tensor, or of each MiB of a file without an index of its tensors
SUFFIXES = (".json", ".jinja", ".model", ".txt", ".safetensors", ".bin")


def fingerprint(folder: str | Path) -> str:
    """A hash of a model's folder: the same for a copy elsewhere, another one where the content changed.

    Configuration, tokenizer and templates are read in full; of large files the size, the beginning and a block from the
    middle of each tensor, which any training or merging changes: this takes seconds even for a model of 70B. A change
    inside a tensor far from its middle is not detected.

    Returns:
        16 hexadecimal digits.

    Raises:
        OSError: a file cannot be read.

    See also:
        ``fingerprint_content``, of the content of one file.
    """
    folder, digest = Path(folder), blake2b(digest_size=8)
    for file in sorted(file for file in folder.rglob("*") if file.suffix in SUFFIXES and file.is_file()):
        digest.update(f"{file.relative_to(folder).as_posix()} {file.stat().st_size}\n".encode())
        with file.open("rb") as content:
            if file.stat().st_size <= SMALL or file.suffix in (".json", ".jinja", ".txt"):
                digest.update(content.read())
                continue
            for place, size in _blocks(file):
                content.seek(place)
                digest.update(content.read(size))
    return digest.hexdigest()


def fingerprint_content(content: bytes) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of a file's content."""
    return sha256(content)[:16]


def _blocks(file: Path) -> Iterator[tuple[int, int]]:
    """Where to read in a large file, and how much there."""
    with file.open("rb") as content:
        size = os.fstat(content.fileno()).st_size
        header = int.from_bytes(content.read(8), "little")
        try:
            tensors = json.loads(content.read(header)) if file.suffix == ".safetensors" and header < size else {}
            spans = [value["data_offsets"] for name, value in sorted(tensors.items()) if name != "__metadata__"]
            middles = [8 + header + (int(begin) + int(end)) // 2 for begin, end in spans]
        except (ValueError, TypeError, LookupError, AttributeError):  # no safetensors, which loading reports
            header, middles = 0, []
    yield 0, min(8 + header, size) if middles else SMALL
    for middle in middles or range(SMALL, size, SMALL):
        yield max(middle - BLOCK // 2, 0), BLOCK
    yield max(size - BLOCK, 0), BLOCK
