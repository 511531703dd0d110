"""Last iterates in the KL-regularised game: contraction, Nash-MD's rate and bias, magnets, the remaining gap."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch

from nashward import games
from nashward.errors import NashwardError
from nashward.games.forms.game import Players
from nashward.games.shapes import Float
from nashward.games.solvers.tables_only.base import Payoffs

from .verification import (
    Check,
    Settings,
    check_covered,
    check_setting,
    constant_step,
    iteration_numbers,
    kl_to_target,
    solve_quietly,
)

HALF = 0.5  # L, the largest centred payoff of a preference game
ROUNDING = 1e-11  # KL below this is rounding
_PULLED = (games.MagneticMirrorDescent, games.INPO, games.ExtraGradient)  # go to the regularised Nash


@dataclass(frozen=True)
class Contraction(Settings):
    """Each step shrinks KL to the Nash of the regularised game by a constant factor.

    .. math::  KL(\\pi^*_\\tau \\| \\pi_{t+1}) \\le factor \\cdot KL(\\pi^*_\\tau \\| \\pi_t)

    for ``games.MagneticMirrorDescent`` with factor 1 / (1 + s tau) and s <= tau / L^2, for ``games.INPO`` with
    factor 1 - s tau and s <= tau / (L^2 + tau^2) (the same method), and for ``games.ExtraGradient`` (EGPO) with factor
    1 - s tau and s <= 1 / (L + tau), L = 1/2. The classmethods build them. Beyond ``largest`` nothing is claimed.

    Args:
        kind: the solver.
        step: s, the step size.
        tau: the pull to the reference.
        factor: KL after a step is at most this share of KL before it.
        largest: the step up to which the theorem holds.

    Source: Sokota et al. 2023 (arXiv 2206.05825), theorem 3.4; arXiv 2503.08942 (EGPO); arXiv 2505.19731.

    Example:
        >>> theorem = Contraction.magnetic(step=0.4, tau=0.1)
        >>> round(theorem.factor, 4), theorem.applies, Contraction.magnetic(1.6, 0.1).applies
        (0.9615, True, False)
    """

    statement: ClassVar[str] = "regularised, last iterate: KL(nash_tau || pi) shrinks by the factor each step"
    source: ClassVar[str] = "arXiv 2206.05825, theorem 3.4; arXiv 2503.08942"

    kind: type[Any]
    step: float
    tau: float
    factor: float
    largest: float

    @classmethod
    def magnetic(cls, step: float, tau: float) -> Contraction:
        """The theorem for ``games.MagneticMirrorDescent``."""
        cls._check(step, tau)
        return cls(games.MagneticMirrorDescent, step, tau, 1 / (1 + step * tau), tau / HALF**2)

    @classmethod
    def inpo(cls, step: float, tau: float) -> Contraction:
        """The theorem for ``games.INPO``."""
        cls._check(step, tau)
        return cls(games.INPO, step, tau, 1 - step * tau, tau / (HALF**2 + tau**2))

    @classmethod
    def extragradient(cls, step: float, tau: float) -> Contraction:
        """The theorem for ``games.ExtraGradient``."""
        cls._check(step, tau)
        return cls(games.ExtraGradient, step, tau, 1 - step * tau, 1 / (HALF + tau))

    @classmethod
    def _check(cls, step: Any, tau: Any) -> None:
        """Before the constants are computed from them."""
        check_setting(cls, "step", step)
        check_setting(cls, "tau", tau)

    @property
    def applies(self) -> bool:
        """Whether the theorem allows this step."""
        return self.step <= self.largest * (1 + 1e-12)

    def value(self, iterations: Any) -> Any:
        """The largest share of the first KL that can be left after T steps."""
        return self.factor ** iteration_numbers(iterations)

    def check(
        self, game: games.PreferenceGame, solver: Any, iterations: int = 60, start: Any = None, reference: Any = None
    ) -> Check:
        """KL after each step against the factor times KL before it, with an allowance for rounding.

        For a step above ``largest`` the result is not ``claimed``.
        """
        check_covered(game, solver, self.kind, step=self.step, tau=self.tau)
        pull = start if reference is None else reference
        target = games.regularised_nash(game, self.tau, pull).policy
        kl = kl_to_target(game, solver, target, iterations, start, pull)
        bound = self.factor * kl[:-1]
        check = Check.of(range(1, iterations + 1), bound, kl[1:], tolerance=1e-6, rounding=ROUNDING)
        return replace(check, claimed=self.applies)


@dataclass(frozen=True)
class MagneticIsINPO(Settings):
    """Magnetic mirror descent with step s is INPO (online mirror descent) with step s / (1 + s tau).

    Why: dividing the exponent by 1 + s tau makes the shares of pi_t and of the reference sum to 1.

    Args:
        tau: the pull to the reference.

    Source: derived.

    Example:
        >>> theorem, solver = MagneticIsINPO(tau=0.1), games.MagneticMirrorDescent(0.4, tau=0.1)
        >>> round(theorem.value(0.4), 6), theorem.check(games.zoo.comal_cycle(), solver).holds
        (0.384615, True)
    """

    statement: ClassVar[str] = "MMD(s) = INPO(s / (1 + s tau)): log-ratios of the last iterate are equal"
    source: ClassVar[str] = "derived from arXiv 2206.05825 and arXiv 2407.00617"

    tau: float

    def value(self, step: float) -> float:
        """INPO's step."""
        return step / (1 + step * self.tau)

    def check(self, game: Any, solver: games.MagneticMirrorDescent, iterations: int = 200, start: Any = None) -> Check:
        """log(pi_T / pi_1) of the solver (measured) and of INPO (bound), for each action."""
        check_covered(game, solver, games.MagneticMirrorDescent, tau=self.tau)
        inpo = games.INPO(self.value(constant_step(solver)), self.tau)
        first = (
            torch.full(game.sizes, 1 / game.sizes[0], dtype=torch.float64)
            if start is None
            else torch.as_tensor(start, dtype=torch.float64)
        )
        measured, expected = (
            solve_quietly(game, s, iterations, start).last.log() - first.log() for s in (solver, inpo)
        )
        return Check.of(range(len(first)), expected, measured, equal=True)


@dataclass(frozen=True)
class NashMDRate(Settings):
    """Nash-MD with the schedule 2 / (tau (t + 2)), last iterate.

    .. math::
        KL(\\pi^*_\\tau \\| \\pi_{T+1}) \\le \\frac{8}{\\tau^2 (T + 1)}, \\qquad
        KL_{t+1} \\le (1 - s_t \\tau) KL_t + 2 s_t^2

    Args:
        tau: the pull to the reference.

    Raises:
        ValueError: a tau of 0.

    Source: arXiv 2312.00886, theorem 1 and lemma 2.

    Example:
        >>> solver = games.NashMD(games.schedule.harmonic(0.1), tau=0.1)
        >>> NashMDRate(tau=0.1).check(games.zoo.comal_cycle(), solver, iterations=100).holds
        True
    """

    statement: ClassVar[str] = "Nash-MD, last iterate: KL(nash_tau || pi_(T+1)) <= 8 / (tau^2 (T + 1))"
    source: ClassVar[str] = "arXiv 2312.00886, theorem 1"

    tau: float

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.tau:
            raise NashwardError(
                "NashMDRate: tau is 0; expected a finite number > 0, for without a pull nothing is bounded"
            )

    def value(self, iterations: Any) -> Any:
        """The bound after T iterations; T may be an array."""
        return 8 / (self.tau**2 * (iteration_numbers(iterations) + 1))

    def check(self, game: games.PreferenceGame, solver: Any, iterations: int = 1000, start: Any = None) -> Check:
        """KL after each iteration against the rate."""
        check_covered(game, solver, games.NashMD, step=games.schedule.harmonic(self.tau), tau=self.tau)
        T = np.arange(1, iterations + 1)
        kl = kl_to_target(game, solver, games.regularised_nash(game, self.tau, start).policy, iterations, start, start)
        return Check.of(T, self.value(T), kl[1:])

    def check_recursion(
        self, game: games.PreferenceGame, solver: games.NashMD, iterations: int = 1000, start: Any = None
    ) -> Check:
        """KL after each step against the lemma's bound from KL before it."""
        check_covered(game, solver, games.NashMD, tau=self.tau)
        kl = kl_to_target(game, solver, games.regularised_nash(game, self.tau, start).policy, iterations, start, start)
        steps = np.array([games.schedule.at(solver.step, t) for t in range(1, iterations + 1)])
        s = torch.as_tensor(steps).reshape(-1, *[1] * (kl.ndim - 1))
        return Check.of(range(1, iterations + 1), (1 - s * self.tau) * kl[:-1] + 2 * s**2, kl[1:])


@dataclass(frozen=True)
class NashMDBias(Settings):
    """With a constant step s Nash-MD comes to rest away from the regularised Nash, by O(s) in logits and O(s^2) in KL.

    .. math::
        KL(\\pi^*_\\tau \\| \\pi_\\infty) = \\tfrac12 u^\\top S u + O(s^3), \\quad
        u = s (\\tau - A S)^{-1} A S A \\pi^*_\\tau, \\quad S = diag(\\pi^*_\\tau) - \\pi^*_\\tau \\pi^{*\\top}_\\tau

    Why: the opponent is the mixture with the reference, not the iterate; to first order in s the two differ by
    s S A pi*; solving the fixed-point equation gives the deviation of the logits.

    Args:
        tau: the pull to the reference.

    Source: derived; arXiv 2312.00886 states no bias.

    Example:
        >>> start = torch.tensor([0.66, 0.25, 0.09]).double()
        >>> f"{NashMDBias(tau=0.1).value(games.zoo.comal_cycle(), step=0.1, reference=start):.1e}"
        '2.0e-05'
    """

    statement: ClassVar[str] = "Nash-MD, constant step: KL(nash_tau || limit) = u'Su / 2, of the order step^2"
    source: ClassVar[str] = "derived"

    tau: float

    def value(self, game: games.PreferenceGame, step: float, reference: Any = None) -> float:
        """The KL to the regularised Nash where Nash-MD comes to rest, to leading order in the step."""
        pi = games.regularised_nash(game, self.tau, reference).policy
        A, S = game.P - 0.5, torch.diag(pi) - torch.outer(pi, pi)
        u = step * torch.linalg.solve(self.tau * torch.eye(len(pi)).double() - A @ S, A @ S @ A @ pi)
        return float(u @ S @ u) / 2

    def check(
        self, game: games.PreferenceGame, solver: games.NashMD, iterations: int = 0, reference: Any = None
    ) -> Check:
        """KL at rest, ``iterations`` after starting at the regularised Nash (0: as many as the pull needs)."""
        check_covered(game, solver, games.NashMD, tau=self.tau)
        step = constant_step(solver)
        target = games.regularised_nash(game, self.tau, reference).policy
        T = iterations or math.ceil(12 / (step * self.tau))
        last = solve_quietly(game, solver, T, target, reference=reference, record=[T]).last
        kl = games.kl_divergence(target, last)
        return Check.of([T], self.value(game, step, reference), kl, equal=True, tolerance=0.05)


@dataclass(frozen=True)
class ExactProximalPoint(Settings):
    """The proximal point method with every inner game solved to 1e-12; ``games.ProximalPoint`` approximates it.

    Args:
        game: a single preference game.
        tau: the pull to the current iterate.

    Source: Rockafellar 1976; arXiv 2410.23223 (COMAL).

    Example:
        >>> game = games.zoo.comal_cycle()
        >>> games.solve(game, ExactProximalPoint(game, tau=0.1), 40, [0.6, 0.3, 0.1]).gaps["last"][-1] < 1e-6
        tensor(True)
    """

    game: games.PreferenceGame
    tau: float
    nearest: ClassVar[Any] = games.ProximalPoint

    def iterate(self, x: Players, payoffs: Payoffs) -> Iterator[Players]:
        while True:
            x = (games.regularised_nash(self.game, self.tau, x[0]).policy,)
            yield x


@dataclass(frozen=True)
class ProximalMonotone(Settings):
    """The proximal point method never moves away from a Nash, for any pull.

    .. math::  KL(\\pi^* \\| \\pi_{t+1}) \\le KL(\\pi^* \\| \\pi_t)

    Why: the optimality of the regularised Nash against pi* and the three-point identity of KL.

    Args:
        nash: [..., n], an equilibrium.

    Source: Rockafellar 1976; arXiv 2410.23223 (COMAL), theorem 1.

    Example:
        >>> game = games.zoo.comal_cycle()
        >>> theorem = ProximalMonotone(games.nash(game).policy)
        >>> theorem.check(game, ExactProximalPoint(game, tau=0.1), 10, [0.6, 0.3, 0.1]).holds
        True
    """

    statement: ClassVar[str] = "proximal point, last iterate: KL(nash || pi_t) never grows"
    source: ClassVar[str] = "Rockafellar 1976; arXiv 2410.23223"

    nash: Float[torch.Tensor, "*batch n"]

    def value(self, distance: Any) -> Any:
        """The largest KL after an iteration from a policy at this KL: the same."""
        return distance

    def check(self, game: Any, solver: Any, iterations: int = 20, start: Any = None) -> Check:
        """KL after each iteration against KL before it.

        This is proven if the inner games are solved exactly, as by ``ExactProximalPoint``; for ``games.ProximalPoint``,
        whose inner steps only come near, the result is not ``claimed``.
        """
        check_covered(game, solver, games.ProximalPoint, n=self.nash.shape[-1])
        kl = kl_to_target(game, solver, self.nash, iterations, start)
        check = Check.of(range(1, iterations + 1), self.value(kl[:-1]), kl[1:])
        return replace(check, claimed=not isinstance(solver, games.ProximalPoint))


@dataclass(frozen=True)
class RegularisedGap(Settings):
    """The Nash of the regularised game is not a Nash of the game, but its gap is bounded.

    .. math::  gap(\\pi^*_\\tau) \\le 2 \\tau (\\max_y -\\log ref(y) - KL(\\pi^*_\\tau \\| ref))

    Why: no p has J_tau(p, pi*_tau) = P(p beats pi*_tau) - tau KL(p || ref) + tau KL(pi*_tau || ref) above 1/2; take p
    pure.

    Args:
        tau: the pull to the reference.

    Source: derived; ``2 tau log n`` for a uniform reference is in Sokota et al. 2023.

    Example:
        >>> game = games.zoo.comal_cycle()
        >>> equilibrium = games.regularised_nash(game, tau=0.1, reference=[0.6, 0.3, 0.1])
        >>> bool(equilibrium.gap <= RegularisedGap(0.1).value(equilibrium.policy, [0.6, 0.3, 0.1]))
        True
    """

    statement: ClassVar[str] = "gap(nash_tau) <= 2 tau (max -log ref - KL(nash_tau || ref))"
    source: ClassVar[str] = "derived from the definition of the regularised game"

    tau: float

    def value(self, policy: Any, reference: Any) -> Float[torch.Tensor, "*batch"]:
        """The bound for the regularised Nash ``policy``, [...]."""
        p = torch.as_tensor(policy, dtype=torch.float64)
        pull = torch.as_tensor(reference, dtype=torch.float64, device=p.device)
        return 2 * self.tau * (-pull.log().amin(-1) - games.kl_divergence(p, pull))

    def check(self, game: Any, solver: Any, iterations: int = 4000, start: Any = None) -> Check:
        """The gap in the limit of the solver, with its start as the reference, against the bound."""
        check_covered(game, solver, *_PULLED, tau=self.tau)
        last = solve_quietly(game, solver, iterations, start, record=[iterations]).last
        pull = (
            torch.full_like(last, 1 / last.shape[-1]) if start is None else torch.as_tensor(start, dtype=torch.float64)
        )
        bound = self.value(last, pull)
        return replace(Check.of([iterations], bound[None], games.duality_gap(game, last)[None]), limit=True)


@dataclass(frozen=True)
class FixedMagnet(Settings):
    """With a fixed magnet, the last iterate's gap tends to that of the regularised Nash; with a moving one, to 0.

    Args:
        tau: the pull to the reference.

    Source: arXiv 2410.16714 (MPO), which moves the magnet.

    Example:
        >>> game = games.zoo.comal_cycle()
        >>> FixedMagnet(tau=0.1).check(game, games.ExtraGradient(0.5, tau=0.1), start=[0.6, 0.3, 0.1]).holds
        True
    """

    statement: ClassVar[str] = "a fixed magnet: gap of the last iterate = gap(nash_tau)"
    source: ClassVar[str] = "arXiv 2206.05825; arXiv 2410.16714"

    tau: float

    def value(self, game: Any, reference: Any) -> Float[torch.Tensor, "*batch"]:
        """The gap of the regularised Nash."""
        return games.regularised_nash(game, self.tau, reference).gap

    def check(self, game: Any, solver: Any, iterations: int = 1000, start: Any = None) -> Check:
        """The gap after T iterations from ``start``, which is the reference, against that of the regularised Nash."""
        check_covered(game, solver, *_PULLED, tau=self.tau)
        gap = solve_quietly(game, solver, iterations, start, record=[iterations]).gaps["last"]
        check = Check.of([iterations], self.value(game, start), gap, equal=True, tolerance=1e-3)
        return replace(check, limit=True)


@dataclass(frozen=True)
class MovingMagnet(Settings):
    """If the magnet moves to the iterate from time to time, the last iterate converges to a Nash of the game.

    The paper gives no rate; ``gap`` is the level to be reached after T iterations.

    Args:
        gap: the level.

    Source: arXiv 2410.16714 (MPO).

    Example:
        >>> solver, start = games.MagnetReset(), [0.665, 0.245, 0.090]
        >>> MovingMagnet().check(games.zoo.comal_cycle(), solver, 1000, start).holds
        True
    """

    statement: ClassVar[str] = "a moving magnet: the last iterate's gap falls below the level"
    source: ClassVar[str] = "arXiv 2410.16714"

    gap: float = 1e-8

    def value(self, iterations: Any) -> Any:
        """The level, whatever T."""
        return np.full(np.shape(iterations), self.gap)

    def check(self, game: Any, solver: Any, iterations: int = 1000, start: Any = None) -> Check:
        """The gap after T iterations against the level."""
        check_covered(game, solver, games.MagnetReset)
        gap = solve_quietly(game, solver, iterations, start, record=[iterations]).gaps["last"]
        return replace(Check.of([iterations], self.value([iterations]), gap), limit=True)
