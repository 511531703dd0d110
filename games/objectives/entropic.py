"""The worst case as mirror steps: an adversary pulled towards a reference, whose best answer has a closed form."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from nashward.errors import NashwardError

from ..forms.game import Players, _policy
from ..forms.keyed import in_order
from ..shapes import Float
from .multi_objective import MultiObjectiveGame


def adversary(
    wins: Float[Tensor, "m prompts M"],
    reference: Float[Tensor, "prompts M"],
    prompts: Float[Tensor, " prompts"],
    tau: float,
) -> tuple[Float[Tensor, " m"], Float[Tensor, "m prompts M"], Float[Tensor, ""]]:
    """The adversary's best answer to a policy: weights over objectives, and over a prompt's replies within each.

    .. math::
        q_m(y | x) \\propto \\mu(y | x) e^{-P_m(\\pi \\succ y | x) / \\tau}, \\quad
        V_m = -\\tau \\, E_x \\log E_{y \\sim \\mu} e^{-P_m(\\pi \\succ y | x) / \\tau}, \\quad
        w_m \\propto e^{-V_m / \\tau}, \\quad F = -\\tau \\log \\tfrac1M \\sum_m e^{-V_m / \\tau}

    Args:
        wins: [m, prompts, M], P_m(pi beats y); NaN where not known, which counts as no reply.
        reference: [prompts, M], the replies' weights under mu.
        prompts: [prompts], how much each prompt counts; sums to 1.
        tau: the pull to the reference, above 0.

    Returns:
        The weights w [m], the replies q [m, prompts, M], and F.

    Source: arXiv 2602.19041, the entropic Blackwell winner; the closed forms, for replies and objectives, are derived.

    Example:
        >>> wins = torch.tensor([[[0.9, 0.9]], [[0.1, 0.1]]], dtype=torch.float64)
        >>> even, one = torch.tensor([[0.5, 0.5]], dtype=torch.float64), torch.ones(1, dtype=torch.float64)
        >>> weights, replies, value = adversary(wins, even, one, tau=0.01)
        >>> weights.round(decimals=4), round(float(value), 4)  # the second objective is the worse one
        (tensor([0., 1.], dtype=torch.float64), 0.1069)
    """
    unknown = wins.isnan()
    exponent = (reference.log() - wins.nan_to_num() / tau).masked_fill(unknown, -torch.inf)
    known = (~unknown).any(-1)
    mass = (reference * ~unknown).sum(-1)
    normaliser = exponent.logsumexp(-1)
    share = known * prompts
    value = -tau * torch.where(known, normaliser - mass.log(), 0.0).mul(share).sum(-1) / share.sum(-1)
    replies = torch.where(known[..., None], (exponent - normaliser[..., None]).exp(), torch.nan)
    total = -tau * ((-value / tau).logsumexp(0) - math.log(len(wins)))
    return (-value / tau).softmax(0), replies, total


class EntropicGame:
    """The worst case with an adversary near a reference, as a game that mirror steps play.

    .. math::
        F(\\pi) = \\min_q \\sum_{m,y} q(m, y) P_m(\\pi \\succ y) + \\tau \\, KL(q \\,\\|\\, \\tfrac1M \\otimes \\mu)
        = -\\tau \\log \\tfrac1M \\sum_m E_{y \\sim \\mu} e^{-P_m(\\pi \\succ y) / \\tau}

    is concave and smooth, and its gradient is the payoff against the best answer q. A Step on this game is mirror
    ascent on F: with multiplicative weights and a step of at most 4 tau the *last* iterate is within C / (step T) of
    the largest F (``theory.EntropicAscent``), which is within tau log(m / min mu) of the value of the worst case. For
    a language model the adversary is the same over stored samples of the reference, and needs no adapter.

    Its "duality gap" is twice ``max_y G(y) - G(pi)``, G the gradient: at least F* - F(pi).

    Args:
        game: the objectives.
        reference: [n] probabilities mu of the adversary's replies (None: uniform).
        tau: the pull to the reference.

    Raises:
        ValueError: a tau that is not positive, a reference that is not a distribution or excludes an action.

    Source: arXiv 2602.19041, with one entropy over pairs of objective and reply.

    Example:
        >>> from nashward import games
        >>> ladder, opposed = [[0.5, 0.9], [0.1, 0.5]], [[0.5, 0.1], [0.9, 0.5]]
        >>> game = games.MultiObjectiveGame([ladder, opposed])
        >>> games.solve(EntropicGame(game, tau=0.05), games.MWU(0.2), 300, start=[0.9, 0.1]).last
        tensor([0.5000, 0.5000], dtype=torch.float64)
    """

    total = 1.0

    def __init__(self, game: MultiObjectiveGame, reference: Any = None, tau: float = 0.1):
        if not 0 < tau < float("inf"):
            raise NashwardError(f"tau is {tau!r}; expected a positive number")
        self.game, self.tau = game, tau
        n = game.P.shape[-1]
        given = (
            torch.full((n,), 1 / n) if reference is None else in_order("reference", reference, game.labels, "action")
        )
        self.reference = _policy(given, n, game.P.device, "reference")
        if not bool((self.reference > 0).all()):
            raise NashwardError(
                "the reference gives probability 0 to an action: the adversary could never reply with it"
            )

    @property
    def sizes(self) -> tuple[int, ...]:
        return (self.game.P.shape[-1],)

    @property
    def batch_shape(self) -> tuple[int, ...]:
        return ()

    @property
    def device(self) -> torch.device:
        return self.game.P.device

    def value(self, policy: Any) -> Float[Tensor, ""]:
        """F(policy)."""
        (pi,) = self.players(policy)
        return self._answer(pi)[2]

    def weights(self, policy: Any) -> dict[str, float]:
        """The adversary's weight on each objective against a policy."""
        (pi,) = self.players(policy)
        return dict(zip(self.game.names, self._answer(pi)[0].tolist(), strict=True))

    def _answer(self, pi: Float[Tensor, " n"]) -> tuple[Tensor, Tensor, Tensor]:
        one = torch.ones(1, dtype=torch.float64, device=self.device)
        return adversary((pi @ self.game.P)[:, None], self.reference[None], one, self.tau)

    def payoffs(self, opponents: Players) -> Players:
        """1/2 + G(y) - G(rho): what each action wins against the adversary's answer to rho, centred at rho."""
        (rho,) = opponents
        if rho.ndim > 1:  # several policies, each with its own adversary
            each = [self.payoffs((row,))[0] for row in rho.flatten(0, -2)]
            return (torch.stack(each).reshape(rho.shape),)
        w, q, _ = self._answer(rho)
        gained = torch.einsum("m,myz,mz->y", w, self.game.P, q[:, 0])
        return (0.5 + gained - rho @ gained,)

    def players(self, policy: Any) -> Players:
        return self.game.tables.players(policy)

    def profile(self, players: Players) -> Float[Tensor, "... n"]:
        return players[0]

    def __repr__(self) -> str:
        return f"EntropicGame({self.game!r}, tau={self.tau:g})"
