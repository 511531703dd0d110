"""Regularised steps towards a moving magnet: the proximal point method (COMAL) and magnet resets (MPO)."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from itertools import count

from nashward.games.policy import Policy
from nashward.games.step import Step

from ..schedule import Schedule, at, check_step, check_whole
from .anchoring import check_regularised, explicit_step, regularised_anchor
from .step_limit import StepLimit, contraction_limit, fewest_steps


@dataclass(frozen=True)
class ProximalPoint:
    """COMAL: solve the game regularised towards where you are, go there, repeat.

    .. math::
        \\pi_{t+1} \\approx \\arg\\max_p \\min_q P(p \\succ q) - \\tau KL(p \\| \\pi_t) + \\tau KL(q \\| \\pi_t)

    by ``inner`` steps of :class:`INPO` with pi_t as the reference. Where they solve the inner game, KL(nash || pi_t)
    never grows, for any tau: the last iterate converges to a Nash of P itself. Where they are too few, the iterates
    leave a Nash that mixes: ``inner^2 step tau`` must be above 3, for large steps above 4.5 (``solve`` warns below 3),
    and far above that for fast convergence; by default it is 96. A small tau needs few iterates and many inner steps.
    An iteration here is a whole inner solve, so 50 products of table and vector by default, where :class:`MWU` takes
    one: compare it after as many products, not after as many iterations. For a language model it is ``inner`` fits.

    Args:
        step: the inner step size, or a function of the outer t = 1, 2, ...; step * tau <= 1.
        tau: the strength of the regularisation towards the current iterate.
        inner: how many steps, each with a product, solve the inner game; each shrinks the distance to its solution by
            1 - step tau.

    Raises:
        ValueError: a step that is not positive, a tau below 0, step * tau > 1, inner not a whole number >= 1.

    Source: arXiv 2410.23223 (COMAL); Rockafellar 1976.

    Example:
        >>> from nashward import games
        >>> solution = games.solve(games.zoo.comal_cycle(), games.ProximalPoint(), 60, start=[0.665, 0.245, 0.090])
        >>> bool(solution.gaps["last"][-1] < 1e-8)
        True
    """

    step: Schedule = 0.4 / 1.04
    tau: float = 0.1
    inner: int = 50

    def __post_init__(self) -> None:
        check_regularised(self.step, self.tau)
        check_whole("inner", self.inner)

    def play(self, x: Policy, reference: Policy) -> Generator[Step, Policy, None]:
        for t in count(1):
            magnet, size = x, at(self.step, t)
            for k in range(1, self.inner + 1):
                anchor = regularised_anchor(x, magnet, size, self.tau)
                counts = magnet if k == 1 else None
                x = yield Step(anchor, opponent=x, size=size, is_iterate=k == self.inner, averaged=counts)

    def step_limit(self, L: float, lam: float) -> StepLimit:
        step = explicit_step(contraction_limit(self.tau, L), self.tau) if self.tau else contraction_limit(0.0, L)
        return StepLimit(step, "tau / (L^2 + tau^2)", "up to it the inner steps are proven to converge")

    def too_few(self) -> str | None:
        return _too_few("inner", self.inner, self.step, self.tau)


@dataclass(frozen=True)
class MagnetReset:
    """MPO: magnetic mirror descent whose magnet moves to the iterate every ``every`` steps.

    .. math::
        \\pi_{t+1} \\propto (\\pi_t \\, magnet^{s \\tau} \\exp(s \\, P \\pi_t))^{1 / (1 + s \\tau)}, \\qquad
        magnet \\leftarrow \\pi_t \\text{ every } every \\text{ steps}

    The policies are those of :class:`ProximalPoint` with ``inner = every`` where the first magnet is the start, but
    here each of them is an iterate. The last iterate converges to a Nash of P where ``every`` steps solve the game with
    one magnet well enough: ``every^2 step tau`` must be above 3, for large steps above 4.5 (``solve`` warns below 3),
    else the iterates leave a Nash that mixes. How fast depends on ``every``, and not monotonically (COMAL's cycle, tau
    = 0.1, step 0.4, gap after 1000 steps: .156 every 10, 3e-11 every 50, 7e-3 every 200, .150 never).

    Args:
        step: the step size, or a function of t = 1, 2, ...
        tau: the strength of the regularisation towards the magnet.
        every: how many steps the magnet stays; at first it is the reference.

    Raises:
        ValueError: a step that is not positive, a tau below 0, every not a whole number >= 1.

    Source: arXiv 2410.16714 (magnetic preference optimization).

    Example:
        >>> from nashward import games
        >>> solution = games.solve(games.zoo.comal_cycle(), games.MagnetReset(), 1000, start=[0.665, 0.245, 0.090])
        >>> bool(solution.gaps["last"][-1] < 1e-9)
        True
    """

    step: Schedule = 0.4
    tau: float = 0.1
    every: int = 50

    def __post_init__(self) -> None:
        check_step(self.step, tau=self.tau)
        check_whole("every", self.every)

    def play(self, x: Policy, reference: Policy) -> Generator[Step, Policy, None]:
        magnet = reference
        for t in count(1):
            size = explicit_step(at(self.step, t), self.tau)
            x = yield Step(regularised_anchor(x, magnet, size, self.tau), opponent=x, size=size)
            magnet = x if t % self.every == 0 else magnet

    def step_limit(self, L: float, lam: float) -> StepLimit:
        return StepLimit(
            contraction_limit(self.tau, L), "tau / L^2", "up to it the steps between two resets are proven to converge"
        )

    def too_few(self) -> str | None:
        size = self.step if callable(self.step) else explicit_step(self.step, self.tau)
        return _too_few("every", self.every, size, self.tau)


def _too_few(name: str, steps: int, size: Schedule, tau: float) -> str | None:
    if callable(size) or steps >= fewest_steps(size, tau):
        return None
    return (
        f"{name} = {steps} is below {fewest_steps(size, tau):.3g} = sqrt(3 / (step tau)): with so few steps per "
        "reference the iterates leave a Nash that mixes"
    )
