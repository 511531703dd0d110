"""The largest step that a theorem or an exact analysis allows, for the solvers that have one."""

from __future__ import annotations

import math
from typing import NamedTuple, Protocol, runtime_checkable


class StepLimit(NamedTuple):
    """A threshold of the step size.

    Attributes:
        step: the threshold's value.
        formula: the threshold in terms of lam, the frequency at the Nash (``games.rotation_frequency``), or of L, the
            largest centred payoff, and tau.
        means: what holds below it or beyond it.
        exact: beyond it the iterates leave the Nash; False: up to it a theorem holds, and nothing is known beyond.
    """

    step: float
    formula: str
    means: str
    exact: bool = False


@runtime_checkable
class HasStepLimit(Protocol):
    """A solver whose largest constant step is known."""

    def step_limit(self, L: float, lam: float) -> StepLimit:
        """The threshold of the step, for the largest centred payoff L and the frequency lam at the Nash."""
        ...


@runtime_checkable
class MovesReference(Protocol):
    """A solver that regularises towards one of its own iterates, and replaces it from time to time."""

    def too_few(self) -> str | None:
        """A warning if there are too few steps to come nearer to a Nash that mixes; None if there are enough."""
        ...


def fewest_steps(size: float, tau: float) -> float:
    """``sqrt(3 / (size tau))``: with fewer :class:`INPO` steps of this size from one reference to the next, the
    iterates leave every Nash that mixes.

    Near such a Nash the steps rotate the deviation by +- i lam and pull it to the reference, so that m steps multiply
    it by ``(tau - i lam a^m) / (tau - i lam)``, a = 1 - size tau + i lam size. The square of its absolute value is
    below 1, to leading order, exactly where m^2 size tau > 3, whatever lam is; numerically from 3.0 (small steps) to
    4.5.

    Source: derived; see ``theory.local_factor``.
    """
    return math.sqrt(3 / (size * tau)) if tau > 0 else 0.0


def contraction_limit(tau: float, L: float) -> float:
    """``tau / L^2``, the largest step for which magnetic mirror descent is proven to contract; infinite for tau = 0."""
    return tau / L / L if tau > 0 else math.inf  # L * L may overflow
