"""An optimiser step divided among processes: every prompt once, and the gradient of the whole step."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from nashward import llm
from nashward.llm.config.fit import Fit
from nashward.llm.data.rollouts import Response, Rollout, Text
from nashward.llm.policy.handles import Adapter
from nashward.llm.training import batches, division
from nashward.llm.training.batches import MicroBatch, micro_batches, plan_passes
from nashward.llm.training.gradient import Gradient
from nashward.llm.training.losses import loss_settings
from nashward.llm.training.scoring import score
from nashward.llm.training.sft import SFTBatch

from ..ranks import Ranks


@pytest.mark.parametrize("count", [1, 2, 3, 5])
@pytest.mark.parametrize("tokens", [[[900, 5, 5, 5]], [[7], [3], [3]], [[10, 10], [10, 10]], [[4]]])
def test_every_prompt_falls_to_one_process(tokens: list[list[float]], count: int) -> None:
    loads = [0.0] * count
    parts = division.assigned(tokens, loads)
    for batch, owners in zip(tokens, parts, strict=True):
        assert sorted(number for own in owners for number in own) == list(range(len(batch)))
    assert sum(loads) == sum(map(sum, tokens))
    assert max(loads) <= sum(loads) / count + max(map(max, tokens))


def test_a_part_has_the_scores_and_the_passes_of_its_rollouts() -> None:
    rollouts = [_rollout([7] * (k + 1), [[8] * (k + 1)] * 2) for k in range(3)]
    batch = MicroBatch(rollouts, [[0, 1, 5], [2, 3, 4]])
    batch.anchor = torch.arange(6.0).reshape(3, 2)
    part = batch.part([2, 0])
    assert [len(rollout.prompt_ids) for rollout in part.rollouts] == [3, 1]
    assert part.anchor is not None
    assert part.anchor.tolist() == [[4.0, 5.0], [0.0, 1.0]]
    assert [[part.texts[k] for k in one] for one in part.passes] == [
        [batch.texts[k] for k in (0, 1, 5)],
        [batch.texts[4]],
    ]


def _rollout(prompt: list[int], responses: list[list[int]]) -> Rollout:
    answers = [Response(ids, True, "", 1 / len(responses)) for ids in responses]
    payoffs = torch.linspace(0.1, 0.9, len(responses), dtype=torch.float64)
    table = 0.5 + 0.5 * (payoffs[:, None] - payoffs)
    return Rollout(f"{len(prompt)}", prompt, answers, payoffs=payoffs, table=table)


def _step(fit: Fit) -> list[MicroBatch]:
    """Prompts of very different lengths, in a few micro-batches."""
    generator = torch.Generator().manual_seed(3)

    def ids(length: int) -> list[int]:
        return torch.randint(10, 200, (length,), generator=generator).tolist()

    rollouts = [_rollout(ids(4 + k), [ids(n) for n in (3 + 9 * (k % 4), 2, 30 // (k + 1))]) for k in range(9)]
    return micro_batches(rollouts, fit.pass_tokens("cpu"), fit.batch, loss_settings(fit, self_comparison=False))


FITS = {
    "mirror": Fit(learning_rate=1e-3, tokens=400),
    "in one micro-batch": Fit(learning_rate=1e-3, tokens=4000),
    "cut into passes": Fit(learning_rate=1e-3, tokens=40, baseline="centred"),
    "of pairs, clipped": Fit(learning_rate=1e-3, tokens=400, loss="dpo", max_grad_norm=1e-3),
    "with SFT texts": Fit(learning_rate=1e-3, tokens=400, sft_weight=0.5),
}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the processes are forks, which Windows has not")
@pytest.mark.parametrize("name", FITS)
def test_the_reduced_gradient_is_that_of_the_whole_step(name: str, model: llm.LanguageModel, tmp_path: Path) -> None:
    fit = FITS[name]
    model.write_start_adapter(tmp_path / "start", None)
    start = Adapter("start", tmp_path / "start")

    def work(rank: int) -> Any:
        step = _step(fit)
        score(model, step, {start: 1.0}, [start], start)
        texts: list[Text] = [([9, 8, k], [11 + k] * (1 + 5 * k)) for k in range(4)]
        sft = (
            [SFTBatch(texts, plan_passes(texts, fit.pass_tokens("cpu")))]
            if fit.sft_weight and name == "with SFT texts"
            else []
        )
        with model.training(start.folder) as weights:
            gradient = Gradient(model.network, weights, 2.0, fit, model.pad_id, model.on_event, 1.0)
            total, record = gradient(step, sft)
            own, _ = gradient.division.own(step, sft)
            flat = torch.cat([weight.grad.flatten() for weight in weights if weight.grad is not None])
        return total, record, flat.tolist(), sum(len(batch.rollouts) for batch in own)

    total, record, whole, prompts = work(0)
    assert prompts == 9
    for count in (2, 3):
        found = Ranks(count, work, tmp_path / f"{count}").values()
        assert sum(one[3] for one in found) == 9
        assert all(one[3] > 0 for one in found)
        for one in found:
            assert one[2] == found[0][2]  # bit by bit the same in all
            difference = torch.tensor(one[2]) - torch.tensor(whole)
            assert float(difference.norm()) <= 1e-6 * float(torch.tensor(whole).norm())
            assert one[0] == pytest.approx(total, rel=1e-6)
            assert one[1] == pytest.approx(record, rel=1e-6)


def test_texts_that_do_not_fit_pass_in_parts_after_their_division_too(
    model: llm.LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The step is taken again once a pass is halved, and would be without end if the halves were forgotten."""
    monkeypatch.setattr(division, "processes", SimpleNamespace(count=2, rank=0))
    model.write_start_adapter(tmp_path / "start", None)
    start = Adapter("start", tmp_path / "start")
    step = _step(FITS["mirror"])[:1]
    score(model, step, {start: 1.0}, [start], start)
    texts: list[Text] = [([9, 8, k], [11, 12, 13]) for k in range(8)]
    real, failed = batches.sequence_logprobs, list[int]()

    def small(network: Any, prompts: Any, *given: Any) -> torch.Tensor:
        if prompts[0][:2] == [9, 8] and len(prompts) > 1:
            failed.append(len(prompts))
            if len(failed) > 20:
                raise RuntimeError("the same pass ran out of memory again and again")
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(network, prompts, *given)

    with model.training(start.folder) as weights:
        gradient = Gradient(model.network, weights, 2.0, FITS["with SFT texts"], model.pad_id, model.on_event, 1.0)
        _, record = gradient(step, [SFTBatch(texts, [list(range(8))])])
        monkeypatch.setattr(batches, "sequence_logprobs", small)
        _, halved = gradient(step, [SFTBatch(texts, [list(range(8))])])
    assert len(failed) > 1
    assert halved["sft_nll"] == pytest.approx(record["sft_nll"], rel=1e-5)
