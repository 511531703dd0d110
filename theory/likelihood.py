"""The foundations of a fit by likelihood ratios: the mean win rate, the log-partition function, the pair loss; and the
effect that a gradient step on a pair's loss has on the likelihoods of its two responses."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import permutations
from typing import Any, ClassVar

import torch

from nashward import games
from nashward.games.forms.payoff_numbers import as_floats
from nashward.games.shapes import Float

from .verification import Check, Settings, check_covered, solve_quietly


@dataclass(frozen=True)
class MeanWinRate:
    """A policy's mean win rate against itself is one half, for every preference.

    .. math::  E_{y \\sim \\pi} P(y \\succ \\pi) = \\pi^\\top P \\pi = 1/2

    So 1/2 is the right baseline in self-play, and in self-play only.

    Source: P + P^T = 1.

    Example:
        >>> MeanWinRate().check(games.zoo.comal_cycle(), games.MWU(0.5)).holds
        True
    """

    statement: ClassVar[str] = "E P(y > pi) = 1/2 over y from pi"
    source: ClassVar[str] = "P + P^T = 1"

    def value(self) -> float:
        """1/2."""
        return 0.5

    def check(self, game: games.PreferenceGame, solver: Any, iterations: int = 50, start: Any = None) -> Check:
        """The mean along the solver's iterates."""
        check_covered(game, solver)
        path = solve_quietly(game, solver, iterations, start, keep_policies=True)
        x = path.policies["last"]
        return Check.of(path.iterations, self.value(), (x * game.win_rate(x)).sum(-1), equal=True, tolerance=0.0)


@dataclass(frozen=True)
class LogPartition(Settings):
    """The log normaliser of a multiplicative-weights step is step / 2 to first order; SPPO replaces it by that.

    .. math::
        \\left| \\log E_{y \\sim \\pi} e^{s P(y \\succ \\pi)} - \\frac{s}{2} - \\frac{s^2}{2} Var_\\pi P(y \\succ \\pi)
        \\right| \\le \\frac{s^3}{36 \\sqrt 3}

    Why: log Z is the cumulant generating function of a variable in [0, 1] with mean 1/2, and no variable on
    [0, 1], tilted or not, has a third central moment above 1 / (6 sqrt 3).

    Args:
        step: s, the step size.

    Source: derived; arXiv 2405.00675, equation 4.6 for step / 2.

    Example:
        >>> LogPartition(0.5).check(games.zoo.comal_cycle(), games.MWU(0.5)).holds
        True
        >>> round(float(LogPartition(0.5).value(games.zoo.comal_cycle(), [0.5, 0.25, 0.25])), 4)
        0.2504
    """

    statement: ClassVar[str] = "|log Z - s/2 - s^2 Var / 2| <= s^3 / (36 sqrt 3)"
    source: ClassVar[str] = "derived; arXiv 2405.00675, equation 4.6"

    step: float

    def value(self, game: games.PreferenceGame, policy: Any) -> Float[torch.Tensor, "..."]:
        """s / 2 + s^2 Var / 2, [...]."""
        r, pi = game.win_rate(policy), torch.as_tensor(policy, dtype=torch.float64)
        return self.step / 2 + self.step**2 * ((r - 0.5) ** 2 * pi).sum(-1) / 2

    def check(self, game: games.PreferenceGame, solver: Any, iterations: int = 20, start: Any = None) -> Check:
        """log Z along the solver's iterates against the expansion, within the remainder."""
        check_covered(game, solver)
        path = solve_quietly(game, solver, iterations, start, record=range(1, iterations + 1), keep_policies=True)
        x = path.policies["last"]
        log_partition = (x.log() + self.step * game.win_rate(x)).logsumexp(-1)
        remainder = self.step**3 / (36 * math.sqrt(3)) + 1e-15
        expansion = self.value(game, x)
        return Check.of(path.iterations, expansion, log_partition, equal=True, tolerance=0.0, rounding=remainder)


@dataclass(frozen=True)
class OrderedLogPartition(Settings):
    """If the responses are totally ordered, log Z / step goes from 1/2 to 1 as the step grows.

    .. math::  \\log Z / s = \\log((e^s - 1) / s) / s, \\qquad n \\to \\infty

    because the win rates of a uniform policy are then uniform on [0, 1]: 1/2 is a bad constant at SPPO's step of 1e3.

    Args:
        step: s, the step size.

    Source: arXiv 2405.00675, appendix A.

    Example:
        >>> [round(OrderedLogPartition(s).value(), 3) for s in (1.0, 10.0, 100.0, 1000.0)]
        [0.541, 0.77, 0.954, 0.993]
    """

    statement: ClassVar[str] = "totally ordered: log Z / s = log((e^s - 1) / s) / s"
    source: ClassVar[str] = "arXiv 2405.00675, appendix A"

    step: float

    def value(self) -> float:
        """log((e^s - 1) / s) / s."""
        return (self.step + math.log(-math.expm1(-self.step)) - math.log(self.step)) / self.step

    def check(self, game: games.PreferenceGame | games.ImplicitGame, policy: Any = None) -> Check:
        """log Z / s of a large ordered game at the uniform policy (or ``policy``)."""
        n = game.sizes[0]
        pi = (
            torch.full((n,), 1 / n, dtype=torch.float64)
            if policy is None
            else torch.as_tensor(policy, dtype=torch.float64)
        )
        measured = (pi.log() + self.step * game.win_rate(pi)).logsumexp(-1) / self.step
        return Check.of([n], self.value(), measured, equal=True, tolerance=0.0, rounding=5e-4)


@dataclass(frozen=True)
class PairLoss(Settings):
    """The least-squares loss on labelled pairs has the exact multiplicative-weights step as its minimiser.

    .. math::
        E_{y, y' \\sim \\pi, w \\succ l} \\left( \\log \\frac{\\theta(w)}{\\pi(w)} - \\log \\frac{\\theta(l)}{\\pi(l)}
        - \\frac{s}{2} \\right)^2 \\quad\\text{is least at}\\quad \\theta \\propto \\pi \\exp(s P \\pi)

    for independent pairs drawn from the policy, with binary labels. Note the 1/2: a label is worth s / 2, not s.

    Args:
        step: s, the step size.

    Source: arXiv 2407.00617 (INPO), proposition 6, with tau = 0.

    Example:
        >>> PairLoss(0.5).check(games.zoo.comal_cycle(), games.MWU(0.5)).holds
        True
    """

    statement: ClassVar[str] = "pairs with binary labels: the loss's minimiser is the MWU step"
    source: ClassVar[str] = "arXiv 2407.00617, proposition 6"

    step: float

    def value(self, game: games.PreferenceGame, policy: Any) -> Float[torch.Tensor, " n"]:
        """The minimiser, [n], from the loss's normal equations."""
        pi, P, n = torch.as_tensor(policy, dtype=torch.float64), game.P, game.sizes[0]
        i, j = (index.reshape(-1) for index in torch.meshgrid(torch.arange(n), torch.arange(n), indexing="ij"))
        weight = (pi[i] * pi[j] * P[i, j]).sqrt()  # one row of the regression per pair with winner i
        rows = torch.zeros(n * n, n).double()
        rows[torch.arange(n * n), i] += 1
        rows[torch.arange(n * n), j] -= 1
        target = torch.where(i == j, 0.0, self.step / 2)
        log_ratio = torch.linalg.lstsq(weight[:, None] * rows, (weight * target)[:, None], driver="gelsd").solution
        return (pi.log() + log_ratio[:, 0]).softmax(-1)

    def check(self, game: games.PreferenceGame, solver: Any, iterations: int = 1, start: Any = None) -> Check:
        """log(pi_2 / pi_1) of the solver against that of the minimiser, for each action."""
        check_covered(game, solver, games.MWU, step=self.step)
        first = (
            torch.full(game.sizes, 1 / game.sizes[0], dtype=torch.float64)
            if start is None
            else torch.as_tensor(start, dtype=torch.float64)
        )
        last = solve_quietly(game, solver, 1, first).last
        minimiser = self.value(game, first)
        measured, expected = (x.log() - first.log() for x in (last, minimiser))
        return Check.of(range(len(first)), expected, measured, equal=True, tolerance=0.0, rounding=1e-9)


def sppo_forces(ratios: Any, wins: Any, size: float) -> Float[torch.Tensor, "*batch 2"]:
    """The forces -dL / d(l_w, l_l) of SPPO's loss on a pair's two log-ratios: independent of each other.

    .. math::  f_w = s (P_w - 1/2) - l_w, \\qquad f_l = s (P_l - 1/2) - l_l

    Args:
        ratios: the log-ratios l_w and l_l, [..., 2].
        wins: the win rates P_w and P_l, [..., 2].
        size: s, the step size.

    Returns:
        [..., 2], f_w and f_l.

    Source: derived from arXiv 2405.00675, equation 4.7.

    Example:
        >>> sppo_forces([0.0, 0.0], [0.9, 0.3], size=1.0)
        tensor([ 0.4000, -0.2000], dtype=torch.float64)
    """
    return size * (as_floats(wins) - 0.5) - as_floats(ratios)


def dpo_forces(ratios: Any, size: float) -> Float[torch.Tensor, "*batch 2"]:
    """The forces of DPO's loss on a pair's two log-ratios: equal and opposite, and weaker as the margin grows.

    .. math::  f_w = -f_l = \\sigma(-(l_w - l_l) / s) / s

    Args:
        ratios: the log-ratios l_w and l_l, [..., 2].
        size: s, which is 1 / beta of DPO.

    Returns:
        [..., 2], f_w and f_l.

    Source: derived from arXiv 2305.18290, equation 7.

    Example:
        >>> dpo_forces([0.0, 0.0], size=10.0)
        tensor([ 0.0500, -0.0500], dtype=torch.float64)
    """
    return _opposite((-_margin(ratios) / size).sigmoid() / size)


def ipo_forces(ratios: Any, size: float) -> Float[torch.Tensor, "*batch 2"]:
    """The forces of IPO's loss on a pair's two log-ratios: equal and opposite, until the margin is s / 2.

    .. math::  f_w = -f_l = 2 (s / 2 - (l_w - l_l))

    Args:
        ratios: the log-ratios l_w and l_l, [..., 2].
        size: s, which is 1 / tau of IPO.

    Returns:
        [..., 2], f_w and f_l.

    Source: derived from arXiv 2310.12036, equation 17.

    Example:
        >>> ipo_forces([0.0, 0.0], size=10.0)
        tensor([ 10., -10.], dtype=torch.float64)
    """
    return _opposite(2 * (size / 2 - _margin(ratios)))


def likelihood_change(gram: Any, forces: Any) -> Float[torch.Tensor, "*batch 2"]:
    """The change of a pair's log-probabilities in a small step of gradient descent, per unit of the learning rate.

    .. math::
        \\dot l_a = \\sum_b K_{ab} f_b, \\qquad K_{ab} = \\langle \\nabla \\log \\pi(a), \\nabla \\log \\pi(b) \\rangle

    With opposite forces f, -f the chosen one changes by f (K_ww - K_wl) and the sum of both by f (K_ww - K_ll): a loss
    of the margin alone lowers its chosen response exactly where K_wl > K_ww, and leaves the level of both to the
    network. SPPO's forces pull each log-ratio to a target of its own; at the start, with win rates as far above one
    half as below, they are opposite too, and all three losses move the same way.

    Args:
        gram: K, [..., 2, 2], the chosen response first.
        forces: f_w and f_l, [..., 2].

    Returns:
        [..., 2], the changes of the chosen and the rejected response.

    See also:
        ``sppo_forces``, ``dpo_forces``, ``ipo_forces``: the forces of three losses.

    Source: derived, to first order in the learning rate.

    Example:
        >>> likelihood_change([[2.0, 3.0], [3.0, 8.0]], [1.0, -1.0]).tolist()  # both fall
        [-1.0, -5.0]
    """
    return (as_floats(gram) @ as_floats(forces)[..., None])[..., 0]


@dataclass(frozen=True)
class TablesRaiseTheChosen:
    """In a table no loss of the margin lowers its chosen response; in a network, whose responses share weights, it may.

    .. math::
        K_{ab} = [a = b] - \\pi_a - \\pi_b + {\\textstyle\\sum_y \\pi_y^2}, \\qquad
        K_{ww} - K_{wl} = 1 - \\pi_w + \\pi_l > 0

    for a softmax with one free logit per response.

    Source: derived.

    Example:
        >>> policy = [0.5, 0.3, 0.2]
        >>> TablesRaiseTheChosen().check(policy).holds, float(TablesRaiseTheChosen().value(policy, 0, 2))
        (True, 0.7)
    """

    statement: ClassVar[str] = "softmax table: K_ww - K_wl = 1 - pi_w + pi_l > 0"
    source: ClassVar[str] = "derived"

    def gram(self, policy: Any) -> Float[torch.Tensor, "*batch n n"]:
        """K over all actions, [..., n, n]."""
        pi = torch.as_tensor(policy, dtype=torch.float64)
        shared = pi.square().sum(-1)[..., None, None] - pi[..., :, None] - pi[..., None, :]
        return shared + torch.eye(pi.shape[-1], dtype=pi.dtype)

    def value(self, policy: Any, chosen: int, rejected: int) -> Float[torch.Tensor, "*batch"]:
        """K_ww - K_wl, [...]."""
        pi = torch.as_tensor(policy, dtype=torch.float64)
        return 1 - pi[..., chosen] + pi[..., rejected]

    def check(self, policy: Any) -> Check:
        """K_ww - K_wl of each pair against the value from the score functions."""
        logits = torch.as_tensor(policy, dtype=torch.float64).log()
        scores = torch.autograd.functional.jacobian(lambda theta: theta.log_softmax(-1), logits)
        gram = scores @ scores.mT
        pairs = list(permutations(range(len(logits)), 2))
        expected = torch.stack([self.value(logits.exp(), a, b) for a, b in pairs])
        measured = torch.stack([gram[a, a] - gram[a, b] for a, b in pairs])
        return Check.of(range(len(pairs)), expected, measured, equal=True, tolerance=0.0, rounding=1e-12)


def _margin(ratios: Any) -> Float[torch.Tensor, "*batch"]:
    ratios = as_floats(ratios)
    return ratios[..., 0] - ratios[..., 1]


def _opposite(force: Float[torch.Tensor, "*batch"]) -> Float[torch.Tensor, "*batch 2"]:
    return torch.stack([force, -force], -1)
