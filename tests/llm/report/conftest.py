"""Runs whose reports are read: finished ones, one that was stopped, one that has only sampled."""

from __future__ import annotations

from pathlib import Path

import pytest

from nashward import llm

from ..tiny_run import short_run


@pytest.fixture(scope="session")
def runs(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A finished run, one that was stopped in its second iteration, one that has only sampled, and another finished."""
    home = tmp_path_factory.mktemp("runs")

    def label(text: str) -> str | None:
        return "short" if len(text) < 4 else "long"

    short_run(tiny_folder, home / "whole", label=label).run()
    short_run(tiny_folder, home / "half", iterations=1).run()
    short_run(tiny_folder, home / "half", iterations=2).run("sample")
    short_run(tiny_folder, home / "sampled").run("sample")
    short_run(tiny_folder, home / "other", responses=4, fit=llm.Fit(epochs=2, learning_rate=1e-3)).run()
    return {name: home / name for name in ("whole", "half", "sampled", "other")}
