"""INPO: mirror descent on the regularised game, one explicit step at a time."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from itertools import count

from nashward.games.policy import Policy
from nashward.games.step import Step

from ..schedule import Schedule, at
from .anchoring import check_regularised, explicit_step, regularised_anchor
from .step_limit import StepLimit, contraction_limit


@dataclass(frozen=True)
class INPO:
    """Online mirror descent on the KL-regularised game, in self-play.

    .. math::
        \\pi_{t+1} \\propto \\pi_t^{1 - s \\tau} \\, ref^{s \\tau} \\exp(s \\, P \\pi_t), \\quad s = step

    The step is that of online IPO, and :class:`MagneticMirrorDescent` with the step ``s / (1 - s tau)``: the last
    iterate converges linearly to the Nash of the regularised game for constant steps up to
    ``tau / (L^2 + tau^2) = 4 tau / (1 + 4 tau^2)``, which is more than the 1/T of its own theorem 4 (with
    ``schedule.harmonic(tau)``). With ``step = 1 / tau`` the anchor keeps nothing of pi_t: this is iterated
    (regularised) best response, which cycles for small tau. With tau = 0 it is :class:`MWU`.

    Args:
        step: the step size (the paper's 1 / eta), or a function of t = 1, 2, ...; step * tau <= 1.
        tau: the strength of the regularisation towards the reference.

    Raises:
        ValueError: a step that is not positive, a tau below 0, step * tau > 1.

    Source: arXiv 2407.00617 (INPO), theorems 3 and 4; arXiv 2403.08635 (online IPO).

    Example:
        >>> from nashward import games
        >>> start = [0.66, 0.25, 0.09]
        >>> inpo = games.solve(games.zoo.comal_cycle(), games.INPO(0.4 / 1.04, tau=0.1), 50, start=start)
        >>> magnet = games.solve(games.zoo.comal_cycle(), games.MagneticMirrorDescent(0.4, tau=0.1), 50, start=start)
        >>> bool((inpo.last - magnet.last).abs().max() < 1e-14)
        True
    """

    step: Schedule = 0.3
    tau: float = 0.1

    def __post_init__(self) -> None:
        check_regularised(self.step, self.tau)

    @property
    def period(self) -> int | None:
        """The number of Steps after which the Steps repeat, in ages of policies (see ``games/compiled/trace.py``)."""
        return None if callable(self.step) else 1

    def play(self, x: Policy, reference: Policy) -> Generator[Step, Policy, None]:
        for t in count(1):
            size = at(self.step, t)
            x = yield Step(regularised_anchor(x, reference, size, self.tau), opponent=x, size=size)

    def step_limit(self, L: float, lam: float) -> StepLimit:
        step = explicit_step(contraction_limit(self.tau, L), self.tau) if self.tau else contraction_limit(0.0, L)
        return StepLimit(step, "tau / (L^2 + tau^2)", "up to it the last iterate is proven to converge")
