"""A training that dies goes on from its checkpoint and ends in the same adapter, bit by bit, under every optimiser."""

from __future__ import annotations

import math
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from nashward import games, llm
from nashward.llm.policy.model import WEIGHTS
from nashward.llm.store.run_folder import RunFolder
from nashward.llm.training import batches
from nashward.llm.training.batches import MicroBatch
from nashward.llm.training.checkpoint import Checkpoints, State
from nashward.llm.training.optimize import OPTIMISERS

from .. import tiny
from ..killed import Killed, dies_at
from ..tiny_run import self_play


def _play(source: Path, folder: Path, optimiser: str = "adamw", **more: Any) -> llm.SelfPlay:
    settings: dict[str, Any] = {"learning_rate": 2e-3, "epochs": 2, "batch": 4, "checkpoint_seconds": 0.0}
    if optimiser == "lbfgs":
        settings |= {"learning_rate": 1.0, "batch": 100, "max_grad_norm": math.inf, "epochs": 4}
    return self_play(
        policy=source, oracle=tiny.high_bytes(), solver=games.MWU(2.0), prompts=[f"Say {i} things" for i in range(14)],
        folder=folder, iterations=1, responses=3, sampling=llm.Sampling(max_new_tokens=6),
        # 64 x 64 entries, the least that are kept in 8 bits
        lora=llm.Lora(rank=64), fit=llm.Fit(optimiser=optimiser, held_out=0.2, validation=0.0, **{**settings, **more}),  # type: ignore[arg-type]
    )  # fmt: skip


def _dies_after(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    real, saves = Checkpoints.save, 0

    def save(self: Checkpoints, *given: Any) -> None:
        nonlocal saves
        real(self, *given)
        saves += 1
        if saves == count:
            raise Killed

    monkeypatch.setattr(Checkpoints, "save", save)


def _adapter(folder: Path) -> dict[str, bytes]:
    stage = folder / "iteration-01"
    return {name: (stage / name).read_bytes() for name in (f"adapter/{WEIGHTS}", "metrics.jsonl")}


@pytest.mark.filterwarnings("ignore:Paged optimizers are not supported on CPU")
@pytest.mark.parametrize(
    "optimiser", [pytest.param(name, marks=[pytest.mark.slow] * (name == "lbfgs")) for name in OPTIMISERS]
)
def test_a_training_that_dies_twice_ends_the_same(
    optimiser: str, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _play(tiny_folder, tmp_path / "whole", optimiser).run()
    counted, real = 0, MicroBatch.backward

    def counting(self: MicroBatch, *given: Any) -> float:
        nonlocal counted
        counted += 1
        return real(self, *given)

    for saves in (2, 1):
        with monkeypatch.context() as patch:
            _dies_after(patch, saves)
            with pytest.raises(Killed):
                _play(tiny_folder, tmp_path / "cut", optimiser).run()
    with monkeypatch.context() as patch:
        patch.setattr(MicroBatch, "backward", counting)
        _play(tiny_folder, tmp_path / "cut", optimiser).run()
    assert _adapter(tmp_path / "cut") == _adapter(tmp_path / "whole")
    assert not (tmp_path / "cut" / "iteration-01" / "training").exists()
    # three of six optimiser steps were left, one micro-batch each; of L-BFGS one of four
    assert counted == 3 if optimiser != "lbfgs" else counted > 0


@pytest.mark.slow
def test_what_was_halved_stays_halved(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Out of memory once, in scoring and in training: a restart passes the same parts, and ends the same."""

    def play(folder: Path, fails: set[int], dies: int | None) -> None:
        calls = 0
        real = batches.sequence_logprobs

        def sometimes(network: Any, prompts: Any, responses: Any, pad_id: int) -> torch.Tensor:
            nonlocal calls
            calls += 1
            if calls in fails:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return real(network, prompts, responses, pad_id)

        with monkeypatch.context() as patch:
            patch.setattr(batches, "sequence_logprobs", sometimes)
            if dies is not None:
                dies_at(patch, dies)
            _play(tiny_folder, folder).run()

    play(tmp_path / "whole", {2, 8}, None)
    with pytest.raises(Killed):
        play(tmp_path / "cut", {2, 8}, 5)
    play(tmp_path / "cut", set(), None)
    events = (tmp_path / "whole" / "events.jsonl").read_text()
    assert "scoring" in events
    assert "training" in events
    assert _adapter(tmp_path / "cut") == _adapter(tmp_path / "whole")
    play(tmp_path / "undisturbed", set(), None)
    assert _adapter(tmp_path / "undisturbed") != _adapter(tmp_path / "whole")  # so the halves are to be seen


def test_a_request_to_stop_leaves_a_checkpoint_whatever_the_time(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop, real = threading.Event(), MicroBatch.backward

    def backward(self: MicroBatch, *given: Any) -> float:
        stop.set()
        return real(self, *given)

    with monkeypatch.context() as patch:
        patch.setattr(MicroBatch, "backward", backward)
        run = _play(tiny_folder, tmp_path / "cut", checkpoint_seconds=1e9).run(stop=stop)
    assert run.interrupted
    assert run.stopped == "iteration-01: training: stopped as requested"
    assert [folder.name for folder in (tmp_path / "cut" / "iteration-01" / "training").iterdir()] == ["0"]
    _play(tiny_folder, tmp_path / "cut", checkpoint_seconds=5).run()  # another interval is no other run
    _play(tiny_folder, tmp_path / "whole").run()
    assert _adapter(tmp_path / "cut") == _adapter(tmp_path / "whole")


def test_a_damaged_newest_checkpoint_leaves_the_one_before(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = RunFolder(tmp_path)
    kept = Checkpoints(run, tmp_path / "training", 0)
    for count in (1, 2, 3):
        weights = [torch.full((2, 2), float(count))]
        kept.save("fit", State(weights, {}, {}, [[[0]]], [{"loss": 0.5}] * count), 9)
    assert Checkpoints(run, tmp_path / "training", 0).load("another fit") is None
    file = tmp_path / "training" / "0" / "rest.pt"  # of the third
    file.write_bytes(file.read_bytes()[:100])
    again = Checkpoints(run, tmp_path / "training", 0)
    state = again.load("fit")
    assert state is not None
    assert len(state.records) == 2
    assert torch.equal(state.weights[0], torch.full((2, 2), 2.0))
    assert "rest.pt was altered or cut; it is set aside in" in caplog.text
    again.save("fit", State(weights, {}, {}, [[[0]]], [{"loss": 0.5}] * 4), 9)  # in the place of the damaged one
    assert sorted(folder.name for folder in (tmp_path / "training").iterdir()) == ["0", "1"]


def test_a_negative_interval_is_refused() -> None:
    with pytest.raises(ValueError, match=r"checkpoint_seconds .*-1"):
        llm.Fit(checkpoint_seconds=-1)
    with pytest.raises(ValueError, match=r"checkpoint_seconds .*inf"):
        llm.Fit(checkpoint_seconds=float("inf"))
