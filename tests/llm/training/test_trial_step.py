"""The learning rate of a trial step: how far the optimiser's first step moves the log-ratio."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from nashward.llm import Fit, read_prompts
from nashward.llm.policy.model import LanguageModel
from nashward.llm.training.batches import MicroBatch
from nashward.llm.training.gradient import Gradient
from nashward.llm.training.optimize import OPTIMISERS
from nashward.llm.training.trial_step import FIRST, SHARE, learning_rate

from .. import tiny

SIZE = 4.0


def _batch(model: LanguageModel, payoffs: list[float]) -> MicroBatch:
    """Two prompts with the same payoffs, scored under the start."""
    ids = [[40 + k, 60 + 2 * k, 80] for k in range(len(payoffs))]
    prompts = [read_prompts([f"Say {k}"]).kept[0] for k in range(2)]
    batch = MicroBatch([tiny.rollout(p.id, model.encode(p), ids, torch.tensor(payoffs)) for p in prompts])
    now = batch.logprobs(model.network, model.pad_id)
    batch.anchor = batch.sampler = batch.start = batch.reference = now
    return batch


def _rate(model: LanguageModel, weights: list[torch.nn.Parameter], batch: MicroBatch, **settings: Any) -> float:
    fit = Fit(**settings)
    return learning_rate(Gradient(model.network, weights, SIZE, fit, model.pad_id, lambda _: None, 1.0), [batch])


@pytest.mark.parametrize("optimiser", ["adamw", "rmsprop"])
def test_the_optimisers_first_step_moves_the_log_ratio_by_its_share_of_the_target(
    optimiser: Any, tiny_folder: Path, tmp_path: Path
) -> None:
    model = LanguageModel.from_pretrained(tiny_folder)
    model.write_start_adapter(tmp_path / "start", None)
    with model.training(tmp_path / "start") as weights:
        batch = _batch(model, [0.9, 0.6, 0.2])
        before = [weight.detach().clone() for weight in weights]
        rate = _rate(model, weights, batch, optimiser=optimiser)
        assert all(torch.equal(a, b) for a, b in zip(before, weights, strict=True))
        assert all(weight.grad is None for weight in weights)
        # the optimiser itself, in place of the sign of the gradient
        fit = Fit(optimiser=optimiser)
        Gradient(model.network, weights, SIZE, fit, model.pad_id, lambda _: None, 1.0)([batch], ())
        OPTIMISERS[optimiser](weights, rate).step()
        moved = batch.logprobs(model.network, model.pad_id) - batch.start  # type: ignore[operator]
        target = batch.targets(SIZE, "plug-in")
        assert float(moved.square().mean().sqrt() / target.square().mean().sqrt()) == pytest.approx(SHARE, rel=0.15)


def test_the_rate_is_proportional_to_the_target(tiny_folder: Path, tmp_path: Path) -> None:
    model = LanguageModel.from_pretrained(tiny_folder)
    model.write_start_adapter(tmp_path / "start", None)
    with model.training(tmp_path / "start") as weights:
        batch = _batch(model, [0.55, 0.5, 0.45])
        once = _rate(model, weights, batch, baseline="constant")
        batch.payoffs = 0.5 + 2 * (batch.payoffs - 0.5)
        assert _rate(model, weights, batch, baseline="constant") == pytest.approx(2 * once, rel=1e-3)


def test_where_nothing_is_to_be_learned_the_rate_is_a_small_number(tiny_folder: Path, tmp_path: Path) -> None:
    model = LanguageModel.from_pretrained(tiny_folder)
    model.write_start_adapter(tmp_path / "start", None)
    with model.training(tmp_path / "start") as weights:
        assert _rate(model, weights, _batch(model, [0.5, 0.5, 0.5])) == FIRST
        assert _rate(model, weights, _batch(model, [0.9, 0.5]), optimiser="lbfgs", max_grad_norm=float("inf")) == 1.0


def test_a_trial_that_is_left_leaves_weights_gradients_and_random_numbers_as_they_were(
    tiny_folder: Path, tmp_path: Path
) -> None:
    model = LanguageModel.from_pretrained(tiny_folder)
    model.write_start_adapter(tmp_path / "start", None)
    passes: list[int] = []

    def before_pass() -> None:
        passes.append(1)
        torch.rand(1)
        if len(passes) == 2:
            raise InterruptedError

    with model.training(tmp_path / "start") as weights:
        batch = _batch(model, [0.9, 0.6, 0.2])
        before, drawn = [weight.detach().clone() for weight in weights], torch.get_rng_state()
        gradient = Gradient(model.network, weights, SIZE, Fit(), model.pad_id, lambda _: None, 1.0)
        whole = learning_rate(gradient, [batch])
        with pytest.raises(InterruptedError):
            learning_rate(gradient, [batch], before_pass)
        assert all(torch.equal(a, b) for a, b in zip(before, weights, strict=True))
        assert all(weight.grad is None for weight in weights)
        assert torch.equal(torch.get_rng_state(), drawn)
        assert learning_rate(gradient, [batch]) == whole
