"""What a run logs is what its metrics hold, read back by the trackers' own libraries."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nashward.cli.main import main
from nashward.errors import MissingPackageError
from nashward.llm import pocket
from nashward.llm.delivery import trackers
from nashward.llm.delivery.trackers import RunTracker, numbers, pictures
from nashward.llm.store.files import write_jsonl

pytestmark = pytest.mark.filterwarnings("ignore")  # of the trackers' own dependencies


def _align(folder: Path, kind: str, iterations: int = 2) -> None:
    (folder / "prompts.txt").write_text("Why is there rain?\nName a river.\nWhat is bread?\nTell me of trees.\n")
    inputs = ["--policy", pocket.POLICY, "--oracle", pocket.PAIRRM, "--prompts", folder / "prompts.txt"]
    options = "--responses 3 --max-new-tokens 12 --learning-rate 1e-3 --batch 2 --rank 2 --quiet"
    command = ["align", *inputs, "--out", folder / "run", "--iterations", iterations, "--report-to", kind]
    assert main([*map(str, command), *options.split()]) == 0


def _metrics(folder: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The lines of the optimiser steps and those of the Steps."""
    files = sorted(folder.glob("run/iteration-*/metrics.jsonl"))
    rows = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    return [row for row in rows if "step" in row], [row for row in rows if "iteration" in row]


def test_tensorboard_reads_back_every_number(tmp_path: Path) -> None:
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    _align(tmp_path, "tensorboard", iterations=1)
    _align(tmp_path, "tensorboard", iterations=2)  # continued: what was logged is not logged again
    events = event_accumulator.EventAccumulator(
        str(tmp_path / "run" / "tracking" / "tensorboard"), size_guidance={"scalars": 0, "images": 0}
    )
    events.Reload()
    fits, steps = _metrics(tmp_path)
    losses = events.Scalars("fit/loss")
    assert [event.step for event in losses] == list(range(1, len(fits) + 1))
    assert [event.value for event in losses] == pytest.approx([row["loss"] for row in fits], rel=1e-6)
    rates = [event.value for event in events.Scalars("fit/learning_rate")]
    assert rates == pytest.approx([row["learning_rate"] for row in fits], rel=1e-6)
    for row in steps:
        for name, value in numbers(row, "step").items():
            assert any(event.value == pytest.approx(value, rel=1e-6) for event in events.Scalars(name)), name
    assert len(events.Scalars("step/after/kl_to_reference")) == 2
    images = events.Tags()["images"]
    assert len(images) == len(pictures(tmp_path / "run")) > 0


def test_mlflow_reads_back_every_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "other").mkdir()
    _align(tmp_path / "other", "mlflow", iterations=1)  # in the same process, with a store of its own
    _align(tmp_path, "mlflow", iterations=1)
    _align(tmp_path, "mlflow", iterations=2)
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'run' / 'tracking' / 'mlflow' / 'mlflow.db'}")
    (experiment,) = client.search_experiments(filter_string="name = 'nashward'")
    (found,) = client.search_runs([experiment.experiment_id])
    fits, steps = _metrics(tmp_path)
    losses = client.get_metric_history(found.info.run_id, "fit/loss")
    assert [(point.step, point.value) for point in losses] == [(k, row["loss"]) for k, row in enumerate(fits, 1)]
    for name, value in numbers(steps[-1], "step").items():
        assert found.data.metrics[name] == pytest.approx(value)
    assert found.data.params["policy"] == str(Path(pocket.POLICY).resolve())
    assert found.info.status == "FINISHED"
    assert found.info.artifact_uri.startswith((tmp_path / "run" / "tracking" / "mlflow" / "artifacts").as_uri())
    assert len(client.list_artifacts(found.info.run_id, "report")) == len(pictures(tmp_path / "run"))


def test_wandb_writes_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    _align(tmp_path, "wandb")
    from wandb.proto import wandb_internal_pb2

    (file,) = (tmp_path / "run" / "tracking" / "wandb").rglob("*.wandb")
    history = []
    for content in _records(file.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(content)
        for item in record.history.item:
            if (item.key or "/".join(item.nested_key)) == "fit/loss":
                history.append(json.loads(item.value_json))
    fits, _ = _metrics(tmp_path)
    assert history == pytest.approx([row["loss"] for row in fits])


def _records(content: bytes) -> Iterator[bytes]:
    """The records of a file in LevelDB's log format, which begins with 7 bytes of wandb's own: blocks of 32 KiB, each
    of fragments with a checksum (4 bytes), a length (2) and a type (1): whole, first, middle, last."""
    place, begun = 7, b""
    while place + 7 <= len(content):
        if 32768 - place % 32768 < 7:  # the rest of a block is padding
            place += 32768 - place % 32768
            continue
        length, kind = struct.unpack_from("<HB", content, place + 4)
        begun += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):
            yield begun
            begun = b""


def test_trackio_reads_back_the_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))  # read when it is imported
    pytest.importorskip("trackio")
    _align(tmp_path, "trackio")
    import sqlite3

    (file,) = (tmp_path / "trackio").glob("nashward*.db")
    with sqlite3.connect(file) as database:
        rows = [json.loads(text) for (text,) in database.execute("SELECT metrics FROM metrics ORDER BY id")]
    fits, _ = _metrics(tmp_path)
    assert [row["fit/loss"] for row in rows if "fit/loss" in row] == pytest.approx([row["loss"] for row in fits])


def test_a_tracker_that_is_not_installed_is_named_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    with pytest.raises(MissingPackageError, match=r"nashward\[track\]"):
        RunTracker(tmp_path, "wandb")


def test_a_step_that_was_made_again_is_logged_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trackers, "find_spec", lambda name: True)
    logged: list[tuple[int, float]] = []

    class Recorder:
        def log(self, values: dict[str, float], step: int) -> None:
            logged.extend((step, value) for name, value in values.items() if name.endswith("loss"))

    def write(step: str, *losses: float) -> None:
        rows = [{"step": k, "loss": loss} for k, loss in enumerate(losses, 1)]
        write_jsonl(tmp_path / step / "metrics.jsonl", [*rows, {"iteration": step, "loss": -losses[-1]}])

    def update() -> list[tuple[int, float]]:
        logged.clear()
        tracker = RunTracker(tmp_path, "wandb")
        tracker._tracker = Recorder()
        tracker.update()
        return list(logged)

    write("iteration-01", 9.0, 8.0)
    write("iteration-02", 7.0, 6.0)
    assert update() == [(1, 9), (2, 8), (2, -8), (3, 7), (4, 6), (4, -6)]
    write("iteration-02", 5.0)
    assert update() == [(5, 5), (5, -5)]
    assert update() == []
    write("iteration-03", 4.0)
    assert update() == [(6, 4), (6, -4)]


def test_numbers_of_a_line() -> None:
    row = {
        "iteration": "iteration-01", "opponent": {"my model/é": 0.5}, "refits": [{"learning_rate": 0.1, "loss": None}],
        "finished": 1.0, "crossed": True, "warning": "none", "labels": None, "train": {"r2": float("nan")},
    }  # fmt: skip
    found = numbers(row, "step", ("iteration",))
    assert found.pop("step/train/r2") != 0
    assert found == {
        "step/opponent/my model/é": 0.5, "step/refits/0/learning_rate": 0.1, "step/finished": 1.0, "step/crossed": 1.0
    }  # fmt: skip
