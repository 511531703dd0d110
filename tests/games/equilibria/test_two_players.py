"""Games of two players by the simplex method: against HiGHS, by symmetry, in batches, and where it gives up."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.optimize import linprog

from nashward import games
from nashward.games.compiled.accelerator import ACCELERATED
from nashward.games.equilibria.pivoting import pivot_limit
from nashward.games.equilibria.two_players import pairs
from nashward.games.equilibria.two_players.simplex import solve_pair

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
    monkeypatch.setattr(pairs, "SIMPLEX", 0)
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


def test_payoffs_that_are_too_close_to_be_scaled_up() -> None:
    found = games.nash(games.ConstantSumGame(1e-310 * np.eye(3), 0.0))
    torch.testing.assert_close(found.policy.row, torch.full((3,), 1 / 3, dtype=torch.float64), atol=1e-12, rtol=0)
