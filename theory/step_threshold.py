"""The exact thresholds of the step size, checked from both sides: convergence below, divergence above."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from nashward import games

from .stability import local_factor
from .verification import Check, Settings, check_covered, check_setting, solve_quietly


@dataclass(frozen=True)
class LocalThreshold(Settings):
    """Near an interior Nash the last iterate converges exactly for steps below a threshold, which depends on lam.

    .. math::
        s < \\frac{1}{\\sqrt3 \\lambda} \\text{ (optimistic MWU)}, \\quad
        s < \\frac{1}{\\lambda} \\text{ (extragradient)}, \\quad
        s < \\frac{2 \\tau}{\\lambda^2 - \\tau^2} \\text{ (MMD, reference at the Nash)}

    with lam = ``games.rotation_frequency`` of the Nash. For other solvers ``stable_below`` finds the threshold.

    Args:
        kind: the solver.
        formula: the threshold as a function of lam.

    Source: derived from the linearised step (``theory/stability.py``).

    Example:
        >>> round(LocalThreshold.optimistic().value(1 / math.sqrt(12)), 6)
        2.0
    """

    statement: ClassVar[str] = "last iterate near the Nash: closes in below the exact threshold of the step"
    source: ClassVar[str] = "derived; the linearised step"

    kind: type[Any]
    formula: Callable[[float], float]

    @classmethod
    def optimistic(cls) -> LocalThreshold:
        """1 / (sqrt(3) lam), for ``games.OptimisticMWU``."""
        return cls(games.OptimisticMWU, lambda lam: 1 / (math.sqrt(3) * lam))

    @classmethod
    def extragradient(cls) -> LocalThreshold:
        """1 / lam, for ``games.ExtraGradient``."""
        return cls(games.ExtraGradient, lambda lam: 1 / lam)

    @classmethod
    def magnetic(cls, tau: float) -> LocalThreshold:
        """2 tau / (lam^2 - tau^2), for ``games.MagneticMirrorDescent``; none where tau >= lam."""
        check_setting(cls, "tau", tau)
        kind = games.MagneticMirrorDescent
        return cls(kind, lambda lam: 2 * tau / (lam**2 - tau**2) if lam > tau else math.inf)

    def value(self, lam: float) -> float:
        """The threshold at this frequency; without a rotation there is none."""
        check_setting(type(self), "lam", lam)
        return self.formula(lam) if lam > 0 else math.inf

    def check(self, game: games.PreferenceGame, solver: Any, iterations: int | None = None, start: Any = None) -> Check:
        """KL to the Nash at T and 2 T, from ``start`` (None: 1e-4 from the Nash): the later is at most the earlier.

        Args:
            iterations: T (None: enough to change KL by a factor of 10, at most 500).
        """
        check_covered(game, solver, self.kind)
        nash = games.nash(game).policy
        if start is None:
            nudge = torch.linspace(-1, 1, len(nash)).double().cos()
            start = (nash.log() + 1e-4 * (nudge - nudge.mean())).softmax(-1)
        if iterations is None:
            factor = local_factor(solver, float(games.rotation_frequency(game, nash)))
            iterations = math.ceil(min(500, abs(math.log(10) / math.log(factor) / 2)))
        T = [iterations, 2 * iterations]
        path = solve_quietly(game, solver, T[1], start, reference=nash, record=T, keep_policies=True)
        early, late = games.kl_divergence(nash, path.policies["last"])
        return Check.of([T[1]], early, late, rounding=0.0)
