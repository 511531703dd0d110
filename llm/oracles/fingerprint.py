"""What tells one oracle from another when a run is continued, without reading a large file."""

from __future__ import annotations

from hashlib import blake2b
from pathlib import Path
from types import CodeType
from typing import Any

from ..store import fingerprints
from .models.checkpoint import is_id
from .protocol import PreferenceOracle
from .scalar import RewardFunction


def oracle_fingerprint(source: str | Path | PreferenceOracle) -> str | None:
    """A short text that changes where the oracle does, as far as that can be seen; None for a hub id.

    Of an oracle: what the cache knows it by (where that is nothing, its name and the code of its functions) and its
    aggregation. Of a file: its content. Of a checkpoint's folder: ``fingerprints.fingerprint``.
    """
    digest = blake2b(digest_size=8)
    if isinstance(source, PreferenceOracle):
        key = source.cache_key()
        digest.update(f"{key or source.name} {source.aggregation}".encode())
        if key is None:
            functions = source.functions if isinstance(source, RewardFunction) else [getattr(source, "function", None)]
            for function in functions:
                _code(digest, getattr(function, "__code__", None))
                inside = [cell.cell_contents for cell in getattr(function, "__closure__", None) or ()]
                for value in (
                    getattr(function, "__defaults__", None),
                    getattr(function, "__kwdefaults__", None),
                    inside,
                ):
                    digest.update(_plain(value).encode(errors="backslashreplace"))
        return digest.hexdigest()
    path = Path(source).expanduser()
    if path.is_file():
        return blake2b(path.read_bytes(), digest_size=8).hexdigest()
    if path.is_dir():
        return fingerprints.fingerprint(path)
    assert is_id(source), f"{source} is checked before"
    return None


def _code(digest: Any, code: CodeType | None) -> None:
    """The instructions and constants of a function and of those inside it."""
    if code is None:
        return
    digest.update(code.co_code + " ".join(code.co_names).encode())
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            _code(digest, constant)
        else:
            digest.update(_plain(constant).encode(errors="backslashreplace"))


def _plain(value: Any) -> str:
    """Plain values as a text that is the same in every process; of anything else its type."""
    if isinstance(value, set | frozenset):
        return f"{{{', '.join(sorted(map(_plain, value)))}}}"
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_plain, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(sorted(f'{_plain(k)}: {_plain(v)}' for k, v in value.items()))}}}"
    return repr(value) if isinstance(value, str | bytes | int | float | complex | None) else type(value).__qualname__
