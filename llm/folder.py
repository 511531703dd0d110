"""The run folder: everything on disk appears whole or not at all."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

RUN, EVENTS = "run.json", "events.jsonl"


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A path to write to, which takes the place of ``path`` only when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    try:
        yield unfinished
        with unfinished.open("rb+") as handle:
            os.fsync(handle.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A folder to write into, which takes the place of ``path`` only when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    try:
        yield unfinished
        if path.exists():
            shutil.rmtree(path)
        unfinished.rename(path)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def write_json(path: Path, value: Any) -> None:
    with whole_file(path) as unfinished:
        unfinished.write_text(
            json.dumps(finite(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n",
            encoding="utf-8",
            errors="backslashreplace",  # half of a surrogate pair, as broken JSON has it
        )


def write_lines(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    with whole_file(path) as unfinished:
        lines = [json.dumps(finite(row), ensure_ascii=False, allow_nan=False) + "\n" for row in rows]
        unfinished.write_text("".join(lines), encoding="utf-8", errors="backslashreplace")


def finite(value: Any) -> Any:
    """The value as strict JSON holds it: a number that is not finite (not defined here) becomes null."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def write_shard(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    with whole_file(path) as unfinished:
        parquet.write_table(arrow.Table.from_pylist(list(rows)), unfinished)


def read_shard(path: Path) -> list[dict[str, Any]]:
    import pyarrow.parquet as parquet

    return parquet.read_table(path).to_pylist()


class RunFolder:
    """One run on disk: ``run.json``, the folder of the start, one folder an iteration.

    ``run.json`` pins the configuration. The same configuration continues the run; another one is refused, and so is
    a folder that holds something else.
    """

    # more iterations continue a run; the others are memory
    FREE = (
        "iterations", "sampling.batch", "fit.tokens", "placement", "placement.checkpoints", "placement.embeddings",
        "placement.adapters", "placement.mlp_tokens",
    )  # fmt: skip
    OMITTED = ("policy", "oracle", "oracle_content", "prompts")  # what a stage that does not need it may leave out

    def __init__(self, path: str | Path):
        self.path = Path(path)

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def read(self) -> dict[str, Any]:
        """``run.json``; empty where there is no run yet."""
        file = self.path / RUN
        if not file.exists():
            return {}
        try:
            held = json.loads(file.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{file} is not valid JSON: {error}") from None
        if not isinstance(held, dict) or not isinstance(held.get("config"), dict) or "solver" not in held["config"]:
            raise ValueError(f"{file} is not that of a nashward run; choose another folder")
        return held

    @property
    def started(self) -> bool:
        """Whether anything is there that a change of the configuration would make wrong."""
        return (self.path / "start").exists() or any(self.path.glob("iteration-*"))

    def check(self, config: dict[str, Any]) -> dict[str, Any]:
        """The configuration merged with what the folder holds; nothing is written.

        Raises:
            ValueError: the folder holds another run (the differing settings are named) or something else.
        """
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"{self.path} is a file; --out names a folder for the run")
        held = self.read()
        if not held:
            others = [entry.name for entry in self.path.iterdir()] if self.path.exists() else []
            if others:
                raise ValueError(f"{self.path} is not empty and holds no run ({others[0]}, ...); choose another folder")
            return config
        if not self.started:
            return config
        merged = dict(held["config"])
        before, now = _flat(merged), _flat(json.loads(json.dumps(finite(config))))
        differing = []
        for key in [*now, *(key for key in before if key not in now)]:
            if key in self.FREE or (key in self.OMITTED and None in (before.get(key), now.get(key))):
                continue
            if before.get(key) != now.get(key):
                differing.append(f"{key} {before.get(key)!r} there, {now.get(key)!r} now")
        if differing:
            raise ValueError(f"{self.path} holds another run ({'; '.join(differing)}); choose another folder")
        merged.update({key: value for key, value in config.items() if value is not None or key not in self.OMITTED})
        return merged

    def journal(self, event: dict[str, Any]) -> None:
        """Add one line to ``events.jsonl``: what happened on the way that the results do not show."""
        with (self.path / EVENTS).open("a", encoding="utf-8") as handle:
            handle.write(json.dumps(finite(event), ensure_ascii=False, allow_nan=False) + "\n")

    def write(self, config: dict[str, Any], record: dict[str, Any]) -> None:
        """Pin the configuration; ``record`` (versions, hardware) is that of the first start."""
        held = self.read()
        write_json(self.path / RUN, {**record, **held, "config": config})


def _flat(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in config.items():
        flat.update(_flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value})
    return flat
