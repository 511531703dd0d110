"""Multiplicative weights in self-play: the average approaches the Nash equilibrium, the last iterate does not."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from nashward import games
from nashward.errors import NashwardError
from nashward.games.shapes import Float
from nashward.games.step import is_finite

from .verification import Check, Settings, check_average, check_covered, check_settings, iteration_numbers, kl_to_target


@dataclass(frozen=True)
class _AverageOfMWU(ABC):
    """A bound on the gap of the average under ``games.MWU`` with a constant step."""

    step: float
    C: float

    def __post_init__(self) -> None:
        check_settings(self)

    @abstractmethod
    def value(self, iterations: Any) -> Any:
        """The bound after T iterations; T may be an array."""

    def check(self, game: Any, solver: Any, iterations: int = 1000, start: Any = None) -> Check:
        """The gap of the solver's average against the bound.

        Raises:
            ValueError: another solver or step, or a start whose complexity is above C: the theorem does not cover it.
        """
        check_covered(game, solver, games.MWU, step=self.step)
        check_start(self.C, game, start)
        return check_average(self.value, game, solver, iterations, start)


@dataclass(frozen=True)
class MWUAverage(_AverageOfMWU):
    """The duality gap of the average of pi_1 .. pi_T under ``games.MWU`` with a constant step, from pi_1.

    .. math::  gap(\\bar\\pi_T) \\le \\frac{step}{4} + \\frac{2 C}{step \\cdot T}, \\qquad C = \\max_y -\\log \\pi_1(y)

    holds for every symmetric game, every step and every T (C = log n for a uniform start). The step
    ``sqrt(8 C / T)`` makes the bound ``sqrt(2 C / T)``. No such bound holds for the last iterate.

    Why: Hedge with payoffs in [0, 1] has a regret of at most C / step + step T / 8 (Hoeffding's lemma), and in
    self-play the average's exploitability is the average regret; the gap is twice that.

    Args:
        step: the constant step size.
        C: max over actions of -log of the start's probability, in nats.

    Raises:
        ValueError: a step that is not positive, a C that is negative or not finite.

    Source: Freund & Schapire 1999 in Hoeffding's form; the first such statement for preferences is Theorem 4.1 of
    arXiv 2405.00675, whose constants (step / 2 + 2 C / (step T)) are weaker.

    Example:
        >>> theorem = MWUAverage.best(iterations=10_000, C=math.log(10))
        >>> round(theorem.step, 4), round(float(theorem.bound(10_000)), 4)
        (0.0429, 0.0215)
    """

    statement: ClassVar[str] = "MWU, average: gap <= step / 4 + 2 C / (step T)"
    source: ClassVar[str] = "Freund & Schapire 1999, with Hoeffding's lemma"

    @classmethod
    def best(cls, iterations: int, C: float) -> MWUAverage:
        """The theorem at the step that makes its bound smallest after ``iterations``: sqrt(8 C / T)."""
        _check_best(iterations, C)
        return cls(math.sqrt(8 * C / iterations), C)

    @np.errstate(divide="ignore")  # after no iteration the bound is infinite
    def value(self, iterations: Any) -> Any:
        """The bound after T iterations; T may be an array."""
        return self.step / 4 + 2 * self.C / (self.step * iteration_numbers(iterations))

    bound = value  # the name that plots use


@dataclass(frozen=True)
class SPPOTheorem(_AverageOfMWU):
    """Theorem 4.1 of SPPO with its constants written out, and where it is vacuous.

    .. math::  gap(\\bar\\pi_T) \\le \\frac{step}{2} + \\frac{2 C}{step \\cdot T}, \\qquad step = 2 \\sqrt{C / T}

    The paper states O(1 / sqrt T) for a step of the order of 1 / sqrt T; its proof (Freund & Schapire's theorem 1, with
    step / (1 - exp(-step)) <= 1 + step / 2 + ...) gives these constants, which :class:`MWUAverage` halves in the first
    term. No duality gap is above 1: at the paper's own step of 1e3 and T = 3 the bound is at least 500, and the
    theorem is vacuous for such a run.

    Args:
        step: the constant step size (the paper's eta).
        C: max over responses of -log pi_1(y), in nats; for a language model over whole texts: hundreds of nats.

    Raises:
        ValueError: a step that is not positive, a C that is negative or not finite.

    Source: arXiv 2405.00675, theorem 4.1 and appendix B.

    Example:
        >>> SPPOTheorem(step=1e3, C=300.0).is_vacuous(iterations=3)
        True
        >>> SPPOTheorem.best(iterations=10_000, C=math.log(3)).is_vacuous(10_000)
        False
    """

    statement: ClassVar[str] = "SPPO theorem 4.1: gap of the average <= step / 2 + 2 C / (step T)"
    source: ClassVar[str] = "arXiv 2405.00675, theorem 4.1, appendix B"

    @classmethod
    def best(cls, iterations: int, C: float) -> SPPOTheorem:
        """The theorem at its best step, 2 sqrt(C / T)."""
        _check_best(iterations, C)
        return cls(2 * math.sqrt(C / iterations), C)

    @np.errstate(divide="ignore")  # after no iteration the bound is infinite
    def value(self, iterations: Any) -> Any:
        """The bound after T iterations; T may be an array."""
        return self.step / 2 + 2 * self.C / (self.step * iteration_numbers(iterations))

    def is_vacuous(self, iterations: int) -> bool:
        """Whether the bound is at least 1, which no gap exceeds."""
        return bool(self.value(iterations) >= 1)


@dataclass(frozen=True)
class MWULeaves(Settings):
    """The last iterate of multiplicative weights never comes nearer to a Nash that plays every action.

    .. math::  KL(\\pi^* \\| \\pi_t) \\le KL(\\pi^* \\| \\pi_{t+1})

    Why: with an interior Nash the payoff term of the KL's change vanishes, since A pi* = 0, and what is left is the
    log-partition function, which is convex with slope 0. It holds for a step of either sign, and for every size.

    Args:
        nash: [..., n], an interior equilibrium.

    Raises:
        ValueError: a Nash that does not play every action.

    Source: Bailey & Piliouras 2018, theorem 3.1, for a symmetric game.

    Example:
        >>> from nashward import games
        >>> nash = games.nash(games.zoo.comal_cycle()).policy
        >>> MWULeaves(nash).check(games.zoo.comal_cycle(), games.MWU(0.5), 50, [0.5, 0.3, 0.2]).holds
        True
    """

    statement: ClassVar[str] = "MWU, last iterate: KL(nash || pi_t) never falls (interior Nash)"
    source: ClassVar[str] = "Bailey & Piliouras 2018"

    nash: Float[torch.Tensor, "*batch n"]

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (self.nash > 0).all():
            raise NashwardError("the theorem needs a Nash that plays every action; this one has a probability of 0")

    def value(self, distance: Any) -> Any:
        """The least KL after a step from a policy at this KL: the same."""
        return distance

    def check(self, game: Any, solver: Any, iterations: int = 1000, start: Any = None) -> Check:
        """KL after each step (measured) at or above KL before it (bound)."""
        check_covered(game, solver, games.MWU, n=self.nash.shape[-1])
        kl = kl_to_target(game, solver, self.nash, iterations, start)
        return Check.of(range(1, iterations + 1), self.value(kl[:-1]), kl[1:], exceeds=True)


def _check_best(iterations: int, C: float) -> None:
    if not (is_finite(iterations) and is_finite(C) and iterations >= 1 and C > 0):
        raise NashwardError(
            "the best step is a multiple of sqrt(C / iterations): expected at least 1 iteration and a finite C > 0, as "
            "theory.complexity(start) of a start that plays several actions, got "
            f"iterations = {iterations!r}, C = {C!r}"
        )


def complexity(start: Any) -> float:
    """C = max_y -log pi_1(y) of a start, in nats.

    Args:
        start: [..., n] probabilities.

    Returns:
        In nats; infinite where an action has probability 0.

    Raises:
        ValueError: not probabilities: one is below 0, or they do not sum to 1.

    Source: the constant of :class:`MWUAverage`.

    Example:
        >>> round(complexity([0.5, 0.25, 0.25]), 4)
        1.3863
    """
    policy = torch.as_tensor(start, dtype=torch.float64)
    if not (policy >= 0).all() or not ((policy.sum(-1) - 1).abs() <= 1e-6).all():
        raise NashwardError(f"expected probabilities that sum to 1, got {start}")
    return float(-policy.log().min())


def complexity_of_start(game: Any, start: Any) -> float:
    """C of the policy that a run on the game starts from (None: the uniform policy)."""
    return math.log(game.sizes[0]) if start is None else complexity(game.players(start)[0])


def check_start(C: float, game: Any, start: Any) -> None:
    """Refuse a start (None: uniform) that is not a policy of the game, or whose complexity is above a theorem's C.

    Raises:
        ValueError: names the start's C.
    """
    own = complexity_of_start(game, start)
    if own > C * (1 + 1e-9):
        which = f"the uniform start over {game.sizes[0]} actions" if start is None else "this start"
        raise NashwardError(
            f"C is {C:.4g} and {which} has {own:.4g}: make the theorem with C = theory.complexity(start)"
        )


def explain_bound(step: float, iterations: int, C: float, kl: float | None = None) -> list[str]:
    """What the theorem says about a finished self-play run of a language model, and what it does not say.

    Args:
        step: the run's constant step.
        iterations: T.
        C: -log pi_1 of the least likely response that matters, in nats.
        kl: the measured KL(last || first) in nats; None: not measured.

    Returns:
        Lines of text.

    See also:
        ``SPPOTheorem.is_vacuous``: whether the paper's own bound says anything.

    Example:
        >>> for line in explain_bound(step=1e3, iterations=3, C=300.0, kl=2.0): print(line)
        the bound on the gap of the mixture of the 3 played policies is 250, above 1: vacuous
        the smallest bound after 3 iterations, 14.1, would need the step 28.3
        it does not bound the last iterate
        a win rate differs by at most 0.5, so a step of 1e+03 requires up to 500 nats; the run moved by 2 nats of KL
        it assumes exact steps: the errors of sampling, the oracle and the fit come on top
    """
    theorem, best = MWUAverage(step, C), MWUAverage.best(iterations, C)
    bound = float(theorem.value(iterations))
    verdict = "above 1: vacuous" if bound >= 1 else "for the oracle's own game"
    lines = [
        f"the bound on the gap of the mixture of the {iterations} played policies is {bound:.3g}, {verdict}",
        f"the smallest bound after {iterations} iterations, {float(best.value(iterations)):.3g}, would need the step "
        f"{best.step:.3g}",
        "it does not bound the last iterate",
    ]
    if kl is not None:
        lines.append(
            f"a win rate differs by at most 0.5, so a step of {step:.3g} requires up to {step / 2:.3g} nats; the run "
            f"moved by {kl:.3g} nats of KL"
        )
    return [*lines, "it assumes exact steps: the errors of sampling, the oracle and the fit come on top"]
