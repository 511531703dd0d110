"""The largest step that a theorem or an exact analysis allows, for those solvers that have one."""

from __future__ import annotations

import math
from typing import NamedTuple, Protocol, runtime_checkable


class StepLimit(NamedTuple):
    """A threshold of the step size: its value, its formula, and what it parts.

    ``exact``: it depends on lam, the frequency at the Nash (``games.rotation_frequency``), and the iterates leave beyond it;
    else it is what is proven, from L, the largest centred payoff.
    """

    step: float
    formula: str
    means: str
    exact: bool = False


@runtime_checkable
class HasStepLimit(Protocol):
    """A solver whose largest constant step is known."""

    def step_limit(self, L: float, lam: float) -> StepLimit:
        """The threshold of its step where the largest centred payoff is L and the frequency at the Nash lam."""
        ...


def contraction_limit(tau: float, L: float) -> float:
    """``tau / L^2``, the largest step of magnetic mirror descent; none (infinite) without regularisation."""
    return tau / L**2 if tau > 0 else math.inf
