"""The table of theorems: numbered checks, each a few lines that name the theorem, the game and the solver."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from nashward import games
from nashward.errors import NashwardError
from nashward.games import PreferenceGame, zoo

from .estimators import KSamples, OracleError, ScoresLoseCycles
from .likelihood import LogPartition, MeanWinRate, OrderedLogPartition, PairLoss
from .mwu_average import MWUAverage, MWULeaves, SPPOTheorem, complexity
from .objectives import EntropicAscent, FloorsAverage, LexicographicWeights
from .optimistic import OptimisticAverage, PublishedRootFails
from .regularised import (
    Contraction,
    ExactProximalPoint,
    FixedMagnet,
    MagneticIsINPO,
    MovingMagnet,
    NashMDBias,
    NashMDRate,
    ProximalMonotone,
    RegularisedGap,
)
from .step_threshold import LocalThreshold
from .table_solvers import (
    FictitiousPlayRate,
    GradientAverage,
    OptimisticGradientAverage,
    RegretMatchingAverage,
    ReplicatorInvariant,
)
from .verification import Check

START = torch.tensor([1.0, 0.0, -1.0], dtype=torch.float64).softmax(0)
FIRST = [1.0, 0.0, 0.0]


@dataclass(frozen=True)
class Row:
    """One line of the table: the theorem, the game and the result.

    Attributes:
        number: the check's number.
        statement: the theorem's statement.
        case: the game and the settings, in words.
        check: the result.

    Example:
        >>> row = next(table(quick=True, numbers=("20",)))
        >>> row.statement, row.case, row.check.holds
        ('E P(y > pi) = 1/2 over y from pi', 'comal_cycle', True)
    """

    number: str
    statement: str
    case: str
    check: Check


Case = tuple[Any, str, Check]  # the theorem, the game and the settings in words, the result
CHECKS: dict[str, Callable[[bool], Iterator[Case]]] = {}
"""The numbered checks: (quick) -> theorem, case and result."""


def _numbered(number: str) -> Callable[[Callable[[bool], Iterator[Case]]], Callable[[bool], Iterator[Case]]]:
    def register(function: Callable[[bool], Iterator[Case]]) -> Callable[[bool], Iterator[Case]]:
        CHECKS[number] = function
        return function

    return register


def table(quick: bool = False, numbers: tuple[str, ...] = ()) -> Iterator[Row]:
    """Run the numbered checks one by one.

    Args:
        quick: fewer and smaller games, shorter runs; the same statements.
        numbers: only these (all when empty).

    Returns:
        An iterator over the rows; each is computed on demand.

    Raises:
        ValueError: a number that does not exist.

    Example:
        >>> [(row.case, row.check.holds) for row in table(quick=True, numbers=("20",))]
        [('comal_cycle', True), ('mujoco_soccer', True)]
    """
    for number in numbers:
        if number not in CHECKS:
            raise NashwardError(f"there is no check {number}; there are {', '.join(CHECKS)}")
    for number in numbers or CHECKS:
        for theorem, case, check in CHECKS[number](quick):
            yield Row(number, theorem.statement, case, check)


def _sizes(quick: bool) -> list[int]:
    return [2, 5, 12] if quick else [2, 3, 5, 8, 12, 20, 39]


def mixed(n: int, seeds: int) -> PreferenceGame:
    """A batch of random games, tournaments and the Condorcet game, each with n actions."""
    tables = [f(n, seed).P for f in (zoo.random_preferences, zoo.random_tournament) for seed in range(seeds)]
    return PreferenceGame(torch.stack([*tables, zoo.condorcet_winner(n).P]))


@_numbered("1")
def _mwu_average(quick: bool) -> Iterator[Case]:
    for step in (0.05, 0.4, 3.0):
        for n in _sizes(quick):
            theorem, solver = MWUAverage(step, math.log(n)), games.MWU(step)
            yield theorem, f"n = {n}, step {step}", theorem.check(mixed(n, 4), solver, 200)
    start = np.random.default_rng(0).dirichlet(np.ones(8))
    theorem = MWUAverage.best(400, complexity(start))
    case = f"n = 8, a random start, its best step {theorem.step:.2g}"
    yield theorem, case, theorem.check(mixed(8, 4), games.MWU(theorem.step), 400, start)
    paper = SPPOTheorem.best(400, complexity(start))
    case = f"n = 8, the same start, step {paper.step:.2g}"
    yield paper, case, paper.check(mixed(8, 4), games.MWU(paper.step), 400, start)
    large = SPPOTheorem(1e3, math.log(8))
    verdict = "vacuous" if large.is_vacuous(3) else "informative"
    yield large, f"n = 8, the paper's own step 1000 and T = 3: {verdict}", large.check(mixed(8, 4), games.MWU(1e3), 3)


@_numbered("2")
def _mwu_leaves(quick: bool) -> Iterator[Case]:
    for name, T in (("rock_paper_scissors", 300 if quick else 3000), ("comal_cycle", 300)):
        game = zoo.get(name)
        theorem = MWULeaves(games.nash(game).policy)
        yield theorem, f"{name}, step 0.1", theorem.check(game, games.MWU(0.1), T, START)


@_numbered("3")
def _optimistic_average(quick: bool) -> Iterator[Case]:
    for n in _sizes(quick):
        theorem, solver = OptimisticAverage(n), games.OptimisticMWU(0.5, two_sequences=True)
        yield theorem, f"n = {n}, step 1/2", theorem.check(mixed(n, 4), solver, 100 if quick else 400)


def _condorcet(n: int) -> games.LowRankGame:
    winner = torch.zeros(n, 1, dtype=torch.float64)
    winner[0] = 1.0
    return games.LowRankGame(winner, (1 - winner) / 2)


@_numbered("3b")
def _published_root(quick: bool) -> Iterator[Case]:
    for n, T in ((10, 200), (1000, 400), *(() if quick else ((1_000_000, 400),))):
        theorem, solver = PublishedRootFails(n), games.OptimisticMWU(0.5, two_sequences=True)
        yield theorem, f"Condorcet game, n = {n:,}", theorem.check(_condorcet(n), solver, T)


@_numbered("4")
def _thresholds(quick: bool) -> Iterator[Case]:
    tau = 0.02
    kinds: list[tuple[LocalThreshold, Callable[[float], Any]]] = [
        (LocalThreshold.optimistic(), games.OptimisticMWU),
        (LocalThreshold.extragradient(), games.ExtraGradient),
        (LocalThreshold.magnetic(tau), lambda step: games.MagneticMirrorDescent(step, tau)),
    ]
    for name in ("rock_paper_scissors", "comal_cycle", "rock_paper_scissors_lizard_spock"):
        game = zoo.get(name)
        lam = float(games.rotation_frequency(game, games.nash(game).policy))
        for theorem, make in kinds:
            limit = theorem.value(lam)
            for share in (0.97, 1.03):
                solver = make(share * limit)
                check = theorem.check(game, solver)
                case = f"{name}, {type(solver).__name__}, step {share} x {limit:.4f}"
                yield theorem, case if share < 1 else f"{case}: leaves", check if share < 1 else check.reversed()


@_numbered("5")
def _magnetic_contraction(quick: bool) -> Iterator[Case]:
    yield from _contractions(Contraction.magnetic, games.MagneticMirrorDescent, quick)
    yield from _contractions(Contraction.inpo, games.INPO, quick)


def _contractions(
    build: Callable[[float, float], Contraction], make: Callable[..., Any], quick: bool
) -> Iterator[Case]:
    start = np.random.default_rng(0).dirichlet(np.ones(6))
    for tau in (0.1,) if quick else (0.02, 0.1, 0.5):
        largest = build(1.0, tau).largest
        theorem, solver = build(largest, tau), make(largest, tau=tau)
        case = f"n = 6, {type(solver).__name__}, tau {tau}, step {largest:.4g}"
        yield theorem, case, theorem.check(mixed(6, 4 if quick else 15), solver, 60, start)


@_numbered("6")
def _magnetic_is_inpo(quick: bool) -> Iterator[Case]:
    start = np.random.default_rng(2).dirichlet(np.ones(6))
    for step, tau in ((0.4, 0.1), (1.5, 0.5), (0.05, 0.02)):
        theorem = MagneticIsINPO(tau)
        check = theorem.check(zoo.random_preferences(6, 1), games.MagneticMirrorDescent(step, tau), 200, start)
        yield theorem, f"n = 6, tau {tau}, step {step}", check


@_numbered("7")
def _extragradient_contraction(quick: bool) -> Iterator[Case]:
    yield from _contractions(Contraction.extragradient, games.ExtraGradient, quick)


@_numbered("8")
def _nash_md(quick: bool) -> Iterator[Case]:
    tau, T = 0.2, 300 if quick else 1000
    theorem, solver, game = NashMDRate(tau), games.NashMD(games.schedule.harmonic(tau), tau), zoo.comal_cycle()
    yield theorem, f"comal_cycle, tau {tau}, harmonic steps", theorem.check(game, solver, T, START)
    yield theorem, f"comal_cycle, tau {tau}, the recursion", theorem.check_recursion(game, solver, T, START)


@_numbered("8b")
def _nash_md_bias(quick: bool) -> Iterator[Case]:
    theorem, game = NashMDBias(0.1), zoo.comal_cycle()
    for step in (0.1,) if quick else (0.1, 0.01):
        yield theorem, f"comal_cycle, tau 0.1, step {step}", theorem.check(game, games.NashMD(step, 0.1), 0, START)


@_numbered("9")
def _proximal(quick: bool) -> Iterator[Case]:
    game, start = zoo.comal_cycle(), torch.tensor([2.0, 0.0, -2.0], dtype=torch.float64).softmax(0)
    theorem = ProximalMonotone(games.nash(game).policy)
    for tau in (0.02, 0.1, 0.5):
        check = theorem.check(game, ExactProximalPoint(game, tau), 10 if quick else 60, start)
        yield theorem, f"comal_cycle, tau {tau}, exact inner solves", check


@_numbered("10")
def _magnets(quick: bool) -> Iterator[Case]:
    game, fixed, moving = zoo.comal_cycle(), FixedMagnet(0.1), MovingMagnet()
    check = fixed.check(game, games.MagneticMirrorDescent(0.4, 0.1), 1000, START)
    yield fixed, "comal_cycle, tau 0.1, step 0.4", check
    yield moving, "comal_cycle, moved every 50", moving.check(game, games.MagnetReset(0.4, 0.1, 50), 1000, START)


@_numbered("11")
def _regret_matching(quick: bool) -> Iterator[Case]:
    for kind in (games.RegretMatching, games.RegretMatchingPlus, games.PredictiveRegretMatchingPlus):
        for n in (5,) if quick else _sizes(quick):
            theorem = RegretMatchingAverage(n)
            yield theorem, f"n = {n}, {kind.__name__}", theorem.check(mixed(n, 4), kind(), 200)


@_numbered("12")
def _fictitious_play(quick: bool) -> Iterator[Case]:
    T = 1000 if quick else 10_000
    for name, constant, within in (("rock_paper_scissors", 2 / 3, 0.04), ("comal_cycle", 0.43, 0.06)):
        theorem = FictitiousPlayRate(constant, within)
        yield theorem, name, theorem.check(zoo.get(name), games.FictitiousPlay(), T, FIRST)


@_numbered("13")
def _replicator(quick: bool) -> Iterator[Case]:
    game = zoo.comal_cycle()
    theorem, T = ReplicatorInvariant(games.nash(game).policy), 1000 if quick else 20_000
    yield theorem, f"comal_cycle, Runge-Kutta, time {T / 100:g}", theorem.check(game, games.Replicator(0.01), T, START)


@_numbered("13b")
def _gradient(quick: bool) -> Iterator[Case]:
    for n in (5,) if quick else _sizes(quick):
        theorem = GradientAverage(0.1, n)
        yield theorem, f"n = {n}, step 0.1", theorem.check(mixed(n, 4), games.GDA(0.1), 200)
    theorem = GradientAverage(0.02, 3)
    yield theorem, "comal_cycle, step 0.02", theorem.check(zoo.comal_cycle(), games.GDA(0.02), 2000, START)


@_numbered("13c")
def _optimistic_gradient(quick: bool) -> Iterator[Case]:
    for n in (5,) if quick else _sizes(quick):
        theorem = OptimisticGradientAverage(0.7 / n, n)  # the norm is at most n / 2
        yield theorem, f"n = {n}, step 0.7 / n", theorem.check(mixed(n, 4), games.OptimisticGDA(0.7 / n), 400)
    theorem = OptimisticGradientAverage(0.5, 3)
    yield theorem, "comal_cycle, step 1/2", theorem.check(zoo.comal_cycle(), games.OptimisticGDA(0.5), 1000, START)


@_numbered("14")
def _log_partition(quick: bool) -> Iterator[Case]:
    for step in (0.1, 0.3):
        theorem = LogPartition(step)
        for name in ("comal_cycle", "random_preferences"):
            yield theorem, f"{name}, step {step}", theorem.check(zoo.get(name), games.MWU(step), 20)


@_numbered("14b")
def _ordered(quick: bool) -> Iterator[Case]:
    n = 4000 if quick else 100_000
    for step in (1.0, 10.0, 100.0, 1000.0):
        theorem = OrderedLogPartition(step)
        yield theorem, f"n = {n:,}, step {step:g}", theorem.check(_ordered_game(n))


def _ordered_game(n: int) -> games.ImplicitGame:
    """i beats j with probability 1 where i > j, without the table."""

    def win_rate(policy: torch.Tensor) -> torch.Tensor:
        below = policy.cumsum(-1)
        return below - policy / 2

    return games.ImplicitGame(win_rate, n)


@_numbered("15")
def _pair_loss(quick: bool) -> Iterator[Case]:
    start = np.random.default_rng(3).dirichlet(np.ones(10))
    for step in (0.5, 5.0):
        theorem = PairLoss(step)
        check = theorem.check(zoo.random_preferences(), games.MWU(step), 1, start)
        yield theorem, f"random_preferences, step {step}", check


@_numbered("16")
def _self_comparison(quick: bool) -> Iterator[Case]:
    theorem, game = KSamples(5, self_comparison=True), zoo.comal_cycle()
    yield theorem, "comal_cycle, K = 5: the share 0.8, draw by draw", theorem.check_share(game, START)
    rounds = 2000 if quick else 20_000
    for itself in (False, True):
        theorem = KSamples(5, itself)
        check = theorem.check(game, games.feedback.SampledFeedback(5, 1, itself), START, rounds)
        yield theorem, f"comal_cycle, K = 5, {'with' if itself else 'without'} itself, {rounds} draws", check


@_numbered("17")
def _scores(quick: bool) -> Iterator[Case]:
    theorem, P = ScoresLoseCycles(2.0), zoo.comal_cycle().P
    yield theorem, "comal_cycle", theorem.check((P / (1 - P)).log(), [0.0, 0.0, 1.0])
    rps = 2 * zoo.rock_paper_scissors().P - 1
    yield theorem, "rock_paper_scissors", theorem.check(rps, [1 / 3, 1 / 3, 1 / 3])


@_numbered("18")
def _regularised_gap(quick: bool) -> Iterator[Case]:
    start = np.random.default_rng(1).dirichlet(np.ones(6))
    for tau in (0.1, 1.0) if quick else (0.03, 0.1, 0.3, 1.0):
        theorem, solver = RegularisedGap(tau), games.ExtraGradient(1 / (0.5 + tau), tau)
        for name, first in (("uniform", None), ("random", start)):
            yield theorem, f"n = 6, tau {tau}, {name} reference", theorem.check(mixed(6, 15), solver, 1500, first)


@_numbered("19")
def _regularised_gap_figures(quick: bool) -> Iterator[Case]:
    for tau, figure in ((0.1, 0.1501), (1.0, 0.4195)):
        theorem = FixedMagnet(tau)
        check = theorem.check(zoo.comal_cycle(), games.ExtraGradient(0.5, tau), 1000, START)
        yield theorem, f"comal_cycle, tau {tau}: {figure}", check


@_numbered("20")
def _mean_win_rate(quick: bool) -> Iterator[Case]:
    theorem = MeanWinRate()
    for name in ("comal_cycle", "mujoco_soccer"):
        yield theorem, name, theorem.check(zoo.get(name), games.MWU(0.5))


def several(n: int, seed: int, m: int = 2) -> games.MultiObjectiveGame:
    """Random objectives over n actions."""
    return games.MultiObjectiveGame(torch.stack([zoo.random_preferences(n, 100 * seed + k).P for k in range(m)]))


@_numbered("21")
def _entropic_worst_case(quick: bool) -> Iterator[Case]:
    for n in (3, 6) if quick else (2, 3, 6, 12):
        for tau in (0.02, 0.2):
            game = games.objectives.EntropicGame(several(n, n, 3), tau=tau)
            for step in (4 * tau, tau):
                theorem = EntropicAscent.of(game, step=step)
                yield theorem, f"n = {n}, tau {tau}, step {step:g}", theorem.check(game, games.MWU(step))


@_numbered("22")
def _floors(quick: bool) -> Iterator[Case]:
    for n in (3, 6) if quick else (2, 3, 6, 12):
        reference = np.random.default_rng(n).dirichlet(np.ones(n))
        game, floors = several(n, n, 3), {"1": 0.45, "2": 0.45}
        for limit in (1.0, 4.0):
            played = games.objectives.FloorsGame(game, floors, reference, limit)
            for step in (0.02, 0.2):
                theorem = FloorsAverage(step, limit, len(floors), math.log(n))
                yield theorem, f"n = {n}, limit {limit:g}, step {step}", theorem.check(played, games.MWU(step))


@_numbered("23")
def _lexicographic_weights(quick: bool) -> Iterator[Case]:
    twice = torch.kron(zoo.rock_paper_scissors().P, torch.ones(2, 2, dtype=torch.float64))  # every action has a twin
    for seed in range(2 if quick else 6):
        for epsilon in (0.5, 0.01):
            theorem = LexicographicWeights(epsilon)
            game = games.MultiObjectiveGame(torch.stack([twice, zoo.random_preferences(6, seed).P]))
            yield theorem, f"rock-paper-scissors with twins, epsilon {epsilon}", theorem.check(game)


@_numbered("oracle")
def _oracle_error(quick: bool) -> Iterator[Case]:
    rng = np.random.default_rng(4)
    for name in ("mujoco_soccer", "random_preferences"):
        game = zoo.get(name)
        for size in (0.02, 0.1):
            noise = np.triu(rng.uniform(-size, size, game.P.shape), 1)
            judged = PreferenceGame((game.P.numpy() + noise - noise.T).clip(0, 1))
            theorem = OracleError.between(game, judged)
            yield theorem, f"{name}, errors up to {theorem.error:.3f}", theorem.check(game, judged)
