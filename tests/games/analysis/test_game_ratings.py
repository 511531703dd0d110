"""Ratings by equilibria: copies of a player move nobody, and each rating is what its definition says."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import linprog

from nashward import games
from nashward.games.analysis.game_ratings import class_lottery, clone_classes, deviation_ratings, nash_averaging
from nashward.games.analysis.ratings import bradley_terry
from nashward.games.analysis.social_choice import borda


def _copied(P: np.ndarray, player: int, copies: int = 1) -> np.ndarray:
    at = [*range(len(P)), *[player] * copies]
    return P[np.ix_(at, at)]


def _random(n: int, seed: int, ties: bool = False) -> np.ndarray:
    random = np.random.default_rng(seed)
    values = random.choice([0.25, 0.5, 0.5, 0.75], (n, n)) if ties else random.uniform(0.05, 0.95, (n, n))
    upper = np.triu(values, 1)
    return upper + np.tril(1 - upper.T, -1) + np.eye(n) / 2


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("copies", [1, 3])
def test_a_copy_moves_nobody(seed: int, copies: int) -> None:
    """Where the equilibrium is unique and where it is chosen among many (ties), of players with weight and without."""
    P = _random(5, seed, ties=seed % 2 == 1)
    before = class_lottery(P)
    for player in range(5):
        after = class_lottery(_copied(P, player, copies))
        others = [k for k in range(5) if before.classes[k] != before.classes[player]]
        np.testing.assert_allclose(after.policy[others], before.policy[others], atol=1e-8)
        own = after.classes == after.classes[player]
        assert after.policy[own].sum() == pytest.approx(before.policy[before.classes == before.classes[player]].sum())
        assert np.ptp(after.policy[own]) < 1e-12
        assert after.unique == before.unique
        assert after.only is (before.only and not after.policy[player] > 0)
        for rating in (deviation_ratings, nash_averaging):
            again = rating(_copied(P, player, copies))
            np.testing.assert_allclose(again, rating(P)[[*range(5), *[player] * copies]], atol=1e-7)


def test_others_selections_are_moved_by_a_copy() -> None:
    """Of two that tie and share the weight one is copied: by the entropy over players it has two thirds, not half."""
    P = np.full((3, 3), 0.5)
    P[2, :2], P[:2, 2] = 0.4, 0.6  # two that tie, and one that loses to both
    P[2, 1], P[1, 2] = 0.3, 0.7  # to one of them by more, so that they are no clones
    assert clone_classes(P).tolist() == [0, 1, 2]
    by_player = games.nash(games.PreferenceGame(_copied(P, 0)), games.equilibria.maximum_entropy).policy
    assert by_player.tolist() == pytest.approx([1 / 3, 1 / 3, 0, 1 / 3], abs=1e-6)
    assert class_lottery(_copied(P, 0)).policy.tolist() == pytest.approx([1 / 4, 1 / 2, 0, 1 / 4], abs=1e-6)


def test_scores_on_a_fixed_schedule_and_averages_are_moved_by_a_copy() -> None:
    """The figures of docs/leaderboard.md: a ring of three at 0.7, whose first player has two copies."""
    ring = np.array([[0.5, 0.7, 0.3], [0.3, 0.5, 0.7], [0.7, 0.3, 0.5]])
    three = _copied(ring, 0, 2)
    elo = bradley_terry(100 * three).elo.numpy()  # each pair met as often
    assert (elo[1], elo[2]) == pytest.approx((1443.3, 1556.7), abs=0.1)
    assert borda(three)[1:3].tolist() == pytest.approx([0.4, 0.6])
    np.testing.assert_allclose(bradley_terry(ring).elo, 1500, atol=1e-9)
    np.testing.assert_allclose(class_lottery(three).policy[1:3], 1 / 3, atol=1e-12)


def test_ranges_hold_all_equilibria_of_clones_and_ties() -> None:
    ring = np.array([[0.5, 0.7, 0.3], [0.3, 0.5, 0.7], [0.7, 0.3, 0.5]])
    P = _copied(ring, 0)
    least, most = class_lottery(P).ranges(P)
    np.testing.assert_allclose(least, [0, 1 / 3, 1 / 3, 0], atol=1e-9)
    np.testing.assert_allclose(most, 1 / 3, atol=1e-9)
    tied = np.full((2, 2), 0.5)
    tied = np.block([[tied, np.array([[0.7], [0.6]])], [np.array([[0.3, 0.4, 0.5]])]])
    least, most = class_lottery(tied).ranges(tied)
    np.testing.assert_allclose((least, most), ([0, 0, 0], [1, 1, 0]), atol=1e-7)


def _by_definition(P: np.ndarray) -> np.ndarray:
    """The deviation gains of the strictest coarse correlated equilibrium, over joint distributions of both players."""
    n, A = len(P), P - 0.5
    gains = np.zeros((2 * n, n, n))  # of a deviation of either player, by joint action
    for a in range(n):
        gains[a] = A[a][None, :] - A
        gains[n + a] = A[a][:, None] - A.T
    rows = gains.reshape(2 * n, n * n)
    held, rating = np.zeros(2 * n, dtype=bool), np.zeros(2 * n)
    while not held.all():
        found = linprog(
            np.r_[np.zeros(n * n), 1.0], A_ub=np.c_[rows, np.where(held, 0.0, -1.0)], b_ub=np.where(held, rating, 0),
            A_eq=np.r_[np.ones(n * n), 0.0][None], b_eq=[1.0], bounds=[(0, None)] * n**2 + [(None, None)],
        )  # fmt: skip
        binding = ~held & (found.ineqlin.marginals < -1e-9)
        assert binding.any()
        rating[binding] = found.x[-1]
        held |= binding
    np.testing.assert_allclose(rating[:n], rating[n:], atol=1e-6)  # both players are alike
    return rating[:n]


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("ties", [False, True])
def test_deviation_ratings_are_those_of_the_strictest_coarse_correlated_equilibrium(seed: int, ties: bool) -> None:
    P = _random(5, seed, ties)
    np.testing.assert_allclose(deviation_ratings(P), _by_definition(P), atol=1e-6)


def test_deviation_ratings_of_many_equilibria_are_the_strictest() -> None:
    """Two that tie: against the second the loser loses more, so the strictest equilibrium is the second alone."""
    P = np.array([[0.5, 0.5, 0.6], [0.5, 0.5, 0.9], [0.4, 0.1, 0.5]])
    assert deviation_ratings(P).tolist() == pytest.approx([0, 0, -0.4], abs=1e-8)


def test_nash_averaging() -> None:
    """Of a transitive table the best one alone; of a ring everybody; of equals all, by the largest entropy."""
    scores = np.array([1.0, 0.0, -2.0])
    transitive = 1 / (1 + np.exp(scores - scores[:, None]))
    np.testing.assert_allclose(nash_averaging(transitive), scores - 1.0, atol=1e-12)
    ring = games.zoo.comal_cycle().P.numpy()
    np.testing.assert_allclose(nash_averaging(ring), 0, atol=1e-12)
    with pytest.raises(ValueError, match="0 or 1"):
        nash_averaging([[0.5, 1.0], [0.0, 0.5]])


@pytest.mark.parametrize(("wins", "named"), [(float("inf"), "inf"), (-2.0, "-2"), (float("nan"), "nan")])
def test_a_count_that_is_none_is_named(wins: float, named: str) -> None:
    with pytest.raises(ValueError, match=f"got {named} among them"):
        bradley_terry([[0, wins], [1, 0]])


def test_a_negative_smoothing_is_refused() -> None:
    with pytest.raises(ValueError, match="smoothing is -1"):
        bradley_terry([[0, 2], [1, 0]], smoothing=-1)


def test_equilibria_of_tables_typed_in_decimals_are_not_lost_to_rounding() -> None:
    """As stored, both tables have fewer equilibria than the decimals and log-odds that they round."""
    P = [[0.5, 0.7, 0.1, 0.6], [0.3, 0.5, 0.9, 0.2], [0.9, 0.1, 0.5, 0.9], [0.4, 0.8, 0.1, 0.5]]
    lottery = class_lottery(P)
    np.testing.assert_allclose(lottery.policy, [0.1882, 0.3807, 0.2385, 0.1926], atol=1e-4)
    assert lottery.policy[0] < lottery.ranges(P)[1][0]
    game = games.PreferenceGame(P)
    assert games.face(game).dimension == 1
    assert not games.nash_fractions(game).unique
    pair = games.ConstantSumGame([[0.1, 0.3, 0.2], [0.3, 0.1, 0.2], [0.2, 0.2, 0.2]], total=0.4)
    assert games.face(pair).dimension == 2
    values = {-2: 0.1, -1: 0.25, 0: 0.5, 1: 0.75, 2: 0.9}  # log-odds k log 3
    powers = [[0, -2, 2, 1, 2], [2, 0, -2, 0, 0], [-2, 2, 0, 0, -2], [-1, 0, 0, 0, 1], [-2, 0, 2, -1, 0]]
    skills = nash_averaging([[values[k] for k in row] for row in powers])
    np.testing.assert_allclose(skills, [0, 0, 0, -0.0428, 0], atol=1e-4)
