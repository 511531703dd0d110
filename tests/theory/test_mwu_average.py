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
    with pytest.raises(ValueError, match="C = max"):
        theory.MWUAverage(0.1, theory.complexity([1.0, 0.0]))
