"""Games of two players by the simplex method: against HiGHS, by symmetry, in batches, and where it gives up."""

from __future__ import annotations

from collections.abc import Callable
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from scipy.optimize import linprog

from nashward import games
from nashward.games.compiled.accelerator import ACCELERATED
from nashward.games.equilibria import selection
from nashward.games.equilibria.pivoting import pivot_limit
from nashward.games.equilibria.two_players import pairs
from nashward.games.equilibria.two_players.simplex import pivot_table, refine, solve_pair

from .. import mixed

Kind = Callable[[np.random.Generator, int, int], np.ndarray]
KINDS: dict[str, Kind] = {
    "normal": lambda rng, n, m: rng.normal(size=(n, m)),
    "signs": lambda rng, n, m: rng.choice([-1.0, 1.0], size=(n, m)),
    "few whole numbers": lambda rng, n, m: rng.integers(-1, 2, size=(n, m)).astype(float),
    "twins": lambda rng, n, m: rng.normal(size=(n, m))[rng.integers(0, n, n)][:, rng.integers(0, m, m)],
    "rank 2": lambda rng, n, m: rng.normal(size=(n, 2)) @ rng.normal(size=(2, m)),
    "diagonal": lambda rng, n, m: np.eye(n, m) * rng.uniform(1, 2, size=(n, 1)),
    "one large payoff": lambda rng, n, m: 1e4 * (np.arange(n * m).reshape(n, m) == 1) + rng.normal(size=(n, m)),
}  # fmt: skip
SIZES = ((1, 1), (1, 5), (2, 2), (4, 3), (7, 7), (6, 25), (40, 9), (30, 30))

compiled_only = pytest.mark.skipif(not ACCELERATED, reason="compiled code needs the accelerator")


def _value(U: np.ndarray) -> float:
    n, m = U.shape
    solved = linprog(
        np.r_[np.zeros(n), -1.0], A_ub=np.c_[-U.T, np.ones(m)], b_ub=np.zeros(m),
        A_eq=np.r_[np.ones(n), 0.0][None], b_eq=[1.0], bounds=[(0, None)] * n + [(None, None)],
    )  # fmt: skip
    return -float(solved.fun)


@compiled_only
@pytest.mark.parametrize("kind", KINDS)
def test_the_simplex_method_alone_reaches_the_gap_through_ties(kind: str) -> None:
    rng = np.random.default_rng(3)
    for n, m in SIZES:
        for _ in range(4):
            U = KINDS[kind](rng, n, m)
            row, column = np.empty(n), np.empty(m)
            value, gap, span = solve_pair(U, pivot_limit(n + m), 1e-13, row, column)
            for policy in (row, column):
                assert policy.min() >= 0
                assert policy.sum() == pytest.approx(1, abs=1e-14)
            assert span == np.ptp(U)
            assert gap <= 1e-12 * span
            assert float((U @ column).max() - (row @ U).min()) == pytest.approx(gap, abs=1e-13 * max(span, 1.0))
            assert value == pytest.approx(_value(U), abs=1e-8 * max(span, 1.0))


@compiled_only
def test_a_large_game_is_refined_to_full_precision() -> None:
    U = np.random.default_rng(0).normal(size=(90, 140))
    row, column = np.empty(90), np.empty(140)
    _, gap, span = solve_pair(U, pivot_limit(230), 0.0, row, column)
    assert gap <= 2e-15 * span
    assert np.count_nonzero(row) == np.count_nonzero(column)


@compiled_only
@pytest.mark.parametrize(("n", "m"), [(9, 12), (12, 9), (20, 20)])
def test_a_round_of_refinement_takes_errors_off_both_policies(n: int, m: int) -> None:
    rng = np.random.default_rng(n)
    V = rng.uniform(0.25, 0.5, size=(n, m))
    T, b, c, room = V.copy(), np.empty(n), np.empty(m), np.empty((2, n + m))
    rows, columns = np.empty(n, dtype=np.int64), np.empty(m, dtype=np.int64)
    assert pivot_table(T, pivot_limit(n + m), b, c, rows, columns, room)
    x, y = np.zeros(n), np.zeros(m)
    x[columns[columns < n]], y[rows[rows >= n] - n] = c[columns < n], b[rows >= n]
    assert np.count_nonzero(x) == np.count_nonzero(y) > 2
    near_x, near_y = x * (1 + 1e-4 * rng.normal(size=n)), y * (1 + 1e-4 * rng.normal(size=m))
    refine(V, T, rows, columns, near_x, near_y)
    np.testing.assert_allclose(near_x, x, atol=1e-13, rtol=0)
    np.testing.assert_allclose(near_y, y, atol=1e-13, rtol=0)


@pytest.mark.parametrize("seed", range(6))
def test_the_order_of_the_actions_and_the_side_of_the_table_change_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, m = rng.integers(2, 40, size=2)
    U = rng.normal(size=(n, m))
    found = games.nash(games.ConstantSumGame(U, 0.0))
    assert bool(found.unique)
    i, j = rng.permutation(n), rng.permutation(m)
    moved = games.nash(games.ConstantSumGame(U[i][:, j], 0.0))
    torch.testing.assert_close(moved.policy.row, found.policy.row[i], atol=1e-12, rtol=0)
    torch.testing.assert_close(moved.policy.column, found.policy.column[j], atol=1e-12, rtol=0)
    turned = games.nash(games.ConstantSumGame(-U.T, 0.0))
    torch.testing.assert_close(turned.policy.row, found.policy.column, atol=1e-12, rtol=0)
    assert float(turned.value) == pytest.approx(-float(found.value), abs=1e-13)


@pytest.mark.parametrize("kind", ["normal", "few whole numbers"])
def test_a_batch_is_each_of_its_games(kind: str) -> None:
    rng = np.random.default_rng(5)
    U = np.stack([KINDS[kind](rng, 7, 12) for _ in range(6)]).reshape(2, 3, 7, 12)
    batch = games.nash(games.ConstantSumGame(U, 0.0))
    assert batch.policy.row.shape == (2, 3, 7)
    assert batch.gap.shape == (2, 3)
    for k in np.ndindex(2, 3):
        alone = games.nash(games.ConstantSumGame(U[k], 0.0))
        assert float(batch.value[k]) == pytest.approx(float(alone.value), abs=1e-12)
        assert float(batch.gap[k]) <= 1e-12 * np.ptp(U[k])
        if kind == "normal":
            torch.testing.assert_close(batch.policy.column[k], alone.policy.column, atol=1e-12, rtol=0)


@pytest.mark.parametrize("kind", ["normal", "signs"])
def test_beyond_the_size_for_the_simplex_method_the_value_is_the_same(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    U = KINDS[kind](np.random.default_rng(2), 25, 18)
    first = games.nash(games.ConstantSumGame(U, 0.0))
    monkeypatch.setattr(pairs, "SIMPLEX_ENTRIES", 0)
    other = games.nash(games.ConstantSumGame(U, 0.0))
    assert max(float(first.gap), float(other.gap)) <= 1e-12 * np.ptp(U)
    assert float(first.value) == pytest.approx(float(other.value), abs=1e-12)


@compiled_only
def test_where_the_simplex_method_gives_up_the_symmetric_game_is_solved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs, "pivot_limit", lambda n: 1)
    U = np.random.default_rng(4).normal(size=(9, 9))
    found = games.nash(games.ConstantSumGame(U, 0.0))
    assert float(found.gap) <= 1e-12 * np.ptp(U)
    batch = games.nash(games.ConstantSumGame(U[None], 0.0))
    assert float(batch.value[0]) == pytest.approx(float(found.value), abs=1e-13)


@compiled_only
def test_symmetric_games_by_the_simplex_method_are_those_by_pivoting(monkeypatch: pytest.MonkeyPatch) -> None:
    tables = [0.5 + mixed.margins(seed) for seed in range(60)]
    pivoted = [games.nash(games.PreferenceGame(P)) for P in tables]
    pivoting = Mock(wraps=selection.solve_game)
    monkeypatch.setattr(selection, "solve_game", pivoting)
    unique = 0
    monkeypatch.setattr(selection, "SIMPLEX", 0)
    for P, other in zip(tables, pivoted, strict=True):
        found = games.nash(games.PreferenceGame(P))
        assert float(found.gap) <= 1e-12
        assert 2 * float((P @ found.numpy()).max() - 0.5) == pytest.approx(float(found.gap), abs=1e-14)
        if bool(other.unique):
            unique += 1
            torch.testing.assert_close(found.policy, other.policy, atol=1e-7, rtol=0)
    assert unique > 20
    assert pivoting.call_count <= 1  # for games on the verge of several equilibria


@compiled_only
def test_where_the_simplex_method_gives_up_a_symmetric_game_is_pivoted(monkeypatch: pytest.MonkeyPatch) -> None:
    P = 0.5 + np.triu(np.random.default_rng(2).uniform(-0.5, 0.5, size=(31, 31)), 1)
    P = np.triu(P) + np.tril(1 - P.T, -1)
    known = games.nash(games.PreferenceGame(P)).numpy()
    monkeypatch.setattr(selection, "SIMPLEX", 0)
    monkeypatch.setattr(selection, "solve_pair", lambda U, pivots, good, row, column: (np.nan, np.nan, 1.0))
    assert np.array_equal(games.nash(games.PreferenceGame(P)).numpy(), known)


def test_payoffs_that_are_too_close_to_be_scaled_up() -> None:
    found = games.nash(games.ConstantSumGame(1e-310 * np.eye(3), 0.0))
    torch.testing.assert_close(found.policy.row, torch.full((3,), 1 / 3, dtype=torch.float64), atol=1e-12, rtol=0)
