"""Theorems on solvers of tables only: regret matching, fictitious play, the replicator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from nashward import games
from nashward.games.shapes import Float

from .verification import Check, solve_quietly


@dataclass(frozen=True)
class RegretMatchingAverage:
    """The uniform average of regret matching (and of RM+ and PRM+).

    .. math::  gap(\\bar\\pi_T) \\le 2 \\sqrt{(n - 1) / T}

    Why: the regrets' positive parts grow in length by at most sqrt(n - 1) a step in the mean square (Blackwell).

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

    def value(self, iterations: Any) -> Any:
        """The bound after T iterations; T may be an array."""
        return 2 * np.sqrt((self.n - 1) / np.asarray(iterations, dtype=np.float64))

    def check(self, game: Any, solver: Any, iterations: int = 1000, start: Any = None) -> Check:
        """The gap of the uniform average against the bound."""
        solution = solve_quietly(game, solver, iterations, start, averaging=games.averaging.uniform)
        return Check.of(solution.iterations, self.value(solution.iterations), solution.gaps["average"])


@dataclass(frozen=True)
class FictitiousPlayRate:
    """Fictitious play's gap times sqrt(T), from the first action, ties to the first: a measured rate, no theorem.

    Robinson 1951 proves convergence without such a rate, and with adversarial ties there is none.

    Args:
        constant: gap times sqrt(T): 2 / 3 on rock-paper-scissors, about 0.43 on COMAL's cycle.
        within: the largest deviation from it.

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

    def value(self, iterations: Any) -> Any:
        """The gap after T iterations; T may be an array."""
        return self.constant / np.sqrt(np.asarray(iterations, dtype=np.float64))

    def check(self, game: Any, solver: Any, iterations: int = 10_000, start: Any = None) -> Check:
        """gap sqrt(T) at T = 100, 1000, ... against the constant."""
        T = [10**k for k in range(2, 7) if 10**k <= iterations]
        gaps = solve_quietly(game, solver, iterations, start, record=T).gaps["average"][: len(T)]
        measured = gaps * torch.tensor(T).sqrt()
        return Check.of(T, [self.constant] * len(T), measured, equal=True, tolerance=0.0, rounding=self.within)


@dataclass(frozen=True)
class ReplicatorInvariant:
    """The replicator conserves sum_y nash_y log pi_y of an interior Nash, so it cycles around it for ever.

    .. math::  \\frac{d}{dt} \\sum_y \\pi^*_y \\log \\pi_y = \\pi^{*\\top} A \\pi = 0

    Args:
        nash: [n], an interior equilibrium.

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

    def value(self, start: Any) -> float:
        """The invariant at the start."""
        return float(torch.as_tensor(start, dtype=torch.float64).log() @ self.nash)

    def check(self, game: Any, solver: Any, iterations: int = 1000, start: Any = None) -> Check:
        """The invariant along the path against that of the start."""
        first = torch.full_like(self.nash, 1 / len(self.nash)) if start is None else start
        path = solve_quietly(game, solver, iterations, start, keep_policies=True)
        invariant = path.policies["last"].log() @ self.nash
        expected = np.full(invariant.shape, self.value(first))
        return Check.of(path.iterations, expected, invariant, equal=True, tolerance=0.0, rounding=1e-10)
