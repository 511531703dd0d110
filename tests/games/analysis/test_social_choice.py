"""Social choice by brute force on every tournament of up to five actions, and scores by second routes."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.stats import chi2

from nashward import games
from nashward.games.analysis import ratings, social_choice
from nashward.llm.oracles import curl


def _tournaments(n: int) -> torch.Tensor:
    """All tables of sure wins on n actions, [2^(n (n - 1) / 2), n, n]."""
    pairs = list(itertools.combinations(range(n), 2))
    tables = np.full((2 ** len(pairs), n, n), 0.5)
    for game, wins in enumerate(itertools.product((0.0, 1.0), repeat=len(pairs))):
        for (i, j), win in zip(pairs, wins, strict=True):
            tables[game, i, j], tables[game, j, i] = win, 1 - win
    return torch.from_numpy(tables)


def _smith(P: np.ndarray) -> set[int]:
    n = len(P)
    for size in range(1, n + 1):
        for inside in itertools.combinations(range(n), size):
            if all(P[i, j] > 0.5 for i in inside for j in range(n) if j not in inside):
                return set(inside)
    raise AssertionError


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
def test_every_tournament_by_brute_force(n: int) -> None:
    tables = _tournaments(n)
    winner = social_choice.condorcet_winner(tables)
    smith, copeland = social_choice.smith_set(tables), social_choice.copeland(tables)
    cyclic = social_choice.is_cyclic(tables)
    rings, lottery = social_choice.cyclic_triples(tables), games.nash(games.PreferenceGame(tables)).support
    for k, P in enumerate(tables.numpy()):
        wins = [sum(P[i, j] > 0.5 for j in range(n)) for i in range(n)]
        losses = [sum(P[i, j] < 0.5 for j in range(n)) for i in range(n)]
        assert int(winner[k]) == (wins.index(n - 1) if n - 1 in wins else -1)
        assert set(smith[k].nonzero()[:, 0].tolist()) == _smith(P)
        assert bool(cyclic[k]) == all(losses)
        assert copeland[k].tolist() == [a - b for a, b in zip(wins, losses, strict=True)]
        rung = sum(
            len({max((a, b, c), key=lambda i: sum(P[i, j] > 0.5 for j in (a, b, c))), a, b, c}) == 3
            and all(sum(P[i, j] > 0.5 for j in (a, b, c)) == 1 for i in (a, b, c))
            for a, b, c in itertools.combinations(range(n), 3)
        )
        assert int(rings[k]) == rung
        assert not bool((lottery[k] & ~smith[k]).any())  # the maximal lottery plays in the Smith set only


@pytest.mark.parametrize(
    "method", ["condorcet_winner", "smith_set", "copeland", "borda", "cyclic_triples", "is_cyclic"]
)
def test_what_is_no_table_of_win_probabilities_is_refused(method: str) -> None:
    function = getattr(social_choice, method)
    with pytest.raises(ValueError, match=r"\(0, 1\) and \(1, 0\) are 1 and 4.*W / \(W \+ W.T\)"):
        function([[0.5, 1.0], [4.0, 0.5]])
    P = torch.full((2, 3, 3), 0.5)
    P[1, 1, 2] = P[1, 2, 1] = 0.7
    with pytest.raises(ValueError, match=r"\(1, 2\) and \(2, 1\) are 0.7 and 0.7"):
        function(P)
    with pytest.raises(ValueError, match=r"shape \[3, 5\]"):
        function(torch.full((3, 5), 0.5))
    with pytest.raises(ValueError, match="got dict"):
        function({})
    game = games.zoo.comal_cycle()
    torch.testing.assert_close(function(game), function(game.P))


def test_a_pair_that_was_not_compared_is_nobodys_win() -> None:
    P = torch.tensor([[0.5, math.nan, 0.8], [math.nan, 0.5, 0.7], [0.2, 0.3, 0.5]])
    assert int(social_choice.condorcet_winner(P)) == -1
    assert social_choice.smith_set(P).tolist() == [True, True, False]


def test_a_tie_for_the_first_place_is_no_cycle() -> None:
    P = torch.full((3, 3), 0.5, dtype=torch.float64)
    P[0, 2], P[2, 0] = 0.8, 0.2
    tied = torch.stack([P, P + 1e-12])
    assert social_choice.is_cyclic(tied).tolist() == [False, False]
    P[1, 0], P[0, 1], P[2, 1], P[1, 2] = 0.6, 0.4, 0.6, 0.4
    assert bool(social_choice.is_cyclic(P))


def test_ties_keep_both_in_the_smith_set() -> None:
    rng = np.random.default_rng(0)
    for n in (3, 4, 5):
        for _ in range(100):
            upper = np.triu(rng.integers(-1, 2, (n, n)) / 2, 1)
            P = 0.5 + upper - upper.T
            assert set(social_choice.smith_set(P).nonzero()[:, 0].tolist()) == _smith(P)


def test_hodge_parts_are_orthogonal_and_sum_back() -> None:
    A = torch.randn(50, 7, 7, generator=torch.Generator().manual_seed(0)).double()
    A = A - A.mT
    G, C = social_choice.hodge(A)
    torch.testing.assert_close(G + C, A, atol=1e-14, rtol=0)
    assert (G * C).sum((-2, -1)).abs().max() < 1e-12
    assert C.sum(-1).abs().max() < 1e-12
    assert (G[:, :, None, :] - G[:, None, :, :] - G[..., None]).abs().max() < 1e-12  # no ring in the scores' part
    share = social_choice.curl_fraction(A)
    torch.testing.assert_close(share, (C**2).sum((-2, -1)) / (A**2).sum((-2, -1)))
    assert curl(A[0].numpy()) == pytest.approx(float(share[0]), abs=1e-14)
    assert social_choice.curl_fraction(torch.zeros(3, 3)) == 0
    assert social_choice.curl_fraction(torch.full((2, 2), torch.inf)).isnan()


def test_win_probabilities_are_no_skew_table() -> None:
    P = games.zoo.bradley_terry().P
    for measure in (social_choice.hodge, social_choice.curl_fraction):
        for wrong in (P, P.numpy(), torch.stack([P - 0.5, P])):
            with pytest.raises(ValueError, match=r"skew .* P - 0\.5"):
                measure(wrong)
        with pytest.raises(ValueError, match=r"shape \[2\]"):
            measure([0.0, 1.0])
    assert social_choice.curl_fraction([[0, 1, -1], [-1, 0, 1], [1, -1, 0]]) == 1  # whole numbers
    near = torch.tensor([[0.5, 1 - 1e-12], [1e-12, 0.5]], dtype=torch.float64)
    assert social_choice.curl_fraction((near / (1 - near)).log()) < 1e-3  # skew but for rounding


def test_borda_picks_another_than_condorcet() -> None:
    P = games.zoo.borda_disagrees().P
    assert int(social_choice.condorcet_winner(P)) == 0
    assert int(social_choice.borda(P).argmax()) == 1
    torch.testing.assert_close(social_choice.borda(P), torch.tensor([0.6, 0.7, 0.2]).double())


def test_bradley_terry_against_a_minimiser_and_elos_scale() -> None:
    wins = np.random.default_rng(0).integers(1, 20, (5, 5)).astype(float)
    np.fill_diagonal(wins, 0)

    def loss(r: np.ndarray) -> float:
        return float((wins * np.log1p(np.exp(r[None] - r[:, None]))).sum() + r.sum() ** 2)

    found = ratings.bradley_terry(wins)
    by_hand = minimize(loss, np.zeros(5), tol=1e-12).x
    np.testing.assert_allclose(found.scores.numpy(), by_hand, atol=1e-5)
    assert found.residual.sum(-1).abs().max() > 0.01
    assert found.elo[0] - found.elo[1] == pytest.approx(400 * float(found.scores[0] - found.scores[1]) / math.log(10))
    assert float(found.elo.mean()) == pytest.approx(1500)


def test_bradley_terry_of_two_is_the_odds_and_smoothing_gives_each_half_a_win() -> None:
    two = ratings.bradley_terry([[0, 3], [1, 0]])
    assert float(two.scores[0] - two.scores[1]) == pytest.approx(math.log(3))
    never_lost = ratings.bradley_terry([[0, 2], [0, 0]], smoothing=1.0)
    assert float(never_lost.scores[0] - never_lost.scores[1]) == pytest.approx(math.log(5))
    wins = torch.tensor([[0, 3, 1], [1, 0, 4], [2, 2, 0]], dtype=torch.float64)
    found = ratings.bradley_terry(wins)
    off = ~torch.eye(3, dtype=torch.bool)
    torch.testing.assert_close(found.residual[off], (wins / (wins + wins.T) - found.P)[off])


def test_bradley_terry_finds_its_own_scores_and_tells_a_cycle_from_noise() -> None:
    game = games.zoo.bradley_terry()
    exact = ratings.bradley_terry(game.P)
    torch.testing.assert_close(exact.P, game.P, atol=1e-9, rtol=0)
    torch.testing.assert_close(exact.residual, torch.zeros_like(exact.P), atol=1e-9, rtol=0)
    assert ratings.bradley_terry(200 * games.zoo.comal_cycle().P).misfit_p_value < 1e-9
    rng, values = np.random.default_rng(1), []
    for _ in range(200):
        upper = np.triu(rng.binomial(60, game.P.numpy()), 1)
        values.append(ratings.bradley_terry(upper + np.triu(60 - upper, 1).T).misfit_p_value)
    assert 0.4 < np.mean(values) < 0.6
    assert np.mean(np.array(values) < 0.1) < 0.18


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: ratings.bradley_terry([[0, 2], [0, 0]]), "never lost to the others; give smoothing > 0"),
        (lambda: ratings.bradley_terry([[0, -1], [1, 0]]), "counts >= 0, got -1"),
        (lambda: ratings.bradley_terry([1, 2]), "a table \\[n, n\\], got shape \\[2\\]"),
    ],
)
def test_bad_counts_are_refused_in_one_line(build, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()
    assert bool(ratings.bradley_terry([[0, 2], [0, 0]], smoothing=1.0).scores.isfinite().all())


def test_pearsons_chi_squared_of_many_games_is_that_of_the_books_and_of_few_that_of_all_outcomes() -> None:
    circle = np.array([[0, 1], [1, 2], [0, 2]])
    met, misfit = np.full(3, 1e6), 500 * np.array([1.5, 1.5, -1.5])
    found = ratings.pearson_p_value(misfit, np.full(3, 0.5), met, circle)
    assert found == pytest.approx(chi2.sf(3 * 1.5**2, 1), abs=0.003)
    far = ratings.pearson_p_value(4 * misfit, np.full(3, 0.5), met, circle)
    assert far == pytest.approx(chi2.sf(48 * 1.5**2, 1), rel=0.9)
    # three games among equal players: two of the eight outcomes go in a circle
    one = ratings.pearson_p_value(np.array([0.5, 0.5, -0.5]), np.full(3, 0.5), np.ones(3), circle)
    assert one == pytest.approx(0.25, abs=0.02)
    line = np.array([[0, 1], [1, 2]])  # no pair beyond those that scores need
    assert math.isnan(ratings.pearson_p_value(np.ones(2), np.full(2, 0.5), np.ones(2), line))


def test_wins_as_expected_of_scores_far_apart_are_explained() -> None:
    """Rare upsets have nearly all the variance of the chi-squared; one of its mean and variance lies at 0."""
    scores = 2.0 * np.arange(9)
    wins = np.rint(36 / (1 + np.exp(scores[None] - scores[:, None]))) * (1 - np.eye(9))
    assert ratings.bradley_terry(wins).misfit_p_value > 0.5


def test_lists_are_read_in_double_precision_and_as_probabilities() -> None:
    table = [[0.5, 0.7, 0.1], [0.3, 0.5, 0.2], [0.9, 0.8, 0.5]]
    assert social_choice.borda(table).tolist() == social_choice.borda(np.array(table)).tolist()
    assert float(social_choice.hodge([[0.0, 0.2], [-0.2, 0.0]])[0][0, 1]) == 0.2
    assert int(social_choice.condorcet_winner([[0.5, 0.5 + 1e-12], [0.5 - 1e-12, 0.5]])) == 0
    with pytest.raises(ValueError, match=r"\(0, 1\) is 1.7"):
        social_choice.borda([[0.5, 1.7], [-0.7, 0.5]])


def test_bradley_terry_converges_for_every_player_or_says_that_it_does_not() -> None:
    fit = ratings.bradley_terry([[0, 1e9, 3], [1e9, 0, 0], [1, 0, 0]])
    assert float(fit.scores[0] - fit.scores[2]) == pytest.approx(math.log(3), abs=1e-9)
    groups = [[0, 1e9, 3, 0], [1e9, 0, 0, 0], [1, 0, 0, 1e9], [0, 0, 1e9, 0]]
    fit = ratings.bradley_terry(groups)
    assert float(fit.scores[0] - fit.scores[2]) == pytest.approx(math.log(3), abs=1e-9)
    with pytest.raises(ArithmeticError, match="1 iterations"):
        ratings.bradley_terry([[0, 30], [1, 0]], iterations=1)
    for wrong in (0, -5):
        with pytest.raises(ValueError, match=f"iterations .*{wrong}"):
            ratings.bradley_terry([[0, 3], [1, 0]], iterations=wrong)
    with pytest.raises(ValueError, match=r"expected numbers .* PreferenceGame"):
        ratings.bradley_terry(games.zoo.comal_cycle())
