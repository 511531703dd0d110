"""Games: what is accepted, what is refused and how, payoffs by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from nashward import games

RPS = [[0.5, 0.0, 1.0], [1.0, 0.5, 0.0], [0.0, 1.0, 0.5]]


def test_numpy_and_torch_and_lists_give_the_same_table() -> None:
    cycle = [[0.5, 0.1, 0.8], [0.9, 0.5, 0.1], [0.2, 0.9, 0.5]]
    assert float(games.PreferenceGame(cycle).P[1, 0]) == 0.9  # not rounded to float32
    for table in (RPS, np.array(RPS), torch.tensor(RPS, dtype=torch.float64)):
        game = games.PreferenceGame(table)
        assert game.P.dtype == torch.float64
        assert torch.equal(game.P, torch.tensor(RPS, dtype=torch.float64))


def test_views_of_numpy_that_torch_does_not_take() -> None:
    table = np.array([[0.5, 0.1], [0.9, 0.5]])
    table.setflags(write=False)  # like a memory-mapped file, about which torch warns
    assert torch.equal(games.PreferenceGame(table).P.flip(0, 1), games.PreferenceGame(table[::-1, ::-1]).P)


def test_float32_is_kept_and_says_what_it_can_reach() -> None:
    for table in (np.array(RPS, dtype=np.float32), torch.tensor(RPS)):
        game = games.PreferenceGame(table)
        assert game.P.dtype == torch.float32
        assert repr(game) == "PreferenceGame([3, 3], float32: gaps below 5e-07 are rounding)"
    rough = games.PreferenceGame(games.zoo.random_preferences(40, seed=1).P.to(torch.float32))
    assert torch.equal(rough.P.double() - 0.5, -(rough.P.double() - 0.5).T)  # still skew to the last bit
    solution = games.solve(rough, games.OptimisticMWU(step=2.0), iterations=20, start=np.full(40, 1 / 40))
    assert solution.last.dtype == torch.float64
    assert games.nash(rough).gap <= 1e-12  # computed in float64 on the table as given
    assert float(games.duality_gap(rough, games.nash(rough).policy)) <= rough.precision


def test_rounding_is_removed_so_that_the_table_is_exactly_complementary() -> None:
    game = games.PreferenceGame([[0.5, 0.3 + 4e-7], [0.7, 0.5]])
    assert torch.equal(game.P + game.P.T, torch.ones(2, 2, dtype=torch.float64))


@pytest.mark.parametrize(
    ("table", "labels", "message"),
    [
        ([[0.5, 0.9], [0.2, 0.5]], ["a", "b"], r"P\[a, b\] = 0.9 and P\[b, a\] = 0.2 sum to 1.1"),
        ([[0.6, 0.9], [0.1, 0.5]], None, r"P\[0, 0\] = 0.6"),
        ([[0.5, float("nan")], [0.1, 0.5]], None, r"entry \[0, 1\] .* not a finite number"),
        ([[0.5, 1.2], [-0.2, 0.5]], ["a", "b"], r"entry \[a, b\] .* not a probability in \[0, 1\]: 1.2"),
        ([[50, 70.5], [29.5, 50]], None, r"entry \[0, 0\] .* in \[0, 1\]: 50; .*percents: divide by 100"),
        ([[0.5, 0.2, 0.1]], None, r"square table .* got shape \[1, 3\]"),
        ([[0.5, 0.9], [0.1, 0.5]], ["a", "a"], "distinct, repeated: a"),
        ([[0.5, 0.9], [0.1, 0.5]], ["a"], "expected 2 action labels, got 1"),
        (np.full((2, 0, 0), 0.5), None, r"got shape \[2, 0, 0\]"),
    ],
)
def test_bad_tables_are_refused_by_name(table: object, labels: list[str] | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        games.PreferenceGame(table, labels)


def test_the_wrong_game_of_a_batch_is_named() -> None:
    batch = np.stack([RPS, RPS])
    batch[1, 0, 2] = 0.7
    with pytest.raises(ValueError, match=r"of game \(1,\): P\[0, 2\]"):
        games.PreferenceGame(batch)


def test_win_rate_is_the_matrix_product_for_batches() -> None:
    rng = np.random.default_rng(0)
    game = games.PreferenceGame(np.stack([games.zoo.random_preferences(5, seed).P for seed in range(4)]))
    policy = rng.dirichlet(np.ones(5), size=4)
    expected = np.einsum("bij,bj->bi", game.P.numpy(), policy)
    np.testing.assert_allclose(game.win_rate(policy).numpy(), expected, atol=1e-15)


def test_many_policies_against_a_batch_make_no_copies_of_the_tables() -> None:
    tables = torch.stack([games.zoo.random_preferences(64, seed).P for seed in range(2)])
    game, policies = games.PreferenceGame(tables), torch.rand(30, 4, 2, 64, dtype=torch.float64)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        wins = game.win_rate(policies)
    assert max(event.cpu_memory_usage for event in profile.events()) < 8 * 30 * tables.numel()
    torch.testing.assert_close(wins, torch.einsum("bij,rsbj->rsbi", game.P, policies), atol=1e-13, rtol=0)


def test_duality_gap_by_hand_and_against_both_players() -> None:
    game = games.zoo.comal_cycle()
    pi = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
    wins = game.P @ pi
    assert games.duality_gap(game, pi) == pytest.approx(float(wins.max() - (1 - wins).min()))
    assert games.exploitability(game, pi) == pytest.approx(float(wins.max() - 0.5))  # a best response instead of pi
    as_pair = games.ConstantSumGame(game.P, total=1.0)
    assert games.duality_gap(as_pair, (pi, pi)) == pytest.approx(float(games.duality_gap(game, pi)), abs=1e-15)


def test_distances_of_policies_by_hand() -> None:
    p, q = torch.tensor([0.5, 0.5, 0.0]), torch.tensor([0.25, 0.25, 0.5])
    assert float(games.total_variation(p, q)) == 0.5
    assert float(games.total_variation(p, torch.tensor([0.0, 0.0, 1.0]))) == 1
    assert float(games.kl_divergence(p, q)) == pytest.approx(math.log(2))
    assert float(games.kl_divergence(q, p)) == math.inf
    assert float(games.exploitability(games.zoo.rock_paper_scissors(), [1.0, 0.0, 0.0])) == 0.5


def test_duality_gap_does_not_depend_on_the_order_of_the_actions() -> None:
    game = games.zoo.random_preferences(6, seed=3)
    pi = torch.tensor(np.random.default_rng(1).dirichlet(np.ones(6)))
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    turned = games.PreferenceGame(game.P[order][:, order])
    assert games.duality_gap(turned, pi[order]) == pytest.approx(float(games.duality_gap(game, pi)), abs=1e-15)


@pytest.mark.parametrize("policy", [[0.5, 0.5], [0.5, 0.2, 0.2], [1.2, -0.2, 0.0], [np.nan, 0.5, 0.5]])
def test_a_policy_that_is_no_distribution_is_refused(policy: list[float]) -> None:
    with pytest.raises(ValueError, match=r"policy must"):
        games.duality_gap(games.PreferenceGame(RPS), policy)


def test_constant_sum_payoffs_add_up_to_the_total() -> None:
    rng = np.random.default_rng(2)
    game = games.ConstantSumGame(rng.normal(size=(3, 4)), total=2.5)
    x, y = torch.tensor(rng.dirichlet(np.ones(3))), torch.tensor(rng.dirichlet(np.ones(4)))
    row, column = game.payoffs((x, y))
    assert float(x @ row + y @ column) == pytest.approx(2.5)
    with pytest.raises(ValueError, match="pair"):
        games.duality_gap(game, x)
