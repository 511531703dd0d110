"""How estimates from K samples, an oracle's errors, and scores in place of a table change a game."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from nashward import games
from nashward.games.forms.game import check_table
from nashward.games.shapes import Float

from .verification import Check, Settings


@dataclass(frozen=True)
class KSamples(Settings):
    """Mean and variance of the win rate estimated from K samples, with or without the self-comparison among them.

    .. math::
        E \\hat G_y - \\tfrac12 = \\frac{m}{K} (P(y \\succ \\pi) - \\tfrac12), \\qquad
        Var \\hat G_y = \\frac{m}{K^2} Var_{y' \\sim \\pi} P(y \\succ y')

    with m = K samples without the comparison of y with itself, and m = K - 1 with it: a step that is smaller by the
    exact factor (K - 1) / K, not a smaller error.

    Args:
        k: K, the number of samples.
        self_comparison: as in ``games.feedback.SampledFeedback``, SPPO's code.

    Source: derived; the estimator is equation 4.5 of arXiv 2405.00675.

    Example:
        >>> KSamples(5, self_comparison=True).share
        0.8
    """

    statement: ClassVar[str] = "K samples: E G - 1/2 = (m / K)(P pi - 1/2), Var G = m Var P / K^2"
    source: ClassVar[str] = "derived; arXiv 2405.00675, equation 4.5"

    k: int
    self_comparison: bool = False

    @property
    def samples(self) -> int:
        """m, the number of independent samples."""
        return self.k - self.self_comparison

    @property
    def share(self) -> float:
        """m / K, the share of the step that remains."""
        return self.samples / self.k

    def value(
        self, game: games.PreferenceGame, policy: Any
    ) -> tuple[Float[torch.Tensor, " n"], Float[torch.Tensor, " n"]]:
        """The mean and the variance of each action's estimate, [n] each."""
        pi = torch.as_tensor(policy, dtype=torch.float64)
        r = game.win_rate(pi)
        spread = (game.P**2) @ pi - r**2
        return 0.5 + self.share * (r - 0.5), self.samples * spread / self.k**2

    def draws(
        self, game: games.PreferenceGame, feedback: Any, policy: Any, rounds: int
    ) -> Float[torch.Tensor, "rounds n"]:
        """``rounds`` estimates of each action, [rounds, n]."""
        players = (torch.as_tensor(policy, dtype=torch.float64),)
        return torch.stack([feedback(game, [(1.0, players)], t)[0] for t in range(rounds)])

    def check(self, game: games.PreferenceGame, feedback: Any, policy: Any, rounds: int = 4000) -> Check:
        """Mean and variance over the draws, within five standard errors."""
        drawn = self.draws(game, feedback, policy, rounds)
        mean, variance = self.value(game, policy)
        centred = (drawn - drawn.mean(0)) ** 2
        errors = torch.cat([drawn.std(0), centred.std(0)]) / rounds**0.5
        measured = torch.cat([drawn.mean(0) - 0.5, drawn.var(0)])
        expected = torch.cat([mean - 0.5, variance])
        return Check.of(
            range(len(expected)), expected, measured, equal=True, tolerance=0.0, rounding=5 * errors.numpy() + 1e-12
        )

    def check_share(self, game: games.PreferenceGame, policy: Any) -> Check:
        """The same m draws with and without the self-comparison: draw by draw they differ by the factor ``share``."""
        rounds = 50
        drawn = self.draws(game, games.feedback.SampledFeedback(self.k, 0, self.self_comparison), policy, rounds)
        plain = self.draws(game, games.feedback.SampledFeedback(self.samples, 0), policy, rounds)
        return Check.of(range(rounds), self.share * (plain - 0.5), drawn - 0.5, equal=True, tolerance=0.0)


@dataclass(frozen=True)
class OracleError(Settings):
    """The Nash of an oracle's game, played in the true game that the oracle estimates.

    .. math::  |P' - P| \\le \\epsilon \\;\\Rightarrow\\; gap_P(nash(P')) \\le 2 \\epsilon

    and for any policy, gap_P(pi) <= gap_{P'}(pi) + 2 eps.

    Args:
        error: epsilon, the largest error of a win probability.

    Source: derived: gap(pi) = 2 max (A pi), and (A - A') pi is at most epsilon.

    Example:
        >>> game = games.zoo.comal_cycle()
        >>> judged = games.PreferenceGame(game.P + torch.tensor([[0, 0.1, 0], [-0.1, 0, 0], [0, 0, 0]]))
        >>> theorem = OracleError.between(game, judged)
        >>> round(theorem.value(), 6), theorem.check(game, judged).holds
        (0.2, True)
    """

    statement: ClassVar[str] = "oracle error: gap_P(pi) <= gap_P'(pi) + 2 max |P - P'|"
    source: ClassVar[str] = "derived"

    error: float

    def value(self, gap: Any = 0.0) -> Any:
        """The bound on a policy's gap in the true game, given its gap in the oracle's."""
        return gap + 2 * self.error

    @classmethod
    def between(cls, game: games.PreferenceGame, judged: games.PreferenceGame) -> OracleError:
        """The theorem for an oracle's table beside the true one."""
        check_table(game)
        check_table(judged)
        return cls(float((game.P - judged.P).abs().max()))

    def check(self, game: games.PreferenceGame, judged: games.PreferenceGame, policy: Any = None) -> Check:
        """The gap in ``game`` of ``policy`` (None: the Nash of ``judged``) against the bound."""
        pi = games.nash(judged).policy if policy is None else policy
        return Check.of([1], self.value(games.duality_gap(judged, pi)), games.duality_gap(game, pi))


@dataclass(frozen=True)
class ScoresLoseCycles(Settings):
    """A table rebuilt from mean scores has no cycle, so its Nash is pure, whatever the oracle's table was.

    .. math::  P^{BT}_{ij} = \\sigma(s_i - s_j), \\quad s_i = \\frac1n \\sum_j L_{ij}

    Args:
        temperature: the scores' factor (2 in SPPO's code, for the sum of the two orders).

    Source: transitivity of sigma(s_i - s_j); ``llm.oracles.preference_matrices(aggregation="sppo-official")``.

    Example:
        >>> margins = games.zoo.biased_rock_paper_scissors().P - 0.5
        >>> games.nash(games.PreferenceGame(ScoresLoseCycles().value(margins) + 0.5)).policy
        tensor([1., 0., 0.], dtype=torch.float64)
    """

    statement: ClassVar[str] = "a table from mean scores: Nash is the best score alone (ties: none wins)"
    source: ClassVar[str] = "transitivity of a Bradley-Terry table"

    temperature: float = 1.0

    def value(self, logits: Any) -> Float[torch.Tensor, "n n"]:
        """The margins P - 1/2 of the table made from the scores, [n, n]."""
        score = torch.as_tensor(logits, dtype=torch.float64).mean(-1)
        return torch.sigmoid(self.temperature * (score[:, None] - score)) - 0.5

    def check(self, logits: Any, expected: Any) -> Check:
        """The Nash of the score table against ``expected`` [n]; the uniform policy where all scores are equal."""
        A = self.value(logits)
        tied = A.abs().max() < 1e-12  # no action is better: the uniform policy
        nash = torch.full((len(A),), 1 / len(A), dtype=torch.float64)
        if not tied:
            nash = games.nash(games.PreferenceGame(A + 0.5)).policy
        return Check.of(range(len(A)), expected, nash, equal=True, tolerance=0.0, rounding=1e-9)
