"""The interpolations of a frontier are those of the run's adapters as they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from nashward.llm.evaluation.objectives import frontier
from nashward.llm.policy.mixture import Mixture
from nashward.llm.store.files import write_checksums
from nashward.llm.store.run_folder import RunFolder


def _adapter(folder: Path, weights: str) -> Mixture:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "weights").write_text(weights)
    write_checksums(folder)
    return Mixture(((folder, 1.0),))


def test_a_step_that_was_made_again_is_interpolated_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def averaged(members: list[tuple[Path, float]], folder: Path) -> None:
        _adapter(folder, " ".join((member / "weights").read_text() for member, _ in members))

    monkeypatch.setattr(frontier, "interpolate", averaged)
    start = _adapter(tmp_path / "start" / "adapter", "zero")
    for weights in ("first", "again", "again"):
        last = _adapter(tmp_path / "iteration-01" / "adapter", weights)
        found = frontier._interpolations(RunFolder(tmp_path), {"start": start, "iteration-01": last})
        assert [*found] == [f"{share} of iteration-01" for share in (0.25, 0.5, 0.75)]
        for blend in found.values():
            ((folder, _),) = blend.members
            assert (folder / "weights").read_text() == f"zero {weights}"
