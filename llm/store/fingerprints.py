"""What is in the folder of a model or an oracle, without its weights being read whole."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path

WHOLE = 1 << 20  # bytes: what is smaller is read whole
BLOCK = 1 << 12  # bytes that are read of a tensor, or of each MiB where the file does not say where its tensors are
READ = (".json", ".jinja", ".model", ".txt", ".safetensors", ".bin")


def fingerprint(folder: str | Path) -> str:
    """A short text that is the same for a copy of the folder elsewhere and another one where its content changed.

    Configuration, tokenizer and templates are read whole, of large files their size, their beginning and a block from
    the middle of each tensor: any training or merging changes those, in seconds also of a model of 70B. What was
    changed inside a tensor and nowhere near its middle is not seen.

    Raises:
        OSError: a file cannot be read.
    """
    folder, digest = Path(folder), blake2b(digest_size=8)
    for file in sorted(file for file in folder.rglob("*") if file.suffix in READ and file.is_file()):
        digest.update(f"{file.relative_to(folder).as_posix()} {file.stat().st_size}\n".encode())
        with file.open("rb") as content:
            if file.stat().st_size <= WHOLE or file.suffix in (".json", ".jinja", ".txt"):
                digest.update(content.read())
                continue
            for place, size in _blocks(file):
                content.seek(place)
                digest.update(content.read(size))
    return digest.hexdigest()


def _blocks(file: Path) -> Iterator[tuple[int, int]]:
    """Where to read in a large file, and how much there."""
    with file.open("rb") as content:
        size = os.fstat(content.fileno()).st_size
        header = int.from_bytes(content.read(8), "little")
        try:
            tensors = json.loads(content.read(header)) if file.suffix == ".safetensors" and header < size else {}
            spans = [value["data_offsets"] for name, value in sorted(tensors.items()) if name != "__metadata__"]
            middles = [8 + header + (int(begin) + int(end)) // 2 for begin, end in spans]
        except (ValueError, TypeError, LookupError, AttributeError):  # no safetensors: whoever loads it says so
            header, middles = 0, []
    yield 0, min(8 + header, size) if middles else WHOLE
    for middle in middles or range(WHOLE, size, WHOLE):
        yield max(middle - BLOCK // 2, 0), BLOCK
    yield max(size - BLOCK, 0), BLOCK
