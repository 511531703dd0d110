"""The win rates of a Step's objectives over the start, and their errors."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from nashward.llm.evaluation.win_rates.win_rate import WinRate
from nashward.llm.oracles import Combination
from nashward.llm.policy.handles import Adapter
from nashward.llm.run.payoffs.objectives import StepObjectives

WINS = torch.tensor([[0.9, 0.7], [0.4, 0.2], [0.6, 0.8], [0.5, 0.1]], dtype=torch.float64)


@pytest.mark.parametrize("weights", [[1.0, 1.0, 1.0, 1.0], [2.0, 2.0, 1e-12, 2.0]])
def test_its_error_is_that_of_the_evaluation(weights: list[float]) -> None:
    """Of few prompts a variance over n is too small: by a seventh of the error of four prompts."""
    reference, policy = Adapter("start", Path("start")), Adapter("iteration-01", Path("iteration-01"))
    prompts: Any = [SimpleNamespace(weight=weight) for weight in weights]
    kept = {(policy, reference, "plain"): WINS, ("weights", policy): torch.full((4, 2), 0.5).double()}
    combination = Combination.read(("plain", "long"), "weights")
    found = StepObjectives(combination, None, prompts, range(4), reference, False, kept)  # type: ignore[arg-type]
    played = WINS.mean(1)[torch.tensor(weights) > 0.5].numpy()
    expected = WinRate.of(played)
    assert found.over_start(policy, "plain") == pytest.approx((expected.value, expected.standard_error))
    assert expected.standard_error == pytest.approx(played.std(ddof=1) / len(played) ** 0.5)
