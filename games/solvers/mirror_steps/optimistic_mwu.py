"""Optimistic multiplicative weights: the last iterate converges."""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass
from itertools import count

from nashward.games.policy import Policy
from nashward.games.step import Step

from ..schedule import Schedule, at, check_step
from .step_limit import StepLimit


@dataclass(frozen=True)
class OptimisticMWU:
    """Multiplicative weights with the next payoff predicted from the last two.

    In one sequence, with one fit per iteration:

    .. math::
        \\pi_{t+1} \\propto \\pi_t \\exp(step \\, (2 P \\pi_t - P \\pi_{t-1})), \\quad \\pi_0 = \\pi_1

    In two sequences, as in ONPO: a base sequence pi' takes the steps, and the policy is one guess ahead of it,

    .. math::
        \\pi'_{t+1} \\propto \\pi'_t \\exp(step \\, P \\pi_t), \\qquad
        \\pi_{t+1} \\propto \\pi'_{t+1} \\exp(step \\, P \\pi_t), \\quad \\pi'_1 = \\pi_1

    Both forms give the same iterates except for the first step, which is twice as long in two sequences (as if
    P pi_0 were 0); two sequences cost two products of
    table and vector an iteration, for a language model two fits.

    With a constant step below ``1 / (sqrt(3) lam)``, where lam is ``games.rotation_frequency`` of the Nash, the last
    iterate converges to a unique interior Nash; above that it leaves the Nash. The average's gap falls as 1/T: at step
    1/2 it is at most 4 C / T in two sequences, and (4 C + 1.125) / T in one, which behaves like two begun one step
    earlier (the published ``4 sqrt(C) / T`` fails on ``games.zoo.condorcet_winner``).

    Args:
        step: the step size, or a function of t = 1, 2, ...
        two_sequences: ONPO's form.

    Raises:
        ValueError: a step that is not positive.

    Source: Daskalakis & Panageas 2019; Wei et al. 2021; arXiv 2502.16852 (ONPO), algorithm 1 and theorems 2, 3.

    Example:
        >>> from nashward import games
        >>> solution = games.solve(games.zoo.comal_cycle(), games.OptimisticMWU(step=0.5), iterations=4000)
        >>> (solution.last * 11).round(decimals=6)
        tensor([4., 3., 4.], dtype=torch.float64)
    """

    step: Schedule = 0.5
    two_sequences: bool = False

    def __post_init__(self) -> None:
        check_step(self.step)

    @property
    def period(self) -> int | None:
        """The number of Steps after which the Steps repeat, in ages of policies (see ``games/compiled/trace.py``)."""
        return None if callable(self.step) else 2 if self.two_sequences else 1

    def play(self, x: Policy, reference: Policy) -> Generator[Step, Policy, None]:
        return self._two(x) if self.two_sequences else self._one(x)

    def _one(self, x: Policy) -> Generator[Step, Policy, None]:
        previous = x
        for t in count(1):
            step = Step(anchor=x, opponent=2 * x - previous, size=at(self.step, t), averaged=x)
            previous, x = x, (yield step)

    def _two(self, x: Policy) -> Generator[Step, Policy, None]:
        base = x
        for t in count(1):
            size = at(self.step, t)
            base = yield Step(anchor=base, opponent=x, size=size, is_iterate=False)
            x = yield Step(anchor=base, opponent=x, size=size, averaged=None)

    def step_limit(self, L: float, lam: float) -> StepLimit:
        return StepLimit(
            1 / (math.sqrt(3) * lam), "1 / (sqrt(3) lam)", "beyond it the last iterate leaves the Nash", exact=True
        )
