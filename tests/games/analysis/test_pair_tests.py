"""Who beats whom beyond noise: p-values of pairs, and of a player that seems to beat every other one."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from nashward.games.analysis.pair_tests import FEW, MIN_PROMPTS, margin_p_values, pair_p_values, winner_p_value
from nashward.games.analysis.social_choice import condorcet_winner


def _duels(margins: np.ndarray) -> np.ndarray:
    """[prompts, 2, 2] of the margins of the first over the second."""
    tables = np.full((len(margins), 2, 2), 0.5)
    tables[:, 0, 1] += margins
    tables[:, 1, 0] -= margins
    return tables


def test_many_prompts_are_tested_by_students_t() -> None:
    margins = np.random.default_rng(0).normal(0.03, 0.2, FEW + 10)
    p = pair_p_values(_duels(margins))
    expected = stats.ttest_1samp(margins, 0, alternative="greater").pvalue
    assert p[0, 1] == pytest.approx(expected)
    assert p[1, 0] == pytest.approx(1 - expected)


def test_few_prompts_are_tested_by_flipping_all_signs() -> None:
    margins = np.array([0.3, 0.2, 0.25, -0.1, 0.15, 0.2, 0.1, 0.3, 0.05, 0.2])
    signs = np.array(np.meshgrid(*[[-1, 1]] * 10)).reshape(10, -1)
    exact = (margins @ signs >= margins.sum() - 1e-9).mean()
    assert pair_p_values(_duels(margins), draws=100_000)[0, 1] == pytest.approx(exact, abs=1e-3)


@pytest.mark.parametrize(("wins", "losses", "ties"), [(60, 0, 0), (42, 9, 0), (70, 40, 30), (10**6, 10**6 - 4000, 0)])
def test_many_wins_and_losses_are_tested_exactly(wins: int, losses: int, ties: int) -> None:
    """Student's t gives 42 of 51 a fifteenth of their p-value, and 60 of 60 none at all."""
    pair, margins, times = np.zeros(3, dtype=int), np.array([0.5, -0.5, 0.0]), np.array([wins, losses, ties])
    p = margin_p_values(2, pair, pair + 1, margins, times.astype(float))
    assert p[0, 1] == pytest.approx(stats.binomtest(wins, wins + losses, alternative="greater").pvalue)
    assert p[1, 0] == 1.0


def test_too_few_prompts_prove_nothing() -> None:
    assert (pair_p_values(_duels(np.full(MIN_PROMPTS - 1, 0.4))) == 1).all()
    assert winner_p_value(np.ones((1, 1)), 0) == 1.0  # nobody to beat


@pytest.mark.parametrize("n", [2, 4])
def test_equal_players_rarely_have_a_winner(n: int) -> None:
    """At 5%, whatever the number of players: in the mean table one beats all others far more often."""
    random, accused, seeming, times = np.random.default_rng(n), 0, 0, 400
    for _ in range(times):
        quality = random.normal(size=(60, n))
        tables = 1 / (1 + np.exp(quality[:, None, :] - quality[:, :, None]))
        winner = int(condorcet_winner(tables.mean(0)))
        if winner >= 0:
            seeming += 1
            accused += winner_p_value(pair_p_values(tables), winner) <= 0.05
    assert seeming > 0.5 * times
    assert accused <= (0.05 + 3 * (0.05 * 0.95 / times) ** 0.5) * times


def test_a_clear_winner_is_found_and_the_weakest_of_its_duels_decides() -> None:
    random = np.random.default_rng(1)
    tables = np.full((100, 3, 3), 0.5)
    for (i, j), margin in {(0, 1): 0.2, (0, 2): 0.1, (1, 2): 0.05}.items():
        tables[:, i, j] += margin + random.normal(0, 0.2, 100)
        tables[:, j, i] = 1 - tables[:, i, j]
    p = pair_p_values(tables)
    assert winner_p_value(p, 0) == pytest.approx(3 * max(p[0, 1], p[0, 2]))
    assert winner_p_value(p, 0) < 0.01
    assert winner_p_value(p, 1) == 1.0
