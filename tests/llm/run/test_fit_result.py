"""What a fit says of itself: which warnings help, and which of its figures its responses do not carry."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from nashward.llm.run.stages.fit_result import FitResult, FitScores
from nashward.llm.training.experience import Experience


def _experience(moved: float, prompts: int = 8) -> Experience:
    """Two responses to each prompt, the first of which is 1 nat too unlikely; the fit made it so much likelier."""
    zero = torch.zeros(prompts, 2)
    sign = torch.tensor([1.0, -1.0]).expand(prompts, 2)
    return Experience(
        now=moved * sign / 2, anchor=zero, sampler=zero, payoffs=0.5 + sign / 4, weights=torch.full((prompts, 2), 0.5),
        lengths=torch.full((prompts, 2), 3), target=sign / 2, baseline="constant", size=2.0, start=zero, reference=zero,
    )  # fmt: skip


def _result(moved: float, fraction: float) -> FitResult:
    scores = FitScores(_experience(moved), _experience(moved), None)
    records = [{"loss": 0.25}, {"loss": 0.6}]
    return FitResult(scores, records, 0.25, 1e-3, fraction, 0.5, [], [])


def test_a_rate_is_too_high_where_the_fit_gained_nothing_by_it() -> None:
    before = FitScores(_experience(0.0), _experience(0.0), None)
    assert not any("too high" in line for line in _result(0.8, 1.1).warnings(before, 2))
    assert any("too high" in line for line in _result(0.2, 0.1).warnings(before, 2))
    alone = dataclasses.replace(_result(0.8, 1.0), scores=FitScores(_experience(0.8)))
    assert any("too high" in line for line in alone.warnings(FitScores(_experience(0.0)), 2))


@pytest.mark.parametrize(("prompts", "advised"), [(1, False), (7, False), (8, True)])
def test_a_handful_of_held_out_prompts_advises_no_other_learning_rate(prompts: int, advised: bool) -> None:
    before, after = (FitScores(_experience(moved), None, _experience(moved, prompts)) for moved in (0.0, 2.5))
    result = dataclasses.replace(_result(0.8, 1.0), scores=after, records=[{"loss": 0.25}, {"loss": 0.2}])
    (said,) = result.warnings(before, 2)
    assert "held-out prompts rose from" in said
    assert ("--learning-rate" in said) is advised
    assert ("chance" in said) is not advised


def test_a_win_rate_needs_the_responses_that_the_fit_saw_as_well() -> None:
    far = dataclasses.replace(_experience(0.0, 100), now=torch.zeros(100, 2) - 30)
    far.now[0, 0] = 0.0  # one of 200 responses carries all
    few = _experience(0.5, 8)
    assert FitScores(far, few, few).win_rate is None
    known = FitScores(_experience(0.5, 100), few, few)
    assert known.win_rate == pytest.approx(0.5 + 0.25 * float(torch.tanh(torch.tensor(0.25))), abs=1e-6)
    assert known.win_rate_error == pytest.approx(0, abs=1e-9)  # all prompts are alike


def test_a_handful_of_held_out_prompts_has_no_error_and_is_called_chance() -> None:
    few, enough = (FitScores(_experience(0.8, 40), _experience(0.8), _experience(2.5, prompts)) for prompts in (7, 8))
    assert few.win_rate is not None
    assert math.isnan(few.win_rate_error)
    assert not math.isnan(enough.win_rate_error)
    before = FitScores(_experience(0.0, 40), _experience(0.0), _experience(0.0))
    result = dataclasses.replace(_result(0.8, 1.0), records=[{"loss": 0.25}])
    (of_few,), (of_enough,) = (dataclasses.replace(result, scores=of).warnings(before, 1) for of in (few, enough))
    assert "7 prompts may do so by chance" in of_few
    assert "+-" not in of_few
    assert "take more of them" in of_enough


def test_the_error_of_a_win_rate_is_that_of_leaving_prompts_out() -> None:
    random = torch.Generator().manual_seed(0)
    batch = dataclasses.replace(
        _experience(0.0, 200), now=0.3 * torch.randn(200, 2, generator=random),
        payoffs=torch.rand(200, 2, generator=random),
    )  # fmt: skip

    def of(places: list[int]) -> float:
        names = ("now", "anchor", "sampler", "payoffs", "weights", "lengths", "target", "start", "reference")
        part = dataclasses.replace(batch, **{name: getattr(batch, name)[places] for name in names})
        found = FitScores(part).win_rate
        assert found is not None
        return found

    left_out = torch.tensor([of([k for k in range(200) if k != gone]) for gone in range(200)])
    jackknife = float((199 / 200 * (left_out - left_out.mean()).square().sum()).sqrt())
    assert FitScores(batch).win_rate_error == pytest.approx(jackknife, rel=0.03)


def test_a_loss_that_rose_where_it_was_trained_on_is_told_though_validation_prompts_chose_it() -> None:
    before = FitScores(_experience(0.0), _experience(0.0), None)
    records = [{"loss": 0.25}, {"loss": 0.2}]

    def warnings_of(train: Experience) -> list[str]:
        scores = FitScores(train, _experience(0.8), None)
        return FitResult(scores, records, 0.25, 1e-3, 2.0, 0.2, [], []).warnings(before, 2)

    assert warnings_of(_experience(0.8)) == []
    (all_of_them,) = warnings_of(_experience(2.5))
    one = torch.where(torch.arange(8)[:, None] == 0, 20 * _experience(1.0).now, _experience(0.8).now)
    (few,) = warnings_of(dataclasses.replace(_experience(0.8), now=one))
    for told_of, few_of_them in ((all_of_them, False), (few, True)):
        assert "trained on" in told_of
        assert ("few of them" in told_of) is few_of_them
