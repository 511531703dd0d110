"""Uniqueness and the face: never said without a proof, against all vertices in fractions."""

from __future__ import annotations

import itertools
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch

from nashward import games
from nashward.games.equilibria.certificates.enclosure import UNIT, proved_unique
from nashward.games.equilibria.rational import in_fractions, only

from .. import mixed


def _solved(rows: list[list[Fraction]]) -> list[Fraction] | None:
    """The only solution of equations [coefficients..., right-hand side], or None."""
    rows, unknowns, rank = [row[:] for row in rows], len(rows[0]) - 1, 0
    for column in range(unknowns):
        pivot = next((k for k in range(rank, len(rows)) if rows[k][column]), None)
        if pivot is None:
            return None
        rows[rank], rows[pivot] = rows[pivot], rows[rank]
        rows[rank] = [entry / rows[rank][column] for entry in rows[rank]]
        for k in range(len(rows)):
            if k != rank and rows[k][column]:
                factor = rows[k][column]
                rows[k] = [a - factor * b for a, b in zip(rows[k], rows[rank], strict=True)]
        rank += 1
    return None if any(row[-1] for row in rows[rank:]) else [row[-1] for row in rows[:rank]]


def _vertices(U: list[list[Fraction]]) -> list[tuple[Fraction, ...]]:
    """All extreme optimal policies of the column player, who pays U, by trying every pair of supports."""
    n, m, best = len(U), len(U[0]), None
    found: set[tuple[Fraction, ...]] = set()
    for size in range(1, m + 1):
        for J in itertools.combinations(range(m), size):
            for rows in itertools.combinations(range(n), size):
                system = [[U[i][j] for j in J] + [Fraction(-1), Fraction(0)] for i in rows]
                solution = _solved([*system, [Fraction(1)] * size + [Fraction(0), Fraction(1)]])
                if solution is None or min(solution[:-1]) < 0:
                    continue
                q = [Fraction(0)] * m
                for j, share in zip(J, solution, strict=False):
                    q[j] = share
                worst = max(sum(u * x for u, x in zip(row, q, strict=True)) for row in U)
                if best is None or worst < best:
                    best, found = worst, set()
                if worst == best:
                    found.add(tuple(q))
    return sorted(found)


def _dimension(vertices: list[tuple[Fraction, ...]]) -> int:
    return int(
        np.linalg.matrix_rank(np.array([[float(a - b) for a, b in zip(v, vertices[0], strict=True)] for v in vertices]))
    )


def _fractions(table: np.ndarray) -> list[list[Fraction]]:
    return [[Fraction(float(u)) for u in row] for row in table]


def _gap(U: np.ndarray, pair: Any) -> float:
    return float((torch.from_numpy(U) @ pair.column).max() - (pair.row @ torch.from_numpy(U)).min())


@pytest.mark.parametrize("e", [10.0**-k for k in range(3, 16)])
def test_two_policies_that_are_optimal_however_near_the_game_is_to_another(e: float) -> None:
    """Rows (1/2, 1/2, 0) and (0, 0, 1) are both optimal for every e > 0, the column player's policy is one."""
    U = np.array([[1, 0, 0.5], [0, 1, 0.5], [0.5, 0.5, 0.5 + e]])
    for payoffs, turned in ((U, False), (1 - U.T, True), (2 * U, False), (U[[2, 0, 1]], False)):
        game = games.ConstantSumGame(payoffs, total=payoffs.max())
        equilibrium = games.nash(game)
        assert equilibrium.unique is not None
        assert not equilibrium.unique
        assert games.face(game).dimension == 1
        other = equilibrium.other
        assert _gap(payoffs, other) < 1e-15
        away = [(a - b).abs().sum() for a, b in zip(other, equilibrium.policy, strict=True)]
        assert away[1 if turned else 0] > 0.1


@pytest.mark.parametrize("e", [1e-16, UNIT])
def test_nearer_than_rounding_it_says_that_it_cannot_tell(e: float) -> None:
    game = games.ConstantSumGame([[1, 0, 0.5], [0, 1, 0.5], [0.5, 0.5, 0.5 + e]], total=1.0)
    equilibrium = games.nash(game)
    assert equilibrium.unique is None or not equilibrium.unique
    if equilibrium.unique is None:
        assert "double precision cannot tell" in equilibrium.uniqueness
    assert games.face(game).dimension in (None, 1)


@pytest.mark.parametrize("seed", range(60))
def test_small_whole_numbers_against_all_vertices_in_fractions(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 6))
    upper = np.triu(rng.integers(-2, 3, (n, n)), 1) / 4
    A = upper - upper.T
    vertices = _vertices(_fractions(A))
    game = games.PreferenceGame(0.5 + A)
    equilibrium, face = games.nash(game), games.face(game)
    assert face.dimension == _dimension(vertices)
    assert bool(equilibrium.unique) == (len(vertices) == 1)
    if not equilibrium.unique:
        assert games.duality_gap(game, equilibrium.other) < 1e-14
        assert (equilibrium.other - equilibrium.policy).abs().sum() > 1e-3
    np.testing.assert_array_equal(face.support, np.array(vertices, dtype=float).max(0) > 0)
    assert face.directions.shape == (n, face.dimension)


@pytest.mark.parametrize("seed", range(40))
def test_two_players_against_all_vertices_in_fractions(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, m = (int(k) for k in rng.integers(1, 5, 2))
    U = rng.integers(-1, 3, (n, m)) / (3.0 if seed % 2 else 1.0)  # thirds, rounded and then taken as exact
    columns, rows = _vertices(_fractions(U)), _vertices(_fractions(-U.T))
    game = games.ConstantSumGame(U, total=0.0)
    equilibrium, face = games.nash(game), games.face(game)
    dimension = _dimension(columns) + _dimension(rows)
    assert face.dimension == dimension
    if dimension:
        assert not equilibrium.unique
        assert _gap(U, equilibrium.other) < 1e-14
    else:
        assert equilibrium.unique is None or equilibrium.unique  # None: another one rounds to this table


def test_a_tie_is_told_from_the_least_win() -> None:
    """Two actions, one of which beats the other by the last digit: no tie rounds to that."""
    for by, unique in ((0.0, False), (1.2e-16, True), (1e-14, True), (1e-9, True)):
        game = games.PreferenceGame([[0.5, 0.5 + by, 0.7], [0.5 - by, 0.5, 0.7], [0.3, 0.3, 0.5]])
        assert bool(games.nash(game).unique) == unique
        assert games.face(game).dimension == (0 if unique else 1)


def test_a_proof_allows_for_all_rounding_and_for_no_more() -> None:
    """COMAL's cycle, whose least probability is 3/11: an error of the entries up to where it may vanish."""
    A = games.zoo.comal_cycle().P.numpy()[None] - 0.5
    played = np.ones((1, 3), dtype=bool)
    for error, proved in ((1e-9, True), (1e-3, True), (0.2, False), (10.0, False)):
        assert bool(proved_unique(A, played, played, np.array([error]), skew=True)[0]) == proved
    some = np.array([[True, True, False]])
    assert not proved_unique(A, some, some, np.zeros(1), skew=True).any()
    assert not proved_unique(A, some, played, np.zeros(1)).any()
    both = np.concatenate([np.zeros((1, 3, 3)), A])  # one game of the batch is singular
    assert proved_unique(both, np.ones((2, 3), dtype=bool), np.ones((2, 3), dtype=bool), np.full(2, 1e-9)).tolist() == [
        False, True,
    ]  # fmt: skip


@pytest.mark.parametrize("n", [3, 30, 120, 400])
def test_random_games_are_proved_unique(n: int) -> None:
    assert games.nash(games.zoo.random_preferences(n, seed=n)).unique
    assert games.nash(games.zoo.random_tournament(n, seed=n)).unique
    U = np.random.default_rng(n).normal(size=(n, n // 2 + 1)) * 1e6 + 1e7  # far from 0
    assert games.nash(games.ConstantSumGame(U / 1e7, total=0.0)).unique


def test_mixed_games_are_never_called_unique_with_another_equilibrium_at_hand() -> None:
    undecided = 0
    for seed in range(150):
        A = mixed.margins(seed)
        game = games.PreferenceGame(0.5 + A)
        equilibrium = games.nash(game)
        undecided += equilibrium.unique is None
        if equilibrium.unique is not None and not equilibrium.unique:
            assert games.duality_gap(game, equilibrium.other) < 1e-13
            assert (equilibrium.other - equilibrium.policy).abs().sum() > 1e-6
        elif equilibrium.unique is not None:
            centre = games.nash(game, games.equilibria.centre).policy
            torch.testing.assert_close(centre, equilibrium.policy, atol=1e-7, rtol=0)
    assert undecided <= 30


def test_twins_of_a_large_game_share_their_probability() -> None:
    """Too large for whole numbers: the game of one action per kind is proved unique; twins give the dimension."""
    P = games.zoo.random_preferences(300, seed=0).P.numpy()
    played = games.nash(games.PreferenceGame(P)).support.numpy()
    in_, out = np.flatnonzero(played)[:2], np.flatnonzero(~played)[:1]
    order = np.r_[np.arange(300), in_, out]
    game = games.PreferenceGame(P[np.ix_(order, order)])
    equilibrium = games.nash(game)
    assert not equilibrium.unique
    assert games.duality_gap(game, equilibrium.other) < 1e-12
    assert (equilibrium.other - equilibrium.policy).abs().sum() > 1e-4
    assert games.face(game).dimension == 2  # the twin of an action that is not played adds nothing


def test_a_batch_holds_all_three_answers() -> None:
    rim = games.zoo.get("disc_rim").P.numpy()  # of rank 2: it ties up to the rounding of its entries
    tables = np.stack([games.zoo.random_preferences(7).P.numpy(), np.full((7, 7), 0.5), rim])
    equilibrium = games.nash(games.PreferenceGame(tables))
    assert [None if one is None else bool(one) for one in equilibrium.unique] == [True, False, None]
    assert equilibrium.uniqueness.shape == (3,)
    assert equilibrium.other[0] is None
    assert equilibrium.other[1].shape == (7,)
    decided = games.nash(games.PreferenceGame(tables[:2])).unique
    assert decided.dtype == torch.bool
    assert decided.tolist() == [True, False]


def test_games_without_a_table() -> None:
    left, right = np.random.default_rng(0).normal(size=(2, 60, 3)) / 4
    left[:, 0] += 1.5  # so that no mixture of few actions is at the origin, where all would tie
    scale = 2 * np.abs(left @ right.T - right @ left.T).max()
    assert games.nash(games.LowRankGame(left / scale, right)).unique
    twin = games.LowRankGame(np.r_[left, left] / scale, np.r_[right, right])
    equilibrium = games.nash(twin)
    assert equilibrium.unique is None
    assert "without a table" in equilibrium.uniqueness


# a second equilibrium of these tenths is (8, 0, 16, 1, 6, 0) / 31; doubles are not exactly tenths, and have one
TENTHS = [[5, 7, 6, 1, 3, 2], [3, 5, 2, 5, 7, 3], [4, 8, 5, 7, 6, 8], [9, 5, 3, 5, 5, 5], [7, 3, 4, 5, 5, 1],
          [8, 7, 2, 5, 9, 5]]  # fmt: skip


def test_in_fractions_a_table_of_tenths_has_two_equilibria_where_its_doubles_have_one() -> None:
    second = [Fraction(k, 31) for k in (8, 0, 16, 1, 6, 0)]
    assert max(sum(Fraction(u, 10) * p for u, p in zip(row, second, strict=True)) for row in TENTHS) == Fraction(1, 2)
    for order in (range(6), [3, 5, 0, 1, 4, 2]):
        game = games.PreferenceGame(np.array(TENTHS)[np.ix_(order, order)] / 10)
        assert games.nash(game).unique is None
        assert games.nash_fractions(game).unique is False


@pytest.mark.parametrize("seed", range(40))
def test_unique_in_fractions_against_all_vertices(seed: int) -> None:
    """Tenths, where most ties hold only in fractions, and two players with few payoffs."""
    rng = np.random.default_rng(seed)
    n, m = (int(k) for k in rng.integers(2, 6, 2))
    upper = np.triu(rng.integers(-2, 3, (n, n)), 1)
    tenths = [[Fraction(5 + int(k), 10) for k in row] for row in upper - upper.T]
    exact = games.nash_fractions(games.PreferenceGame(np.array(tenths, dtype=float)))
    assert exact.unique == (len(_vertices(tenths)) == 1)
    pay = [[Fraction(int(k), 10) for k in row] for row in rng.integers(-1, 3, (n, m))]
    columns, rows = _vertices(pay), _vertices([[-u for u in column] for column in zip(*pay, strict=True)])
    payoff = np.array(pay, dtype=float)
    found = in_fractions(payoff, *games.nash(games.ConstantSumGame(payoff, total=0.0)).numpy())
    assert found is not None
    assert found.unique == (len(columns) == len(rows) == 1)


def test_each_condition_of_uniqueness_decides_a_table() -> None:
    """An action off the support that ties, for the row or the column player; or another policy on the support."""
    one, none, half = Fraction(1), Fraction(0), Fraction(1, 2)
    assert not only([[none], [none]], [one, none], [one])
    assert not only([[none, none]], [one], [one, none])
    assert not only([[none], [none]], [half, half], [one])
    assert not only([[none, none]], [one], [half, half])
    assert not only([[none, none], [none, none]], [half, half], [half, half])
    assert only([[none, one]], [one], [one, none])
    rock = games.nash_fractions(games.zoo.cloned_rock())
    assert not rock.unique
    assert games.nash_fractions(games.zoo.comal_cycle()).unique
    table = [[Fraction(p).limit_denominator(100) - half for p in row] for row in games.zoo.cloned_rock().P.tolist()]
    middle = [Fraction(k, 6) for k in (1, 1, 2, 2)]
    assert max(sum(a * p for a, p in zip(row, middle, strict=True)) for row in table) == 0
    assert not only(table, middle, middle)


@pytest.mark.parametrize("name", [name for name in games.zoo.names() if games.zoo.GAMES[name].nash])
def test_the_zoo_is_unique_in_fractions_where_it_knows_of_no_other(name: str) -> None:
    entry = games.zoo.GAMES[name]
    x = np.array(entry.nash, dtype=float)
    found = in_fractions(games.zoo.get(name).P.numpy(), x, x)
    if found is not None:
        assert found.row == list(entry.nash or ())
        assert found.unique == ("several equilibria" not in entry.properties)
