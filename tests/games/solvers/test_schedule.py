"""The schedules of the theorems: their steps, what they refuse, and what they are beside functions."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from nashward import games
from nashward.errors import NashwardError
from nashward.games import MWU, schedule

COMAL = games.zoo.comal_cycle()


def test_the_schedules_of_the_theorems() -> None:
    assert schedule.horizon(10_000, np.log(10)) == pytest.approx(0.0429, abs=5e-5)
    assert [schedule.doubling(2.0)(t) for t in (1, 2, 3, 4, 7, 8)] == [4.0, 8**0.5, 8**0.5, 2.0, 2.0, 2**0.5]
    assert [schedule.inverse_sqrt(0.5)(t) for t in (1, 4)] == [0.5, 0.25]
    assert schedule.harmonic(0.1)(2) == pytest.approx(5.0)
    assert [schedule.phased([(2, 1.0), (1, 0.5), (3, 0.2)])(t) for t in (1, 2, 3, 4, 6, 7)] == [
        1,
        1,
        0.5,
        0.2,
        0.2,
        0.2,
    ]


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: schedule.horizon(0, 1.0), "iterations"),
        (lambda: schedule.horizon(10, -1.0), "C"),
        (lambda: schedule.harmonic(0.0), "tau"),
        (lambda: schedule.inverse_sqrt(-1.0), "scale"),
        (lambda: schedule.phased([]), "phase"),
    ],
)
def test_a_schedule_without_a_step_is_refused_where_it_is_made(make: Callable[[], Any], named: str) -> None:
    with pytest.raises(NashwardError, match=named):
        make()


@pytest.mark.parametrize(
    "step",
    [
        schedule.doubling(2.0),
        schedule.inverse_sqrt(0.5),
        schedule.harmonic(0.1),
        schedule.phased([(2, 1.0), (1, 0.5)]),
    ],
)
def test_a_schedule_goes_to_another_process_and_is_known_by_its_settings(step: schedule.Rule) -> None:
    solver = MWU(step)
    back = pickle.loads(pickle.dumps(solver))
    assert back == solver
    assert MWU(schedule.inverse_sqrt(0.25)) != solver
    assert [schedule.at(back.step, t) for t in range(1, 9)] == [step(t) for t in range(1, 9)]
    assert eval(repr(step), vars(schedule)) == step


@pytest.mark.parametrize("step", [schedule.inverse_sqrt(1.0), schedule.doubling(float(np.log(3)))])
def test_the_average_weighted_by_falling_steps_obeys_its_bound(step: Callable[[int], float]) -> None:
    """sum_t s_t (regret of t) <= C + sum_t s_t^2 / 8, and the gap is twice the weighted mean regret."""
    T = np.arange(1, 2001)
    steps = np.array([step(int(t)) for t in T])
    bound = 2 * (np.log(3) + np.cumsum(steps**2) / 8) / np.cumsum(steps)
    game = games.zoo.rock_paper_scissors()
    tilted = games.PreferenceGame([[0.5, 0.1, 0.8], [0.9, 0.5, 0.6], [0.2, 0.4, 0.5]])
    for one in (game, COMAL, tilted):
        solution = games.solve(one, MWU(step), 2000, averaging=step)
        gaps = solution.gaps["average"].numpy()
        assert (gaps <= bound[solution.iterations.numpy() - 1] * (1 + 1e-9) + 1e-12).all()
