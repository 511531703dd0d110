"""The end of a Step: its adapter appears whole, with its metrics and its checksums."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError

from ...store.files import CHECKSUMS, atomic_folder, atomic_write, write_checksums
from ...store.run_folder import METRICS
from .shards import wait_until_seen


def write_adapter(folder: Path, save: Callable[[Path], None], metrics: bytes | None = None) -> None:
    """Write an adapter whole and sealed, with the metrics of its training.

    Raises:
        OSError: the folder cannot be written, or the disk is full.
    """
    with atomic_folder(folder) as unfinished:
        try:
            save(unfinished)
        except SafetensorError as error:  # a full disk is not an OSError there
            raise OSError(f"{folder} cannot be written ({error}); make room, and the same command continues") from None
        if metrics is not None:
            (unfinished / METRICS).write_bytes(metrics)
        write_checksums(unfinished)


def wait_for_adapter(folder: Path) -> None:
    """Return when this process sees the adapter that another one has written.

    Raises:
        OSError: see ``wait_until_seen``.
    """
    wait_until_seen((folder / CHECKSUMS).exists, str(folder))


def publish_metrics(step: Path) -> None:
    """After an adapter is written: its metrics are copied beside it, and its checkpoints are deleted."""
    metrics, beside = step / "adapter" / METRICS, step / METRICS
    if not beside.exists() or beside.read_bytes() != metrics.read_bytes():
        with atomic_write(beside) as unfinished:
            unfinished.write_bytes(metrics.read_bytes())
    if (step / "training").exists():
        shutil.rmtree(step / "training")
