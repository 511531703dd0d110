"""Momentum: an anchor that overshoots."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from itertools import count

from nashward.errors import NashwardError
from nashward.games.policy import Policy
from nashward.games.step import Step, is_finite
from nashward.shortened import quoted

from ..schedule import Schedule, at, check_step


@dataclass(frozen=True)
class Momentum:
    """Multiplicative weights with momentum in the anchor.

    .. math::
        \\pi_{t+1} \\propto \\pi_t^{1 + m} \\, \\pi_{t-1}^{-m} \\exp(s \\, P \\pi_t), \\quad \\pi_0 = \\pi_1

    Momentum speeds up the way to a single best response. In a cyclic game it drives the iterates away from the
    Nash faster than :class:`MWU`: locally by about ``1 + s^2 lam^2 (1 + m) / (2 (1 - m)^3)`` per iteration, for every
    step. Optimism (:class:`OptimisticMWU`) corrects the opponent instead, and converges. APO's own form takes the
    payoff against the same combination, as Nesterov's method does (``nesterov=True``); it leaves a cycle's Nash too.

    Args:
        step: the step size, or a function of t = 1, 2, ...
        momentum: m, in [0, 1); 0 is MWU.
        nesterov: the opponent, too, is (1 + m) pi_t - m pi_{t-1}.

    Raises:
        ValueError: a step that is not positive, a momentum not in [0, 1).

    Source: arXiv 2410.06293 (APO).

    Example:
        >>> from nashward import games
        >>> solution = games.solve(games.zoo.bradley_terry(), games.Momentum(step=1.0), iterations=100)
        >>> solution.gaps["last"][-1] < games.solve(games.zoo.bradley_terry(), games.MWU(1.0), 100).gaps["last"][-1]
        tensor(True)
    """

    step: Schedule = 0.5
    momentum: float = 0.3
    nesterov: bool = False

    def __post_init__(self) -> None:
        check_step(self.step)
        if not (is_finite(self.momentum) and 0 <= self.momentum < 1):
            raise NashwardError(f"momentum must be in [0, 1), got {quoted(self.momentum, 80)}")

    @property
    def period(self) -> int | None:
        """The number of Steps after which the Steps repeat, in ages of policies (see ``games/compiled/trace.py``)."""
        return None if callable(self.step) else 1

    def play(self, x: Policy, reference: Policy) -> Generator[Step, Policy, None]:
        previous = x
        for t in count(1):
            ahead = (1 + self.momentum) * x - self.momentum * previous
            step = Step(ahead, opponent=ahead if self.nesterov else x, size=at(self.step, t), averaged=x)
            previous, x = x, (yield step)
