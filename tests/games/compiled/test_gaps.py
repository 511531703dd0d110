"""No duality gap is below 0, whichever loop records it: at an equilibrium rounding may put it there."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from nashward import games
from nashward.games.compiled.accelerator import ACCELERATED
from nashward.games.measures import without_rounding_below_0


@pytest.mark.filterwarnings("ignore::nashward.games.SupportWarning")
@pytest.mark.parametrize("traced", [None, False])
@pytest.mark.parametrize("scale", [1.0, 1e3])
def test_a_run_from_an_equilibrium_records_no_gap_below_0(traced: bool | None, scale: float) -> None:
    """Of these several gaps were below 0 in the compiled loop, none in the other one."""
    payoffs = scale * torch.randn(40, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    game = games.ConstantSumGame(payoffs, 0.0)
    solver = games.MagneticMirrorDescent(0.01 / scale, 0.1 * scale)
    run = games.solve(game, solver, 30, games.nash(game).policy, traced=traced)
    for gaps in run.gaps.values():
        assert (gaps >= 0).all()
        assert (gaps <= 1e-12 * scale).all()


@pytest.mark.skipif(not ACCELERATED, reason="needs numba")
def test_both_loops_agree_on_which_gaps_are_rounding() -> None:
    game = games.zoo.rock_paper_scissors()
    start = games.nash(game).policy
    runs: list[Any] = [games.solve(game, games.MWU(0.5), 200, start, traced=traced) for traced in (None, False)]
    for name, gaps in runs[0].gaps.items():
        assert gaps == pytest.approx(runs[1].gaps[name], abs=1e-12)
        assert (gaps >= 0).all()


def test_a_gap_further_below_0_is_no_rounding() -> None:
    gaps = torch.tensor([-1e-15, -1e-13, 0.2, torch.nan], dtype=torch.float64)
    shown = without_rounding_below_0(gaps, torch.tensor(1.0)).tolist()
    assert shown[:3] == [0.0, -1e-13, 0.2]
    assert shown[3] != shown[3]
