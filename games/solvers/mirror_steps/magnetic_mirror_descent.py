"""Magnetic mirror descent: multiplicative weights regularised towards the reference."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from itertools import count

from nashward.games.policy import Policy
from nashward.games.step import Step

from ..schedule import Schedule, at, check_step
from .anchoring import explicit_step, regularised_anchor
from .step_limit import StepLimit, contraction_limit


@dataclass(frozen=True)
class MagneticMirrorDescent:
    """Multiplicative weights pulled towards the reference (the magnet).

    .. math::
        \\pi_{t+1} \\propto (\\pi_t \\, ref^{s \\tau} \\exp(s \\, P \\pi_t))^{1 / (1 + s \\tau)}, \\quad s = step

    It is :class:`INPO` with the step ``s / (1 + s tau)``. KL to the Nash of the game regularised by tau KL(. || ref)
    falls by ``1 / (1 + s tau)`` per iteration for steps up to ``tau / L^2 = 4 tau`` by the theorem (L = 1/2 bounds
    the centred payoff), and keeps falling for far larger ones: the point itself is stable for
    ``s < 2 tau / (lam^2 - tau^2)`` (lam: ``games.rotation_frequency`` there). That point is *not* a Nash of P: its gap
    is at most 2 tau max_y(-log ref(y)).

    Args:
        step: the step size, or a function of t = 1, 2, ...
        tau: the strength of the regularisation towards the reference.

    Raises:
        ValueError: a step that is not positive, a tau below 0.

    Source: Sokota et al. 2023 (arXiv 2206.05825).

    Example:
        >>> from nashward import games
        >>> solver = games.MagneticMirrorDescent(step=0.4, tau=0.1)
        >>> solution = games.solve(games.zoo.comal_cycle(), solver, iterations=2000, start=[0.66, 0.25, 0.09])
        >>> solution.gaps["last"][-1]
        tensor(0.1521, dtype=torch.float64)
    """

    step: Schedule = 0.4
    tau: float = 0.1

    def __post_init__(self) -> None:
        check_step(self.step, tau=self.tau)

    @property
    def period(self) -> int | None:
        """The number of Steps after which the Steps repeat, in ages of policies (see ``games/compiled/trace.py``)."""
        return None if callable(self.step) else 1

    def play(self, x: Policy, reference: Policy) -> Generator[Step, Policy, None]:
        for t in count(1):
            size = explicit_step(at(self.step, t), self.tau)
            x = yield Step(regularised_anchor(x, reference, size, self.tau), opponent=x, size=size)

    def step_limit(self, L: float, lam: float) -> StepLimit:
        return StepLimit(contraction_limit(self.tau, L), "tau / L^2", "up to it the last iterate is proven to converge")
