"""Solvers against their updates by hand, their theorems and the exact equilibrium."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from nashward import games, theory
from nashward.errors import NashwardError
from nashward.games import MWU, ExtraGradient, MagneticMirrorDescent, OptimisticMWU
from nashward.games.forms.symmetrize import symmetrised
from nashward.games.solution import SolverError

COMAL_START = torch.tensor([1.0, 0.0, -1.0], dtype=torch.float64).softmax(0)


@pytest.mark.parametrize(
    ("T", "average", "last"), [(100, 0.0733, 0.054), (1000, 0.0184, 0.107), (10_000, 0.0068, 0.047)]
)
def test_mwu_on_soccer_at_the_theorems_step(T: int, average: float, last: float) -> None:
    theorem = theory.MWUAverage.best(T, math.log(10))
    solution = games.solve(games.zoo.mujoco_soccer(), MWU(theorem.step), iterations=T)
    assert float(solution.gaps["average"][-1]) == pytest.approx(average, abs=5e-5)
    assert float(solution.gaps["last"][-1]) == pytest.approx(last, abs=5e-4)


@pytest.mark.parametrize("name", ["mujoco_soccer", "comal_cycle"])
def test_the_last_iterate_of_mwu_does_not_converge_and_that_of_optimistic_mwu_does(name: str) -> None:
    game = games.zoo.get(name)
    start = COMAL_START if name == "comal_cycle" else None
    T = 40_000 if name == "mujoco_soccer" else 4000
    late = range(T - 300, T)
    circling = games.solve(game, MWU(0.1), iterations=T, start=start, record=late)
    closing = games.solve(game, OptimisticMWU(1.0), iterations=T, start=start, record=late)
    assert circling.gaps["last"].max() > 0.04
    assert closing.gaps["last"].max() < 1e-6


def test_mwu_moves_away_from_an_interior_nash() -> None:
    game = games.zoo.comal_cycle()
    nash = games.nash(game).policy
    path = games.solve(game, MWU(0.1), iterations=500, start=[0.4, 0.3, 0.3], record=range(1, 501), keep_policies=True)
    distance = games.kl_divergence(nash, path.policies["last"])
    assert (distance.diff() > -1e-12).all()
    assert distance[-1] > 1.2 * distance[0]


def test_the_average_of_optimistic_mwu_falls_as_one_over_t_and_that_of_mwu_does_not() -> None:
    game = games.zoo.biased_rock_paper_scissors()
    horizons = torch.tensor([500, 5000])

    def product(solver: games.Solver) -> torch.Tensor:
        return horizons * games.solve(game, solver, 5000, start=COMAL_START, record=[500, 5000]).gaps["average"]

    fast, slow = product(OptimisticMWU(0.5)), product(MWU(0.5))
    assert fast[1] < 1.5 * fast[0]
    assert slow[1] > 2 * slow[0]


def test_n_by_m_games_are_solved_by_the_same_solvers() -> None:
    game = games.ConstantSumGame([[3.0, -1.0], [-1.0, 1.0]], total=0.0)
    solution = games.solve(game, ExtraGradient(0.2), iterations=2000, start=([0.9, 0.1], [0.2, 0.8]))
    torch.testing.assert_close(solution.last.row, torch.tensor([1 / 3, 2 / 3], dtype=torch.float64), atol=1e-8, rtol=0)
    torch.testing.assert_close(
        solution.last.column, torch.tensor([1 / 3, 2 / 3], dtype=torch.float64), atol=1e-8, rtol=0
    )
    assert solution.gaps["average"][-1] < 5e-3


def test_average_is_over_what_was_played_from_the_start_on() -> None:
    game, start = games.zoo.comal_cycle(), COMAL_START
    solution = games.solve(game, MWU(0.3), iterations=3, start=start, keep_policies=True)
    played = torch.stack([start, *solution.policies["last"][:2]])
    torch.testing.assert_close(solution.average, played.mean(0), atol=1e-15, rtol=0)
    linear = games.solve(game, MWU(0.3), iterations=3, start=start, averaging=games.averaging.linear)
    weights = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    torch.testing.assert_close(linear.average, weights @ played / 6, atol=1e-15, rtol=0)
    both = games.solve(game, MWU(0.3), 3, start=start, averages={"linear": games.averaging.linear}, keep_policies=True)
    torch.testing.assert_close(both.average, solution.average, atol=1e-15, rtol=0)
    torch.testing.assert_close(both.gaps["linear"], linear.gaps["average"], atol=1e-15, rtol=0)
    torch.testing.assert_close(both.policies["linear"][-1], linear.average, atol=1e-15, rtol=0)


def test_extragradient_averages_its_half_points() -> None:
    game, x = games.zoo.comal_cycle(), COMAL_START
    half = (x.log() + 2.0 * game.win_rate(x)).softmax(0)
    torch.testing.assert_close(games.solve(game, ExtraGradient(2.0), 1, start=x).average, half, atol=1e-15, rtol=0)


def test_an_excluded_action_stays_excluded_and_is_named() -> None:
    game, start = games.zoo.comal_cycle(), [0.5, 0.5, 0.0]
    with pytest.warns(games.SupportWarning, match="probability 0 to c, and OptimisticMWU") as caught:
        solution = games.solve(game, OptimisticMWU(0.5), iterations=50, start=start)
    assert len(caught) == 1
    assert solution.last[2] == 0
    assert torch.isfinite(solution.last).all()
    with pytest.warns(games.SupportWarning, match="probability 0 to c, and Replicator"):
        assert games.solve(game, games.Replicator(0.01), 50, start).last[2] == 0
    pair = games.ConstantSumGame(np.eye(5), 0.0, list("abcde"), list("ABCDE"))
    with pytest.warns(games.SupportWarning, match="probability 0 to b, c, d and 2 more, and MWU"):
        games.solve(pair, MWU(0.1), 5, ([0.5, 0, 0, 0, 0.5], [0.4, 0.3, 0.3, 0, 0]))


@pytest.mark.parametrize("solver", [games.GDA(0.1), games.RegretMatching(), games.FictitiousPlay()])
def test_a_solver_that_takes_an_excluded_action_up_again_does_not_warn(solver: Any) -> None:
    solution = games.solve(games.zoo.comal_cycle(), solver, 50, [0.5, 0.5, 0.0])
    assert solution.average[2] > 0


def test_padding_is_no_excluded_action() -> None:
    tables = [games.zoo.rock_paper_scissors().P, [[0.5, 0.8], [0.2, 0.5]]]
    game = games.ContextualGame(tables)
    games.solve(game, MWU(0.1), 5, game.uniform())


def test_settings_that_are_swept_together_warn_of_a_start_once() -> None:
    with pytest.warns(games.SupportWarning, match="probability 0 to a, and MWU") as caught:
        games.sweep(games.zoo.comal_cycle(), MWU(), 20, step=[0.1, 0.2], start=[0.0, 0.5, 0.5])
    assert len(caught) == 1


def test_status_says_what_happened() -> None:
    game = games.zoo.comal_cycle()
    found = games.solve(game, OptimisticMWU(0.5), iterations=5000, start=COMAL_START, tolerance=1e-6)
    assert found.status is games.Status.CONVERGED
    assert found.iterations[-1] < 5000
    assert min(found.gaps["last"][-1], found.gaps["average"][-1]) <= 1e-6
    short = games.solve(game, MWU(0.5), iterations=10, start=COMAL_START, tolerance=1e-6)
    assert short.status is games.Status.NOT_CONVERGED
    with pytest.raises(SolverError, match="raise iterations"):
        games.solve(game, MWU(0.5), iterations=10, start=COMAL_START, tolerance=1e-6, throw=True)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: MWU(0.0), "positive number, got 0"),
        (lambda: MWU(float("inf")), "positive number"),
        (lambda: MWU(eval("'0.5'")), "positive number, got '0.5'"),
        (lambda: MWU(eval("[0.1, 0.2]")), "positive number"),
        (lambda: MWU(torch.tensor([0.1, 0.2])), "positive number"),  # type: ignore[arg-type]
        (lambda: games.solve(games.zoo.comal_cycle(), MWU(eval("lambda t: 'x'"))), "iteration 1 .* got 'x'"),
        (lambda: games.solve(games.zoo.comal_cycle(), MWU(), tolerance=eval("'small'")), "tolerance is 'small'"),
        (lambda: games.Momentum(0.5, eval("'x'")), "momentum must be"),
        (lambda: MagneticMirrorDescent(0.4, eval("'1'")), "tau must be a number >= 0"),
        (lambda: games.Step(games.policy.Policy("x"), None, eval("'1'")), "size must be a finite number"),
        (lambda: MagneticMirrorDescent(0.4, -1.0), "tau must be a number >= 0"),
        (
            lambda: games.solve(games.zoo.comal_cycle(), MWU(), iterations=0),
            "iterations must be a whole number >= 1, got 0",
        ),
        (lambda: games.solve(games.zoo.comal_cycle(), MWU(), iterations=eval("1.5")), r"whole number >= 1, got 1\.5"),
        (
            lambda: games.solve(games.zoo.comal_cycle(), MWU(), averages={"last": games.averaging.linear}),
            "got 'last'",
        ),
        (lambda: games.solve(games.zoo.comal_cycle(), ExtraGradient(2.0, tau=1.0)), "step \\* tau must be at most 1"),
        (lambda: games.solve(games.zoo.comal_cycle(), MWU(lambda t: 2.0 - t)), "iteration 2"),
        (lambda: games.solve(games.zoo.comal_cycle(), MWU(), start=[0.5, 0.5]), r"shape \[..., 3\]"),
    ],
)
def test_bad_settings_are_refused(build: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()  # type: ignore[operator]


@pytest.mark.parametrize("given", [[[0.5, 1.0], [0.0, 0.5]], games.PreferenceGame, "soccer"])
@pytest.mark.parametrize(
    "ask", [games.nash, lambda game: games.solve(game, MWU()), lambda game: games.duality_gap(game, [0.5, 0.5])]
)
def test_what_is_no_game_is_told_how_to_become_one(ask: Callable[[object], object], given: object) -> None:
    with pytest.raises(TypeError, match=r"expected a game, got \w+"):
        ask(given)


def test_iterations_may_be_written_as_a_float() -> None:
    found = games.solve(games.zoo.comal_cycle(), MWU(), iterations=eval("1e2"))
    assert int(found.iterations[-1]) == 100


def test_a_schedule_is_asked_for_each_iteration() -> None:
    asked: list[int] = []
    games.solve(games.zoo.comal_cycle(), ExtraGradient(lambda t: asked.append(t) or 0.5), iterations=4)  # type: ignore[func-returns-value]
    assert asked[:4] == [1, 2, 3, 4]


def test_a_reference_of_many_starts_and_a_start_of_one_are_recorded_together() -> None:
    game, start = games.zoo.comal_cycle(), [0.2, 0.3, 0.5]
    references = torch.tensor([[0.2, 0.3, 0.5], [0.6, 0.2, 0.2]], dtype=torch.float64)
    solver = games.MagneticMirrorDescent(step=0.2, tau=0.1)
    both = games.solve(game, solver, 40, start=start, reference=references, traced=False, keep_policies=True)
    for k, reference in enumerate(references):
        alone = games.solve(game, solver, 40, start=start, reference=reference, traced=False, keep_policies=True)
        for name in ("last", "average"):
            torch.testing.assert_close(both.gaps[name][:, k], alone.gaps[name], atol=1e-14, rtol=0)
            torch.testing.assert_close(both.policies[name][:, k], alone.policies[name], atol=1e-14, rtol=0)


@pytest.mark.parametrize("solver", [games.NashMD(step=0.2, tau=0.1), games.INPO(step=0.2, tau=0.1)])
def test_many_starts_are_drawn_to_one_reference(solver: games.Solver) -> None:
    game, reference = games.zoo.comal_cycle(), [0.6, 0.2, 0.2]
    starts = torch.tensor([[0.2, 0.3, 0.5], [0.1, 0.1, 0.8]], dtype=torch.float64)
    both = games.solve(game, solver, 40, start=starts, reference=reference)
    for k, start in enumerate(starts):
        alone = games.solve(game, solver, 40, start=start, reference=reference)
        torch.testing.assert_close(both.last[k], alone.last, atol=1e-14, rtol=0)


def test_records_are_whole_numbers_of_any_kind() -> None:
    game, solver = games.zoo.comal_cycle(), MWU()
    for record in ([2.0, 5.0], np.array([2, 5]), torch.tensor([2, 5]), [5, 2, 2], [5, 2, 10]):
        for traced in (False, None):
            assert games.solve(game, solver, 10.0, record=record, traced=traced).iterations.tolist() == [2, 5, 10]  # type: ignore[arg-type]
    for traced in (False, None):
        with pytest.raises(ValueError, match=r"record .* got 1\.5"):
            games.solve(game, solver, 10, record=[1.5], traced=traced)  # type: ignore[list-item]
        for beyond in (0, -1, 11, 200.0):  # none is left out without a word
            with pytest.warns(UserWarning, match=f"record {int(beyond)} is left out"):
                found = games.solve(game, solver, 10, record=[5, beyond], traced=traced)  # type: ignore[list-item]
            assert found.iterations.tolist() == [5, 10]
    with pytest.warns(UserWarning, match="200"):
        games.sweep(game, solver, 100, step=[0.1, 0.2], record=[100, 200])


def test_a_run_without_a_record_has_the_shapes_of_its_starts() -> None:
    game = games.ConstantSumGame(np.array([[30.0, -10.0], [-10.0, 10.0]]), total=0.0)
    start = (torch.tensor([[0.9, 0.1]] * 3), torch.tensor([[0.5, 0.5]] * 3))
    for traced in (False, None):
        run = games.solve(game, MWU(1e308), 3, start=start, record=[3], keep_policies=True, traced=traced)
        assert run.status is games.Status.NOT_FINITE
        assert run.gaps["last"].shape == run.gaps["average"].shape == (0, 3)
        assert run.policies["last"].row.shape == run.policies["average"].column.shape == (0, 3, 2)


def test_records_are_the_same_however_many_are_measured_at_once() -> None:
    game = games.zoo.random_preferences(600, seed=1)  # so large that not all records can wait
    solver, times = games.MWU(step=0.5), [1, 2, *range(10, 500, 2), 500]
    many = games.solve(game, solver, 500, record=times, traced=False, keep_policies=True)
    assert many.iterations.tolist() == times
    for name, gaps in many.gaps.items():
        alone = torch.stack([games.duality_gap(game, policy) for policy in many.policies[name]])
        torch.testing.assert_close(gaps, alone, atol=1e-13, rtol=0)
    stopping = games.solve(game, solver, 500, record=times, traced=False, tolerance=1e-9)
    torch.testing.assert_close(stopping.gaps["last"], many.gaps["last"], atol=1e-13, rtol=0)


def test_a_game_from_outside_is_asked_for_one_policy_at_a_time() -> None:
    table = games.zoo.comal_cycle()

    class Counting(games.ImplicitGame):
        def payoffs(self, opponents: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
            assert opponents[0].shape == (3,)
            return super().payoffs(opponents)

    class Derived(games.PreferenceGame):
        def payoffs(self, opponents: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
            return (self.P @ opponents[0],)

    expected = games.solve(table, games.MWU(step=0.1), 30)
    for game in (Counting(table.win_rate, 3), Derived(table.P)):
        found = games.solve(game, games.MWU(step=0.1), 30)
        torch.testing.assert_close(found.gaps["average"], expected.gaps["average"], atol=1e-14, rtol=0)


LIST: Any = [[0.5]]
SYMMETRIC: Any = games.zoo.comal_cycle()
WORD: Any = "linear"


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda game: games.face(LIST), "expected a game, got list"),
        (games.face, r"expected a game with a table of payoffs, got ImplicitGame\(2 actions\)"),
        (games.nash_fractions, "expected a game with a table"),
        (lambda game: games.regularised_nash(game, 0.1), "expected a game with a table"),
        (lambda game: games.equilibria.regularised_gap(game, [0.5, 0.5], 0.1), "expected a game with a table"),
        (lambda game: games.fictitious_play(game, 5), "expected a game with a table"),
        (lambda game: symmetrised(SYMMETRIC), "expected a ConstantSumGame, which has two players"),
        (lambda game: games.rotation_frequency(LIST, [1.0]), "expected a game, got list"),
        (lambda game: games.solve(game, MWU(), averaging=WORD), "averaging is a function of t, .* got 'linear'"),
        (lambda game: games.solve(game, MWU(), averages=LIST), "averages are given by name"),
        (lambda game: games.solve(game, MWU(), feedback=WORD), "feedback is 'linear'; expected games.feedback.exact"),
        (
            lambda game: games.solve(game, MWU(), feedback=games.feedback.DuelingFeedback),  # type: ignore[arg-type]
            r"feedback is DuelingFeedback; expected .*DuelingFeedback\(\)",
        ),
    ],
)
def test_what_has_no_table_or_is_no_average_is_refused(build: Callable[[object], object], message: str) -> None:
    table = games.PreferenceGame([[0.5, 0.6], [0.4, 0.5]])
    with pytest.raises(TypeError, match=message):
        build(games.ImplicitGame(table.win_rate, 2))


@pytest.mark.parametrize("start", ["uniform", object(), [[0.5, 0.5], [1.0]]], ids=["word", "object", "ragged"])
def test_what_is_no_policy_is_refused_by_name(start: Any) -> None:
    with pytest.raises(NashwardError, match=r"policy must be probabilities .* \[..., 3\]"):
        games.solve(games.zoo.comal_cycle(), games.MWU(0.1), 10, start)


@pytest.mark.parametrize(
    "start", [[0.5, 0.5], np.array([0.5, 0.5]), torch.tensor([0.5, 0.5])], ids=["list", "array", "tensor"]
)
def test_one_policy_is_no_start_of_two_players(start: Any) -> None:
    game = games.ConstantSumGame([[3.0, -1.0, 0.0], [-1.0, 1.0, 0.0]], 0.0)
    with pytest.raises(NashwardError, match=r"pair \(row, column\)"):
        games.solve(game, games.MWU(0.1), 10, start)


@pytest.mark.parametrize("traced", [False, None])
@pytest.mark.parametrize("weight", [-1.0, math.nan, 1e308, None])
def test_a_weight_that_is_no_share_is_refused(weight: Any, traced: bool | None) -> None:
    def late(t: int) -> Any:
        return weight if t == 3 else 1.0

    with pytest.raises(NashwardError, match=r"averaging .*t = 3"):
        games.solve(games.zoo.comal_cycle(), games.MWU(0.1), 10, averaging=late, traced=traced)


def test_the_first_policies_may_weigh_nothing() -> None:
    game, start = games.zoo.comal_cycle(), [0.6, 0.3, 0.1]
    path = games.solve(
        game, games.MWU(0.1), 10, start, averaging=lambda t: float(t > 9), record=[9], keep_policies=True
    )
    torch.testing.assert_close(path.average, path.policies["last"][0], atol=1e-15, rtol=0)


def test_distances_are_of_distributions_in_double_precision() -> None:
    assert games.total_variation([0.1, 0.9], [0.3, 0.7]).dtype == torch.float64
    assert float(games.kl_divergence([0.1, 0.9], [0.9, 0.1])) == pytest.approx(0.8 * math.log(9), abs=1e-15)
    for distance in (games.total_variation, games.kl_divergence):
        for p, q in (([5, -4], [0.5, 0.5]), ([0.5, 0.5], [1.0]), ([[0.5, 0.5]] * 2, [[0.5, 0.5]] * 3), ("a", [1.0])):
            with pytest.raises(NashwardError, match="expected"):
                distance(p, q)


def test_no_gap_is_below_0() -> None:
    rng = np.random.default_rng(0)
    pairs = [games.ConstantSumGame(rng.normal(size=(4, 5)), 0.1) for _ in range(100)]
    assert min(float(games.duality_gap(pair, games.nash(pair).policy)) for pair in pairs) >= 0


class _Nothing:
    def play(self, x: Any, reference: Any) -> None:
        return None


class _Arrays:
    def iterate(self, x: Any, payoffs: Any) -> Any:
        while True:
            yield (np.full(3, 1 / 3),)


def test_solvers_of_ones_own_that_yield_something_else_are_told_what() -> None:
    with pytest.raises(TypeError, match=r"_Nothing: .* yield Step.* None"):
        games.solve(games.zoo.comal_cycle(), _Nothing(), 5)  # type: ignore[arg-type]
    with pytest.raises(NashwardError, match=r"_Arrays: .* ndarray; torch.as_tensor"):
        games.solve(games.zoo.comal_cycle(), _Arrays(), 5)


def test_a_step_that_throws_the_first_policy_out_of_all_bounds_is_not_finite() -> None:
    cycle = games.ConstantSumGame(np.array([[0, 1, -1], [-1, 0, 1], [1, -1, 0]]) * 1e9, 0.0)
    for kind in (games.Replicator(), games.Replicator(1e-3)):
        solution = games.solve(cycle, kind, 5, ([0.5, 0.3, 0.2], [0.2, 0.3, 0.5]))
        assert solution.status is games.Status.NOT_FINITE


@pytest.mark.parametrize(
    ("build", "told"),
    [
        (lambda game, wrong: games.ConstantSumGame([[1, 2]], total=wrong), "total"),
        (lambda game, wrong: games.PreferenceGame(game.P, tolerance=wrong), "tolerance"),
        (lambda game, wrong: games.load("tests/games/tables/cycle.csv", total=wrong), "total"),
        (lambda game, wrong: games.solve(game, games.MWU(0.1), 5, record=wrong), "record"),
        (lambda game, wrong: games.solve(game, games.MWU(0.1), 5, record=[5, wrong]), "record"),
        (lambda game, wrong: games.nash_fractions(game, wrong), "denominator"),
        (lambda game, wrong: games.regularised_nash(game, wrong), "tau"),
        (lambda game, wrong: games.HistoryMixture(weights=wrong), "weights"),
        (lambda game, wrong: games.feedback.SampledFeedback(wrong), "k must"),
    ],
)
def test_a_text_where_a_number_belongs_is_named(build: Callable[[Any, Any], object], told: str) -> None:
    with pytest.raises(NashwardError, match=f"{told}.*'a'"):
        build(games.zoo.comal_cycle(), "a")
    if told == "denominator":
        with pytest.raises(NashwardError, match=r"denominator .*0"):
            build(games.zoo.comal_cycle(), 0)
