"""Traced solvers and incremental fictitious play against the interpreted run and against counting by hand."""

from __future__ import annotations

import signal
import time
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from nashward import games
from nashward.games.averaging import linear
from nashward.games.compiled import accelerator
from nashward.games.compiled.trace import START, UntraceableError, trace
from nashward.games.forms.game import Profile

from .. import mixed

SOLVERS = [
    games.MWU(step=0.3),
    games.OptimisticMWU(step=0.5),
    games.OptimisticMWU(step=0.5, two_sequences=True),
    games.ExtraGradient(step=1.0, tau=0.1),
    games.MagneticMirrorDescent(step=0.4, tau=0.1),
    games.INPO(step=0.3, tau=0.1),
    games.INPO(step=10.0, tau=0.1),
    games.NashMD(step=0.2, tau=0.1),
    games.Momentum(step=0.1, momentum=0.4),
    games.Momentum(step=0.1, momentum=0.4, nesterov=True),
    games.MWU(step=lambda t: t**-0.5),
]
needs_numba = pytest.mark.skipif(not accelerator.ACCELERATED, reason="needs numba")


def _games() -> list[games.PreferenceGame | games.ConstantSumGame | games.ContextualGame]:
    tables = [games.zoo.random_preferences(n, seed=n).P for n in (5, 3, 4)]
    return [
        games.zoo.comal_cycle(),
        games.PreferenceGame(torch.stack([games.zoo.random_preferences(5, seed).P for seed in range(4)])),
        games.ConstantSumGame(np.random.default_rng(0).normal(size=(2, 3, 4)), total=0.0),
        games.zoo.random_preferences(60, seed=1),
        games.ContextualGame(tables),
    ]


def _flat(policy: torch.Tensor | Profile) -> torch.Tensor:
    return torch.cat(list(policy), -1) if isinstance(policy, tuple) else policy


@needs_numba
@pytest.mark.filterwarnings("ignore::nashward.games.StepWarning")  # also equal beyond the proven threshold
@pytest.mark.parametrize("solver", SOLVERS, ids=lambda s: type(s).__name__)
def test_traced_runs_equal_interpreted_ones(solver: games.Solver) -> None:
    for game in _games():
        start = game.uniform() if isinstance(game, games.ContextualGame) else None
        slow = games.solve(game, solver, 300, start, averaging=linear, keep_policies=True, traced=False)
        fast = games.solve(game, solver, 300, start, averaging=linear, keep_policies=True, traced=True)
        assert torch.equal(slow.iterations, fast.iterations)
        for a, b in [(slow.last, fast.last), (slow.average, fast.average)]:
            torch.testing.assert_close(_flat(a), _flat(b), atol=1e-12, rtol=0)
        for name in ("last", "average"):
            torch.testing.assert_close(slow.gaps[name], fast.gaps[name], atol=1e-12, rtol=0)
            torch.testing.assert_close(_flat(slow.policies[name]), _flat(fast.policies[name]), atol=1e-12, rtol=0)


@needs_numba
def test_a_solver_with_a_period_is_traced_unless_told_not_to(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: games.executor.TableExecutor, step: games.Step) -> games.Policy:
        raise AssertionError("a Step was interpreted")

    monkeypatch.setattr(games.executor.TableExecutor, "execute", refuse)
    game, solver = games.zoo.comal_cycle(), games.MWU(step=0.1)
    games.solve(game, solver, 10)
    games.solve(game, games.MWU(step=lambda t: 0.1), 10, traced=True)
    float32 = games.PreferenceGame(game.P.to(torch.float32))
    for interpreted in (
        lambda: games.solve(game, solver, 10, traced=False),
        lambda: games.solve(game, games.MWU(step=lambda t: 0.1), 10),
        lambda: games.solve(game, games.HistoryMixture(), 10),
        lambda: games.solve(game, solver, 10, feedback=games.feedback.SampledFeedback(3)),
        lambda: games.solve(float32, solver, 10),
        lambda: games.solve(games.LowRankGame(np.ones((3, 1)), np.eye(3)[:, :1]), solver, 10),
    ):
        with pytest.raises(AssertionError, match="a Step was interpreted"):
            interpreted()


@needs_numba
def test_what_cannot_be_traced_says_why() -> None:
    game = games.zoo.comal_cycle()
    with pytest.raises(ValueError, match="only exact payoffs"):
        games.solve(game, games.MWU(), 10, feedback=games.feedback.SampledFeedback(3), traced=True)
    with pytest.raises(ValueError, match="RegretMatching makes no mirror steps"):
        games.solve(game, games.RegretMatching(), 10, traced=True)
    with pytest.raises(ValueError, match=r"torch.float32"):
        games.solve(games.PreferenceGame(game.P.to(torch.float32)), games.MWU(), 10, traced=True)


@needs_numba
@pytest.mark.parametrize("at", [[5, 200], None], ids=["few", "default"])
def test_tolerance_and_status(at: list[int] | None) -> None:
    batch = torch.stack([games.zoo.comal_cycle().P, games.zoo.biased_rock_paper_scissors().P])
    for game in (games.zoo.comal_cycle(), games.PreferenceGame(batch)):
        solver = games.OptimisticMWU(step=0.5)
        slow, fast = (games.solve(game, solver, 9000, None, None, 1e-4, record=at, traced=t) for t in (False, True))
        assert fast.status is slow.status is games.Status.CONVERGED
        assert torch.equal(slow.iterations, fast.iterations)
        torch.testing.assert_close(slow.last, fast.last, atol=1e-12, rtol=0)
        torch.testing.assert_close(slow.average, fast.average, atol=1e-12, rtol=0)
        assert games.solve(game, games.MWU(), 9, tolerance=1e-9).status is games.Status.NOT_CONVERGED


@needs_numba
@pytest.mark.filterwarnings("ignore::nashward.games.StepWarning")
@pytest.mark.parametrize("batch", [(), (2,)])
def test_a_run_that_is_not_finite_any_more_stops_there(batch: tuple[int, ...]) -> None:
    payoff = np.zeros((*batch, 2, 2)) + np.array([[30.0, -10.0], [-10.0, 10.0]])
    game, solver = games.ConstantSumGame(payoff, total=0.0), games.MagneticMirrorDescent(step=1e308, tau=0.0)
    slow, fast = (games.solve(game, solver, 50, start=([0.9, 0.1], [0.5, 0.5]), traced=t) for t in (False, True))
    assert fast.status is slow.status is games.Status.NOT_FINITE
    assert torch.equal(slow.iterations, fast.iterations)
    for name in ("last", "average"):
        torch.testing.assert_close(slow.gaps[name], fast.gaps[name])


@needs_numba
@pytest.mark.filterwarnings("ignore::nashward.games.SupportWarning")
def test_many_starts_equal_runs_alone_and_excluded_actions_stay_excluded() -> None:
    starts = np.random.default_rng(0).dirichlet(np.ones(60), size=8)
    starts[3, :5] = 0
    starts /= starts.sum(-1, keepdims=True)
    game = games.zoo.random_preferences(60, seed=1)
    together = games.solve(game, games.OptimisticMWU(), 100, start=starts)
    assert together.gaps["last"].shape == (100, 8)
    assert together.last[3, :5].sum() == 0
    for k in (0, 3, 7):
        alone = games.solve(game, games.OptimisticMWU(), 100, start=starts[k])
        torch.testing.assert_close(together.last[k], alone.last, atol=1e-12, rtol=0)
    slow = games.solve(game, games.OptimisticMWU(), 100, start=starts, traced=False)
    torch.testing.assert_close(slow.last, together.last, atol=1e-12, rtol=0)
    torch.testing.assert_close(slow.gaps["average"], together.gaps["average"], atol=1e-12, rtol=0)


@needs_numba
def test_starts_of_one_player_and_starts_of_batches() -> None:
    rng = np.random.default_rng(1)
    pair = games.ConstantSumGame(rng.normal(size=(3, 4)), total=0.0)
    batch = games.PreferenceGame(torch.stack([games.zoo.random_preferences(5, seed).P for seed in range(3)]))
    rows, column, several = rng.dirichlet(np.ones(3), 6), np.full(4, 0.25), rng.dirichlet(np.ones(5), (2, 3))
    for game, start in ((pair, (rows, column)), (batch, several), (batch, several[:, :1])):
        slow, fast = (
            games.solve(game, games.MWU(0.2), 30, start=start, traced=t, keep_policies=True) for t in (False, True)
        )
        torch.testing.assert_close(_flat(slow.last), _flat(fast.last), atol=1e-12, rtol=0)
        torch.testing.assert_close(slow.gaps["average"], fast.gaps["average"], atol=1e-12, rtol=0)


@pytest.mark.skipif(accelerator.ACCELERATED, reason="is about the plain path")
def test_without_numba_the_error_says_what_to_install() -> None:
    with pytest.raises(ValueError, match=r"numba is missing .*accelerator"):
        games.solve(games.zoo.comal_cycle(), games.MWU(), 10, traced=True)


def test_a_contextual_game_starts_without_padding() -> None:
    game = games.ContextualGame([games.zoo.random_preferences(n, seed=n).P for n in (5, 3)])
    given = games.solve(game, games.MWU(), 20, start=game.uniform(), traced=False)
    torch.testing.assert_close(games.solve(game, games.MWU(), 20, traced=False).average, given.average)


def test_a_promised_period_is_traced_once_and_checked() -> None:
    assert trace(games.MWU(), 10**6).anchor[0].shape[0] == 9  # a lead of eight Steps, and one that repeats
    assert trace(games.ExtraGradient(tau=0.5), 10**6).anchor[0].max() == 1
    assert (trace(games.ExtraGradient(tau=0.5), 10**6).anchor[0][:, 0] <= START).any()  # the reference
    assert trace(games.MWU(step=lambda t: 1 / t), 50).size[49] == 1 / 50

    @dataclass(frozen=True)
    class Switch:
        period = 1

        def play(self, x: games.Policy, reference: games.Policy) -> Generator[games.Step, games.Policy, None]:
            size = 0.1
            while True:
                size = 0.3 - size
                x = yield games.Step(x, x, size)

    with pytest.raises(ValueError, match="period of 1"):
        trace(Switch(), 1000)


def test_solvers_that_look_or_reach_far_back_stay_interpreted() -> None:
    @dataclass(frozen=True)
    class Looks:
        def play(self, x: games.Policy, reference: games.Policy) -> Generator[games.Step, games.Policy, None]:
            while True:
                x = yield games.Step(x, x, 0.1 if x.value.mean() < 0 else 0.2)

    @dataclass(frozen=True)
    class Remembers:
        def play(self, x: games.Policy, reference: games.Policy) -> Generator[games.Step, games.Policy, None]:
            first = x = yield games.Step(x, x, 0.1)
            while True:
                x = yield games.Step(x, (x + first) / 2, 0.1)

    with pytest.raises(UntraceableError, match="cannot be traced"):
        trace(Looks(), 10)
    with pytest.raises(UntraceableError, match="more than 64 Steps ago"):
        trace(Remembers(), 100)


def test_fictitious_play_is_the_counting_by_hand() -> None:
    A = mixed.uniform(np.random.default_rng(0), 7)
    counts = np.eye(7)[2]
    for _ in range(500):
        counts = counts + np.eye(7)[np.argmax(A @ counts)]
    solution = games.fictitious_play(games.PreferenceGame(0.5 + A), 500, start=2)
    np.testing.assert_allclose(solution.average.numpy(), counts / 501, atol=1e-15)
    gap = games.duality_gap(games.PreferenceGame(0.5 + A), solution.average)
    assert float(solution.gaps["average"][-1]) == pytest.approx(float(gap), abs=1e-13)
    assert float(solution.last.max()) == 1


def test_ties_of_fictitious_play_are_those_of_the_payoffs_as_typed() -> None:
    tenths = np.array([[0, -4, 3], [4, 0, -4], [-3, 4, 0]])  # COMAL's cycle, of which 0.1 and 0.8 are rounded
    counts = np.eye(3, dtype=int)[0]
    for _ in range(2000):
        counts = counts + np.eye(3, dtype=int)[np.argmax(tenths @ counts)]
    found = games.fictitious_play(games.zoo.comal_cycle(), 2000)
    np.testing.assert_allclose(found.average.numpy(), counts / 2001, atol=1e-15)
    played = games.solve(games.zoo.comal_cycle(), games.FictitiousPlay(), 2001, [1.0, 0.0, 0.0], record=[2001])
    np.testing.assert_allclose(played.average.numpy(), counts / 2001, atol=1e-12)


@pytest.mark.parametrize("penalty", [1e7, 1e10])
def test_an_action_that_nobody_plays_decides_no_tie_of_fictitious_play(penalty: float) -> None:
    payoffs = np.zeros((4, 4))
    payoffs[:3, :3] = [[0, -1, 1], [1, 0, -1], [-1, 1, 0]]
    payoffs[3, :3], payoffs[:3, 3] = -penalty, penalty
    game, first = games.ConstantSumGame(payoffs, total=0.0), np.eye(4)[0]
    without = games.fictitious_play(games.ConstantSumGame(payoffs[:3, :3], total=0.0), 2000)
    found = games.fictitious_play(game, 2000)
    played = games.solve(game, games.FictitiousPlay(), 2001, (first, first), record=[2001])
    for average in (found.average, played.average):
        np.testing.assert_allclose(average.row[:3], without.average.row, atol=1e-12)


def test_fictitious_play_of_two_players_and_of_batches() -> None:
    pair = games.fictitious_play(games.ConstantSumGame([[3.0, -1.0], [-1.0, 1.0]], total=0.0), 20_000).average
    np.testing.assert_allclose(pair.row.numpy(), [1 / 3, 2 / 3], atol=0.01)
    np.testing.assert_allclose(pair.column.numpy(), [1 / 3, 2 / 3], atol=0.01)
    batch = games.PreferenceGame(torch.stack([games.zoo.random_preferences(6, seed).P for seed in range(3)]))
    together = games.fictitious_play(batch, 200)
    alone = games.fictitious_play(games.zoo.random_preferences(6, 1), 200)
    torch.testing.assert_close(together.average[1], alone.average)
    assert together.gaps["average"].shape == (200, 3)
    with pytest.raises(ValueError, match="start must be an action from 0 to 5, got 6"):
        games.fictitious_play(batch, 10, start=6)


def test_fictitious_play_records_what_solve_would() -> None:
    game = games.zoo.comal_cycle()
    every = games.fictitious_play(game, 10)
    for record in ([5], [5, 10], [5.0]):
        some = games.fictitious_play(game, 10, record=record)  # type: ignore[arg-type]
        assert some.iterations.tolist() == [5, 10]
        assert torch.equal(some.gaps["average"], every.gaps["average"][[4, 9]])
    with pytest.raises(ValueError, match=r"record .*2\.5"):
        games.fictitious_play(game, 10, record=[5, 2.5])  # type: ignore[list-item]
    for outside in (0, -3, 99):
        with pytest.warns(UserWarning, match=f"record {outside} is left out"):
            assert games.fictitious_play(game, 10, record=[5, outside]).iterations.tolist() == [5, 10]


@needs_numba
@pytest.mark.filterwarnings("ignore::nashward.games.StepWarning")
@pytest.mark.parametrize("tolerance", [None, 0.02])
@pytest.mark.parametrize("solver", SOLVERS)
def test_a_run_that_comes_up_for_air_is_the_same_and_keeps_several_averages(
    solver: Any, tolerance: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = games.PreferenceGame(torch.stack([games.zoo.random_preferences(5, seed).P for seed in range(3)]))

    def run(traced: bool) -> games.Solution:
        averages = {"linear": linear, "late": lambda t: float(t > 20)}
        return games.solve(batch, solver, 300, None, None, tolerance, averages=averages, keep_policies=True,
                           traced=traced)  # fmt: skip

    plain, whole = run(False), run(True)
    monkeypatch.setattr("nashward.games.compiled.runner._CHUNK_COST", 3 * 25**2 * 7.0)  # every seven iterations
    often = run(True)
    for other, rounding in ((whole, 1e-15), (plain, 1e-12)):
        assert often.status == other.status
        torch.testing.assert_close(often.iterations, other.iterations)
        for name in ("last", "average", "linear", "late"):
            torch.testing.assert_close(often.gaps[name], other.gaps[name], atol=rounding, rtol=0)
            torch.testing.assert_close(often.policies[name], other.policies[name], atol=rounding, rtol=0)
        torch.testing.assert_close(often.average, other.average, atol=rounding, rtol=0)


@needs_numba
def test_weights_of_any_callable_and_no_starts_at_all() -> None:
    @dataclass
    class Power:  # compares by its fields, so it has no hash
        exponent: float

        def __call__(self, t: int) -> float:
            return t**self.exponent

    game, solver = games.zoo.comal_cycle(), games.MWU(0.2)
    found, expected = (games.solve(game, solver, 30, averaging=by, traced=True) for by in (Power(1.0), linear))
    assert torch.equal(found.average, expected.average)
    assert games.solve(game, solver, 30, start=torch.ones(0, 3), traced=True).gaps["last"].shape == (30, 0)


@needs_numba
def test_an_interrupt_ends_a_traced_run_soon() -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    game = games.zoo.comal_cycle()
    games.solve(game, games.MWU(), 10, traced=True)  # compiles
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.5)
        began = time.perf_counter()
        with pytest.raises(KeyboardInterrupt):
            games.solve(game, games.MWU(), 10**10, record=[10**10])  # would take an hour
        assert time.perf_counter() - began < 60
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("traced", [False, True] if accelerator.ACCELERATED else [False])
def test_progress_is_shown_where_it_is_asked_for(traced: bool, capfd: pytest.CaptureFixture[str]) -> None:
    def shown(progress: bool) -> str:
        games.solve(games.zoo.comal_cycle(), games.MWU(), 500, traced=traced, progress=progress)
        return capfd.readouterr().err

    assert shown(False) == ""
    assert "MWU" in (bar := shown(True))
    assert "500/500" in bar
