"""The largest step that a theorem or an exact analysis allows, for those solvers that have one."""

from __future__ import annotations

import math
from typing import NamedTuple, Protocol, runtime_checkable


class StepLimit(NamedTuple):
    """A threshold of the step size.

    Attributes:
        step: its value.
        formula: in terms of lam, the frequency at the Nash (``games.rotation_frequency``), or of L, the largest centred
            payoff, and tau.
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
        """The threshold of its step, for the largest centred payoff L and the frequency lam at the Nash."""
        ...


def contraction_limit(tau: float, L: float) -> float:
    """``tau / L^2``, the largest step for which magnetic mirror descent is proven to contract; infinite for tau = 0."""
    return tau / L**2 if tau > 0 else math.inf
