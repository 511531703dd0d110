"""When a run says that a larger step is likely to win more, and which."""

from __future__ import annotations

from typing import Any

import pytest

from nashward.llm.run.larger_step import larger_step


def _row(
    r2: float | None = 0.2,
    error: float | None = 0.05,
    kl: float = 0.02,
    cyclic: float | None = 0.0,
    prompts: int = 160,
    warning: str | None = None,
) -> Any:
    measured = {"held_out": {"r2": r2, "r2_error": error}, "train": {"kl": kl}, "cyclic_prompts": cyclic}
    return {**measured, "prompts": prompts, "prompts_without_pair": 0, "warning": warning}


def _config(**solver: Any) -> dict[str, Any]:
    return {"solver": solver, "fit": {"held_out": 0.1, "validation": 0.1}}


@pytest.mark.parametrize(("kl", "step"), [(0.02, "--step 10."), (0.3, "--step 5.")])
def test_the_step_grows_less_where_the_policy_moved_more(kl: float, step: str) -> None:
    found = larger_step([_row(cyclic=0.5), _row(kl=kl)], _config(step=2.5))  # the newest iterate counts
    assert found is not None
    assert "--held-out" in found  # the judge that it was trained on may be wrong
    assert found.endswith(step)


@pytest.mark.parametrize(
    "row",
    [
        _row(r2=0.1),  # as far from 0 as chance
        _row(r2=0.115, prompts=80),  # 2.3 errors, of 8 held-out prompts: Student's t asks for 2.4
        _row(r2=0.0, error=0.0),  # nothing was gained
        _row(r2=None, error=None),
        _row(error=None),  # of one prompt
        _row(kl=0.6),
        _row(cyclic=0.3),
        _row(cyclic=None),
        _row(prompts=24),  # two of them are held out
        _row(warning="The best scale of the fit is 13: a learning rate above this one suits the target better."),
    ],
)
def test_there_is_no_hint_without_its_reasons(row: Any) -> None:
    assert larger_step([_row(), row], _config(step=2.5)) is None


def test_there_is_no_hint_before_the_first_iterate_and_for_a_schedule() -> None:
    assert larger_step([], _config(step=2.5)) is None
    assert larger_step([_row()], _config(step="1 / sqrt(t)")) is None
    assert larger_step([_row()], _config(tau=0.1)) is None
