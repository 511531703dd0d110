"""The first theorem: the average of multiplicative weights in self-play approaches the Nash equilibrium."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch


@dataclass(frozen=True)
class MWUAverage:
    """The duality gap of the average of pi_1 .. pi_T under ``games.MWU`` with a constant step, from pi_1.

    .. math::  gap(\\bar\\pi_T) \\le \\frac{step}{4} + \\frac{2 C}{step \\cdot T}, \\qquad C = \\max_y -\\log \\pi_1(y)

    holds for every symmetric game, every step and every T (C = log n for a uniform start). The step
    ``sqrt(8 C / T)`` makes it ``sqrt(2 C / T)``. Nothing of the kind holds for the last iterate.

    Why: Hedge with payoffs in [0, 1] has a regret of at most C / step + step T / 8 (Hoeffding's lemma), and in
    self-play the average's exploitability is the average regret; the gap is twice that.

    Args:
        step: the constant step size.
        C: max over actions of -log of the start's probability, in nats.

    Source: Freund & Schapire 1999 in Hoeffding's form; the first such statement for preferences is Theorem 4.1 of
    arXiv 2405.00675, whose constants (step / 2 + 2 C / (step T)) are weaker.

    Example:
        >>> theorem = MWUAverage.best(iterations=10_000, C=math.log(10))
        >>> round(theorem.step, 4), round(float(theorem.bound(10_000)), 4)
        (0.0429, 0.0215)
    """

    step: float
    C: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.step) and self.step > 0):
            raise ValueError(f"step must be a positive number, got {self.step}")
        if not (math.isfinite(self.C) and self.C >= 0):
            raise ValueError(f"C = max_y -log pi_1(y) must be finite (pi_1 > 0 everywhere), got {self.C}")

    @classmethod
    def best(cls, iterations: int, C: float) -> MWUAverage:
        """The theorem at the step that makes its bound smallest after ``iterations``: sqrt(8 C / T)."""
        return cls(math.sqrt(8 * C / iterations), C)

    def bound(self, iterations: Any) -> Any:
        """The bound after T iterations; T may be an array."""
        return self.step / 4 + 2 * self.C / (self.step * np.asarray(iterations, dtype=np.float64))


def complexity(start: Any) -> float:
    """C = max_y -log pi_1(y) of a start, in nats."""
    return float(-torch.as_tensor(start, dtype=torch.float64).log().min())
