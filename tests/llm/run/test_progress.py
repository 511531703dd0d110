"""What a phase says of how far it is where there is no terminal: prompts, batches, epochs."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import pytest

from nashward.llm.run import progress
from nashward.llm.store.run_folder import RunFolder


@pytest.mark.parametrize(
    ("phase", "steps", "within", "after"),
    [
        ({"total": 200, "epochs": 2}, [50, 100, 50],
         ["0.5 of 2 epochs of 100 prompts", "1.5 of 2 epochs of 100 prompts"], "2 epochs of 100 prompts"),
        ({"total": 200, "epochs": 2, "done": 50}, [150], [], "1.5 epochs of 100 prompts"),
        ({"total": 2, "epochs": 2, "done": 1}, [1], [], "1 epoch of 1 prompt"),
        ({"total": 3}, [1, 2], ["1 of 3 prompts"], "3 prompts"),
        ({"total": 2, "done": 1, "unit": "batch", "units": "batches"}, [1], [], "1 batch"),
    ],
)  # fmt: skip
def test_lines_count_what_is_done_and_what_there_is(
    phase: dict[str, Any],
    steps: list[int],
    within: list[str],
    after: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(progress, "EVERY", -1.0)
    caplog.set_level(logging.INFO, "nashward.llm.run.progress")
    shown = progress.Progress(RunFolder(tmp_path), 1)
    with shown.phase("iteration-01", "training", "", **phase) as advance:
        for count in steps:
            advance(count)
    *lines, last = (record.message.removeprefix("iteration-01: training: ") for record in caplog.records)
    assert len(lines) == len(within)
    assert all(line.startswith(expected) for line, expected in zip(lines, within, strict=True))
    assert last.startswith(f"{after} ")


def test_a_phase_in_which_nothing_is_counted_yet_says_that_it_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "EVERY", 0.05)
    monkeypatch.setattr(progress, "TICK", 0.01)
    caplog.set_level(logging.INFO, "nashward.llm.run.progress")
    shown = progress.Progress(RunFolder(tmp_path), 1)
    began = time.monotonic()
    with shown.phase("iteration-01", "sampling", "start", 24):
        while not caplog.records and time.monotonic() - began < 60:
            time.sleep(0.01)
    within = caplog.records[0].message
    assert within.startswith("iteration-01: sampling start: 0 of 24 prompts; ")
    assert within.endswith(" so far")
