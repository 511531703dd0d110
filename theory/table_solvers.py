"""Theorems about solvers of tables only: regret matching, fictitious play, the replicator, gradient descent-ascent."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch

from nashward import games
from nashward.errors import NashwardError
from nashward.games.shapes import Float
from nashward.shortened import quoted

from .verification import Check, Settings, check_average, check_covered, iteration_numbers, solve_quietly


@dataclass(frozen=True)
class RegretMatchingAverage(Settings):
    """The uniform average of regret matching (and of RM+ and PRM+).

    .. math::  gap(\\bar\\pi_T) \\le 2 \\sqrt{(n - 1) / T}

    Why: the squared norm of the regrets' positive parts grows by at most n - 1 per step (Blackwell).

    Args:
        n: the number of actions.

    Source: Hart & Mas-Colell 2000.

    Example:
        >>> RegretMatchingAverage(n=3).check(games.zoo.comal_cycle(), games.RegretMatching(), 200).holds
        True
    """

    statement: ClassVar[str] = "regret matching, average: gap <= 2 sqrt((n - 1) / T)"
    source: ClassVar[str] = "Hart & Mas-Colell 2000"

    n: int

    @np.errstate(divide="ignore")  # after no iteration the bound is infinite
    def value(self, iterations: Any) -> Any:
        """The bound after T iterations; T may be an array."""
        return 2 * np.sqrt((self.n - 1) / iteration_numbers(iterations))

    def check(self, game: Any, solver: Any, iterations: int = 1000, start: Any = None) -> Check:
        """The gap of the uniform average against the bound."""
        kinds = games.RegretMatching, games.RegretMatchingPlus, games.PredictiveRegretMatchingPlus
        check_covered(game, solver, *kinds, n=self.n)
        return check_average(self.value, game, solver, iterations, start)


@dataclass(frozen=True)
class FictitiousPlayRate(Settings):
    """Fictitious play's gap times sqrt(T), from the first action, ties to the first: a measured rate, not a theorem.

    Robinson 1951 proves convergence without such a rate, and with adversarial ties there is none.

    Args:
        constant: the gap times sqrt(T); 2 / 3 on rock-paper-scissors, about 0.43 on COMAL's cycle.
        within: the largest deviation from the constant.

    Source: measured; Robinson 1951 for the limit.

    Example:
        >>> theorem, start = FictitiousPlayRate(2 / 3), [1.0, 0.0, 0.0]
        >>> theorem.check(games.zoo.rock_paper_scissors(), games.FictitiousPlay(), 1000, start).holds
        True
    """

    statement: ClassVar[str] = "fictitious play: gap sqrt(T) stays at a constant"
    source: ClassVar[str] = "measured; Robinson 1951"

    constant: float
    within: float = 0.04

    @np.errstate(divide="ignore")  # after no iteration the bound is infinite
    def value(self, iterations: Any) -> Any:
        """The gap after T iterations; T may be an array."""
        return self.constant / np.sqrt(iteration_numbers(iterations))

    def check(self, game: Any, solver: Any, iterations: int = 10_000, start: Any = None) -> Check:
        """gap sqrt(T) at T = 100, 1000, ... against the constant."""
        check_covered(game, solver, games.FictitiousPlay)
        T = [10**k for k in range(2, 7) if 10**k <= iterations]
        gaps = solve_quietly(game, solver, iterations, start, record=T).gaps["average"][: len(T)]
        measured = gaps * torch.tensor(T).sqrt()
        return Check.of(T, [self.constant] * len(T), measured, equal=True, tolerance=0.0, rounding=self.within)


@dataclass(frozen=True)
class ReplicatorInvariant(Settings):
    """The replicator conserves sum_y nash_y log pi_y for an interior Nash, so it cycles around the Nash for ever.

    .. math::  \\frac{d}{dt} \\sum_y \\pi^*_y \\log \\pi_y = \\pi^{*\\top} A \\pi = 0

    Args:
        nash: [n], an interior equilibrium.

    Raises:
        ValueError: an equilibrium of several games, or one that does not play every action.

    Source: Zeeman 1980; Hofbauer & Sigmund 1998, section 11.2.

    Example:
        >>> nash = games.nash(games.zoo.rock_paper_scissors()).policy
        >>> theorem = ReplicatorInvariant(nash)
        >>> theorem.check(games.zoo.rock_paper_scissors(), games.Replicator(0.01), 100, [0.5, 0.25, 0.25]).holds
        True
    """

    statement: ClassVar[str] = "replicator: sum nash log pi is conserved (interior Nash)"
    source: ClassVar[str] = "Hofbauer & Sigmund 1998, section 11.2"

    nash: Float[torch.Tensor, " n"]

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nash.ndim != 1 or not (self.nash > 0).all():
            raise NashwardError(
                f"ReplicatorInvariant: nash is {quoted(self.nash.tolist(), 40)}; expected a Nash of one game that "
                "plays every action: [n] probabilities above 0"
            )

    def value(self, start: Any) -> float:
        """The invariant at the start."""
        return float(torch.as_tensor(start, dtype=torch.float64).log() @ self.nash)

    def check(self, game: Any, solver: Any, iterations: int = 1000, start: Any = None) -> Check:
        """The invariant along the path against its value at the start."""
        check_covered(game, solver, games.Replicator, n=len(self.nash))
        first = torch.full_like(self.nash, 1 / len(self.nash)) if start is None else start
        path = solve_quietly(game, solver, iterations, start, keep_policies=True)
        invariant = path.policies["last"].log() @ self.nash
        expected = np.full(invariant.shape, self.value(first))
        return Check.of(path.iterations, expected, invariant, equal=True, tolerance=0.0, rounding=1e-10)


def _reach(n: int, start: Any) -> float:
    """D^2 = max_y |e_y - pi_1|^2, the squared distance from the start to the farthest action."""
    first = np.full(n, 1 / n) if start is None else np.asarray(start, dtype=np.float64)
    return float(1 + (first**2).sum() - 2 * first.min())


def _norm(game: Any) -> float:
    """The spectral norm of the centred payoffs; for a batch the largest."""
    return float(torch.linalg.matrix_norm(game.P.to(torch.float64) - 0.5, 2).max())


@dataclass(frozen=True)
class GradientAverage(Settings):
    """The average of gradient descent-ascent at a constant step, in a preference game.

    .. math::
        gap(\\bar\\pi_T) \\le \\frac{D^2}{step\\,T} + step\\,\\frac n4, \\qquad D^2 = \\max_y |e_y - \\pi_1|^2

    where D^2 is 1 - 1/n from the uniform policy. Why: a projection moves no two points apart, so the regret is at most
    ``D^2 / (2 step) + step / 2 sum_t |g_t|^2``. A constant in g_t changes no projection; with 1/2 subtracted,
    ``|g_t|^2 <= n / 4``. The gap is twice the regret over T.

    Args:
        step: the step size.
        n: the number of actions.

    Source: Zinkevich 2003, theorem 1, with the constants of these payoffs.

    Example:
        >>> theorem = GradientAverage(step=0.1, n=3)
        >>> theorem.check(games.zoo.comal_cycle(), games.GDA(0.1), 300).holds, round(float(theorem.value(100)), 4)
        (True, 0.1417)
    """

    statement: ClassVar[str] = "gradient descent-ascent, average: gap <= D^2 / (step T) + step n / 4"
    source: ClassVar[str] = "Zinkevich 2003"

    step: float
    n: int

    @np.errstate(divide="ignore")  # after no iteration the bound is infinite
    def value(self, iterations: Any, start: Any = None) -> Any:
        """The bound after T iterations from the start; T may be an array."""
        return _reach(self.n, start) / (self.step * iteration_numbers(iterations)) + self.step * self.n / 4

    def check(self, game: Any, solver: Any, iterations: int = 1000, start: Any = None) -> Check:
        """The gap of the average against the bound."""
        check_covered(game, solver, games.GDA, n=self.n, step=self.step)
        return check_average(lambda T: self.value(T, start), game, solver, iterations, start)


@dataclass(frozen=True)
class OptimisticGradientAverage(Settings):
    """The average of optimistic gradient descent-ascent: 1 / T at a constant step.

    .. math::
        gap(\\bar\\pi_T) \\le \\frac{1}{T} \\left( \\frac{D^2}{step} + step\\,\\frac n2 \\right)
        \\qquad for \\quad step \\le \\frac{1}{2 \\sqrt 2\\,|P - 1/2|}

    Why: the regret is at most ``D^2 / (2 step) + step sum_t |g_t - g_{t-1}|^2 - sum_t |pi_{t+1} - pi_t|^2 / (8 step)``
    with g_0 = 0; of this only the term of g_1, with ``|g_1|^2 <= n / 4``, is not cancelled by the last sum.

    Args:
        step: the step size.
        n: the number of actions.

    Source: Rakhlin & Sridharan 2013; Syrgkanis, Agarwal, Luo & Schapire 2015, with these constants derived.

    Example:
        >>> theorem = OptimisticGradientAverage(step=0.3, n=3)
        >>> game = games.zoo.comal_cycle()
        >>> theorem.applies(game), theorem.check(game, games.OptimisticGDA(0.3), 300).holds
        (True, True)
    """

    statement: ClassVar[str] = "optimistic gradient, average: gap <= (D^2 / step + step n / 2) / T"
    source: ClassVar[str] = "Rakhlin & Sridharan 2013; Syrgkanis et al. 2015"

    step: float
    n: int

    def applies(self, game: Any) -> bool:
        """Whether the step is small enough for this game, or for every game of a batch."""
        return bool(self.step * _norm(game) <= 1 / np.sqrt(8))

    @np.errstate(divide="ignore")  # after no iteration the bound is infinite
    def value(self, iterations: Any, start: Any = None) -> Any:
        """The bound after T iterations from the start; T may be an array."""
        constant = _reach(self.n, start) / self.step + self.step * self.n / 2
        return constant / iteration_numbers(iterations)

    def check(self, game: Any, solver: Any, iterations: int = 1000, start: Any = None) -> Check:
        """The gap of the average against the bound; for a step that is too large here it is not ``claimed``."""
        check_covered(game, solver, games.OptimisticGDA, n=self.n, step=self.step)
        check = check_average(lambda T: self.value(T, start), game, solver, iterations, start)
        return replace(check, claimed=self.applies(game))
