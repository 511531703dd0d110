"""Nash-MD and Nash-EMA: mirror descent against an opponent pulled towards the reference, or one that lags behind."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from itertools import count

from nashward.errors import NashwardError
from nashward.games.policy import Blend, Policy
from nashward.games.step import Step, is_finite
from nashward.shortened import quoted

from ..schedule import Schedule, at
from .anchoring import check_regularised, regularised_anchor


@dataclass(frozen=True)
class NashMD:
    """Mirror descent from, and against, the geometric mixture of the iterate and the reference.

    .. math::
        mix_t \\propto \\pi_t^{1 - s \\tau} \\, ref^{s \\tau}, \\qquad
        \\pi_{t+1} \\propto mix_t \\exp(s \\, P \\, mix_t), \\quad s = step

    With ``schedule.harmonic(tau)`` KL to the Nash of the regularised game is at most ``8 / (tau^2 (T + 1))`` in the
    last iterate. With a *constant* step it converges elsewhere, because the opponent is mix and not pi: KL from
    the right point grows as the square of the step (2.0e-5 at step 0.1, 2.3e-3 at step 1; COMAL's cycle, tau = 0.1).
    :class:`MagneticMirrorDescent` and :class:`ExtraGradient` have no such bias and are faster.

    Args:
        step: the step size, or a function of t = 1, 2, ...; step * tau <= 1.
        tau: the strength of the regularisation towards the reference.

    Raises:
        ValueError: a step that is not positive, a tau below 0, step * tau > 1.

    Source: arXiv 2312.00886 (Nash learning from human feedback), theorem 1.

    Example:
        >>> from nashward import games
        >>> solver = games.NashMD(games.schedule.harmonic(0.1), tau=0.1)
        >>> solution = games.solve(games.zoo.comal_cycle(), solver, iterations=2000, start=[0.665, 0.245, 0.090])
        >>> solution.gaps["last"][-1]
        tensor(0.1506, dtype=torch.float64)
    """

    step: Schedule = 0.1
    tau: float = 0.1

    def __post_init__(self) -> None:
        check_regularised(self.step, self.tau)

    @property
    def period(self) -> int | None:
        """The number of Steps after which the Steps repeat, in ages of policies (see ``games/compiled/trace.py``)."""
        return None if callable(self.step) else 2

    def play(self, x: Policy, reference: Policy) -> Generator[Step, Policy, None]:
        for t in count(1):
            size = at(self.step, t)
            mix = yield Step(regularised_anchor(x, reference, size, self.tau), is_iterate=False)
            x = yield Step(anchor=mix, opponent=mix, size=size, averaged=x)


@dataclass(frozen=True)
class NashEMA:
    """INPO's step against a moving average of the iterates.

    .. math::
        \\rho_t = decay \\, \\rho_{t-1} + (1 - decay) \\, \\pi_t, \\qquad
        \\pi_{t+1} \\propto \\pi_t^{1 - s \\tau} \\, ref^{s \\tau} \\exp(s \\, P \\rho_t), \\quad \\rho_1 = \\pi_1

    A heuristic without a rate: where it converges, it does so to the Nash of the regularised game, as rho and pi meet.
    The paper averages parameters; here the *policies* are mixed, which for a language model means answers of earlier
    iterates that are already sampled. Members of negligible weight are dropped (``policy.NEGLIGIBLE``), so that the
    mixture stops growing: 30 members at decay 0.5, 197 at 0.9.

    Args:
        step: the step size, or a function of t = 1, 2, ...; step * tau <= 1.
        tau: the strength of the regularisation towards the reference.
        decay: the average's decay, in [0, 1); 0 is INPO.

    Raises:
        ValueError: a step that is not positive, a tau below 0, step * tau > 1, a decay not in [0, 1).

    Source: arXiv 2312.00886 (Nash-EMA).

    Example:
        >>> from nashward import games
        >>> solver = games.NashEMA(step=0.1, tau=0.1, decay=0.5)
        >>> solution = games.solve(games.zoo.comal_cycle(), solver, iterations=2000, start=[0.665, 0.245, 0.090])
        >>> solution.gaps["last"][-1]
        tensor(0.1502, dtype=torch.float64)
    """

    step: Schedule = 0.1
    tau: float = 0.1
    decay: float = 0.5

    def __post_init__(self) -> None:
        check_regularised(self.step, self.tau)
        if not (is_finite(self.decay) and 0 <= self.decay < 1):
            raise NashwardError(f"decay must be in [0, 1), got {quoted(self.decay, 80)}")

    def play(self, x: Policy, reference: Policy) -> Generator[Step, Policy, None]:
        average = Blend(x.members())
        for t in count(1):
            size = at(self.step, t)
            x = yield Step(regularised_anchor(x, reference, size, self.tau), opponent=average, size=size, averaged=x)
            average = self.decay * average + (1 - self.decay) * x
