"""Theorems about several objectives: worst case by ascent, floors by multipliers, lexicographic order by weights."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from nashward import games
from nashward.errors import NashwardError
from nashward.games import objectives
from nashward.shortened import quoted

from .mwu_average import check_start, complexity, complexity_of_start
from .verification import (
    Check,
    Settings,
    check_average,
    check_covered,
    check_settings,
    iteration_numbers,
    solve_quietly,
)


@dataclass(frozen=True)
class EntropicAscent:
    """The worst case of the *last* iterate of multiplicative weights on ``games.objectives.EntropicGame``.

    .. math::
        v^* - \\min_{m, y} P_m(\\pi_{T+1} \\succ y) \\le \\frac{C}{step \\cdot T} + \\tau \\log \\frac{M}{\\min \\mu},
        \\qquad step \\le 4 \\tau

    with C = max_y -log pi_1(y), M objectives and the adversary's reference mu. Why: F is concave, and e' H e is the
    variance of e' P_m(., y) over tau for a direction e, at most ``|e|_1^2 / (4 tau)``, so a step of 4 tau ascends
    (relative smoothness); F exceeds the hard minimum by at most -tau times the log of the least share.

    Args:
        step: the step size, at most 4 tau.
        tau: the adversary's pull.
        C: the start's complexity.
        share: min mu / M, the least share of a pair of objective and reply.

    Raises:
        ValueError: a step above 4 tau.

    Source: derived, with Lu, Freund & Nesterov 2018 (mirror ascent); arXiv 2602.19041 (the adversary).

    Example:
        >>> float(EntropicAscent(step=0.2, tau=0.05, C=math.log(4), share=1 / 8).value(1000).round(4))
        0.1109
    """

    statement: ClassVar[str] = "worst case, entropic, last iterate: v* - min P <= C / (step T) + tau log(M / min mu)"
    source: ClassVar[str] = "derived; Lu, Freund & Nesterov 2018; arXiv 2602.19041"

    step: float
    tau: float
    C: float
    share: float

    def __post_init__(self) -> None:
        check_settings(self)
        if self.step > 4 * self.tau * (1 + 1e-12):
            raise NashwardError(f"the step {self.step:g} is above 4 tau = {4 * self.tau:g}, where nothing is proven")

    @classmethod
    def of(cls, game: objectives.EntropicGame, start: Any = None, step: float | None = None) -> EntropicAscent:
        """The theorem with the constants of a game and a start, and by default with the largest step."""
        _check_kind(game, objectives.EntropicGame)
        step = 4 * game.tau if step is None else step
        return cls(step, game.tau, complexity_of_start(game, start), _least_share(game))

    @np.errstate(divide="ignore")  # after no iteration the bound is infinite
    def value(self, iterations: Any) -> Any:
        """The bound after T iterations; T may be an array."""
        T = iteration_numbers(iterations)
        return self.C / (self.step * T) - self.tau * math.log(self.share)

    def check(self, game: objectives.EntropicGame, solver: Any, iterations: int = 400, start: Any = None) -> Check:
        """The iterates' worst win rate against the exact value of the worst case.

        Raises:
            ValueError: another game, solver or step, or a start whose complexity is above C.
        """
        _check_kind(game, objectives.EntropicGame)
        _check_constants(self, tau=game.tau, share=_least_share(game))
        check_covered(game, solver, games.MWU, step=self.step)
        check_start(self.C, game, start)
        path = solve_quietly(game, solver, iterations, start, keep_policies=True)
        best = objectives.worst_case(game.game).bound
        wins = torch.einsum("ti,mij->tmj", path.policies["last"], game.game.P).amin((-2, -1))
        return Check.of(path.iterations, self.value(path.iterations), best - wins)


@dataclass(frozen=True)
class FloorsAverage(Settings):
    """The average of multiplicative weights on ``games.objectives.FloorsGame``, policy and multipliers together.

    .. math::
        \\max_y (A_1 \\bar\\pi + D^\\top \\bar\\lambda)_y + \\Lambda \\max_m (c_m - P_m(\\bar\\pi \\succ \\mu))_+ \\le
        \\frac{C + \\log(k + 1)}{step \\cdot T} + \\frac{step}{8} \\left((1 + \\Lambda)^2 + 4 \\Lambda^2\\right)

    where the first term bounds what a policy above the floors could gain. Why: the game is symmetric, so that both
    sums of regrets are those of the average, and the payoffs of the policy span 1 + Lambda, those of the multipliers
    2 Lambda (Hoeffding's lemma).

    Args:
        step: the step size.
        limit: Lambda, the largest sum of the multipliers.
        k: the number of floors.
        C: the start's complexity, max_y -log pi_1(y).

    Source: derived; Freund & Schapire 1999.

    Example:
        >>> round(float(FloorsAverage(step=0.05, limit=2.0, k=1, C=math.log(4)).value(4000)), 4)
        0.1666
    """

    statement: ClassVar[str] = "floors, average: gain + limit * violation <= (C + log(k + 1)) / (step T) + O(step)"
    source: ClassVar[str] = "derived; Freund & Schapire 1999"

    step: float
    limit: float
    k: int
    C: float

    @np.errstate(divide="ignore")  # after no iteration the bound is infinite
    def value(self, iterations: Any) -> Any:
        """The bound after T iterations; T may be an array."""
        T = iteration_numbers(iterations)
        spans = (1 + self.limit) ** 2 + 4 * self.limit**2
        return (self.C + math.log(self.k + 1)) / (self.step * T) + self.step * spans / 8

    def check(self, game: objectives.FloorsGame, solver: Any, iterations: int = 400, start: Any = None) -> Check:
        """The duality gap of the average, which is the left side, against the bound.

        Raises:
            ValueError: another game, solver or step, a start whose complexity is above C, or multipliers that do not
                start uniform.
        """
        _check_kind(game, objectives.FloorsGame)
        _check_constants(self, limit=game.limit, k=len(game.names))
        check_covered(game, solver, games.MWU, step=self.step)
        check_start(self.C, game, start)
        if start is not None and complexity(game.players(start)[1]) > math.log(self.k + 1) * (1 + 1e-9):
            raise NashwardError("the theorem covers multipliers that start uniform: give only the policy as the start")
        return check_average(self.value, game, solver, iterations, start)


@dataclass(frozen=True)
class LexicographicWeights(Settings):
    """A weighted sum with weights 1 and epsilon is lexicographic up to epsilon.

    .. math::
        x_\\epsilon \\text{ Nash of } A_1 + \\epsilon A_2: \\qquad
        \\text{gap}_1(x_\\epsilon) \\le \\epsilon, \\qquad
        y^\\top A_2 x_\\epsilon \\le 0 \\;\\; \\forall y: A_1 y \\le 0

    Why: A_1 x <= -epsilon A_2 x, whose entries are at most epsilon / 2; and an equilibrium y of the first objective
    wins y' A_1 x >= 0, so that y' A_2 x <= -y' A_1 x / epsilon <= 0: no equilibrium of the first objective beats x
    under the second one, for any epsilon.

    Args:
        epsilon: the weight of the second objective.

    Source: derived.

    Example:
        >>> P = games.zoo.rock_paper_scissors().P
        >>> LexicographicWeights(0.1).check(games.MultiObjectiveGame(torch.stack([P, games.zoo.comal_cycle().P]))).holds
        True
    """

    statement: ClassVar[str] = "weights 1 and epsilon: gap_1 <= epsilon, no equilibrium of the first wins the second"
    source: ClassVar[str] = "derived"

    epsilon: float

    def value(self) -> float:
        """The bound on the first objective's duality gap."""
        return self.epsilon

    def check(self, game: games.MultiObjectiveGame) -> Check:
        """The first objective's gap, and what its lexicographic and maximum-entropy equilibrium win of the second."""
        x = objectives.weights(game, [1.0, self.epsilon, *[0.0] * (len(game.names) - 2)]).policy
        first, A = games.PreferenceGame(game.P[0]), game.P[1] - 0.5
        face = games.face(first)
        others = [objectives.lexicographic(game).policy, torch.from_numpy(games.equilibria.maximum_entropy(face))]
        wins = [float(y @ A @ x) for y in others]
        gap = float(games.duality_gap(first, x))
        return Check.of([0, 1, 2], [self.value(), 0.0, 0.0], [gap, *wins], rounding=1e-10)


def _least_share(game: objectives.EntropicGame) -> float:
    return float(game.reference.min()) / len(game.game.names)


def _check_kind(game: Any, kind: type[Any]) -> None:
    if not isinstance(game, kind):
        raise NashwardError(f"the theorem covers a games.objectives.{kind.__name__}, got {quoted(game, 80)}")


def _check_constants(theorem: Any, **of_game: float) -> None:
    """Refuse a game whose constants differ from the theorem's fields with these names."""
    for name, value in of_game.items():
        if not math.isclose(own := getattr(theorem, name), value, rel_tol=1e-9):
            raise NashwardError(
                f"the theorem covers {name} = {own:g} and this game has {value:g}: make the theorem for this game"
            )
