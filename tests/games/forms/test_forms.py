"""Forms of game: low rank, implicit, contextual, two players, embedded; float32; what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import linprog

from nashward import games
from nashward.games.equilibria import centre, maximum_entropy
from nashward.games.forms.symmetrize import split, symmetrised

from .. import mixed


def _factors(n: int, rank: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    left, right = np.random.default_rng(seed).normal(size=(2, n, rank)) / 4
    left[:, 0] += 1.5  # so that no mixture of few actions is at the origin, where all would tie
    return left, right


def test_low_rank_games_are_their_tables() -> None:
    left, right = _factors(40, 3)
    A = left @ right.T - right @ left.T
    scale = 2 * np.abs(A).max()
    game, table = games.LowRankGame(left / scale, right), games.PreferenceGame(0.5 + A / scale)
    policy = np.random.default_rng(1).dirichlet(np.ones(40), size=5)
    torch.testing.assert_close(game.win_rate(policy), table.win_rate(policy))
    torch.testing.assert_close(games.duality_gap(game, policy[0]), games.duality_gap(table, policy[0]))
    torch.testing.assert_close(games.nash(game).policy, games.nash(table).policy, atol=1e-10, rtol=0)
    step = games.MWU(step=0.5)
    torch.testing.assert_close(games.solve(game, step, 50).last, games.solve(table, step, 50).last)


def test_a_hundred_thousand_actions_of_low_rank() -> None:
    game = games.LowRankGame(*_factors(100_000, 5))
    equilibrium = games.nash(game)
    assert equilibrium.gap <= 1e-12
    assert games.duality_gap(game, equilibrium.policy) <= 1e-12
    assert bool(equilibrium.unique)
    assert int(equilibrium.support.sum()) <= 11


def test_implicit_games_are_asked_and_never_tabulated() -> None:
    left, right = (torch.from_numpy(factor) for factor in _factors(3000, 3))
    questions = 0

    def win_rate(mu: torch.Tensor) -> torch.Tensor:
        nonlocal questions
        questions += 1
        return 0.5 * mu.sum() + left @ (right.T @ mu) - right @ (left.T @ mu)

    equilibrium = games.nash(games.ImplicitGame(win_rate, n=3000))
    assert equilibrium.gap <= 1e-12
    assert questions < 300
    known = games.nash(games.LowRankGame(left, right))
    torch.testing.assert_close(equilibrium.policy, known.policy, atol=1e-9, rtol=0)


def test_contextual_games_equal_their_prompts_alone() -> None:
    tables = [games.zoo.random_preferences(n, seed=n).P for n in (2, 7, 3, 5, 5)]
    weights = np.array([0.1, 0.3, 0.2, 0.25, 0.15])
    game = games.ContextualGame(tables, weights)
    equilibrium = games.nash(game)
    for policy, table in zip(game.split(equilibrium.policy), tables, strict=True):
        torch.testing.assert_close(policy, games.nash(games.PreferenceGame(table)).policy, atol=1e-12, rtol=0)
    uniform = games.duality_gap(game, game.uniform())
    alone = [float(games.duality_gap(games.PreferenceGame(t), np.full(len(t), 1 / len(t)))) for t in tables]
    np.testing.assert_allclose(uniform.numpy(), alone, atol=1e-15)
    assert float(game.expected(uniform)) == pytest.approx(float(weights @ alone))
    ragged = games.solve(game, games.OptimisticMWU(step=0.5), 200, start=game.uniform())
    for policy, table in zip(game.split(ragged.last), tables, strict=True):
        single = games.solve(games.PreferenceGame(table), games.OptimisticMWU(step=0.5), 200)
        torch.testing.assert_close(policy, single.last, atol=1e-12, rtol=0)


@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (3, 2), (5, 12), (30, 20)])
def test_two_players_agree_with_highs(shape: tuple[int, int]) -> None:
    n, m = shape
    for seed in range(5):
        U = np.random.default_rng(seed).normal(size=shape) * 10.0 ** (seed - 2)
        equilibrium = games.nash(games.ConstantSumGame(U, total=0.0))
        result = linprog(
            np.r_[np.zeros(n), -1.0],
            A_ub=np.c_[-U.T, np.ones(m)],
            b_ub=np.zeros(m),
            A_eq=np.r_[np.ones(n), 0.0][None],
            b_eq=[1.0],
            bounds=[*((0, None) for _ in range(n)), (None, None)],
        )
        scale = max(1.0, float(np.abs(U).max()))
        assert equilibrium.gap <= 1e-12 * scale
        assert float(equilibrium.value) == pytest.approx(float(result.x[-1]), abs=1e-10 * scale)


def test_two_players_in_batches_and_with_ties() -> None:
    U = np.random.default_rng(0).integers(-2, 3, size=(4, 3, 6, 5)).astype(float)
    equilibrium = games.nash(games.ConstantSumGame(U, total=0.0), maximum_entropy)
    assert equilibrium.policy.row.shape == (4, 3, 6)
    assert equilibrium.policy.column.shape == (4, 3, 5)
    assert (equilibrium.gap <= 1e-11).all()
    assert equilibrium.unique.shape == (4, 3)
    constant = games.nash(games.ConstantSumGame(np.full((2, 3), 7.0)))
    assert constant.value == pytest.approx(7.0)
    assert not bool(constant.unique)


def test_a_two_player_game_and_its_symmetric_one_have_the_same_equilibria() -> None:
    game = games.ConstantSumGame([[3.0, -1.0], [-1.0, 1.0]], total=0.0)
    symmetric = symmetrised(game)
    pair = split(game, games.nash(symmetric).policy)
    torch.testing.assert_close(pair.row, torch.tensor([1 / 3, 2 / 3], dtype=torch.float64))
    torch.testing.assert_close(pair.column, torch.tensor([1 / 3, 2 / 3], dtype=torch.float64))
    with pytest.raises(ValueError, match=r"shape \[..., 5\], got \[4\]"):
        split(game, torch.ones(4) / 4)
    with pytest.raises(ValueError, match="no mass"):
        split(game, torch.tensor([1.0, 0, 0, 0, 0]))


LISTS: Any = lambda mu: mu.tolist()  # noqa: E731
OF_ACTIONS: Any = lambda i, j: i - j  # noqa: E731


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: games.LowRankGame(np.ones((4, 2)), np.ones((4, 3))), r"same shape .* \[4, 2\] and \[4, 3\]"),
        (lambda: games.LowRankGame(np.ones(4), np.ones(4)), r"left must have shape \[..., n, r\].* got \[4\]"),
        (lambda: games.LowRankGame([[np.nan]], [[1.0]]), r"entry \[0, 0\] of left is not a finite number"),
        (lambda: games.ImplicitGame(lambda mu: mu[:2], n=3), r"must give \[3\] finite numbers.* it gave shape \[2\]"),
        (lambda: games.ImplicitGame(lambda mu: mu[:0], n=3), r"must give \[3\] finite numbers.* it gave shape \[0\]"),
        (lambda: games.ImplicitGame(LISTS, n=3), r"must give a tensor \[3\]; it gave list"),
        (lambda: games.ImplicitGame(OF_ACTIONS, n=3), r"one policy, .*\[3\].*raised TypeError: .*missing 1"),
        (
            lambda: games.ImplicitGame(lambda mu: mu, n=3),
            "1/2 for an action .* it gave .* 1 against itself",
        ),
        (lambda: games.ContextualGame([]), "at least one table, got none"),
        (lambda: games.ContextualGame([np.ones((2, 3))]), r"table of prompt 0 must be square, got shape \[2, 3\]"),
        (lambda: games.ContextualGame([[[0.5]], [[0.5, 1], [1, 0.5]]]), r"prompts 1, with 2 responses: .* sum to 2"),
        (lambda: games.ContextualGame([[[0.5]]], weights=[0.4]), "1 probabilities that sum to 1"),
        (
            lambda: games.face(games.PreferenceGame(np.full((2, 3, 3), 0.5))),
            r"of one game, got a batch of .* \(2,\)",
        ),
        (
            lambda: games.nash(games.LowRankGame(*_factors(5, 2)), centre),
            "no table, .* leave point out",
        ),
    ],
)
def test_what_is_refused(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_padding_takes_no_mass() -> None:
    game = games.ContextualGame([[[0.5]], games.zoo.rock_paper_scissors().P])
    with pytest.raises(ValueError, match="mass to padding"):
        games.duality_gap(game, np.full((2, 3), 1 / 3))
    assert games.duality_gap(game, [[1.0], [1 / 3, 1 / 3, 1 / 3]]).abs().max() <= 1e-15


@pytest.mark.parametrize("policy", [[1 / 3, 1 / 3, 1 / 3], [[1.0], [0.5, 0.5, 0.0, 0.0]]])
def test_a_list_of_policies_holds_one_a_prompt(policy: list[object]) -> None:
    game = games.ContextualGame([games.zoo.comal_cycle().P, games.zoo.comal_cycle().P])
    with pytest.raises(ValueError, match="one distribution per prompt, at most 3 long"):
        games.duality_gap(game, policy)


def test_margins_are_skew_to_the_last_bit() -> None:
    for seed in range(30):
        P = games.PreferenceGame(0.5 + mixed.margins(seed)).P
        assert torch.equal(P - 0.5, -(P - 0.5).mT)


def test_lists_are_read_in_double_precision() -> None:
    policy, table = [0.3, 0.7], [[0.5, 0.9], [0.1, 0.5]]
    by_hand = [0.3 * 0.5 + 0.7 * 0.9, 0.3 * 0.1 + 0.7 * 0.5]
    for game in (games.PreferenceGame(table), games.LowRankGame([[1.0], [0.0]], [[0.0], [0.4]])):
        assert game.win_rate(policy).tolist() == pytest.approx(by_hand, abs=1e-15)
    for weights in (None, [0.2, 0.1, 0.7]):
        prompts = games.ContextualGame([table] * 3, weights=weights)
        assert float(prompts.expected(torch.ones(3, dtype=torch.float64))) == pytest.approx(1, abs=1e-15)
        assert prompts.weights.tolist() == pytest.approx(weights or [1 / 3] * 3, abs=1e-16)
