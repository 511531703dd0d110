"""Optimistic multiplicative weights: the average's gap falls as 1 / T; a published constant fails."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from nashward import games
from nashward.errors import NashwardError

from .mwu_average import complexity_of_start
from .verification import Check, Settings, check_average, check_covered, iteration_numbers


@dataclass(frozen=True)
class OptimisticAverage(Settings):
    """The average of ``games.OptimisticMWU(0.5, two_sequences=True)`` from the uniform policy.

    .. math::  gap(\\bar\\pi_T) \\le \\frac{4 \\log n}{T} \\qquad (step = 1/2)

    Why: with optimism only the change of the payoffs costs regret, and at step 1/2 the method's own movement pays for
    that (the RVU inequality); what is left is C / step per player, C = log n.

    Args:
        n: the number of actions.

    Source: Syrgkanis et al. 2015; arXiv 2502.16852 (ONPO), theorem 2, with log n in place of its root.

    Example:
        >>> float(OptimisticAverage(n=10).value(100).round(4))
        0.0921
    """

    statement: ClassVar[str] = "optimistic MWU, average, step 1/2: gap <= 4 log n / T"
    source: ClassVar[str] = "Syrgkanis et al. 2015; arXiv 2502.16852, theorem 2"

    n: int

    @np.errstate(divide="ignore")  # after no iteration the bound is infinite
    def value(self, iterations: Any) -> Any:
        """The bound after T iterations; T may be an array."""
        return 4 * math.log(self.n) / iteration_numbers(iterations)

    def check(self, game: Any, solver: Any, iterations: int = 400, start: Any = None) -> Check:
        """The gap of the solver's average (two sequences, step 1/2) against the bound."""
        _check_run(self.n, game, solver, start)
        return check_average(self.value, game, solver, iterations, start)


@dataclass(frozen=True)
class PublishedRootFails(Settings):
    """``4 sqrt(log n) / T``, the published bound of ONPO's theorem 2, is exceeded on ``games.zoo.condorcet_winner``.

    .. math::  \\exists \\text{ game}: \\quad 4 \\sqrt{\\log n} / T < gap(\\bar\\pi_T)

    Args:
        n: the number of actions.

    Source: arXiv 2502.16852, theorem 2, against a computed counterexample.

    Example:
        >>> from nashward import games
        >>> solver = games.OptimisticMWU(0.5, two_sequences=True)
        >>> PublishedRootFails(n=10).check(games.zoo.condorcet_winner(10), solver, iterations=30).holds
        True
    """

    statement: ClassVar[str] = (
        "optimistic MWU: 4 sqrt(log n) / T < gap on the Condorcet game (ONPO's theorem 2 as printed)"
    )
    source: ClassVar[str] = "arXiv 2502.16852, theorem 2; counterexample"

    n: int

    @np.errstate(divide="ignore")  # after no iteration the bound is infinite
    def value(self, iterations: Any) -> Any:
        """The published bound after T iterations."""
        return 4 * math.sqrt(math.log(self.n)) / iteration_numbers(iterations)

    def check(self, game: Any, solver: Any, iterations: int, start: Any = None) -> Check:
        """The measured gap above the published bound, at T = iterations."""
        _check_run(self.n, game, solver, start)
        return check_average(self.value, game, solver, iterations, start, record=[iterations], exceeds=True)


def _check_run(n: int, game: Any, solver: Any, start: Any) -> None:
    check_covered(game, solver, games.OptimisticMWU, n=n, step=0.5, two_sequences=True)
    if complexity_of_start(game, start) > math.log(n) * (1 + 1e-9):
        raise NashwardError("the theorem covers only the uniform start: leave start out")
