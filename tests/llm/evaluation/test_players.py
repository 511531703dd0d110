"""The players of an evaluation: which of them draw the same responses."""

from __future__ import annotations

from pathlib import Path

from nashward.llm.evaluation.players import _seeds
from nashward.llm.policy.adapters.peft_format import WEIGHTS
from nashward.llm.policy.mixture import Mixture
from nashward.llm.store.run_folder import RunFolder


def test_different_policies_draw_independently_and_equal_ones_the_same(tmp_path: Path) -> None:
    adapters = {name: tmp_path / name / "adapter" for name in ("start", "iteration-01", "iteration-02", "iteration-03")}
    for name, weights in zip(adapters, (b"start", b"start", b"second", b"third"), strict=True):
        adapters[name].mkdir(parents=True)
        (adapters[name] / WEIGHTS).write_bytes(weights)
    players = {name: Mixture(((folder, 1.0),)) for name, folder in adapters.items()}
    unmoved = Mixture(((adapters["start"], 0.5), (adapters["iteration-01"], 0.5)))
    mixed = Mixture(((adapters["iteration-01"], 0.5), (adapters["iteration-02"], 0.5)))
    seeds = _seeds(RunFolder(tmp_path), {**players, "unmoved": unmoved, "mixture": mixed}, 7)
    assert seeds["start"] == seeds["iteration-01"] == seeds["unmoved"] == 7
    assert len({seeds[name] for name in ("start", "iteration-02", "iteration-03", "mixture")}) == 4
