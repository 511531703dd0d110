"""Extragradient (mirror prox), plain and regularised."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from itertools import count

from nashward.games.policy import Policy
from nashward.games.step import Step

from ..schedule import Schedule, at
from .anchoring import check_regularised, regularised_anchor
from .step_limit import StepLimit


@dataclass(frozen=True)
class ExtraGradient:
    """Look half a step ahead, then step from where you were with the payoff seen there.

    .. math::
        a &= (1 - step \\cdot \\tau) \\log \\pi_t + step \\cdot \\tau \\log ref \\\\
        half &\\propto \\exp(a + step \\cdot P \\pi_t), \\qquad \\pi_{t+1} \\propto \\exp(a + step \\cdot P\\,half)

    With tau = 0 the last iterate converges to an interior Nash of P for a constant step below ``1 / lam`` (lam:
    ``games.rotation_frequency`` of the Nash); above that it leaves the Nash. With tau > 0 it is EGPO: KL to the Nash of
    the KL-regularised game, which is *not* a Nash of P, falls by ``1 - step tau`` per iteration for steps up to
    ``1 / (L + tau) = 2 / (1 + 2 tau)``, where L = 1/2 bounds the centred payoff. The half points are what is played:
    they form the average. An iteration takes two products of table and vector, for a language model two fits.

    Args:
        step: the step size, or a function of t = 1, 2, ...; step * tau <= 1.
        tau: the strength of the regularisation towards the reference.

    Raises:
        ValueError: a step that is not positive, a tau below 0, step * tau > 1.

    Source: Nemirovski 2004; arXiv 2503.08942 (EGPO), and arXiv 2505.19731 (Nash mirror prox) for the step.

    Example:
        >>> from nashward import games
        >>> solution = games.solve(games.zoo.comal_cycle(), games.ExtraGradient(step=2.0), iterations=500)
        >>> (solution.last * 11).round(decimals=6)
        tensor([4., 3., 4.], dtype=torch.float64)
    """

    step: Schedule = 1.0
    tau: float = 0.0

    def __post_init__(self) -> None:
        check_regularised(self.step, self.tau)

    @property
    def period(self) -> int | None:
        """The number of Steps after which the Steps repeat, in ages of policies (see ``games/compiled/trace.py``)."""
        return None if callable(self.step) else 2

    def play(self, x: Policy, reference: Policy) -> Generator[Step, Policy, None]:
        for t in count(1):
            size = at(self.step, t)
            anchor = regularised_anchor(x, reference, size, self.tau)
            half = yield Step(anchor, opponent=x, size=size, is_iterate=False, averaged=None)
            x = yield Step(anchor, opponent=half, size=size)

    def step_limit(self, L: float, lam: float) -> StepLimit:
        if self.tau > 0:
            return StepLimit(
                1 / (L + self.tau), "1 / (L + tau)", "up to it each step is proven to shrink KL by 1 - step tau"
            )
        return StepLimit(1 / lam, "1 / lam", "beyond it the last iterate leaves the Nash", exact=True)
