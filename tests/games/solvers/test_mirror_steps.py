"""Every mirror-step solver against its update as the papers write it, and the point where each comes to rest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from nashward import games
from nashward.games import (
    INPO,
    MWU,
    ExtraGradient,
    HistoryMixture,
    MagneticMirrorDescent,
    MagnetReset,
    Momentum,
    NashEMA,
    NashMD,
    OptimisticMWU,
    ProximalPoint,
    schedule,
)

Array = NDArray[np.float64]
COMAL = games.zoo.comal_cycle()
START = torch.tensor([1.0, 0.0, -1.0], dtype=torch.float64).softmax(0)
TAU = 0.1


def _n(v: Array) -> Array:
    return v / v.sum()


def _mwu(P: Array, x: Array, ref: Array, T: int) -> Array:
    for _ in range(T):
        x = _n(x * np.exp(0.3 * P @ x))
    return x


def _omwu(P: Array, x: Array, ref: Array, T: int) -> Array:
    r = P @ x
    for _ in range(T):
        x, r = _n(x * np.exp(0.5 * (2 * P @ x - r))), P @ x
    return x


def _onpo(P: Array, x: Array, ref: Array, T: int) -> Array:
    base = x
    for _ in range(T):
        r = P @ x
        base = _n(base * np.exp(0.5 * r))
        x = _n(base * np.exp(0.5 * r))
    return x


def _extragradient(P: Array, x: Array, ref: Array, T: int) -> Array:
    for _ in range(T):
        x = _n(x * np.exp(P @ _n(x * np.exp(P @ x))))
    return x


def _egpo(P: Array, x: Array, ref: Array, T: int) -> Array:
    for _ in range(T):
        anchor = x**0.93 * ref**0.07
        x = _n(anchor * np.exp(0.7 * P @ _n(anchor * np.exp(0.7 * P @ x))))
    return x


def _mmd(P: Array, x: Array, ref: Array, T: int) -> Array:
    for _ in range(T):
        x = _n((x * ref**0.04 * np.exp(0.4 * P @ x)) ** (1 / 1.04))
    return x


def _inpo(P: Array, x: Array, ref: Array, T: int) -> Array:
    for _ in range(T):
        x = _n(x**0.96 * ref**0.04 * np.exp(0.4 * P @ x))
    return x


def _nash_md(P: Array, x: Array, ref: Array, T: int) -> Array:
    for _ in range(T):
        mix = _n(x**0.96 * ref**0.04)
        x = _n(mix * np.exp(0.4 * P @ mix))
    return x


def _nash_ema(P: Array, x: Array, ref: Array, T: int) -> Array:
    past = [x]
    for _ in range(T):
        weights = [0.3**age * (0.7 if age < len(past) - 1 else 1.0) for age in range(len(past))]
        opponent = np.sum([w * p for w, p in zip(weights, reversed(past), strict=True)], axis=0)
        past.append(_n(past[-1] ** 0.96 * ref**0.04 * np.exp(0.4 * P @ opponent)))
    return past[-1]


def _momentum(P: Array, x: Array, ref: Array, T: int) -> Array:
    previous = x
    for _ in range(T):
        x, previous = _n(x**1.2 * previous**-0.2 * np.exp(0.4 * P @ x)), x
    return x


def _apo(P: Array, x: Array, ref: Array, T: int) -> Array:
    """APO's two lines: hat = the update of pi, and pi = hat (hat / hat before)^m."""
    hat_before = x
    first = _n(x * np.exp(0.4 * P @ x))
    hat, pi = first, first
    for _ in range(T - 1):
        hat_before, hat = hat, _n(pi * np.exp(0.4 * P @ pi))
        pi = _n(hat * (hat / hat_before) ** 0.2)
    return pi


def _comal(P: Array, x: Array, ref: Array, T: int) -> Array:
    for _ in range(T):
        magnet = x
        for _ in range(5):
            x = _n(x**0.97 * magnet**0.03 * np.exp(0.3 * P @ x))
    return x


def _mpo(P: Array, x: Array, ref: Array, T: int) -> Array:
    magnet = ref
    for t in range(T):
        if t and t % 4 == 0:
            magnet = x
        x = _n((x * magnet**0.04 * np.exp(0.4 * P @ x)) ** (1 / 1.04))
    return x


def _mnpo(P: Array, x: Array, ref: Array, T: int) -> Array:
    past = [x, x, x]
    for _ in range(T):
        a, b, c = past[:-4:-1]
        anchor = (a**0.5 * b**0.3 * c**0.2) ** 0.96 * ref**0.04
        past.append(_n(anchor * np.exp(0.4 * P @ (0.5 * a + 0.3 * b + 0.2 * c))))
    return past[-1]


BY_HAND: list[tuple[games.Solver, Callable[[Array, Array, Array, int], Array]]] = [
    (MWU(0.3), _mwu),
    (OptimisticMWU(0.5), _omwu),
    (OptimisticMWU(0.5, two_sequences=True), _onpo),
    (ExtraGradient(1.0), _extragradient),
    (ExtraGradient(0.7, tau=TAU), _egpo),
    (MagneticMirrorDescent(0.4, TAU), _mmd),
    (INPO(0.4, TAU), _inpo),
    (NashMD(0.4, TAU), _nash_md),
    (NashEMA(0.4, TAU, decay=0.3), _nash_ema),
    (Momentum(0.4, momentum=0.2), _momentum),
    (ProximalPoint(0.3, TAU, inner=5), _comal),
    (MagnetReset(0.4, TAU, every=4), _mpo),
    (HistoryMixture(0.4, TAU, weights=(0.5, 0.3, 0.2)), _mnpo),
]
ids = [f.__name__ for _, f in BY_HAND]


@pytest.mark.filterwarnings("ignore::nashward.games.StepWarning")
@pytest.mark.parametrize(("solver", "update"), BY_HAND, ids=ids)
def test_iterates_are_those_of_the_update_written_out(
    solver: games.Solver, update: Callable[[Array, Array, Array, int], Array]
) -> None:
    game = games.zoo.random_preferences(6, seed=4)
    start, reference = np.random.default_rng(0).dirichlet(np.ones(6), size=2)
    for T in (1, 2, 7, 25):
        solution = games.solve(game, solver, iterations=T, start=start, reference=reference)
        by_hand = update(game.P.numpy(), start, reference, T)
        np.testing.assert_allclose(solution.last.numpy(), by_hand, atol=1e-8 if "ema" in update.__name__ else 1e-13)


def test_momentum_with_nesterovs_payoff_is_apo() -> None:
    """APO's two lines in one; the first step, which has no policy before it, is not extrapolated."""
    game = games.zoo.random_preferences(6, seed=4)
    start = np.random.default_rng(0).dirichlet(np.ones(6))
    found = games.solve(game, Momentum(0.4, 0.2, nesterov=True), iterations=25, start=start).last
    np.testing.assert_allclose(found.numpy(), _apo(game.P.numpy(), start, start, 25), atol=1e-13)


def test_every_mirror_step_is_in_the_table() -> None:
    assert {type(solver) for solver, _ in BY_HAND} == set(games.solvers.MIRROR_STEPS)


@pytest.mark.filterwarnings("ignore::nashward.games.StepWarning")
@pytest.mark.parametrize("solver", [solver for solver, _ in BY_HAND], ids=ids)
def test_a_game_in_a_batch_is_solved_as_alone_and_order_does_not_matter(solver: games.Solver) -> None:
    tables = [games.zoo.random_preferences(5, seed).P for seed in range(3)]
    batch = games.solve(games.PreferenceGame(torch.stack(tables)), solver, iterations=20)
    order = torch.tensor([4, 2, 0, 1, 3])
    for i, table in enumerate(tables):
        alone = games.solve(games.PreferenceGame(table), solver, iterations=20)
        torch.testing.assert_close(batch.last[i], alone.last, atol=1e-14, rtol=0)
        torch.testing.assert_close(batch.gaps["average"][:, i], alone.gaps["average"], atol=1e-14, rtol=0)
        turned = games.solve(games.PreferenceGame(table[order][:, order]), solver, iterations=20)
        torch.testing.assert_close(turned.last, alone.last[order], atol=1e-14, rtol=0)


@pytest.mark.filterwarnings("ignore::nashward.games.StepWarning")
@pytest.mark.parametrize("tau", [0.02, 0.1, 0.5])
@pytest.mark.parametrize("step", [0.05, 0.4, 1.5])
def test_inpo_is_magnetic_mirror_descent_with_another_step(step: float, tau: float) -> None:
    game = games.zoo.random_preferences(6, seed=1)
    reference = np.random.default_rng(2).dirichlet(np.ones(6))
    magnet = games.solve(game, MagneticMirrorDescent(step, tau), 200, reference=reference).last
    inpo = games.solve(game, INPO(step / (1 + step * tau), tau), 200, reference=reference).last
    torch.testing.assert_close(inpo, magnet, atol=1e-12, rtol=0)
    assert games.total_variation(inpo, games.solve(game, INPO(step, tau), 3, reference=reference).last) > 1e-3


@pytest.mark.filterwarnings("ignore::nashward.games.StepWarning")
def test_solvers_that_are_one_with_other_settings() -> None:
    def last(solver: games.Solver) -> torch.Tensor:
        return games.solve(COMAL, solver, iterations=20, start=START).last

    torch.testing.assert_close(last(INPO(0.3, tau=0.0)), last(MWU(0.3)), atol=1e-15, rtol=0)
    torch.testing.assert_close(last(Momentum(0.3, momentum=0.0)), last(MWU(0.3)), atol=1e-15, rtol=0)
    torch.testing.assert_close(last(NashEMA(0.3, TAU, decay=0.0)), last(INPO(0.3, TAU)), atol=1e-15, rtol=0)
    torch.testing.assert_close(last(HistoryMixture(0.3, TAU, weights=(1.0,))), last(INPO(0.3, TAU)), atol=1e-15, rtol=0)
    reset = last(MagnetReset(0.4, TAU, every=5))
    outer = games.solve(COMAL, ProximalPoint(0.4 / 1.04, TAU, inner=5), iterations=4, start=START).last
    torch.testing.assert_close(outer, reset, atol=1e-14, rtol=0)


def _gaps(solver: games.Solver, T: int) -> tuple[float, float]:
    found = games.solve(COMAL, solver, iterations=T, start=START, record=[T]).gaps
    return float(found["last"][-1]), float(found["average"][-1])


@pytest.mark.parametrize(
    ("solver", "T", "last"),
    [
        (OptimisticMWU(0.5), 2000, 8.6e-6),
        (OptimisticMWU(0.5, two_sequences=True), 2000, 8.6e-6),
        (ExtraGradient(2.0), 1000, 1e-12),
        (ProximalPoint(), 60, 2.2e-9),
        (MagnetReset(), 1000, 3.5e-11),
    ],
    ids=["one sequence", "two sequences", "extragradient", "proximal point", "magnet reset"],
)
def test_last_iterates_that_converge_to_the_nash(solver: games.Solver, T: int, last: float) -> None:
    late = games.solve(COMAL, solver, iterations=T, start=START, record=range(T - 20, T)).gaps["last"]
    assert late.max() < 5 * last
    assert late[-1] < last


def test_last_iterates_that_do_not_and_the_average_of_one_that_does() -> None:
    assert _gaps(MWU(0.1), 2000) == (pytest.approx(0.371, abs=1e-3), pytest.approx(0.0118, abs=1e-4))
    for nesterov in (False, True):
        assert _gaps(Momentum(0.5, nesterov=nesterov), 2000)[0] > 0.79


def test_figures_of_biased_and_regularised_solvers() -> None:
    assert _gaps(NashMD(0.1, TAU), 3000)[0] == pytest.approx(0.154, abs=5e-4)
    assert _gaps(NashMD(1.0, TAU), 3000)[0] == pytest.approx(0.189, abs=5e-4)
    assert _gaps(OptimisticMWU(0.5), 2000)[0] == pytest.approx(8.5e-6, rel=0.02)


def test_momentum_leaves_the_nash_faster_than_multiplicative_weights() -> None:
    near = games.nash(COMAL).policy + torch.tensor([1e-4, -1e-4, 0.0])
    away = [
        games.solve(COMAL, s, 100, start=near).gaps["last"][-1] for s in (MWU(0.5), Momentum(0.5), Momentum(0.5, 0.6))
    ]
    assert away[0] < away[1] < away[2]


@pytest.mark.filterwarnings("ignore::nashward.games.StepWarning")
def test_iterated_best_response_cycles() -> None:
    """INPO at step 1 / tau keeps nothing of the iterate: each answers the one before, a, b, c, a, ..."""
    path = games.solve(COMAL, INPO(1 / TAU, TAU), 60, start=START, record=range(50, 60), keep_policies=True).policies
    late = path["last"]
    torch.testing.assert_close(late[3:], late[:-3], atol=1e-6, rtol=0)
    assert len(set(late.argmax(-1)[:3].tolist())) == 3
    assert games.duality_gap(COMAL, late).min() > 0.4


REGULARISED = [
    ExtraGradient(0.5, tau=TAU),
    MagneticMirrorDescent(0.4, TAU),
    INPO(0.3, TAU),
    NashEMA(0.1, TAU),
    HistoryMixture(0.1, TAU),
]


@pytest.mark.parametrize("solver", REGULARISED, ids=lambda s: type(s).__name__)
def test_regularised_last_iterates_solve_the_regularised_game(solver: games.Solver) -> None:
    """There the policy is its own best response, ref exp(P pi / tau); its gap in the game itself is .1501."""
    last = games.solve(COMAL, solver, iterations=3000, start=START).last
    response = (START.log() + COMAL.win_rate(last) / TAU).softmax(0)
    torch.testing.assert_close(response, last, atol=1e-8, rtol=0)
    assert float(games.duality_gap(COMAL, last)) == pytest.approx(0.1501, abs=5e-5)


@pytest.mark.parametrize(("tau", "gap"), [(0.1, 0.1501), (1.0, 0.4195)])
def test_the_regularised_nash_is_no_nash(tau: float, gap: float) -> None:
    last = games.solve(COMAL, ExtraGradient(0.5, tau), iterations=3000, start=START).last
    found = float(games.duality_gap(COMAL, last))
    assert found == pytest.approx(gap, abs=1e-4)
    assert found <= 2 * tau * float(-START.log().min() - games.kl_divergence(last, START))


def test_nash_md_is_biased_at_a_constant_step() -> None:
    right = games.solve(COMAL, ExtraGradient(0.5, TAU), iterations=3000, start=START).last
    found = []
    for step, kl in ((1.0, 2.3e-3), (0.1, 2.0e-5), (0.01, 2.0e-7)):
        last = games.solve(COMAL, NashMD(step, TAU), int(80 / step), start=right, reference=START).last
        found.append(float(games.kl_divergence(right, last)))
        assert found[-1] == pytest.approx(kl, rel=0.05)
    assert np.polyfit(np.log([1.0, 0.1, 0.01]), np.log(found), 1)[0] == pytest.approx(2, abs=0.1)


def test_nash_md_with_the_theorems_schedule_stays_below_its_bound() -> None:
    tau, T = 0.2, 1000
    right = games.solve(COMAL, ExtraGradient(0.5, tau), iterations=3000, start=START).last
    path = games.solve(COMAL, NashMD(schedule.harmonic(tau), tau), T, start=START, keep_policies=True)
    kl = games.kl_divergence(right, path.policies["last"])
    assert (kl <= 8 / (tau**2 * (path.iterations + 1))).all()
    assert float(kl[-1]) == pytest.approx(4.8e-7, rel=0.05)


@pytest.mark.parametrize("tau", [0.02, 0.1, 0.5])
@pytest.mark.parametrize("kind", [ExtraGradient, MagneticMirrorDescent, INPO])
def test_each_step_shrinks_kl_as_proven_up_to_the_proven_step(kind: type, tau: float) -> None:
    tables = torch.stack(
        [f(6, seed).P for f in (games.zoo.random_preferences, games.zoo.random_tournament) for seed in range(4)]
    )
    game, start = games.PreferenceGame(tables), np.random.default_rng(0).dirichlet(np.ones(6))
    step = kind(1.0, tau).step_limit(0.5, 1.0).step
    factor = 1 / (1 + step * tau) if kind is MagneticMirrorDescent else 1 - step * tau
    limit = games.solve(game, ExtraGradient(1 / (0.5 + tau), tau), 4000, start=start).last
    path = games.solve(game, kind(step, tau), 60, start=start, keep_policies=True).policies["last"]
    distance = games.kl_divergence(limit, path)
    assert ((distance[1:] <= factor * distance[:-1] * (1 + 1e-6)) | (distance[1:] < 1e-11)).all()


@pytest.mark.parametrize("tau", [0.1, 0.5])
def test_the_proximal_point_method_never_moves_away_from_the_nash(tau: float) -> None:
    start = torch.tensor([2.0, 0.0, -2.0], dtype=torch.float64).softmax(0)
    solver = ProximalPoint(0.3, tau, inner=int(60 / tau))
    path = games.solve(COMAL, solver, iterations=20, start=start, keep_policies=True).policies["last"]
    distance = games.kl_divergence(games.nash(COMAL).policy, path)
    assert (distance.diff() <= 1e-12).all()


def test_moving_the_magnet_is_what_reaches_the_nash() -> None:
    gaps = [_gaps(MagnetReset(0.4, TAU, every), 1000)[0] for every in (10, 50, 200)]
    assert gaps[0] == pytest.approx(0.156, abs=2e-3)
    assert gaps[1] < 1e-9
    assert gaps[2] == pytest.approx(7e-3, rel=0.2)


@pytest.mark.filterwarnings("ignore::nashward.games.StepWarning")
@pytest.mark.parametrize(
    "solver", [s for s, _ in BY_HAND if not isinstance(s, ExtraGradient)], ids=lambda s: repr(s)[:24]
)
def test_the_iterates_from_the_start_on_enter_the_average(solver: games.Solver) -> None:
    solution = games.solve(COMAL, solver, iterations=3, start=START, keep_policies=True)
    played = torch.stack([START, *solution.policies["last"][:2]])
    torch.testing.assert_close(solution.average, played.mean(0), atol=1e-15, rtol=0)


@pytest.mark.parametrize(
    "solver", [games.INPO(), games.MagneticMirrorDescent(), games.ProximalPoint(), games.MagnetReset()]
)
def test_a_step_limit_holds_for_payoffs_whose_squares_overflow(solver: games.Solver) -> None:
    huge = games.ConstantSumGame([[1e200, 0.0], [0.0, 1e200]], 0.0)
    with pytest.warns(games.StepWarning):
        solution = games.solve(huge, solver, iterations=2)
    assert solution.gaps["last"][-1] == 0.0


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: INPO(2.0, tau=1.0), "step \\* tau must be at most 1, got 2 \\* 1"),
        (lambda: NashMD(20.0), "step \\* tau must be at most 1"),
        (lambda: NashEMA(decay=1.0), "decay must be in \\[0, 1\\), got 1.0"),
        (lambda: Momentum(momentum=1.0), "momentum must be in \\[0, 1\\), got 1.0"),
        (lambda: ProximalPoint(inner=0), "inner must be a whole number >= 1, got 0"),
        (lambda: MagnetReset(every=0), "every must be a whole number >= 1, got 0"),
        (lambda: HistoryMixture(weights=(0.5, 0.4)), "weights must be at least 0 and sum to 1, got"),
        (lambda: games.solve(COMAL, INPO(lambda t: 20.0 / t)), "step \\* tau must be at most 1, got 20"),
        (
            lambda: games.solve(COMAL, MWU(), start=[0.5, 0.6, 0.1]),
            "probabilities that sum to 1, got \\[0.5, 0.6, 0.1\\]",
        ),
        (
            lambda: games.solve(COMAL, INPO(), reference=[0.5, 0.5, 0.0]),
            "probability 0 to an action that the start plays",
        ),
    ],
)
def test_bad_settings_are_refused_in_one_line(build: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        build()
    assert "\n" not in str(caught.value)


def test_a_policy_from_elsewhere_is_refused() -> None:
    class Stranger:
        def play(self, x: games.Policy, reference: games.Policy) -> Any:
            yield games.Step(x, games.Policy("a folder", "gpt-4-answers"), 1.0)

    with pytest.raises(ValueError, match="gpt-4-answers is not a policy"):
        games.solve(COMAL, Stranger(), iterations=1)
