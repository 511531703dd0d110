"""One call with many settings and seeds: the same as one call for each."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from nashward import games
from nashward.games.averaging import linear
from nashward.games.compiled import accelerator
from nashward.games.solvers.together import ApartError, Together

COMAL = games.zoo.comal_cycle()
START = [0.6, 0.3, 0.1]
GRIDS: dict[Any, dict[str, Any]] = {
    games.MWU(): {"step": [0.05, 0.3, 1.0]},
    games.OptimisticMWU(): {"step": np.array([0.1, 0.5]), "two_sequences": [False, True]},
    games.ExtraGradient(): {"step": [0.5, 2.0], "tau": [0.0, 0.1, 0.2]},
    games.MagneticMirrorDescent(): {"step": [0.2, 0.4], "tau": [0.05, 0.1]},
    games.INPO(): {"step": [0.2, 0.3], "tau": (0.05, 0.1)},
    games.NashMD(): {"step": [0.05, 0.1], "tau": [0.1]},
    games.NashEMA(): {"step": [0.05, 0.1], "decay": [0.3, 0.9]},
    games.Momentum(nesterov=True): {"step": [0.1, 0.2], "momentum": [0.2, 0.5]},
    games.ProximalPoint(): {"step": [0.1, 0.2], "inner": [3, 5]},
    games.MagnetReset(): {"step": torch.tensor([0.1, 0.2])},
    games.HistoryMixture(): {"step": [0.1, 0.2]},
    games.RegretMatching(): {},
    games.RegretMatchingPlus(): {},
    games.PredictiveRegretMatchingPlus(): {},
    games.FictitiousPlay(): {},
    games.Replicator(): {"step": [0.01, 0.05]},
    games.GDA(): {"step": [0.01, 0.05]},
    games.OptimisticGDA(): {"step": [0.01, games.schedule.inverse_sqrt(0.1)]},
}
pytestmark = pytest.mark.filterwarnings("ignore::nashward.games.StepWarning")


def _same(a: games.Solution, b: games.Solution) -> None:
    assert a.status is b.status
    assert torch.equal(a.iterations, b.iterations)
    assert a.gaps.keys() == b.gaps.keys()
    for name in a.gaps:
        torch.testing.assert_close(a.gaps[name], b.gaps[name], atol=1e-12, rtol=0)
    pairs = [(a.last, b.last), (a.average, b.average), *((a.policies[name], b.policies[name]) for name in a.policies)]
    for one, other in pairs:
        for x, y in zip(*((p if isinstance(p, tuple) else (p,)) for p in (one, other)), strict=True):
            torch.testing.assert_close(x, y, atol=1e-12, rtol=0)


def _each(solver: Any, grid: dict[str, Any]) -> list[Any]:
    values = [v.tolist() if hasattr(v, "tolist") else list(v) for v in grid.values()]
    places = np.ndindex(*(len(v) for v in values))
    return [
        dataclasses.replace(solver, **{name: v[i] for name, v, i in zip(grid, values, place, strict=True)})
        for place in places
    ]


def test_every_solver_is_among_them() -> None:
    assert {type(solver) for solver in GRIDS} == set(games.solvers.SOLVERS)


@pytest.mark.parametrize("traced", [None, False])
@pytest.mark.parametrize("solver", GRIDS, ids=lambda solver: type(solver).__name__)
def test_each_solution_is_that_of_its_settings_alone(solver: Any, traced: bool | None) -> None:
    batch = games.PreferenceGame(torch.stack([games.zoo.random_preferences(4, seed).P for seed in range(2)]))
    uneven = games.ConstantSumGame([[0.4, -0.3, 0.1], [-0.2, 0.5, 0.0]], 0.0)
    several = torch.tensor([[[0.4, 0.3, 0.2, 0.1]], [[0.1, 0.2, 0.3, 0.4]], [[0.25] * 4]], dtype=torch.float64)
    for game, start in ((COMAL, START), (batch, several.expand(3, 2, 4)), (uneven, ([0.3, 0.7], [0.2, 0.5, 0.3]))):
        options: dict[str, Any] = {
            "averages": {"linear": linear},
            "keep_policies": True,
            "record": [7, 20],
            "traced": traced,
        }
        found = games.sweep(game, solver, 40, start=start, **GRIDS[solver], **options)
        alone = _each(solver, GRIDS[solver])
        assert len(found) == len(alone)
        for one, each in zip(found.values(), alone, strict=True):
            _same(one, games.solve(game, each, 40, start, **options))


def test_settings_that_change_numbers_only_are_played_together(monkeypatch: pytest.MonkeyPatch) -> None:
    played: list[Any] = []
    real = games.solve

    def counted(game: Any, solver: Any, *args: Any, **options: Any) -> games.Solution:
        played.append(solver)
        return real(game, solver, *args, **options)

    monkeypatch.setattr("nashward.games.sweeping.solve", counted)

    def runs(solver: Any, **options: Any) -> int:
        played.clear()
        games.sweep(COMAL, solver, 20, **options)
        return len([one for one in played if not isinstance(one, Together)]) or 1

    assert runs(games.MWU(), step=np.geomspace(0.01, 1, 16)) == 1
    assert runs(games.INPO(), step=[0.1, 0.2], tau=[0.1, 0.2, 0.3]) == 1
    assert runs(games.Momentum(nesterov=True), momentum=[0.1, 0.5]) == 1  # opponents with different weights
    assert runs(games.NashEMA(), decay=[0.1, 0.5]) == 2  # old members are dropped sooner
    assert runs(games.OptimisticMWU(), two_sequences=[False, True]) == 2
    assert runs(games.INPO(), step=[0.1, 10.0], tau=[0.1]) == 2  # at step 1 / tau the iterate is no longer a member
    assert runs(games.MWU(), step=[0.1, 0.2], tolerance=0.1) == 2
    assert runs(games.GDA(), step=[0.1, 0.2]) == 2
    assert runs(games.MWU(), step=[0.1, 0.2, 0.3], seeds=range(5), feedback=games.feedback.SampledFeedback(3)) == 3


def test_with_a_tolerance_each_run_ends_by_itself() -> None:
    found = games.sweep(COMAL, games.OptimisticMWU(), 4000, step=[0.5, 2.0], start=START, tolerance=1e-3)
    ends = [int(solution.iterations[-1]) for solution in found.values()]
    assert ends[1] < ends[0] < 4000
    assert {solution.status for solution in found.values()} == {games.Status.CONVERGED}


@pytest.mark.parametrize("traced", [None, False])
def test_a_step_that_ends_in_no_number_spoils_no_other_one(traced: bool | None) -> None:
    game, start = games.ConstantSumGame([[30.0, -10.0], [-10.0, 10.0]], 0.0), ([0.9, 0.1], [0.5, 0.5])
    found = games.sweep(game, games.MWU(), 50, step=[0.1, 1e308], start=start, traced=traced)
    for solution, step in zip(found.values(), (0.1, 1e308), strict=True):
        alone = games.solve(game, games.MWU(step), 50, start, traced=traced)
        assert solution.status is alone.status
        assert torch.equal(solution.gaps["last"], alone.gaps["last"])
    assert [s.status.name for s in found.values()] == ["DONE", "NOT_FINITE"]


FEEDBACKS = [
    games.feedback.SampledFeedback(4),
    games.feedback.SampledFeedback(4, self_comparison=True),
    games.feedback.DuelingFeedback(duels=2),
]


@pytest.mark.parametrize("feedback", FEEDBACKS, ids=str)
@pytest.mark.parametrize("solver", [games.MWU(0.1), games.ExtraGradient(0.5, 0.1), games.RegretMatching()], ids=str)
def test_each_seed_draws_what_it_draws_alone(solver: Any, feedback: Any) -> None:
    found = games.sweep(COMAL, solver, 30, seeds=[3, 0, 11], start=START, feedback=feedback, record=[10, 20])
    (solution,) = found.values()
    assert solution.last.shape == (3, 3)
    assert solution.gaps["last"].shape == (3, 3)
    for k, seed in enumerate([3, 0, 11]):
        alone = games.solve(
            COMAL, solver, 30, START, feedback=dataclasses.replace(feedback, seed=seed), record=[10, 20]
        )
        torch.testing.assert_close(solution.last[k], alone.last, atol=1e-13, rtol=0)
        torch.testing.assert_close(solution.gaps["average"][:, k], alone.gaps["average"], atol=1e-13, rtol=0)
    assert games.total_variation(solution.last[0], solution.last[1]) > 1e-4


def test_seeds_of_two_players_and_of_several_steps() -> None:
    game = games.ConstantSumGame([[0.4, -0.3, 0.1], [-0.2, 0.5, 0.0]], 0.0)
    feedback = games.feedback.DuelingFeedback()
    found = games.sweep(game, games.MWU(), 20, step=[0.1, 0.3], seeds=range(2), feedback=feedback)
    for step, solution in zip((0.1, 0.3), found.values(), strict=True):
        for seed in range(2):
            alone = games.solve(game, games.MWU(step), 20, feedback=games.feedback.DuelingFeedback(seed))
            torch.testing.assert_close(solution.last.row[seed], alone.last.row, atol=1e-13, rtol=0)
            torch.testing.assert_close(solution.last.column[seed], alone.last.column, atol=1e-13, rtol=0)


def test_the_names_say_what_was_swept() -> None:
    assert list(games.sweep(COMAL, games.MWU(), 2, step=[0.1, 1 / 3])) == [
        "MWU(step=0.1)",
        "MWU(step=0.3333333333333333)",
    ]
    assert list(games.sweep(COMAL, games.INPO(tau=0.2), 2, step=0.1, tau=[0.1])) == ["INPO(step=0.1, tau=0.1)"]
    two = games.sweep(COMAL, games.MWU(), 2, step=[games.schedule.inverse_sqrt(1.0), games.schedule.inverse_sqrt(0.5)])
    assert list(two) == ["MWU(step=inverse_sqrt(1.0))", "MWU(step=inverse_sqrt(0.5))"]
    own: list[Callable[[int], float]] = [lambda t: 1.0 / t, lambda t: 2.0 / t]
    first, second = games.sweep(COMAL, games.MWU(), 2, step=own)
    assert second == f"{first} #2"


def test_what_is_no_sweep_is_refused() -> None:
    with pytest.raises(ValueError, match=r"seeds are for sampled payoffs.*SampledFeedback"):
        games.sweep(COMAL, games.MWU(), 2, seeds=[1])
    one: Any
    for one in (5, np.int64(5), torch.tensor(5), "5"):
        with pytest.raises(ValueError, match=r"expected several, as seeds=range\(5\)"):
            games.sweep(COMAL, games.MWU(), 2, seeds=one, feedback=games.feedback.SampledFeedback(2))
    with pytest.raises(ValueError, match=r"step has the value 0\.1 twice"):
        games.sweep(COMAL, games.MWU(), 2, step=[0.1, 0.1])
    with pytest.raises(ValueError, match="step has no values"):
        games.sweep(COMAL, games.MWU(), 2, step=[])
    with pytest.raises(TypeError, match=r"games\.MWU\(\), got MWU, a class"):
        games.sweep(COMAL, games.MWU, 2, step=[0.1])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"sweep.*INPO.*'taw'.*nearest is tau.*step, .*tau"):
        games.sweep(COMAL, games.INPO(), 2, taw=[0.1])
    with pytest.raises(ValueError, match="positive number, got -1"):
        games.sweep(COMAL, games.MWU(), 2, step=[0.1, -1.0])
    with pytest.raises(ValueError, match=r"games\.sweep\(.*step=\["):
        games.MWU(step=[0.1, 0.2])  # type: ignore[arg-type]
    assert games.MWU(step=torch.tensor(0.1)).step == torch.tensor(0.1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"3 seeds are for 3 trajectories.*\[3\]"):
        games.solve(COMAL, games.MWU(), 2, feedback=games.feedback.SampledFeedback(2, seed=(1, 2, 3)))
    with pytest.raises(ValueError, match="seed is a whole number >= 0, got -1"):
        games.feedback.SampledFeedback(2, seed=(1, -1))


def test_each_step_beyond_its_threshold_is_warned_of() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        games.sweep(COMAL, games.OptimisticMWU(), 2, step=[0.5, 50.0, 60.0])
    assert [str(warning.message)[:11] for warning in caught] == ["the step 50", "the step 60"]


def test_solvers_that_differ_in_more_than_numbers_are_apart() -> None:
    pairs: list[Any] = [
        (games.MWU(), games.ExtraGradient()),
        (games.MWU(), games.INPO()),
        (games.MWU(), games.NashMD()),
    ]
    for pair in pairs:
        for traced in (False, True) if accelerator.ACCELERATED else (False,):
            with pytest.raises(ApartError):
                games.solve(COMAL, Together(pair), 10, traced=traced)


@dataclasses.dataclass(frozen=True)
class _Weighted(games.MWU):
    averaging: Callable[[int], float] = games.averaging.linear


def test_a_solver_of_ones_own_is_averaged_as_it_says() -> None:
    game, start = games.zoo.comal_cycle(), [0.6, 0.3, 0.1]
    for settings in ({"step": [0.1, 0.4]}, {"averaging": [games.averaging.uniform, games.averaging.linear]}):
        found = games.sweep(game, _Weighted(step=0.1), 40, start=start, **settings)
        for solution, values in zip(found.values(), zip(*settings.values(), strict=True), strict=True):
            solver = dataclasses.replace(_Weighted(step=0.1), **dict(zip(settings, values, strict=True)))
            alone = games.solve(game, solver, 40, start)
            assert (solution.average - alone.average).abs().max() < 1e-12
