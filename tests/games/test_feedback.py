"""Sampled and duel feedback: unbiased, seeded, and the rate that sampling noise leaves."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import linprog

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
    """10^5 draws, as a batch of games in ten rounds; with the self-comparison the margin shrinks to (K - 1) / K."""
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


TWO_PLAYERS = {
    "win probabilities": games.ConstantSumGame([[0.9, 0.2, 0.6], [0.1, 0.8, 0.7]]),
    "zero sum": games.ConstantSumGame([[3.0, -1.0, 0.0], [-1.0, 1.0, 2.0]], total=0.0),
    "above the total": games.ConstantSumGame([[3.0, -1.0, 0.0], [-1.0, 1.0, 2.0]], total=1.0),
    "costs": games.ConstantSumGame([[-3.0, -1.0, -2.0], [-0.5, -1.5, -2.5]], total=-4.0),
    "alike": games.ConstantSumGame(np.zeros((2, 3)), total=0.0),
}
ROW, COLUMN = torch.tensor([0.3, 0.7], dtype=torch.float64), torch.tensor([0.5, 0.2, 0.3], dtype=torch.float64)
OTHER = (torch.tensor([0.6, 0.4], dtype=torch.float64), torch.tensor([0.1, 0.8, 0.1], dtype=torch.float64))


@pytest.mark.parametrize(
    ("game", "blend"),
    [
        *((game, [(1.0, (ROW, COLUMN))]) for game in TWO_PLAYERS.values()),
        (TWO_PLAYERS["zero sum"], [(2.0, (ROW, COLUMN)), (-1.0, OTHER)]),
        (GAME, BLENDS["one policy"]),
        (GAME, BLENDS["optimism"]),
    ],
    ids=[*TWO_PLAYERS, "optimism of two players", "symmetric", "symmetric, optimism"],
)
@pytest.mark.parametrize("explore", [0.2, 1.0])
def test_the_mean_over_every_duel_is_the_exact_payoff(monkeypatch: Any, game: Any, blend: Any, explore: float) -> None:
    """The expectation over all outcomes of one duel, computed exactly."""
    feedback = DuelingFeedback(explore=explore)
    blended = games.feedback.blended([weight for weight, _ in blend], [players for _, players in blend])
    q, r = (((1 - explore) * p.abs() / p.abs().sum() + explore / len(p)).numpy() for p in (blended[0], blended[-1]))
    mean, chances = [torch.zeros_like(p) for p in blended], np.zeros((len(q), len(r)))
    table = (game.P if isinstance(game, games.PreferenceGame) else game.payoff).numpy()
    for i, j in np.ndindex(len(q), len(r)):
        middle = [(p.cumsum()[k] - p[k] / 2) / p.sum() for p, k in ((q, i), (r, j))]
        spread = 2 * float(game.stake) - game.total
        chances[i, j] = 0.5 if spread == 0 else (table[i, j] - game.total + float(game.stake)) / spread
        for won, outcome in ((chances[i, j], 0.0), (1 - chances[i, j], 1.0)):
            drawn = np.array([*middle, outcome])[:, None]
            monkeypatch.setattr(games.feedback, "_generator", lambda *_, drawn=drawn: _Given(drawn))
            for total, payoff in zip(mean, feedback(game, blend, 0), strict=True):
                total += q[i] * r[j] * won * payoff
    assert (chances >= 0).all()
    assert (chances <= 1).all()
    for found, truth in zip(mean, exact(game, blend), strict=True):
        torch.testing.assert_close(found, truth, rtol=0, atol=1e-12)


class _Given:
    """Draws that a test has chosen."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def random(self, shape: Any) -> np.ndarray:
        return self.values.reshape(shape)


def test_the_winner_of_a_duel_gets_the_least_stake_that_explains_every_payoff() -> None:
    stakes = {name: float(game.stake) for name, game in TWO_PLAYERS.items()}
    # (-3) of a total of -4 leaves -1, and 0 is more; a row that loses all pays the total
    assert stakes == {"win probabilities": 1.0, "zero sum": 3.0, "above the total": 3.0, "costs": 0.0, "alike": 0.0}
    assert GAME.stake == GAME.total == 1
    batch = games.ConstantSumGame(np.array([[[3.0, -1.0]], [[-5.0, 0.0]]]), total=0.0)
    assert batch.stake.tolist() == [3.0, 5.0]


@pytest.mark.parametrize("name", ["win probabilities", "above the total", "costs"])
def test_duels_of_an_n_by_m_game_are_unbiased_for_both_players(name: str) -> None:
    game, batch = TWO_PLAYERS[name], (DRAWS,)
    many = games.ConstantSumGame(game.payoff.expand(*batch, 2, 3), total=game.total)
    opponent = [(1.0, (ROW.expand(*batch, 2), COLUMN.expand(*batch, 3)))]
    for one in (many, game):  # a batch of games, and a batch of policies in one game
        drawn = DuelingFeedback(seed=3, duels=4)(one, opponent, 0)
        for found, truth in zip(drawn, game.payoffs((ROW, COLUMN)), strict=True):
            error = found.std(0) / DRAWS**0.5
            assert ((found.mean(0) - truth).abs() < 4 * error).all()
            assert (error < 0.05 * (truth - game.total / 2).abs().max()).all()


@pytest.mark.parametrize("name", ["win probabilities", "zero sum"])
def test_duels_lead_two_players_to_the_equilibrium_of_the_linear_programme(name: str) -> None:
    """The average of 3,000 rounds of 16 duels, beside SciPy's LP for each player."""
    game = TWO_PLAYERS[name]
    A, span = game.payoff.numpy(), float(2 * game.stake - game.total)
    duels = DuelingFeedback(seed=2, duels=16)
    average = games.solve(game, games.MWU(0.05 / span), 3000, feedback=duels, record=[3000]).average
    for found, table, sign in zip(average, (A, -A.T), (1, -1), strict=True):
        n, m = table.shape
        # maximise v under table^T x >= v
        rows = np.hstack([-table.T, np.ones((m, 1))])
        program = linprog([*np.zeros(n), -1], rows, np.zeros(m), [[*np.ones(n), 0]], [1], [(0, 1)] * n + [(None, None)])
        np.testing.assert_allclose(found, program.x[:n], atol=0.04)
        assert sign * program.x[-1] == pytest.approx(float(games.nash(game).value), abs=1e-9)


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
    """Three decades of T, each with the step for its horizon; the mean over 64 seeds, as a batch of games."""
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
        (
            lambda: _play(DuelingFeedback(), games.LowRankGame(np.eye(2), np.zeros((2, 2)))),
            "SampledFeedback for a LowRankGame",
        ),
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


def _play(feedback: Any, game: Any = None) -> None:
    games.solve(game or games.ConstantSumGame([[1.0, 0.0], [0.0, 1.0]]), games.MWU(), 1, feedback=feedback)
