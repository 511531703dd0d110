"""The likelihood of held-out texts under a mixture, and its error."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from nashward.llm.evaluation.sft_likelihood import _mean
from nashward.llm.policy.mixture import Mixture


def test_a_mixture_draws_a_member_for_a_whole_text() -> None:
    a, b, c = Path("a"), Path("b"), Path("c")
    known = {a: torch.tensor([-6.0, -2.0, -9.0]).double(), b: torch.tensor([-3.0, -8.0, -1.0]).double()}
    tokens = torch.tensor([4.0, 2.0, 3.0]).double()
    found = _mean(Mixture(((a, 0.25), (b, 0.75))), known, tokens)
    by_hand = np.log(0.25 * np.exp(known[a].numpy()) + 0.75 * np.exp(known[b].numpy()))
    assert found["value"] == pytest.approx(by_hand.sum() / 9)
    drawn = np.random.default_rng(0).integers(3, size=(200_000, 3))  # the bootstrap's spread, with n - 1 for n
    spread = (by_hand[drawn].sum(1) / tokens.numpy()[drawn].sum(1)).std() * (3 / 2) ** 0.5
    assert found["standard_error"] == pytest.approx(spread, rel=0.2)
    assert _mean(Mixture(((a, 1.0),)), known, tokens)["value"] == pytest.approx(-17 / 9)
    one = _mean(Mixture(((c, 1.0),)), {c: torch.tensor([-4.0]).double()}, torch.tensor([2.0]).double())
    assert one == {"value": -2.0, "standard_error": None}
