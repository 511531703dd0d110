"""Validation prompts decide how far an adapter goes: never to a higher loss, and nowhere where nothing is gained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nashward import games, llm
from nashward.llm.oracles import PreferenceOracle
from nashward.llm.policy.sampling import seed_of
from nashward.llm.run.stages import refit

from .. import tiny
from ..killed import Killed, dies_at
from ..tiny_run import adapter_weights, changed, self_play

RATES = (None, 5e-4, 2e-2, 0.3)
PROMPTS = [f"Say {i} things" for i in range(24)]


def _run(source: Path, folder: Path, oracle: Any = None, **fit: Any) -> llm.SelfPlay:
    settings = {"epochs": 3, "batch": 4, "held_out": 0.2, "validation": 0.25, "checkpoint_seconds": 0.0, **fit}
    return self_play(
        policy=source, oracle=oracle or tiny.brevity(), solver=games.MWU(4.0), prompts=PROMPTS, folder=folder,
        iterations=1, responses=6, sampling=llm.Sampling(max_new_tokens=8), lora=llm.Lora(rank=4),
        fit=llm.Fit(**settings),
    )  # fmt: skip


@pytest.fixture
def tiny_folder(two_layers: Path) -> Path:
    return two_layers  # one layer learns of the others what is right on the validation prompts too


@pytest.mark.parametrize("rate", RATES)
def test_the_loss_on_validation_prompts_never_rises(rate: float | None, tiny_folder: Path, tmp_path: Path) -> None:
    (row,) = _run(tiny_folder, tmp_path / "run", learning_rate=rate).run().metrics
    before = row["validation"]["target_rms"] ** 2  # at the start the log-ratio is 0
    assert row["validation"]["loss"] <= before * (1 + 1e-6)
    assert 0 <= row["line_fraction"] <= 2
    if rate == RATES[-1]:  # too high: what was done about it, and half of it
        assert f"kept {row['line_fraction']:.2g} of its way" in row["warning"]
        assert "--learning-rate 0.1" in row["warning"]
    assert row["validation"]["r2"] >= -1e-6


def test_the_adapter_lies_on_the_line_at_the_best_scale(tiny_folder: Path, tmp_path: Path) -> None:
    """Measured at the end of the line, the best scale is how far the other adapter went."""
    (whole,) = _run(tiny_folder, tmp_path / "whole", learning_rate=2e-3, validation=0.0, held_out=0.45).run().metrics
    (row,) = _run(tiny_folder, tmp_path / "run", learning_rate=2e-3).run().metrics
    start, end, found = (adapter_weights(tmp_path / run, stage) for run, stage in
                         (("whole", "start"), ("whole", "iteration-01"), ("run", "iteration-01")))  # fmt: skip
    assert whole["prompts"] == row["prompts"]
    fraction = row["line_fraction"]
    assert 0 < fraction < 2
    assert float((found - start) @ (end - start) / (end - start).square().sum()) == pytest.approx(fraction, rel=1e-4)
    assert row["validation"]["best_scale"] == pytest.approx(1, abs=0.15)  # the log-ratio is nearly linear in it


class _OpposedOnValidation(PreferenceOracle):
    """Shorter is better, and on validation prompts longer: whatever is learned from the others is wrong on them."""

    symmetric = transitive = True
    name = "opposed"

    def raw_logits(self, prompts: Any, candidates: Any, pairs: Any) -> list[np.ndarray]:
        order = sorted(
            PROMPTS, key=lambda text: seed_of(0, "held out", llm.Prompt(({"role": "user", "content": text},)).id)
        )
        validation = set(order[round(0.2 * len(order)) :][: round(0.25 * len(order))])
        signs = [-1.0 if prompt in validation else 1.0 for prompt in prompts]
        shorter = tiny.brevity().raw_logits(prompts, candidates, pairs)
        return [sign * logits for sign, logits in zip(signs, shorter, strict=True)]


@pytest.mark.parametrize("rate", [5e-4, 2e-3])
def test_where_nothing_is_gained_the_policy_stays(rate: float, tiny_folder: Path, tmp_path: Path) -> None:
    (row,) = _run(tiny_folder, tmp_path / "run", _OpposedOnValidation(), learning_rate=rate).run().metrics
    assert row["line_fraction"] == 0
    assert "stays as it was" in row["warning"]
    assert "6 validation prompts" in row["warning"]
    assert row["train"]["kl"] == 0
    assert torch.equal(adapter_weights(tmp_path / "run"), adapter_weights(tmp_path / "run", "start"))


@pytest.mark.parametrize("loss", ["dpo", "ipo", "rebel"])
def test_other_losses_do_not_rise_either(loss: Any, tiny_folder: Path, tmp_path: Path) -> None:
    (row,) = _run(tiny_folder, tmp_path / "run", learning_rate=0.3, loss=loss).run().metrics
    assert row["line_fraction"] < 1 or row["warning"] is None
    if row["line_fraction"] == 0:
        assert "stays as it was" in row["warning"]
        assert row["train"]["kl"] == 0
    else:
        assert row["train"]["loss"] < row["at_start"]["loss"]


def test_one_prompt_is_left_to_train_on(tiny_folder: Path, tmp_path: Path) -> None:
    (row,) = _run(tiny_folder, tmp_path / "run", learning_rate=1e-3, held_out=0.74, validation=0.25).run().metrics
    assert row["held_out"]
    assert row["validation"]


@pytest.mark.slow
def test_a_rate_that_was_lowered_is_not_made_up_for(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refits halve the rate; the line is then searched up to where the fit went and no further."""
    settings = {"learning_rate": 2e-5, "refits": 3}
    (row,) = _run(tiny_folder, tmp_path / "first", **settings).run().metrics
    assert (row["refits"], row["line_fraction"]) == ([], 2)  # so low a rate falls short of the target
    found = refit.line_minimum
    results = iter([(0.0, 1.0), (0.0, 1.0)])  # nothing gained, twice
    monkeypatch.setattr(refit, "line_minimum", lambda *given: next(results, None) or found(*given))
    (row,) = _run(tiny_folder, tmp_path / "run", **settings).run().metrics
    assert [fit["learning_rate"] for fit in row["refits"]] == [2e-5, 1e-5]
    assert row["line_fraction"] == 1


@pytest.mark.slow
def test_a_fitted_mixture_is_no_false_alarm(tiny_folder: Path, tmp_path: Path) -> None:
    """Its fit starts away from its anchor: R^2 is below 0 although the loss fell."""
    play = _run(tiny_folder, tmp_path / "run", learning_rate=2e-3)
    play = changed(play, solver=games.NashMD(step=2.0, tau=0.3), iterations=2)
    for row in play.run().metrics:
        assert "carry over" not in (row["warning"] or "")


def test_few_prompts_have_no_validation(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.PROMPTS", PROMPTS[:12])
    (row,) = _run(tiny_folder, tmp_path / "run", learning_rate=2e-3).run().metrics
    assert row["validation"] == {}
    assert row["line_fraction"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["backward", "logprobs"])
def test_killed_in_the_scoring_the_trial_the_fit_or_the_search_it_ends_the_same(
    name: str, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        calls = dies_at(patch, None, name)
        _run(tiny_folder, tmp_path / "whole").run()
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        folder = tmp_path / f"cut-{share}"
        with monkeypatch.context() as patch:
            dies_at(patch, 1 + round(share * (calls[0] - 1)), name)
            with pytest.raises(Killed):
                _run(tiny_folder, folder).run()
        _run(tiny_folder, folder).run()
        whole, cut = ((run / "iteration-01" / "metrics.jsonl").read_bytes() for run in (tmp_path / "whole", folder))
        assert whole == cut
        assert torch.equal(adapter_weights(folder), adapter_weights(tmp_path / "whole"))


def test_another_rate_continues_from_the_judged_responses(tiny_folder: Path, tmp_path: Path) -> None:
    """Nothing is sampled, judged or scored again, and the adapter is that of a run with the rate from its begin."""
    alone = _run(tiny_folder, tmp_path / "alone", learning_rate=1e-3).run()
    _run(tiny_folder, tmp_path / "run", learning_rate=2e-2).run()
    parts = ("responses", "judgements", "targets")
    files = [file for part in parts for file in (tmp_path / "run" / "iteration-01" / part).iterdir()]
    times = {file: file.stat().st_mtime_ns for file in files}
    other = _run(tiny_folder, tmp_path / "run", learning_rate=1e-3)
    with pytest.raises(ValueError, match="learning_rate"):
        other.run()
    run = other.run(redo="train")
    assert torch.equal(adapter_weights(run.folder), adapter_weights(alone.folder))
    assert run.metrics == alone.metrics
    assert times == {file: file.stat().st_mtime_ns for file in files}
    assert json.loads((run.folder / "run.json").read_text())["config"]["fit"]["learning_rate"] == 1e-3
    other.run()  # from now on it is the run's
