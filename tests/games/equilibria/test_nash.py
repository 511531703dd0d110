"""``nash``: exact fractions, gaps, ties, batches, uniqueness."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from nashward import games
from nashward.games.forms.game import Profile

from .. import mixed


@pytest.mark.parametrize("name", sorted(games.zoo.EXACT))
def test_equilibria_known_as_fractions(name: str) -> None:
    equilibrium = games.nash(games.zoo.get(name))
    expected = torch.tensor([float(p) for p in games.zoo.EXACT[name]], dtype=torch.float64)
    torch.testing.assert_close(equilibrium.policy, expected, atol=1e-14, rtol=0)
    assert equilibrium.gap <= 1e-12
    assert equilibrium.value == pytest.approx(0.5, abs=1e-14)
    assert torch.equal(equilibrium.support, expected > 0)
    assert bool(equilibrium.unique)


def test_three_cycles_have_the_closed_form() -> None:
    rng = np.random.default_rng(0)
    for e_ab, e_bc, e_ca in rng.uniform(0.01, 0.5, size=(20, 3)):
        game = games.zoo.three_cycle(0.5 + e_ab, 0.5 + e_bc, 0.5 + e_ca)
        expected = torch.tensor([e_bc, e_ca, e_ab]) / (e_ab + e_bc + e_ca)
        torch.testing.assert_close(games.nash(game).policy, expected, atol=1e-12, rtol=0)


def test_soccer() -> None:
    game = games.zoo.mujoco_soccer()
    equilibrium = games.nash(game)
    played = {
        game.labels[i]: round(float(equilibrium.policy[i]), 3) for i in torch.nonzero(equilibrium.support).flatten()
    }
    assert played == {"agent1": 0.522, "agent8": 0.331, "agent9": 0.147}
    assert equilibrium.gap <= 1e-12


@pytest.mark.parametrize(
    "table", ["pokemon_types_gen9", "sppo_paper_fig3_pairrm_11", "arxiv_rankers_6", "atari_rainbow_table5_8agents"]
)
def test_real_tables(table: str, data) -> None:
    equilibrium = games.nash(games.load(data / "games" / f"{table}.csv"))
    assert equilibrium.gap <= 1e-12
    if table == "pokemon_types_gen9":
        assert int(equilibrium.support.sum()) == 13


@pytest.mark.parametrize("n", [2, 3, 7, 20, 60])
def test_random_games_and_tournaments(n: int) -> None:
    for build in (games.zoo.random_preferences, games.zoo.random_tournament):
        for seed in range(3):
            equilibrium = games.nash(build(n, seed))
            assert equilibrium.gap <= 1e-12
            if build is games.zoo.random_tournament:  # unique with an odd support (Fisher & Ryan 1992)
                assert bool(equilibrium.unique)
                assert int(equilibrium.support.sum()) % 2 == 1


def test_ties_and_several_equilibria() -> None:
    tie = games.nash(games.PreferenceGame(np.full((4, 4), 0.5)))
    assert tie.gap <= 1e-12
    assert not bool(tie.unique)
    dice = games.nash(games.zoo.intransitive_dice())
    assert dice.gap <= 1e-12
    doubled = np.kron(games.zoo.rock_paper_scissors().P.numpy(), np.ones((2, 2)))  # every action has a twin
    assert not bool(games.nash(games.PreferenceGame(doubled)).unique)


def test_small_margins_keep_their_digits() -> None:
    equilibrium = games.nash(games.zoo.three_cycle(0.5 + 1e-6, 0.5 + 3e-6, 0.5 + 2e-6))
    expected = torch.tensor([3.0, 2.0, 1.0], dtype=torch.float64) / 6
    torch.testing.assert_close(equilibrium.policy, expected, atol=1e-8, rtol=0)


def test_batches_keep_their_shape() -> None:
    tables = torch.stack([games.zoo.random_preferences(4, seed).P for seed in range(6)]).reshape(2, 3, 4, 4)
    equilibrium = games.nash(games.PreferenceGame(tables))
    assert equilibrium.policy.shape == (2, 3, 4)
    assert equilibrium.gap.shape == equilibrium.unique.shape == equilibrium.value.shape == (2, 3)
    alone = games.nash(games.PreferenceGame(tables[1, 2]))
    torch.testing.assert_close(equilibrium.policy[1, 2], alone.policy)


def test_one_game_gives_what_a_batch_of_one_gives() -> None:
    for seed in range(110):
        P = torch.from_numpy(0.5 + mixed.margins(seed))
        alone, batch = games.nash(games.PreferenceGame(P)), games.nash(games.PreferenceGame(P[None]))
        assert alone.gap <= 1e-12
        assert batch.gap.max() <= 1e-12
        assert bool(alone.unique) == bool(batch.unique[0])
        if bool(alone.unique):
            torch.testing.assert_close(alone.policy, batch.policy[0], atol=1e-7, rtol=0)


def test_what_an_equilibrium_holds_and_how_it_prints() -> None:
    equilibrium = games.nash(games.zoo.rock_paper_scissors())
    for number in (equilibrium.value, equilibrium.gap):
        assert number.shape == ()
        assert number.dtype == torch.float64
    assert repr(equilibrium).startswith("Equilibrium(policy=tensor([0.3333, 0.3333, 0.3333], dtype=torch.float64), ")


def test_an_equilibrium_survives_pickling() -> None:
    cycle = games.zoo.comal_cycle().P
    pennies = games.ConstantSumGame([[1.0, -1.0], [-1.0, 1.0], [0.0, 0.0]], total=0.0)  # safe: as good as mixing
    for game in (games.PreferenceGame(cycle), games.PreferenceGame(torch.stack([cycle, cycle])), pennies):
        found = games.nash(game)
        again = pickle.loads(pickle.dumps(found))
        assert again.unique.all() == found.unique.all() == (game is not pennies)
        assert float((again.gap - found.gap).abs().max()) == 0
        assert repr(again) == repr(found)
        assert again.status == "ok"


def test_the_policy_as_arrays_before_and_after_it_was_read_as_tensors() -> None:
    P = 0.5 + mixed.margins(3)
    U = np.random.default_rng(1).normal(size=(4, 6))
    batch = games.ConstantSumGame(np.stack([U, -U]), 0.0)
    for game in (games.PreferenceGame(P), games.PreferenceGame(np.stack([P, P])), games.ConstantSumGame(U, 0.0), batch):
        equilibrium = games.nash(game)
        first, policy, second = equilibrium.numpy(), equilibrium.policy, equilibrium.numpy()
        pair = isinstance(game, games.ConstantSumGame)
        assert isinstance(policy, Profile if pair else torch.Tensor)
        sides = list(zip(first, policy, second, strict=True)) if pair else [(first, policy, second)]
        for before, tensor, after in sides:
            assert isinstance(before, np.ndarray)
            assert isinstance(tensor, torch.Tensor)
            assert tensor.dtype == torch.float64
            assert np.array_equal(before, tensor.numpy())
            assert np.shares_memory(before, tensor.numpy())
            assert np.shares_memory(before, after)
        assert equilibrium.policy is policy  # one tensor, however often it is read


def test_a_game_in_float32_is_taken_as_exact() -> None:
    game = games.PreferenceGame(np.float32(0.5 + mixed.margins(4)))
    assert game.P.dtype == torch.float32
    equilibrium = games.nash(game)
    assert equilibrium.policy.dtype == torch.float64
    assert 2 * float((game.P.to(torch.float64) @ equilibrium.policy).max() - 0.5) <= 1e-12


def test_n_by_m_games_against_a_known_answer_and_against_the_symmetric_route() -> None:
    equilibrium = games.nash(games.ConstantSumGame([[3.0, -1.0], [-1.0, 1.0]], total=0.0))
    torch.testing.assert_close(equilibrium.policy.row, torch.tensor([1 / 3, 2 / 3], dtype=torch.float64))
    assert equilibrium.value == pytest.approx(1 / 3)
    table = games.zoo.random_preferences(9, seed=5)
    pair = games.nash(games.ConstantSumGame(table.P))
    torch.testing.assert_close(pair.policy.row, games.nash(table).policy, atol=1e-10, rtol=0)
    assert pair.gap <= 1e-12
    wide = games.nash(games.ConstantSumGame(np.random.default_rng(3).normal(size=(5, 12)), total=0.0))
    assert wide.gap <= 1e-12
    assert (wide.policy.row.shape[-1], wide.policy.column.shape[-1]) == (5, 12)
