"""The theorem held against the solver: it must never be violated, and must be nearly tight somewhere."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nashward import games, theory


def test_the_bound_holds_for_every_game_step_and_horizon_and_is_nearly_tight() -> None:
    worst = 0.0
    rng = np.random.default_rng(0)
    for seed in range(12):
        n = int(rng.integers(2, 30))
        tables = [
            games.zoo.random_preferences(n, seed),
            games.zoo.random_tournament(n, seed),
            games.zoo.condorcet_winner(n),
        ]
        game = games.PreferenceGame(np.stack([table.P for table in tables]))
        for step in (0.05, 0.4, 3.0):
            for start in (None, rng.dirichlet(np.ones(n))):
                solution = games.solve(game, games.MWU(step), iterations=200, start=start, record=[5, 200])
                C = math.log(n) if start is None else theory.complexity(start)
                bound = theory.MWUAverage(step, C).bound(solution.iterations)
                worst = max(worst, float((solution.gaps["average"].numpy() / bound[:, None]).max()))
    assert 0.5 < worst <= 1 + 1e-9


def test_the_best_step_is_the_best() -> None:
    theorem = theory.MWUAverage.best(1000, math.log(10))
    assert theorem.bound(1000) == pytest.approx(math.sqrt(2 * math.log(10) / 1000))
    for factor in (0.9, 1.1):
        assert theory.MWUAverage(factor * theorem.step, math.log(10)).bound(1000) > theorem.bound(1000)


def test_no_bound_from_a_start_that_excludes_an_action() -> None:
    with pytest.raises(ValueError, match="max_y -log pi_1"):
        theory.MWUAverage(0.1, theory.complexity([1.0, 0.0]))


def test_a_theorem_is_not_held_against_a_start_that_it_does_not_cover() -> None:
    theorem = theory.MWUAverage.best(100, math.log(3))
    with pytest.raises(ValueError, match=r"1\.099 .* 4\.605"):
        theorem.check(games.zoo.comal_cycle(), games.MWU(theorem.step), 100, [0.98, 0.01, 0.01])
    assert theorem.check(games.zoo.comal_cycle(), games.MWU(theorem.step), 100, [1 / 3] * 3).holds


@pytest.mark.parametrize("start", [[0.5, 0.6], [1, 2, 3], [1.5, -0.5]])
def test_the_complexity_is_that_of_probabilities(start: list[float]) -> None:
    with pytest.raises(ValueError, match="sum to 1"):
        theory.complexity(start)
