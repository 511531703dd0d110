"""Thresholds of the step: exact ones from both sides, the third executor against the games, and the warnings."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch

from nashward import games, theory

TAU = 0.02
GAMES = {
    "rps": games.zoo.rock_paper_scissors(),
    "comal": games.zoo.comal_cycle(),
    "rpsls": games.zoo.rock_paper_scissors_lizard_spock(),
}


def _lam(game: games.PreferenceGame) -> float:
    return float(games.rotation_frequency(game, games.nash(game).policy))


@pytest.mark.parametrize(("name", "lam"), [("rps", 1 / (2 * math.sqrt(3))), ("comal", 0.20889), ("rpsls", 0.30777)])
def test_frequencies_of_known_games(name: str, lam: float) -> None:
    assert _lam(GAMES[name]) == pytest.approx(lam, abs=1e-5)
    nash = games.nash(GAMES[name]).policy
    by_hand = torch.linalg.eigvals(nash[:, None] * (GAMES[name].P - 0.5)).abs().max()
    assert _lam(GAMES[name]) == pytest.approx(float(by_hand), abs=1e-12)


def test_the_frequency_of_an_n_by_m_game_and_of_a_batch_and_its_bound() -> None:
    game = games.zoo.random_preferences(6, seed=3)
    both = games.ConstantSumGame(game.P)  # the same game as one of two players
    policy = torch.full((6,), 1 / 6).double()
    alone = games.rotation_frequency(game, policy)
    torch.testing.assert_close(games.rotation_frequency(both, (policy, policy)), alone, atol=1e-12, rtol=0)
    tables = torch.stack([games.zoo.random_tournament(6, seed).P for seed in range(50)])
    lam = games.rotation_frequency(games.PreferenceGame(tables), torch.full((50, 6), 1 / 6))
    assert lam.shape == (50,)
    assert lam.max() <= 1 / (2 * math.sqrt(2))


@dataclass(frozen=True)
class Case:
    make: Callable[[float], games.Solver]
    formula: Callable[[float], float] | None = None
    first: float = 1e-2
    steps: int = 1  # the number of Steps after which it repeats


CASES = {
    "optimistic": Case(games.OptimisticMWU, lambda lam: 1 / (math.sqrt(3) * lam)),
    "two sequences": Case(lambda s: games.OptimisticMWU(s, two_sequences=True), lambda lam: 1 / (math.sqrt(3) * lam)),
    "extragradient": Case(games.ExtraGradient, lambda lam: 1 / lam),
    "egpo": Case(lambda s: games.ExtraGradient(s, TAU)),
    "mmd": Case(lambda s: games.MagneticMirrorDescent(s, TAU), lambda lam: 2 * TAU / (lam**2 - TAU**2)),
    "inpo": Case(lambda s: games.INPO(s, TAU), lambda lam: 2 * TAU / (lam**2 + TAU**2)),
    "nash-md": Case(lambda s: games.NashMD(s, TAU)),
    "nash-ema": Case(lambda s: games.NashEMA(s, TAU, decay=0.5)),
    "history": Case(lambda s: games.HistoryMixture(s, TAU)),
    "proximal point": Case(lambda s: games.ProximalPoint(s, 0.1, inner=20), first=1.0),
    "magnet reset": Case(lambda s: games.MagnetReset(s, 0.1, every=20), first=1.0, steps=20),
}


@pytest.mark.parametrize(
    ("game", "name"), [("comal", name) for name in CASES] + [("rpsls", name) for name, c in CASES.items() if c.formula]
)
@pytest.mark.filterwarnings("ignore::nashward.games.StepWarning")
def test_from_both_sides(name: str, game: str) -> None:
    """From 1e-4 off the Nash, which is also the reference, KL shrinks at .97 of the threshold and grows at 1.03;
    with a single frequency by the square of the local factor. Where there is a formula, the threshold is it."""
    case, lam = CASES[name], _lam(GAMES[game])
    settled = 20 * case.steps if case.first == 1.0 else 200
    threshold = theory.stable_below(case.make, lam, settled, case.first)
    if case.formula is not None:
        assert threshold == pytest.approx(case.formula(lam), rel=1e-6)
    nash = games.nash(GAMES[game]).policy
    noise = torch.randn(len(nash), generator=torch.Generator().manual_seed(1)).double()
    start = (nash.log() + 1e-4 * noise).softmax(0)
    for share in (0.97, 1.03):
        solver = case.make(share * threshold)
        factor = theory.local_factor(solver, lam, settled)
        T = case.steps * math.ceil(min(500, abs(math.log(100) / math.log(factor) / 2)) / case.steps)
        record = [T, 2 * T]
        path = games.solve(GAMES[game], solver, 2 * T, start=start, reference=nash, record=record, keep_policies=True)
        early, late = games.kl_divergence(nash, path.policies["last"])
        assert (early < late) == (share > 1), (share, factor)
        if game == "comal":
            assert float(late / early) ** (1 / T) == pytest.approx(factor**2, rel=0.01 + 1 / T)


def test_multiplicative_weights_and_momentum_are_stable_at_no_step() -> None:
    lam = _lam(GAMES["comal"])
    for make in (games.MWU, games.Momentum, lambda s: games.Momentum(s, nesterov=True)):
        assert theory.stable_below(make, lam) == 0
    assert theory.local_factor(games.MWU(0.7), lam) == pytest.approx(math.sqrt(1 + (0.7 * lam) ** 2), rel=1e-12)
    grown = 1 + (0.05 * lam) ** 2 * 1.3 / (2 * 0.7**3)
    assert theory.local_factor(games.Momentum(0.05, 0.3), lam, 1000) == pytest.approx(grown, rel=1e-6)


def test_a_magnet_that_moves_too_early_or_steps_that_are_too_small_leave_the_nash() -> None:
    lam = _lam(GAMES["comal"])
    assert theory.local_factor(games.MagnetReset(0.4, 0.1, every=1), lam, 300) > 1
    assert theory.local_factor(games.MagnetReset(0.4, 0.1, every=50), lam, 300) < 1
    assert theory.local_factor(games.ProximalPoint(0.05, 0.1, inner=20), lam, 20) > 1


def test_too_few_steps_to_a_reference_are_told_exactly_where_they_leave_the_nash() -> None:
    """inner^2 step tau = 2.92, 3.69 and 2.34 on COMAL's cycle."""
    lam, start = _lam(GAMES["comal"]), [0.665, 0.245, 0.090]
    for inner, step, told in ((8, 0.38, True), (10, 0.38, False), (15, 0.1, True), (18, 0.1, False)):
        assert (theory.local_factor(games.ProximalPoint(step, 0.1, inner), lam, 60) > 1) == told
        reset = games.MagnetReset(step / (1 - step * 0.1), 0.1, every=inner)  # the same policies
        for solver in (games.ProximalPoint(step, 0.1, inner), reset):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                games.solve(GAMES["comal"], solver, 2, start=start)
                games.solve(games.zoo.condorcet_winner(), solver, 2)  # a pure Nash: nothing to leave
            assert [str(one.message).split(" =")[0].split(": ")[-1] for one in caught] == (
                [{"ProximalPoint": "inner", "MagnetReset": "every"}[type(solver).__name__]] if told else []
            )


@pytest.mark.parametrize(
    ("solver", "text"),
    [
        (
            games.OptimisticMWU(2.8),
            "the step 2.8 of OptimisticMWU is above 2.76385 = 1 / \\(sqrt\\(3\\) lam\\): beyond it",
        ),
        (games.ExtraGradient(4.8), "the step 4.8 of ExtraGradient is above 4.78714 = 1 / lam"),
        (games.ExtraGradient(1.7, tau=0.1), "above 1.66667 = 1 / \\(L \\+ tau\\): up to it"),
        (games.MagneticMirrorDescent(0.41, 0.1), "above 0.4 = tau / L\\^2"),
        (games.INPO(0.39, 0.1), "above 0.384615 = tau / \\(L\\^2 \\+ tau\\^2\\)"),
        (games.ProximalPoint(0.39, 0.1), "above 0.384615 = tau / \\(L\\^2 \\+ tau\\^2\\)"),
        (games.MagnetReset(0.41, 0.1), "above 0.4 = tau / L\\^2"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_step_beyond_its_threshold_is_told(solver: games.Solver, text: str) -> None:
    with pytest.warns(games.StepWarning, match=text) as told:
        games.solve(GAMES["comal"], solver, iterations=1)
    assert len(told) == 1
    assert "\n" not in str(told[0].message)
    assert told[0].filename == __file__


def test_nothing_is_told_below_or_where_nothing_is_known() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for solver in (
            games.OptimisticMWU(2.76), games.ExtraGradient(4.78), games.ExtraGradient(1.66, tau=0.1), games.MWU(30.0),
            games.MagneticMirrorDescent(0.4, 0.1), games.MagneticMirrorDescent(5.0, 0.0), games.INPO(3.0, 0.0),
            games.OptimisticMWU(lambda t: 30.0 / t), *(kind() for kind in games.solvers.SOLVERS),
        ):  # fmt: skip
            games.solve(GAMES["comal"], solver, iterations=1)
        games.solve(games.zoo.condorcet_winner(), games.OptimisticMWU(50.0), iterations=1)  # a pure Nash: no rotation
        games.solve(games.PreferenceGame(torch.full((3, 3), 0.5)), games.ExtraGradient(50.0), 1)
        twice = torch.tensor([0, 0, 1, 2])  # rock twice: it is not known which of the many equilibria is reached
        games.solve(games.PreferenceGame(GAMES["rps"].P[twice][:, twice]), games.ExtraGradient(50.0), 1)
        flat = games.ConstantSumGame([[1.0, 1.0], [1.0, 1.0]])
        games.solve(flat, games.MagneticMirrorDescent(50.0, 0.1), 1)  # nothing to win: any step will do


def test_in_an_n_by_m_game_the_payoffs_scale_counts() -> None:
    game = games.ConstantSumGame([[3.0, -1.0], [-1.0, 1.0]], total=0.0)  # L = 2
    with pytest.warns(games.StepWarning, match="above 0.025 = tau / L"):
        games.solve(game, games.MagneticMirrorDescent(0.026, 0.1), iterations=1)
    nash = games.nash(game).policy
    exact = 1 / float(games.rotation_frequency(game, nash))
    start = ([0.34, 0.66], [0.34, 0.66])
    for share, converges in ((0.97, True), (1.03, False)):
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            gaps = games.solve(game, games.ExtraGradient(share * exact), 400, start=start).gaps["last"]
        assert bool(told) == (not converges)
        assert (gaps[-1] < 1e-6) == converges
