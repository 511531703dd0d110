"""Solvers of tables only: bounds, rates, invariants, and what they answer when a language model asks."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from nashward import games
from nashward.games import (
    GDA,
    FictitiousPlay,
    OptimisticGDA,
    PredictiveRegretMatchingPlus,
    RegretMatching,
    RegretMatchingPlus,
    Replicator,
)

COMAL = games.zoo.comal_cycle()
START = torch.tensor([1.0, 0.0, -1.0], dtype=torch.float64).softmax(0)


def test_regret_matching_by_hand() -> None:
    P = np.array([[0.5, 0.1, 0.8], [0.9, 0.5, 0.1], [0.2, 0.9, 0.5]])
    x, totals, clipped = START.numpy(), np.zeros(3), np.zeros(3)
    found = {kind: games.solve(COMAL, kind(), 3, start=START, record=[1, 2, 3], keep_policies=True) for kind in
             (RegretMatching, RegretMatchingPlus, PredictiveRegretMatchingPlus)}  # fmt: skip
    for t in range(3):
        totals += P @ x - x @ P @ x
        x = np.maximum(totals, 0) / np.maximum(totals, 0).sum()
        np.testing.assert_allclose(found[RegretMatching].policies["last"][t], x, atol=1e-14)
    for kind, ahead in ((RegretMatchingPlus, 0.0), (PredictiveRegretMatchingPlus, 1.0)):
        x, clipped = START.numpy(), np.zeros(3)
        for t in range(3):
            new = P @ x - x @ P @ x
            clipped = np.maximum(clipped + new, 0)
            guess = np.maximum(clipped + ahead * new, 0)
            x = guess / guess.sum() if guess.sum() > 0 else np.full(3, 1 / 3)
            np.testing.assert_allclose(found[kind].policies["last"][t], x, atol=1e-14)


@pytest.mark.parametrize("kind", [RegretMatching, RegretMatchingPlus, PredictiveRegretMatchingPlus])
def test_regret_matching_stays_at_an_equilibrium_but_for_rounding(kind: type) -> None:
    """Regrets of 1e-17 are those of rounding, and not played; those of 1e-9 are real, in the units of the payoffs."""
    three = games.ConstantSumGame(torch.tensor([[0.0, -0.7, 0.3], [0.7, 0.0, -0.1], [-0.3, 0.1, 0.0]]).double(), 0.0)
    for game in (
        games.zoo.ring_of_rings(), games.zoo.cloned_rock(), COMAL, three,
        games.PreferenceGame(games.zoo.ring_of_rings().P.float()),
        games.ConstantSumGame(1e6 * three.payoff, 0.0), games.ConstantSumGame(1e-6 * three.payoff, 0.0),
        games.zoo.random_preferences(30, 2),
    ):  # fmt: skip
        scale = float(game.payoff.abs().max()) if isinstance(game, games.ConstantSumGame) else 1.0
        coarse = isinstance(game, games.PreferenceGame) and game.P.dtype == torch.float32
        found = games.solve(game, kind(), 1000, start=games.nash(game).policy)
        for gaps in found.gaps.values():
            assert float(gaps.max()) < (1e-6 if coarse else 1e-12 * scale)
    away = torch.tensor([4.0, 3.0, 4.0]).double() / 11 + torch.tensor([1e-9, 0.0, -1e-9]).double()
    assert float(games.solve(COMAL, kind(), 100, start=away).gaps["last"].max()) > 0.1


@pytest.mark.parametrize("kind", [RegretMatching, RegretMatchingPlus, PredictiveRegretMatchingPlus])
def test_the_average_obeys_the_bound_of_regret_matching(kind: type) -> None:
    for n in (2, 5, 20):
        tables = [games.zoo.random_preferences(n, seed).P for seed in range(4)]
        tables += [games.zoo.random_tournament(n, seed).P for seed in range(4)] + [games.zoo.condorcet_winner(n).P]
        game = games.PreferenceGame(torch.stack(tables))
        solution = games.solve(game, kind(), 400, averaging=games.averaging.uniform)
        bound = 2 * ((n - 1) / solution.iterations.double()).sqrt()
        assert (solution.gaps["average"] <= bound[:, None]).all()


def test_rates_of_the_regret_matching_family() -> None:
    def average(kind: type, T: int, game: games.PreferenceGame = COMAL) -> float:
        return float(games.solve(game, kind(), T, record=[T]).gaps["average"][-1])

    assert average(RegretMatching, 10_000) == pytest.approx(4.5e-3, abs=1e-4)
    assert average(PredictiveRegretMatchingPlus, 10_000) == pytest.approx(9.5e-5, abs=1e-6)
    large = games.zoo.random_preferences(50)
    found = [average(k, 3000, large) for k in (RegretMatching, RegretMatchingPlus, PredictiveRegretMatchingPlus)]
    assert found[0] > 2 * found[1] > 100 * found[2]


def test_averages_are_linear_where_the_method_says_so() -> None:
    for kind, weights in ((RegretMatching, [1, 1, 1]), (RegretMatchingPlus, [1, 2, 3])):
        solution = games.solve(COMAL, kind(), 3, start=START, keep_policies=True)
        played = torch.stack([START, *solution.policies["last"][:2]])
        expected = torch.tensor(weights).double() @ played / sum(weights)
        torch.testing.assert_close(solution.average, expected, atol=1e-15, rtol=0)
    uniform = games.solve(COMAL, RegretMatchingPlus(), 3, start=START, averaging=games.averaging.uniform)
    assert games.total_variation(uniform.average, solution.average) > 0.01


def test_the_rate_of_fictitious_play() -> None:
    found = games.solve(games.zoo.rock_paper_scissors(), FictitiousPlay(), 10_000, [1.0, 0, 0], record=[100, 10_000])
    scaled = found.gaps["average"] * found.iterations.sqrt()
    np.testing.assert_allclose(scaled.numpy(), (0.70, 0.67), atol=0.01)
    assert set(found.last.tolist()) == {0.0, 1.0}
    found = games.solve(COMAL, FictitiousPlay(), 10_000, [1.0, 0, 0], record=[100, 10_000])
    scaled = found.gaps["average"] * found.iterations.sqrt()
    assert ((scaled > 0.35) & (scaled < 0.5)).all()


def test_fictitious_play_breaks_ties_by_order_whatever_the_rounding() -> None:
    tied = games.PreferenceGame([[0.5, 0.3, 0.1 + 0.2], [0.7, 0.5, 0.5], [0.7, 0.5, 0.5]])  # 0.1 + 0.2 > 0.3
    assert games.solve(tied, FictitiousPlay(), 1, start=[1.0, 0.0, 0.0]).last.tolist() == [0.0, 1.0, 0.0]


def test_the_replicators_invariant_holds_for_long() -> None:
    nash = games.nash(COMAL).policy
    path = games.solve(COMAL, Replicator(0.05), 4000, start=START, record=range(1, 4001, 50), keep_policies=True)
    invariant = path.policies["last"].log() @ nash
    assert (invariant - nash @ START.log()).abs().max() < 1e-10
    torch.testing.assert_close(path.policies["last"].sum(-1), torch.ones(81).double(), atol=1e-14, rtol=0)
    assert games.total_variation(path.policies["last"][0], path.policies["last"][20]) > 0.05  # it rotates


def test_the_replicator_is_multiplicative_weights_with_small_steps() -> None:
    T = 2.0
    limit = games.solve(COMAL, Replicator(0.01), round(T / 0.01), start=START).last

    def error(solver: games.Solver | games.solvers.TableSolver, h: float) -> float:
        return float(games.total_variation(games.solve(COMAL, solver, round(T / h), start=START).last, limit))

    assert error(games.MWU(0.04), 0.04) / error(games.MWU(0.02), 0.02) == pytest.approx(2, rel=0.05)
    assert math.log2(error(Replicator(0.5), 0.5) / error(Replicator(0.25), 0.25)) == pytest.approx(4, abs=0.5)


def _nearest(v: np.ndarray) -> np.ndarray:
    """The nearest distribution by bisection on the constant subtracted, a second route to the projection."""
    low, high = v.min() - 1, v.max()
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if np.maximum(v - middle, 0).sum() > 1 else (low, middle)
    return np.maximum(v - low, 0)


def test_the_projection_is_the_nearest_distribution() -> None:
    from nashward.games.solvers.tables_only.gradient import projected

    rng = np.random.default_rng(0)
    for scale in (0.01, 1.0, 100.0):
        values = rng.normal(size=(2, 5, 7)) * scale
        found = projected(torch.tensor(values)).numpy()
        np.testing.assert_allclose(found, np.apply_along_axis(_nearest, -1, values), atol=1e-13 * max(1, scale))
    assert projected(torch.tensor([5.0, 5.0, -9.0])).tolist() == [0.5, 0.5, 0.0]
    assert projected(torch.tensor([[7.0]])).tolist() == [[1.0]]


@pytest.mark.parametrize("kind", [GDA, OptimisticGDA])
def test_huge_steps_of_gradients_end_at_a_corner_or_say_that_they_are_not_finite(kind: type) -> None:
    far = games.solve(COMAL, kind(1e17), 3, start=START)
    assert far.status.ok
    assert sorted(far.last.tolist()) == [0.0, 0.0, 1.0]
    assert games.solve(games.ConstantSumGame([[1e300, 0.0], [0.0, 1e300]]), kind(1e17), 3).status.ok  # payoffs tie
    over = games.solve(games.ConstantSumGame([[1e300, 0.0], [0.0, 0.0]]), kind(1e17), 3)
    assert over.status is games.Status.NOT_FINITE


@pytest.mark.parametrize("step", [0.05, 0.4, 2.0])
def test_gradient_methods_by_hand(step: float) -> None:
    P = np.array([[0.5, 0.1, 0.8], [0.9, 0.5, 0.1], [0.2, 0.9, 0.5]])
    record = list(range(1, 31))
    paths = {
        kind: games.solve(COMAL, kind(step), 30, start=START, record=record, keep_policies=True).policies["last"]
        for kind in (GDA, OptimisticGDA)
    }
    x = y = base = START.numpy()
    for t in range(30):
        x = _nearest(x + step * P @ x)
        gain = P @ y
        base = _nearest(base + step * gain)
        y = _nearest(base + step * gain)
        np.testing.assert_allclose(paths[GDA][t], x, atol=1e-12)
        np.testing.assert_allclose(paths[OptimisticGDA][t], y, atol=1e-12)
    for path in paths.values():
        torch.testing.assert_close(path.sum(-1), torch.ones(30).double(), atol=1e-14, rtol=0)


def test_the_column_player_descends() -> None:
    """Each player climbs its own payoff, of a table whose sides differ in size and scale."""
    payoff, total = np.array([[3.0, -1.0, 0.5], [-2.0, 4.0, 1.0]]), 2.0
    game = games.ConstantSumGame(payoff, total)
    x, y = np.array([0.7, 0.3]), np.array([0.2, 0.5, 0.3])
    found = games.solve(game, GDA(0.03), 2, start=(x, y), keep_policies=True).policies["last"]
    for t in range(2):
        x, y = _nearest(x + 0.03 * payoff @ y), _nearest(y + 0.03 * (total - payoff.T @ x))
        np.testing.assert_allclose(found.row[t], x, atol=1e-13)
        np.testing.assert_allclose(found.column[t], y, atol=1e-13)
    exact = games.nash(game)
    last = games.solve(game, OptimisticGDA(0.03), 5000, record=[5000])
    assert float(last.gaps["last"][-1]) < 1e-7
    np.testing.assert_allclose(last.last.row, exact.policy.row, atol=1e-7)
    np.testing.assert_allclose(last.last.column, exact.policy.column, atol=1e-7)


@pytest.mark.parametrize("name", ["comal_cycle", "biased_rock_paper_scissors", "cloned_rock", "two_rings"])
def test_the_last_iterate_of_optimism_converges_and_that_without_leaves(name: str) -> None:
    """No equilibrium here is uniform, except among clones; two of the games have several."""
    game = games.zoo.get(name)
    n = game.sizes[0]
    step = 1 / (8 * float(torch.linalg.matrix_norm(game.P - 0.5, 2)))
    start = torch.linspace(1, -1, n).double().softmax(0)
    found = games.solve(game, OptimisticGDA(step), 4000, start=start, record=[100, 4000]).gaps["last"]
    assert float(found[1]) < 1e-3 * float(found[0])
    plain = games.solve(game, GDA(step), 4000, start=start, record=range(3000, 4001, 10)).gaps["last"]
    assert float(plain.max()) > 0.05


def test_away_from_the_boundary_the_gradient_turns_outwards_as_the_theorem_of_small_steps_says() -> None:
    """Unprojected, a deviation grows by sqrt(1 + step^2 lam^2) per iteration, lam in Euclidean distance."""
    nash = games.nash(COMAL).policy
    A = (COMAL.P - 0.5).numpy()
    flat = np.eye(3) - 1 / 3
    lam = np.abs(np.linalg.eigvals(flat @ A @ flat)).max()
    start = nash + 1e-6 * torch.tensor([1.0, -1.0, 0.0], dtype=torch.float64)
    end = games.solve(COMAL, GDA(0.3), 60, start=start).last
    grown = float((end - nash).norm() / (start - nash).norm())
    turned = np.linalg.matrix_power(np.eye(3) + 0.3 * flat @ A @ flat, 60) @ (start - nash).numpy()
    np.testing.assert_allclose(end - nash, turned, atol=1e-12)
    assert math.log(grown) / 60 == pytest.approx(math.log(1 + (0.3 * lam) ** 2) / 2, rel=0.05)


@pytest.mark.parametrize("kind", games.solvers.TABLES_ONLY)
def test_n_by_m_games_and_batches(kind: type) -> None:
    game = games.ConstantSumGame([[3.0, -1.0], [-1.0, 1.0]], total=0.0)
    start = ([0.9, 0.1], [0.2, 0.8])
    solution = games.solve(game, kind(), 3000, start=start)
    assert float(solution.gaps["average"][-1]) < 0.15
    tables = [games.zoo.random_preferences(5, seed).P for seed in range(3)]
    batch = games.solve(games.PreferenceGame(torch.stack(tables)), kind(), 30)
    for i, table in enumerate(tables):
        alone = games.solve(games.PreferenceGame(table), kind(), 30)
        torch.testing.assert_close(batch.average[i], alone.average, atol=1e-13, rtol=0)


@pytest.mark.parametrize("kind", games.solvers.TABLES_ONLY)
def test_who_asks_for_steps_hears_of_the_nearest_mirror_step(kind: type) -> None:
    nearest = kind.nearest.__name__  # type: ignore[attr-defined]
    assert kind.nearest in games.solvers.MIRROR_STEPS  # type: ignore[attr-defined]
    with pytest.raises(
        ValueError, match=f"{kind.__name__} makes no mirror steps.* nearest mirror step is {nearest}$"
    ) as no:
        games.driver.require_steps(kind())
    assert "\n" not in str(no.value)
    games.driver.require_steps(kind.nearest())  # type: ignore[attr-defined]
    policy = games.Policy(None)
    with pytest.raises(ValueError, match=nearest):
        games.driver.drive(kind(), policy, policy, lambda step: policy, lambda step, made: True, 1)


@pytest.mark.parametrize("kind", [RegretMatching, RegretMatchingPlus, PredictiveRegretMatchingPlus])
def test_without_regrets_nothing_plays_padding(kind: type) -> None:
    """Of two even actions, beside a game of three, no regret is positive: a third was played on the padding."""
    game = games.ContextualGame([games.zoo.rock_paper_scissors().P, [[0.5, 0.5], [0.5, 0.5]]])
    solution = games.solve(game, kind(), 1)
    assert solution.last.tolist() == game.uniform().tolist()
    assert solution.gaps["last"][-1].abs().max() < 1e-12
