"""Worst case and floors as mirror steps: the update written out; it reaches the exact compromise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from nashward import games, theory
from nashward.games import objectives, zoo

from .test_exact import LADDER, OPPOSED, several

START = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)


def test_a_step_of_the_worst_case_written_out() -> None:
    game, tau, step = several(3, 4, m=2), 0.3, 0.7
    mu = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
    weights = torch.zeros(2, 3, dtype=torch.float64)
    for m in range(2):
        for y in range(3):
            weights[m, y] = mu[y] * torch.exp(-(START @ game.P[m, :, y]) / tau)
    weights /= weights.sum()
    gained = torch.stack([weights[m, y] * game.P[m, :, y] for m in range(2) for y in range(3)]).sum(0)
    expected = START * torch.exp(step * gained)
    played = objectives.EntropicGame(game, mu, tau)
    found = games.solve(played, games.MWU(step), 1, START)
    torch.testing.assert_close(found.last, expected / expected.sum(), rtol=0, atol=1e-14)
    shares = played.weights(START)
    assert [shares["0"], shares["1"]] == pytest.approx(weights.sum(1).tolist(), abs=1e-14)


def test_the_value_is_the_least_over_the_adversary_s_answers() -> None:
    """F is the minimum of payoff plus tau KL over pairs: the closed form attains it, random answers are above it."""
    game, tau, mu = several(4, 2, m=3), 0.1, torch.full((4,), 0.25, dtype=torch.float64)
    played, pi = objectives.EntropicGame(game, mu, tau), torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=torch.float64)
    wins, prior = (pi @ game.P).flatten(), (mu / 3).repeat(3)
    best = torch.softmax(prior.log() - wins / tau, 0)

    def cost(q: torch.Tensor) -> float:
        return float(q @ wins + tau * games.kl_divergence(q, prior))

    value = float(played.value(pi))
    assert cost(best) == pytest.approx(value, abs=1e-14)
    random = torch.from_numpy(np.random.default_rng(0).dirichlet(np.ones(12), 200))
    assert min(map(cost, random)) > value


@pytest.mark.parametrize(
    "played",
    [objectives.EntropicGame(several(3, 4), tau=0.2), objectives.FloorsGame(several(3, 4), {"1": 0.45}, START)],
    ids=["worst case", "floors"],
)
def test_several_starts_at_once_are_each_alone(played: Any) -> None:
    starts = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]], dtype=torch.float64)
    nu = torch.full((2, 2), 0.5, dtype=torch.float64)
    given = (starts, nu) if isinstance(played, objectives.FloorsGame) else starts
    together = games.solve(played, games.OptimisticMWU(0.3), 20, given)
    for k, start in enumerate(starts):
        alone = games.solve(played, games.OptimisticMWU(0.3), 20, start)
        for a, b in zip(played.players(alone.last), played.players(together.last), strict=True):
            torch.testing.assert_close(a, b[k], rtol=0, atol=1e-12)
        torch.testing.assert_close(alone.gaps["last"][-1], together.gaps["last"][-1, k], rtol=0, atol=1e-12)


def test_a_small_tau_reaches_the_exact_worst_case() -> None:
    game = several(5, 8)
    exact = objectives.worst_case(game)
    played = objectives.EntropicGame(game, tau=1e-3)
    last = games.solve(played, games.MWU(1.6e-2), 5000).last
    assert float((last @ game.P).min()) == pytest.approx(exact.value, abs=3e-3)
    assert exact.value < 0.45


def test_a_step_of_the_floors_written_out() -> None:
    """Policy and multipliers step on each other's payoffs: sign and scale of both."""
    game, step, limit = several(3, 6, m=3), 0.4, 3.0
    mu, c = torch.tensor([0.3, 0.3, 0.4], dtype=torch.float64), {"2": 0.45, "1": 0.4}
    nu = torch.tensor([0.5, 0.2, 0.3], dtype=torch.float64)
    played = objectives.FloorsGame(game, c, mu, limit)
    second, first = game.P[2] @ mu, game.P[1] @ mu
    policy = START * torch.exp(step * (game.P[0] @ START + limit * (nu[0] * second + nu[1] * first)))
    lacks = torch.stack([0.45 - START @ second, 0.4 - START @ first, torch.zeros(())])
    shares = nu * torch.exp(step * limit * lacks)
    found = games.solve(played, games.MWU(step), 1, (START, nu)).last
    torch.testing.assert_close(found.policy, policy / policy.sum(), rtol=0, atol=1e-14)
    torch.testing.assert_close(found.shares, shares / shares.sum(), rtol=0, atol=1e-14)


@pytest.mark.parametrize("solver", [games.OptimisticMWU(3.0), games.ExtraGradient(3.0)], ids=repr)
def test_the_last_iterate_of_the_floors_is_the_exact_one(solver: games.Solver) -> None:
    game, mu = several(4, 14), [0.25] * 4
    free = games.nash(games.PreferenceGame(game.P[0])).policy
    floor = game.win_rates(free, mu)["1"] + 0.05  # this floor binds
    exact = objectives.floors(game, {"1": floor}, mu)
    assert exact.multipliers["1"] > 0.01
    found = games.solve(objectives.FloorsGame(game, {"1": floor}, mu, limit=2.0), solver, 7000).last
    torch.testing.assert_close(found.policy, exact.policy, rtol=0, atol=1e-5)
    assert float(2.0 * found.shares[0]) == pytest.approx(exact.multipliers["1"], abs=1e-4)


def test_the_gap_of_the_floors_game_is_the_certificate() -> None:
    game = games.MultiObjectiveGame([LADDER, OPPOSED], ["a", "b"])
    played = objectives.FloorsGame(game, {"b": 0.4}, [0.5, 0.5], limit=4.0)
    exact = objectives.floors(game, {"b": 0.4}, [0.5, 0.5])
    nu = exact.multipliers["b"] / 4
    shares = torch.tensor([nu, 1 - nu], dtype=torch.float64)
    assert float(games.duality_gap(played, (exact.policy, shares))) == pytest.approx(0.0, abs=1e-12)
    # all on a: the floor lacks 0.1, at the limit 4, and no multiplier charges it, so b gains nothing
    alone = torch.tensor([0.0, 1.0], dtype=torch.float64)
    pure = torch.tensor([1.0, 0.0], dtype=torch.float64)
    assert float(games.duality_gap(played, (pure, alone))) == pytest.approx(4 * 0.1, abs=1e-12)
    assert played.multipliers(shares) == {"b": pytest.approx(1.0, abs=1e-9)}


def test_the_theorems_constants() -> None:
    played = objectives.EntropicGame(several(4, 1, m=3), tau=0.1)
    theorem = theory.EntropicAscent.of(played)
    assert [theorem.step, theorem.share, theorem.C] == pytest.approx([0.4, 1 / 12, np.log(4)])
    assert float(theorem.value(10)) == pytest.approx(np.log(4) / 4 + 0.1 * np.log(12))
    assert float(theory.FloorsAverage(0.1, 2.0, 1, 0.5).value(50)) == pytest.approx(
        (0.5 + np.log(2)) / 5 + 0.1 * (9 + 16) / 8
    )
    assert theory.LexicographicWeights(0.25).value() == 0.25
    with pytest.raises(ValueError, match="4 tau"):
        theory.EntropicAscent(0.5, 0.1, 1.0, 0.1)


def test_small_weights_are_nearly_lexicographic() -> None:
    twice = torch.kron(zoo.rock_paper_scissors().P, torch.ones(2, 2, dtype=torch.float64))
    game = games.MultiObjectiveGame(torch.stack([twice, zoo.random_preferences(6, 4).P]))
    exact = objectives.lexicographic(game).policy
    near = objectives.weights(game, [1.0, 1e-6]).policy
    A = game.P - 0.5
    assert float((A[0] @ near).max()) < 1e-6
    assert abs(float(exact @ A[1] @ near)) < 1e-5  # neither beats the other under the second
    middle = torch.from_numpy(games.equilibria.maximum_entropy(games.face(games.PreferenceGame(twice))))
    assert float(exact @ A[1] @ middle) > 1e-3  # another equilibrium of the first loses the second
