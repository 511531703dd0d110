"""The run folder: everything on disk appears whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

RUN = "run.json"


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
        unfinished.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write_lines(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    with whole_file(path) as unfinished:
        unfinished.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


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

    FREE = ("iterations",)  # more iterations continue a run

    def __init__(self, path: str | Path):
        self.path = Path(path)

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def read(self) -> dict[str, Any]:
        """``run.json``; empty where there is no run yet."""
        file = self.path / RUN
        return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}

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
        merged = dict(held["config"])
        differing = []
        for key, value in _flat(config).items():
            before = _flat(held["config"]).get(key)
            if (
                value is not None
                and before is not None
                and key not in self.FREE
                and json.loads(json.dumps(value)) != before
            ):
                differing.append(f"{key} {before!r} there, {value!r} now")
        if differing:
            raise ValueError(f"{self.path} holds another run ({'; '.join(differing)}); choose another folder")
        merged.update({key: value for key, value in config.items() if value is not None})
        return merged

    def write(self, config: dict[str, Any], record: dict[str, Any]) -> None:
        """Pin the configuration; ``record`` (versions, hardware) is that of the first start."""
        held = self.read()
        write_json(self.path / RUN, {**record, **held, "config": config})


def _flat(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in config.items():
        flat.update(_flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value})
    return flat
