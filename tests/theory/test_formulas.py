"""What each formula gives at a point, worked out by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from nashward import games, theory
from nashward.errors import NashwardError
from nashward.games import zoo

COMAL = zoo.comal_cycle()
RPS = zoo.rock_paper_scissors()
PI = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)


def test_bounds_of_averages() -> None:
    assert theory.MWUAverage(0.4, 3.0).value(30) == pytest.approx(0.1 + 0.5)
    assert theory.MWUAverage.best(600, 3.0).step == pytest.approx(0.2)
    assert theory.SPPOTheorem(0.4, 3.0).value(30) == pytest.approx(0.2 + 0.5)
    assert theory.SPPOTheorem.best(300, 3.0).step == pytest.approx(0.2)
    assert theory.complexity([0.5, 0.25, 0.25]) == pytest.approx(math.log(4))
    assert theory.OptimisticAverage(5).value(10) == pytest.approx(0.4 * math.log(5))
    assert theory.PublishedRootFails(5).value(10) == pytest.approx(0.4 * math.sqrt(math.log(5)))
    assert theory.RegretMatchingAverage(10).value(25) == pytest.approx(1.2)
    assert theory.GradientAverage(0.1, 4).value(20) == pytest.approx(0.75 / 2 + 0.1)
    assert theory.GradientAverage(0.1, 3).value(20, [0.6, 0.3, 0.1]) == pytest.approx(1.26 / 2 + 0.075)
    assert theory.OptimisticGradientAverage(0.1, 4).value(10) == pytest.approx((7.5 + 0.2) / 10)
    assert theory.OptimisticGradientAverage(0.2, 3).value(5, [0.6, 0.3, 0.1]) == pytest.approx((6.3 + 0.3) / 5)
    rings = games.zoo.rock_paper_scissors()  # its norm is sqrt(3) / 2
    assert theory.OptimisticGradientAverage(0.408, 3).applies(rings)
    assert not theory.OptimisticGradientAverage(0.409, 3).applies(rings)
    for step, claimed in ((0.408, True), (0.409, False)):
        theorem = theory.OptimisticGradientAverage(step, 3)
        assert theorem.check(rings, games.OptimisticGDA(step), 20).claimed is claimed
    assert theory.FictitiousPlayRate(0.5).value(100) == pytest.approx(0.05)
    assert theory.MWULeaves(PI).value(0.3) == theory.ProximalMonotone(PI).value(0.3) == 0.3


@pytest.mark.parametrize("kind", [theory.MWUAverage, theory.SPPOTheorem])
@pytest.mark.parametrize(("iterations", "C"), [(1000, -1.0), (1000, 0.0), (0, 1.0), (10, math.inf), (10, math.nan)])
def test_no_step_is_the_best_without_iterations_or_a_start_that_mixes(kind: Any, iterations: int, C: float) -> None:
    with pytest.raises(NashwardError, match=f"iterations = {iterations}, C = {C}"):
        kind.best(iterations, C)


def test_thresholds_and_factors() -> None:
    assert theory.LocalThreshold.optimistic().value(0.5) == pytest.approx(2 / math.sqrt(3))
    assert theory.LocalThreshold.extragradient().value(0.5) == 2.0
    assert theory.LocalThreshold.extragradient().value(0.0) == math.inf  # nothing rotates
    assert theory.LocalThreshold.magnetic(0.3).value(0.5) == pytest.approx(0.6 / 0.16)
    assert theory.LocalThreshold.magnetic(0.5).value(0.5) == math.inf
    magnetic, inpo, extra = (
        getattr(theory.Contraction, kind)(0.4, 0.5) for kind in ("magnetic", "inpo", "extragradient")
    )
    assert (magnetic.factor, magnetic.largest) == (pytest.approx(1 / 1.2), 2.0)
    assert (inpo.factor, inpo.largest) == (pytest.approx(0.8), 1.0)
    assert (extra.factor, extra.largest) == (pytest.approx(0.8), 1.0)
    assert inpo.value(3) == pytest.approx(0.512)
    assert theory.MagneticIsINPO(0.5).value(2.0) == 1.0
    assert theory.NashMDRate(0.2).value(99) == pytest.approx(2.0)


def test_the_recursion_of_nash_md() -> None:
    """(1 - step tau) KL + 2 step^2 of the distances along the path."""
    start = torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64)
    target = games.regularised_nash(COMAL, 0.2, start).policy
    check = theory.NashMDRate(0.2).check_recursion(COMAL, games.NashMD(0.5, 0.2), 1, start)
    first = float(games.kl_divergence(target, start))
    assert check.bound.item() == pytest.approx(0.9 * first + 0.5)


def test_samples_and_the_errors_of_oracles() -> None:
    """Two samples in rock-paper-scissors; with the self-comparison only one is drawn."""
    win = RPS.win_rate(PI)
    variance = (RPS.P**2) @ PI - win**2
    for own, share in ((False, 1.0), (True, 0.5)):
        mean, spread = theory.KSamples(2, own).value(RPS, PI)
        torch.testing.assert_close(mean, 0.5 + share * (win - 0.5))
        torch.testing.assert_close(spread, share * variance / 2)
    assert theory.OracleError(0.02).value(0.1) == pytest.approx(0.14)
    table = theory.ScoresLoseCycles(2.0).value([[0.0, 0.6], [-0.6, 0.0]])
    assert float(table[0, 1]) == pytest.approx(1 / (1 + math.exp(-1.2)) - 0.5)
    torch.testing.assert_close(table, -table.mT)


def test_likelihoods() -> None:
    assert theory.MeanWinRate().value() == 0.5
    win = RPS.win_rate(PI)
    second = float((PI * (win - 0.5) ** 2).sum())
    assert float(theory.LogPartition(0.4).value(RPS, PI)) == pytest.approx(0.2 + 0.08 * second)
    assert theory.OrderedLogPartition(2.0).value() == pytest.approx(math.log((math.e**2 - 1) / 2) / 2)
    assert theory.sppo_forces([0.1, -0.2], [0.9, 0.3], 2.0).tolist() == pytest.approx([0.7, -0.2])
    pull = 1 / (1 + math.exp(0.15)) / 2
    assert theory.dpo_forces([0.1, -0.2], 2.0).tolist() == pytest.approx([pull, -pull])
    assert theory.ipo_forces([0.1, -0.2], 2.0).tolist() == pytest.approx([1.4, -1.4])
    assert theory.sppo_forces([0.1, -0.2], [0.9, 0.3], 1e3).tolist() == pytest.approx([399.9, -199.8], abs=1e-10)
    table = theory.TablesRaiseTheChosen()
    assert float(table.value(PI, 0, 2)) == pytest.approx(0.7)
    gram = table.gram(PI)
    assert float(gram[0, 0] - gram[0, 2]) == pytest.approx(0.7)
    assert gram @ PI == pytest.approx(torch.zeros(3), abs=1e-15)  # the scores have the mean 0


def test_the_pair_losss_minimiser_is_the_step_written_out() -> None:
    found = theory.PairLoss(3.0).value(RPS, PI)
    torch.testing.assert_close(found, (PI.log() + 3.0 * RPS.win_rate(PI)).softmax(-1))


def test_the_gap_of_a_regularised_nash_and_an_invariant() -> None:
    reference = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
    kl = float((PI * (PI / reference).log()).sum())
    assert float(theory.RegularisedGap(0.5).value(PI, reference)) == pytest.approx(math.log(5) - kl)
    nash = torch.full((3,), 1 / 3, dtype=torch.float64)
    assert theory.ReplicatorInvariant(nash).value(PI) == pytest.approx(math.log(0.03) / 3)


def test_exact_proximal_points_reach_the_nash_and_the_first_is_regularised_towards_the_start() -> None:
    start = torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64)
    solver = theory.ExactProximalPoint(COMAL, 0.1)
    first = games.solve(COMAL, solver, 1, start).last
    torch.testing.assert_close(first, games.regularised_nash(COMAL, 0.1, start).policy)
    assert float(games.solve(COMAL, solver, 40, start).gaps["last"][-1]) < 1e-9
