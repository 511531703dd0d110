"""Magnetic mirror descent: multiplicative weights with a pull to the reference."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from itertools import count

from ..policy import Policy
from ..step import Step
from .schedule import Schedule, at, check


@dataclass(frozen=True)
class MagneticMirrorDescent:
    """Multiplicative weights drawn to the reference (the magnet).

    .. math::
        \\pi_{t+1} \\propto (\\pi_t \\, ref^{s \\tau} \\exp(s \\, P \\pi_t))^{1 / (1 + s \\tau)}, \\quad s = step

    The last iterate converges linearly to the Nash of the game regularised by tau KL(. || ref), for steps of at
    most 4 tau by the theorem and far larger ones in practice. That point is *not* a Nash of P: its gap is at most
    2 tau max_y(-log ref(y)).

    Args:
        step: the step size, or a function of t = 1, 2, ...
        tau: the pull to the reference.

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
        check(self.step, tau=self.tau)

    @property
    def period(self) -> int | None:
        """After how many Steps they repeat, counted back from the newest policy (see ``games/recurrence.py``)."""
        return None if callable(self.step) else 1

    def play(self, x: Policy, reference: Policy) -> Generator[Step, Policy, None]:
        for t in count(1):
            size = at(self.step, t)
            scale = 1 / (1 + size * self.tau)
            anchor = scale * x + (1 - scale) * reference
            x = yield Step(anchor, opponent=x, size=size * scale)
