"""Fingerprints of oracles: whether a run is continued with the oracle that it began with."""

from __future__ import annotations

import ast
import inspect
import textwrap
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any

from ..data.packaged import packaged
from ..store import fingerprints
from .corrections.correction import CorrectedSource
from .ensembles.source import EnsembleSource
from .functions.reward_function import RewardFunction
from .load import as_oracle
from .protocol import PreferenceOracle, StepwiseOracle
from .source_names import is_id

Several = EnsembleSource | CorrectedSource  # sources that have sources


def oracle_fingerprint(source: str | Path | Several | PreferenceOracle) -> str | None:
    """A hash that changes with the oracle, as far as that can be seen without reading a large file.

    Args:
        source: an oracle, a file, a checkpoint's folder, a hub id, several of these as one ensemble, or one corrected.

    Returns:
        Of an oracle the hash of its cache key and its aggregation, or of its identity where it changes from step
        to step. Without a cache key that of its name, of the
        dataset of reward functions, and of its
        Python functions: module, qualified name, source text, defaults and closure, where these are plain values. The
        source text counts without comments and formatting; a function without one, as from ``python -c``, counts by its
        name alone. Of a file the hash of its content, of a folder ``fingerprints.fingerprint``; None for a hub id.
    """
    digest = blake2b(digest_size=8)
    if isinstance(source, StepwiseOracle):
        digest.update(source.identity.encode())
        return digest.hexdigest()
    if isinstance(source, Several):
        for member in source.members:
            digest.update(f"{_of_member(member)}\n".encode())
        digest.update(f"{type(source).__name__} {source.rule}".encode())
        for name, value in sorted(source.settings.items()):
            content = oracle_fingerprint(Path(value)) if name == "pairs" else value
            digest.update(f"{name} {content}".encode())
        return digest.hexdigest()
    if isinstance(source, PreferenceOracle):
        key = source.cache_key()
        digest.update(f"{key or source.name} {source.aggregation}".encode())
        if key is None:
            functions = source.functions if isinstance(source, RewardFunction) else [getattr(source, "function", None)]
            for function in functions:
                digest.update(_description(function).encode(errors="backslashreplace"))
            if isinstance(source, RewardFunction) and (source.columns or source.conversational):
                read = _plain([source.columns, source.conversational])
                digest.update(read.encode(errors="backslashreplace"))
        return digest.hexdigest()
    path = Path(packaged(source)).expanduser()
    if path.is_file():
        return blake2b(path.read_bytes(), digest_size=8).hexdigest()
    if path.is_dir():
        return fingerprints.fingerprint(path)
    assert is_id(source), f"{source} is checked before"
    return None


def _of_member(source: Any) -> str | None:
    """Of a member of an ensemble: by its content where it lies on the disk, by its id, or as the object that it is."""
    if isinstance(source, str | Path) and (Path(packaged(source)).expanduser().exists() or is_id(source)):
        return oracle_fingerprint(source) or str(source)
    if isinstance(source, Several):
        return oracle_fingerprint(source)
    return oracle_fingerprint(as_oracle(source))


def _description(function: Any) -> str:
    """A function as text: its name, its source, and the plain values of its defaults and its closure.

    Of a partial one they are those of what it calls, with the plain values that are bound; of another callable object
    it is the name of its class.
    """
    if isinstance(function, partial):
        return "\n".join([_description(function.func), _plain(function.args), _plain(function.keywords)])
    if not hasattr(function, "__code__"):
        function = type(function)
        return f"{function.__module__}.{function.__qualname__}"
    closure = [cell.cell_contents for cell in function.__closure__ or ()]
    return "\n".join(
        [
            f"{function.__module__}.{function.__qualname__}",
            _source(function),
            *map(_plain, (function.__defaults__, function.__kwdefaults__, closure)),
        ]
    )


def _source(function: Any) -> str:
    """The source text of a function without comments and formatting; of a lambda that of its statement."""
    try:
        text = textwrap.dedent(inspect.getsource(function))
    except (OSError, TypeError):
        return ""
    try:
        return ast.unparse(ast.parse(text))
    except SyntaxError:  # of a lambda, some lines of a longer statement
        return text


def _plain(value: Any) -> str:
    """Plain values as a text that is the same in every process; of anything else its type."""
    if isinstance(value, set | frozenset):
        return f"{{{', '.join(sorted(map(_plain, value)))}}}"
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_plain, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(sorted(f'{_plain(k)}: {_plain(v)}' for k, v in value.items()))}}}"
    return repr(value) if isinstance(value, str | bytes | int | float | complex | None) else type(value).__qualname__
