"""The control of a fit on the tiny model: drawn back to a KL, made again at half the rate, and what the metrics say."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from nashward import games, llm
from nashward.llm.run.stages import refit
from nashward.llm.store.run_folder import RunFolder
from nashward.llm.training.batches import MicroBatch

from .. import tiny
from ..killed import Killed, dies_at
from ..tiny_run import adapter_weights, self_play

FIT: dict[str, Any] = {
    "learning_rate": 5e-3,
    "epochs": 3,
    "batch": 4,
    "held_out": 0.2,
    "validation": 0.0,
    "checkpoint_seconds": 0.0,
}
WILD = {**FIT, "learning_rate": 0.1}


def _run(source: Path, folder: Path, **fit: Any) -> llm.Run:
    return self_play(
        policy=source, oracle=tiny.high_bytes(), solver=games.MWU(2.0), prompts=[f"Say {i} things" for i in range(12)],
        folder=folder, iterations=1, responses=3, sampling=llm.Sampling(max_new_tokens=6), lora=llm.Lora(rank=4),
        fit=llm.Fit(**{**FIT, **fit}),
    ).run()  # fmt: skip


@pytest.mark.slow
def test_the_adapter_is_drawn_back_on_a_line_to_the_kl_asked_for(tiny_folder: Path, tmp_path: Path) -> None:
    (free,) = _run(tiny_folder, tmp_path / "free").metrics
    assert free["line_fraction"] == 1
    assert free["train"]["kl"] > 0.02
    (row,) = _run(tiny_folder, tmp_path / "bound", target_kl=0.02).metrics
    assert 0.01 < row["train"]["kl"] <= 0.02
    assert f"{row['line_fraction']:.2g} of the way" in row["warning"]
    start, end, found = (adapter_weights(tmp_path / run, stage) for run, stage in
                         (("free", "start"), ("free", "iteration-01"), ("bound", "iteration-01")))  # fmt: skip
    torch.testing.assert_close(found - start, row["line_fraction"] * (end - start), atol=1e-7, rtol=1e-4)
    (within,) = _run(tiny_folder, tmp_path / "within", target_kl=10.0).metrics
    assert within["train"] == free["train"]
    assert torch.equal(adapter_weights(tmp_path / "within"), end)


@pytest.mark.slow
def test_a_fit_that_made_things_worse_is_made_again_at_half_the_rate(tiny_folder: Path, tmp_path: Path) -> None:
    (worse,) = _run(tiny_folder, tmp_path / "worse", **WILD).metrics
    before = worse["held_out"]["loss"]
    assert "The loss on held-out prompts rose" in worse["warning"]
    (row,) = _run(tiny_folder, tmp_path / "again", **WILD, refits=2).metrics
    assert [refit["learning_rate"] for refit in row["refits"]] == [0.1, 0.05]
    assert row["refits"][0]["loss"] == before
    events = [json.loads(line) for line in (tmp_path / "again" / "events.jsonl").read_text().splitlines()]
    assert [event["refit"] for event in events if "refit" in event] == row["refits"]
    # The one that is kept is the fit at that rate, from the start, as if nothing had been before it.
    (alone,) = _run(tiny_folder, tmp_path / "alone", **{**WILD, "learning_rate": 0.025}).metrics
    assert alone["held_out"] == row["held_out"]
    assert torch.equal(adapter_weights(tmp_path / "alone"), adapter_weights(tmp_path / "again"))


def test_a_good_fit_is_made_once(tiny_folder: Path, tmp_path: Path) -> None:
    (row,) = _run(tiny_folder, tmp_path / "run", learning_rate=1e-3, held_out=0.0, validation=0.0, refits=3).metrics
    assert row["refits"] == []
    assert row["held_out"] == {}
    assert row["warning"] is None


def test_a_fit_that_diverges_is_made_again_too(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refit.FitScores, "loss", property(lambda scores: math.nan))
    with pytest.raises(ValueError, match=r"is nan; .* below 0\.0025"):
        _run(tiny_folder, tmp_path / "run", refits=1)
    assert not (tmp_path / "run" / "iteration-01" / "adapter").exists()
    assert RunFolder(tmp_path / "run").step_values("iteration-01")["refits"] == [{"learning_rate": 0.005, "loss": None}]


@pytest.mark.slow
@pytest.mark.parametrize("call", [2, 5, 9, 12])
def test_killed_in_a_fit_or_in_a_refit_it_ends_the_same(
    call: int, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {**WILD, "refits": 2}
    _run(tiny_folder, tmp_path / "whole", **settings)
    with monkeypatch.context() as patch:
        dies_at(patch, call)
        with pytest.raises(Killed):
            _run(tiny_folder, tmp_path / "cut", **settings)
    _run(tiny_folder, tmp_path / "cut", **settings)
    assert torch.equal(adapter_weights(tmp_path / "cut"), adapter_weights(tmp_path / "whole"))
    whole, cut = ((tmp_path / run / "iteration-01" / "metrics.jsonl").read_bytes() for run in ("whole", "cut"))
    assert whole == cut


@pytest.mark.slow
def test_made_again_on_request_the_training_begins_at_the_full_rate(tiny_folder: Path, tmp_path: Path) -> None:
    run = _run(tiny_folder, tmp_path / "run", **WILD, refits=1)
    home = RunFolder(run.folder)
    home.redo("train")
    assert not home.step_values("iteration-01")["refits"]
    assert _run(tiny_folder, tmp_path / "run", **WILD, refits=1).metrics == run.metrics


@pytest.mark.slow
def test_a_run_whose_first_loss_is_not_the_expected_one_says_so(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (row,) = _run(tiny_folder, tmp_path / "right", held_out=0.0, validation=0.0).metrics
    assert row["first_loss"]["observed"] == pytest.approx(row["first_loss"]["expected"], rel=1e-6)
    real = MicroBatch.backward
    with monkeypatch.context() as patch:
        patch.setattr(MicroBatch, "backward", lambda self, *given: 2 * real(self, *given))  # a factor, as in errata
        (row,) = _run(tiny_folder, tmp_path / "wrong", held_out=0.0, validation=0.0).metrics
    assert "The first loss was" in row["warning"]


def test_the_metrics_say_what_the_policy_was_and_is(tiny_folder: Path, tmp_path: Path) -> None:
    run = _run(tiny_folder, tmp_path / "run")
    (row,) = run.metrics
    records = [json.loads(line) for line in (run.folder / "iteration-01" / "metrics.jsonl").read_text().splitlines()]
    norms = [record["gradient_norm"] for record in records if "step" in record]
    assert row["clip_fraction"] == sum(norm > 1 for norm in norms) / len(norms)
    assert row["before"]["relative_ess"] == 1
    assert row["before"]["kl_to_reference"] == 0
    assert 0.2 < row["after"]["relative_ess"] < 1
    assert row["after"]["kl_to_reference"] > 0
    assert 1 <= row["before"]["tokens"] <= 6
    # The tiny model's tokens are nearly uniform over 263: its entropy is near log 263 less what its head knows.
    assert 3 < row["before"]["entropy_per_token"] < math.log(263)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"target_kl": 0.0}, "target_kl must be positive, got 0"), ({"refits": -1}, "refits must be at least 0, got -1")],
)
def test_bad_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        llm.Fit(**settings)
