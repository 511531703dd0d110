"""The field's losses as pure functions of sequence log-probabilities, each beside its equation.

A log-ratio is l(y) = log pi_theta(y | x) - log pi_anchor(y | x), log-probabilities summed over tokens. ``size`` is the
Step's, in nats: SPPO's eta, 1 / beta of DPO, KTO and SimPO, 1 / tau of IPO. In a fit the anchor and the opponent are
the Step's: whether the reference moves is the solver's business.

The nine losses are elementwise: tensors of shapes that broadcast, ``[...]``, and the loss in nats^2 (squares) or nats
(logarithms), but for KTO's, which is a number in [0, 1]. None raises anything of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from nashward.errors import NashwardError
from nashward.games import Policy, Solver
from nashward.games.opponents import OpponentName
from nashward.games.shapes import Float
from nashward.games.step import steps_of

from ..config.fit import Baseline, Fit, Loss, Selection
from . import regression
from .experience import Experience, pair

STEPS = 4  # Steps of a solver that are looked at
CERTAIN = 1e-4  # win probabilities nearer to 0 or 1 have no larger score


def sppo(ratio: Float[Tensor, "*#batch"], wins: Float[Tensor, "*#batch"], size: float) -> Float[Tensor, "*#batch"]:
    """SPPO's loss of one response: wins = P(y beats pi).  (l - size (P - 1/2))^2

    It is the mirror step's regression with the constant baseline. Over the best and the worst response it is the
    mean of two that the official code takes.

    Args:
        ratio: l, ``[...]``.
        wins: P, ``[...]`` in [0, 1].
        size: eta.

    Source: arXiv 2405.00675, equation 4.7.

    Example:
        >>> sppo(torch.tensor([0.0, 0.3]), torch.tensor([0.8, 0.8]), size=1.0)  # 0 where l is eta (P - 1/2)
        tensor([0.0900, 0.0000])
    """
    return (ratio - size * (wins - 0.5)).square()


def sppo_pair(
    chosen: Float[Tensor, "*#batch"],
    rejected: Float[Tensor, "*#batch"],
    wins: Float[Tensor, "*#batch"] | float,
    size: float,
) -> Float[Tensor, "*#batch"]:
    """SPPO's loss of a pair: wins = P(chosen beats rejected), 1 for the hard form.

    1/2 (l_w - size (P - 1/2))^2 + 1/2 (l_l + size (P - 1/2))^2

    Args:
        chosen, rejected: l_w and l_l, ``[...]``.
        wins: P, ``[...]`` or one number.
        size: eta.

    Source: arXiv 2405.00675, half of equation 4.12 (``sppo_single``). TRL's ``sppo_hard`` is twice the hard form.

    Example:
        >>> sppo_pair(torch.tensor(0.5), torch.tensor(0.0), wins=1.0, size=1.0)  # the rejected one is to fall by 1/2
        tensor(0.1250)
    """
    target = size * (wins - 0.5)
    return ((chosen - target).square() + (rejected + target).square()) / 2


def dpo(chosen: Float[Tensor, "*#batch"], rejected: Float[Tensor, "*#batch"], size: float) -> Float[Tensor, "*#batch"]:
    """DPO's loss.  -log sigmoid((l_w - l_l) / size), size = 1 / beta

    Args:
        chosen, rejected: l_w and l_l, ``[...]``.
        size: 1 / beta.

    Source: arXiv 2305.18290, equation 7.

    Example:
        >>> dpo(torch.tensor([0.0, 5.0]), torch.tensor([0.0, 0.0]), size=10.0)  # log 2, and falling without an end
        tensor([0.6931, 0.4741])
    """
    return -logsigmoid((chosen - rejected) / size)


def ipo(chosen: Float[Tensor, "*#batch"], rejected: Float[Tensor, "*#batch"], size: float) -> Float[Tensor, "*#batch"]:
    """IPO's loss.  (l_w - l_l - size / 2)^2, size = 1 / tau

    With sums over tokens, as in the derivation: TRL's ``ipo`` takes means, which is another loss.

    Args:
        chosen, rejected: l_w and l_l, ``[...]``.
        size: 1 / tau.

    Source: arXiv 2310.12036, equation 17.

    Example:
        >>> ipo(torch.tensor([0.0, 5.0]), torch.tensor([0.0, 0.0]), size=10.0)  # 0 where the margin is 1 / (2 tau)
        tensor([25.,  0.])
    """
    return (chosen - rejected - size / 2).square()


def kto(
    ratio: Float[Tensor, "*#batch"],
    desirable: Float[Tensor, "*#batch"],
    divergence: Float[Tensor, "*#batch"],
    size: float,
) -> Float[Tensor, "*#batch"]:
    """KTO's loss of one response: desirable in [0, 1], divergence = KL(pi_theta || anchor), through which no gradient
    goes.

    desirable (1 - sigmoid((l - KL) / size)) + (1 - desirable) (1 - sigmoid((KL - l) / size)), size = 1 / beta

    Args:
        ratio: l, ``[...]``.
        desirable: ``[...]``; between 0 and 1 it is the probability of the label.
        divergence: KL in nats, ``[...]``.
        size: 1 / beta.

    Source: arXiv 2402.01306v1, equation 7, with both weights 1.

    Example:
        >>> kto(torch.tensor([2.0, 2.0]), torch.tensor([1.0, 0.0]), torch.tensor(1.0), size=1.0)  # they sum to 1
        tensor([0.2689, 0.7311])
    """
    margin = (ratio - divergence.detach()) / size
    return desirable * (-margin).sigmoid() + (1 - desirable) * margin.sigmoid()


def simpo(
    chosen: Float[Tensor, "*#batch"], rejected: Float[Tensor, "*#batch"], size: float, margin: float
) -> Float[Tensor, "*#batch"]:
    """SimPO's loss, on mean log-probabilities per token without an anchor.  -log sigmoid((m_w - m_l - margin) / size)

    Args:
        chosen, rejected: m_w and m_l, log pi_theta over the number of tokens, ``[...]``.
        size: 1 / beta.
        margin: gamma / beta, in nats per token.

    Source: arXiv 2405.14734, equation 6.

    Example:
        >>> simpo(torch.tensor([-1.0]), torch.tensor([-1.5]), size=0.1, margin=0.5)  # log 2 at the margin
        tensor([0.6931])
    """
    return -logsigmoid((chosen - rejected - margin) / size)


def rebel(
    first: Float[Tensor, "*#batch"],
    second: Float[Tensor, "*#batch"],
    payoff: Float[Tensor, "*#batch"],
    other: Float[Tensor, "*#batch"],
    size: float,
) -> Float[Tensor, "*#batch"]:
    """REBEL's loss of two responses and their rewards.  (l - l' - size (g - g'))^2

    With g = P(y beats y'') and g' = P(y' beats y'') for a third response y'' it is online IPO's.

    Args:
        first, second: l and l', ``[...]``.
        payoff, other: g and g', ``[...]``.
        size: eta.

    Source: arXiv 2404.16767, equation 1; arXiv 2403.08635 for online IPO.

    Example:
        >>> ratio, payoff = torch.tensor([0.5, 0.0]), torch.tensor([0.75, 0.5])
        >>> rebel(*pair(ratio), *pair(payoff), size=2.0)  # 0: the ratios differ by eta times what the payoffs do
        tensor([[0., 0.],
                [0., 0.]])
    """
    return (first - second - size * (payoff - other)).square()


def dno(
    first: Float[Tensor, "*#batch"],
    second: Float[Tensor, "*#batch"],
    payoff: Float[Tensor, "*#batch"],
    other: Float[Tensor, "*#batch"],
    size: float,
) -> Float[Tensor, "*#batch"]:
    """DNO's cross-entropy of two responses and their win rates.

    -[s log sigmoid(h) + (1 - s) log sigmoid(-h)],  s = sigmoid(g - g'),  h = (l - l') / size

    It is least where h = g - g', as REBEL's is, and grows linearly far from there.

    Args:
        first, second: l and l', ``[...]``.
        payoff, other: g and g', ``[...]`` in [0, 1].
        size: eta.

    Source: arXiv 2404.03715, equation 8 (in algorithm 1).

    Example:
        >>> half = torch.tensor(0.5)
        >>> [round(float(dno(l, torch.tensor(0.0), half, half, size=1.0)), 3) for l in torch.tensor([-1.0, 0.0, 1.0])]
        [0.813, 0.693, 0.813]
    """
    share, h = (payoff - other).sigmoid(), (first - second) / size
    return -(share * logsigmoid(h) + (1 - share) * logsigmoid(-h))


def gpo(ratio: Float[Tensor, "*#batch"], score: Float[Tensor, "*#batch"], size: float) -> Float[Tensor, "*#batch"]:
    """GPO's loss of one response: score = mean of s(y, y_k), skew, so that no 1/2 is taken off.  (l - size s)^2

    Args:
        ratio: l, ``[...]``.
        score: s in units of the preference model's temperature, ``[...]``.
        size: 1 / beta.

    Source: arXiv 2410.02197, equation 5.3 with log Z = 0.

    Example:
        >>> gpo(torch.tensor([0.0, 2.0]), torch.tensor([2.0, 2.0]), size=1.0)
        tensor([4., 0.])
    """
    return (ratio - size * score).square()


def _mirror(batch: Experience) -> Float[Tensor, ""]:
    return regression.loss(batch.ratio, batch.target, batch.fit_weights, batch.baseline)


def _sppo(batch: Experience) -> Float[Tensor, ""]:
    return batch.responses(sppo(batch.ratio, batch.payoffs, batch.size))


def _gpo(batch: Experience) -> Float[Tensor, ""]:
    return batch.responses(gpo(batch.ratio, batch.payoffs, batch.size))


def _sppo_single(batch: Experience) -> Float[Tensor, ""]:
    each = sppo_pair(*pair(batch.ratio), batch.P.nan_to_num(), batch.size)
    return batch.pairs(each, batch.chosen.masked_fill(batch.P.isnan(), torch.nan))


def _sppo_hard(batch: Experience) -> Float[Tensor, ""]:
    return batch.pairs(sppo_pair(*pair(batch.ratio), 1.0, batch.size), batch.chosen)


def _dpo(batch: Experience) -> Float[Tensor, ""]:
    return batch.pairs(dpo(*pair(batch.ratio), batch.size), batch.chosen)


def _ipo(batch: Experience) -> Float[Tensor, ""]:
    return batch.pairs(ipo(*pair(batch.ratio), batch.size), batch.chosen)


def _simpo(batch: Experience) -> Float[Tensor, ""]:
    means = batch.now / batch.lengths.to(batch.now).clamp_min(1)
    return batch.pairs(simpo(*pair(means), batch.size, batch.margin), batch.chosen)


def _kto(batch: Experience) -> Float[Tensor, ""]:
    """A response is desirable with the probability that it wins. The divergence is the prompt's own, by importance
    weights on its responses, in place of KTO's mismatched pairs of the batch: it is not negative, and exact where all
    responses are there."""
    best = batch.payoffs.amax(-1, keepdim=True)
    desirable = (batch.payoffs == best).to(batch.payoffs) if batch.hard else batch.payoffs.clamp(0, 1)
    known = batch.weights.log() + (batch.now - batch.sampler).detach()  # -inf where the weight is 0
    ratio = batch.ratio.detach()
    divergence = (known.softmax(-1) * (ratio + (-ratio).expm1())).sum(-1, keepdim=True)
    return batch.responses(kto(batch.ratio, desirable, divergence, batch.size))


def _rebel(batch: Experience) -> Float[Tensor, ""]:
    return batch.pairs(rebel(*pair(batch.ratio), *pair(batch.payoffs), batch.size), _even(batch))


def _dno(batch: Experience) -> Float[Tensor, ""]:
    return batch.pairs(dno(*pair(batch.ratio), *pair(batch.payoffs), batch.size), _even(batch))


def _online_ipo(batch: Experience) -> Float[Tensor, ""]:
    """The third response of a pair is each other response of the prompt in turn; with the whole distribution, any."""
    P, ratio = batch.P, batch.ratio
    count = ratio.shape[-1]
    first, second = P[:, :, None, :], P[:, None, :, :]  # [prompts, first, second, third]
    same = torch.eye(count, dtype=torch.bool, device=P.device)
    aside = torch.zeros_like(same)[None] if batch.self_comparison else same[:, None, :] | same[None, :, :]
    third = batch.weights[:, None, None, :].masked_fill(first.isnan() | second.isnan() | aside, 0.0)
    each = rebel(ratio[:, :, None, None], ratio[:, None, :, None], first.nan_to_num(), second.nan_to_num(), batch.size)
    mean = (third * each).sum(-1) / third.sum(-1).clamp_min(1e-30)
    return batch.pairs(mean, _even(batch))


def _even(batch: Experience) -> Float[Tensor, "prompts R R"]:
    """Both orders of a pair alike, for losses that are the same in either."""
    return torch.full_like(pair(batch.weights)[0], 0.5)


def _score(P: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    """s(y, y') with P = sigmoid(s): what a general preference model gives, in units of its temperature."""
    return P.logit(eps=CERTAIN)


@dataclass(frozen=True)
class LossKind:
    """A loss as a fit takes it; ``LOSSES`` has them by name.

    Attributes:
        of: returns its value, a sum over prompts, so that micro-batches add up.
        pairs: it needs the table of the responses against each other.
        payoff: what a win probability counts as in ``Experience.payoffs``.
        regresses: it is a regression on the payoffs, which may then leave [0, 1] so as to be unbiased.
        separable: it is a sum over responses, each of which may pass alone (mirror: but for the centred baseline).
    """

    of: Callable[[Experience], Float[Tensor, ""]]
    pairs: bool = False
    payoff: Callable[[Tensor], Tensor] = lambda P: P
    regresses: bool = False
    separable: bool = False


LOSSES: dict[Loss, LossKind] = {
    "mirror": LossKind(_mirror, regresses=True, separable=True),
    "sppo": LossKind(_sppo, regresses=True, separable=True),
    "sppo-single": LossKind(_sppo_single, pairs=True),
    "sppo-hard": LossKind(_sppo_hard, pairs=True),
    "dpo": LossKind(_dpo, pairs=True),
    "ipo": LossKind(_ipo, pairs=True),
    "kto": LossKind(_kto),
    "simpo": LossKind(_simpo, pairs=True),
    "rebel": LossKind(_rebel, regresses=True),
    "online-ipo": LossKind(_online_ipo, pairs=True),
    "dno": LossKind(_dno),
    "gpo": LossKind(_gpo, payoff=_score, separable=True),
}


@dataclass(frozen=True)
class LossSettings:
    """What a fit minimises: a loss, and how it reads its responses; see ``Experience`` for the attributes.

    Example:
        >>> LossSettings("sppo").separable("constant"), LossSettings("dpo").separable("constant")
        (True, False)
    """

    loss: Loss = "mirror"
    hard: bool = False
    self_comparison: bool = False
    margin: float = 0.5

    def separable(self, baseline: Baseline) -> bool:
        """Whether the responses of a prompt may pass through the network one after another."""
        return LOSSES[self.loss].separable and not (self.loss == "mirror" and baseline == "centred")


MIRROR = LossSettings()


def loss_settings(fit: Fit, self_comparison: bool) -> LossSettings:
    """What a fit with these settings minimises; see ``Experience`` for ``self_comparison``.

    Example:
        >>> loss_settings(Fit(loss="dpo", selection="best-worst"), self_comparison=False)
        LossSettings(loss='dpo', hard=True, self_comparison=False, margin=0.5)
    """
    return LossSettings(fit.loss, fit.selection == "best-worst", self_comparison, fit.margin)


def check_spread_weights(fit: Fit) -> None:
    """Refuse weights of targets for a loss that has none.

    Raises:
        ValueError: ``spread_weights`` with a loss that is no regression on payoffs.

    Example:
        >>> check_spread_weights(Fit(loss="dpo", spread_weights=True))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        nashward.errors.NashwardError: spread_weights weighs targets of win rates, and dpo has none; take ...
    """
    if fit.spread_weights and not LOSSES[fit.loss].regresses:
        regressions = ", ".join(name for name, kind in LOSSES.items() if kind.regresses)
        raise NashwardError(
            f"spread_weights weighs targets of win rates, and {fit.loss} has none; take one of {regressions}, or leave "
            "it out"
        )


def check_loss(loss: Loss, selection: Selection, solver: Solver, responses: int) -> None:
    """Refuse a loss that does not fit the solver's Steps or the number of responses.

    A label says which of two responses beats the other, so the opponent has to be the policy that they were sampled
    from: 2 x - previous has no samples. With best-worst the labels are win rates against any opponent.

    Raises:
        ValueError: a loss of labels, and one of the solver's first Steps has a blend for its opponent; too few
            responses for a third one.

    Example:
        >>> check_loss("online-ipo", "all", solver=None, responses=2)
        Traceback (most recent call last):
        nashward.errors.NashwardError: online-ipo compares two responses with a third: it needs at least 3, got 2
    """
    if loss == "online-ipo" and responses < 3:
        raise NashwardError(f"online-ipo compares two responses with a third: it needs at least 3, got {responses}")
    if not LOSSES[loss].pairs or selection == "best-worst":
        return
    start = Policy(None, "start")
    play = steps_of(solver, start, start)
    step = next(play)
    for number in range(STEPS):
        members = {} if step.opponent is None else step.opponent.members()
        if len(members) > 1 or any(isinstance(policy.value, OpponentName) for policy in members):
            of_win_rates = ", ".join(name for name, kind in LOSSES.items() if not kind.pairs)
            raise NashwardError(
                f"the loss {loss} compares responses of one policy, and {type(solver).__name__} plays against others "
                f"or blends of several; take --solver mwu without opponents, or a loss of win rates: {of_win_rates}"
            )
        step = play.send(Policy(None, str(number)))


assert set(LOSSES) == set(get_args(Loss))
