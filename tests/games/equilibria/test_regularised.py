"""KL-regularised equilibria: the fixed point, the bound, the path, every form of game."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nashward import games
from nashward.games.equilibria import regularised_gap, regularised_path

from .. import mixed


@pytest.mark.parametrize("tau", [10.0, 1.0, 0.1, 0.01, 1e-3])
def test_the_fixed_point_and_its_gap(tau: float) -> None:
    for seed in range(20):
        A = mixed.margins(seed)
        game = games.PreferenceGame(0.5 + A)
        equilibrium = games.regularised_nash(game, tau)
        policy = equilibrium.policy.numpy()
        logits = A @ policy / tau  # by hand, from a uniform reference
        answer = np.exp(logits - logits.max())
        np.testing.assert_allclose(answer / answer.sum(), policy, atol=1e-12)
        assert float(equilibrium.residual) <= 1e-12
        assert float(equilibrium.gap) <= 2 * tau * np.log(len(A)) + 1e-12
        assert float(equilibrium.regularised_gap) <= 1e-12


def test_magnetic_mirror_descent_converges_to_it() -> None:
    game, reference = games.zoo.comal_cycle(), [0.66, 0.25, 0.09]
    solver = games.MagneticMirrorDescent(step=0.4, tau=0.1)
    last = games.solve(game, solver, iterations=3000, start=reference).last
    torch.testing.assert_close(games.regularised_nash(game, 0.1, reference).policy, last, atol=1e-12, rtol=0)


def test_the_regularised_gap_by_its_definition() -> None:
    game, tau = games.zoo.random_preferences(6, seed=2), 0.3
    rng = np.random.default_rng(0)
    policy, reference = torch.from_numpy(rng.dirichlet(np.ones(6))), torch.from_numpy(rng.dirichlet(np.ones(6)))
    best = reference * (game.win_rate(policy) / tau).exp()
    best = best / best.sum()

    def worth(p: torch.Tensor) -> float:
        pays = p @ game.win_rate(policy) - tau * games.kl_divergence(p, reference)
        return float(pays + tau * games.kl_divergence(policy, reference))

    assert float(regularised_gap(game, policy, tau, reference)) == pytest.approx(2 * (worth(best) - 0.5))
    for other in torch.from_numpy(rng.dirichlet(np.ones(6), size=200)):
        assert worth(other) <= worth(best) + 1e-12


def test_the_path_leads_to_the_nash() -> None:
    game = games.zoo.random_preferences(12, seed=4)
    taus = [1.0, 0.1, 0.01, 1e-3, 1e-4]
    path = regularised_path(game, taus)
    gaps = [float(point.gap) for point in path]
    assert gaps == sorted(gaps, reverse=True)
    assert float((path[-1].policy - games.nash(game).policy).abs().max()) < 1e-2
    assert [point.tau for point in path] == taus
    with pytest.raises(ValueError, match="must fall"):
        regularised_path(game, [0.1, 0.1])
    with pytest.raises(ValueError, match="tau must be a positive number, got 0"):
        games.regularised_nash(game, 0)


def test_batches_prompts_and_two_players() -> None:
    tables = [games.zoo.random_preferences(n, seed=n).P for n in (2, 5, 9)]
    together = games.ContextualGame(tables)
    policy = games.regularised_nash(together, 0.05).policy
    for row, table in zip(together.split(policy), tables, strict=True):
        alone = games.regularised_nash(games.PreferenceGame(table), 0.05).policy
        torch.testing.assert_close(row, alone, atol=1e-12, rtol=0)
    U = np.random.default_rng(0).normal(size=(4, 7))
    pair = games.regularised_nash(games.ConstantSumGame(U, total=0.0), 0.2).policy
    for logits, policy in ((U @ pair.column.numpy() / 0.2, pair.row), (-pair.row.numpy() @ U / 0.2, pair.column)):
        answer = np.exp(logits - logits.max())
        np.testing.assert_allclose(answer / answer.sum(), policy.numpy(), atol=1e-12)


def test_what_the_reference_excludes_stays_excluded() -> None:
    equilibrium = games.regularised_nash(games.zoo.rock_paper_scissors(), 0.1, [0.5, 0.5, 0.0])
    assert float(equilibrium.policy[2]) == 0
    assert float(equilibrium.policy[1]) > 0.99  # paper beats rock


def test_the_units_of_the_payoffs_do_not_matter() -> None:
    payoffs = np.random.default_rng(3).uniform(-1, 1, size=(12, 10, 10))
    units = [games.regularised_nash(games.ConstantSumGame(payoffs * scale), 1e-5 * scale) for scale in (1.0, 1e6)]
    np.testing.assert_allclose(units[1].policy.row, units[0].policy.row, atol=1e-9)
    assert float(units[1].residual.max()) <= 1e-10


def test_no_regularised_gap_is_below_zero_by_rounding() -> None:
    game = games.zoo.random_preferences(10)
    for tau in (1e3, 1e9):
        assert float(games.regularised_nash(game, tau).regularised_gap) >= 0
