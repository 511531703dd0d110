"""The line of a Step at the end of align: of which prompts each figure is, and how few they are."""

from __future__ import annotations

from typing import Any

import pytest

from nashward.cli.commands.runs.align import _fit_summary


def _row(**held_out: Any) -> dict[str, Any]:
    train = {"target_rms": 2.43, "log_ratio_rms": 2.85, "share": 0.88}
    return {"train": train, "held_out": held_out, "learning_rate": 1e-3, "opponent": {"start": 1.0}, "r2_ceiling": 0.8}


@pytest.mark.parametrize(
    ("error", "prompts", "r2"), [(None, 2, "0.40 (2 prompts) of at most 0.80"), (0.1, 9, "0.40 ± 0.10 of at most 0.80")]
)
def test_shares_are_told_apart_and_r2_of_few_prompts_has_their_number(
    error: float | None, prompts: int, r2: str
) -> None:
    line = _fit_summary(_row(share=0.373, r2=0.4, r2_error=error, prompts=prompts), ceilings=True)
    assert "0.88 in training" in line
    assert "0.37 on held-out prompts" in line
    assert line.endswith(r2)


def test_without_held_out_prompts_the_share_is_that_in_training() -> None:
    assert _fit_summary(_row(), ceilings=True).endswith("in training")
