"""Sampled and duel feedback: unbiased, seeded, and the rate that sampling noise leaves."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from nashward import games
from nashward.games.feedback import DuelingFeedback, SampledFeedback, exact

GAME = games.zoo.random_preferences(4, seed=2)
X = torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=torch.float64)
Y = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
BLENDS = {"one policy": [(1.0, (X,))], "optimism": [(2.0, (X,)), (-1.0, (Y,))]}
DRAWS = 100_000


@pytest.mark.parametrize("blend", BLENDS)
@pytest.mark.parametrize(
    "feedback",
    [SampledFeedback(1, seed=3), SampledFeedback(5, seed=3), SampledFeedback(5, seed=3, self_comparison=True),
     DuelingFeedback(seed=3), DuelingFeedback(seed=3, explore=1.0), DuelingFeedback(seed=3, duels=4)],
    ids=repr,
)  # fmt: skip
def test_each_estimator_is_unbiased(feedback: Any, blend: str) -> None:
    """10^5 draws, as a batch of games in ten rounds; with the self-comparison about (K - 1) / K of the truth."""
    batch = games.PreferenceGame(GAME.P.expand(DRAWS // 10, 4, 4))
    opponent = [(weight, tuple(p.expand(DRAWS // 10, 4) for p in players)) for weight, players in BLENDS[blend]]
    draws = torch.cat([feedback(batch, opponent, round)[0] for round in range(10)])
    (truth,) = exact(GAME, BLENDS[blend])
    if getattr(feedback, "self_comparison", False):
        truth = 0.5 + 0.8 * (truth - 0.5)
    error = draws.std(0) / DRAWS**0.5
    assert draws.shape == (DRAWS, 4)
    assert ((draws.mean(0) - truth).abs() < 4 * error).all()
    assert (error < 0.05 * (truth - 0.5).abs().max()).all()  # so that a factor of .8 would be seen


def test_samples_of_an_n_by_m_game_are_unbiased_for_both_players() -> None:
    game = games.ConstantSumGame([[3.0, -1.0, 0.0], [-1.0, 1.0, 2.0]], total=1.0)
    batch = games.ConstantSumGame(game.payoff.expand(DRAWS, 2, 3), total=1.0)
    row, column = torch.tensor([0.3, 0.7]).double(), torch.tensor([0.5, 0.2, 0.3]).double()
    drawn = SampledFeedback(2, seed=1)(batch, [(1.0, (row.expand(DRAWS, 2), column.expand(DRAWS, 3)))], 0)
    for found, truth in zip(drawn, game.payoffs((row, column)), strict=True):
        assert ((found.mean(0) - truth).abs() < 4 * found.std(0) / DRAWS**0.5).all()


def test_the_noise_of_k_samples_falls_as_one_over_k() -> None:
    batch = games.PreferenceGame(GAME.P.expand(20_000, 4, 4))
    opponent = [(1.0, (X.expand(20_000, 4),))]
    spread = {k: SampledFeedback(k)(batch, opponent, 0)[0].var(0) for k in (1, 16)}
    torch.testing.assert_close(spread[1], 16 * spread[16], rtol=0.06, atol=0)
    exact = (GAME.P**2) @ X - (GAME.P @ X) ** 2
    torch.testing.assert_close(spread[1], exact, rtol=0.06, atol=0)


@pytest.mark.parametrize("feedback", [SampledFeedback(2, seed=1), DuelingFeedback(seed=1)], ids=repr)
def test_the_seed_decides_and_rounds_differ(feedback: Any) -> None:
    def last(feedback: Any) -> torch.Tensor:
        return games.solve(GAME, games.MWU(0.1), 20, feedback=feedback).last

    torch.testing.assert_close(last(feedback), last(feedback), atol=0, rtol=0)
    assert not torch.equal(last(feedback), last(dataclasses.replace(feedback, seed=2)))
    rounds = {tuple(feedback(GAME, BLENDS["one policy"], round)[0].tolist()) for round in range(50)}
    assert len(rounds) > 4


@pytest.mark.parametrize("solver", [games.ExtraGradient(0.1), games.NashMD(0.1), games.RegretMatching()], ids=repr)
def test_every_solver_takes_any_feedback(solver: Any) -> None:
    solution = games.solve(games.zoo.rock_paper_scissors(), solver, 300, feedback=SampledFeedback(20))
    assert solution.gaps["average"][-1] < 0.2
    assert solution.status.ok


@pytest.mark.parametrize(
    ("feedback", "horizons"),
    [
        (SampledFeedback(1, seed=5), (10, 100, 1000, 10_000)),
        pytest.param(DuelingFeedback(seed=5, explore=0.5), (300, 3000, 30_000, 300_000), marks=pytest.mark.slow),
    ],
    ids=["samples", "duels"],
)
def test_the_averages_gap_falls_as_one_over_the_root_of_t(feedback: Any, horizons: tuple[int, ...]) -> None:
    """Three decades of T, each with the step of its horizon; the mean over 64 seeds, which are games of a batch."""
    game = games.PreferenceGame(games.zoo.comal_cycle().P.expand(64, 3, 3))
    scale = 1.0 if isinstance(feedback, SampledFeedback) else 0.2  # duels are noisier: smaller steps
    gaps = []
    for T in horizons:
        solver = games.MWU(scale * games.schedule.horizon(T, float(np.log(3))))
        gaps.append(float(games.solve(game, solver, T, feedback=feedback, record=[T]).gaps["average"].mean()))
    assert np.polyfit(np.log(horizons), np.log(gaps), 1)[0] == pytest.approx(-0.5, abs=0.1)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: SampledFeedback(0), "k must be at least 1, got 0"),
        (lambda: SampledFeedback(1, self_comparison=True), "k must be at least 2, got 1"),
        (lambda: DuelingFeedback(explore=0.0), "explore must be in \\(0, 1\\], so that every action"),
        (lambda: DuelingFeedback(duels=0), "duels must be at least 1"),
        (lambda: _play(DuelingFeedback()), "duels are won and lost in a table of win probabilities"),
        (
            lambda: _play(SampledFeedback(2, self_comparison=True)),
            "compared with itself in a preference game only",
        ),
    ],
)
def test_bad_feedback_is_refused(build: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        build()
    assert "\n" not in str(caught.value)


def _play(feedback: Any) -> None:
    games.solve(games.ConstantSumGame([[1.0, 0.0], [0.0, 1.0]]), games.MWU(), 1, feedback=feedback)
