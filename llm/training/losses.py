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
from functools import cached_property
from typing import get_args

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from nashward.errors import NashwardError
from nashward.games import Policy, Solver
from nashward.games.opponents import OpponentName
from nashward.games.shapes import Float, Num

from ..config.fit import Baseline, Fit, Loss, Selection
from . import regression

STEPS = 4  # of a solver that are looked at
CERTAIN = 1e-4  # win probabilities nearer to 0 or 1 have no larger score


def sppo(ratio: Float[Tensor, "*#batch"], wins: Float[Tensor, "*#batch"], size: float) -> Float[Tensor, "*#batch"]:
    """SPPO's, of one response: wins = P(y beats pi).  (l - size (P - 1/2))^2

    It is the mirror step's regression with the constant baseline. Over the best and the worst response it is the
    official code's mean of two.

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
    """SPPO's of a pair: wins = P(chosen beats rejected), 1 for the hard form.

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
    """DPO's.  -log sigmoid((l_w - l_l) / size), size = 1 / beta

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
    """IPO's.  (l_w - l_l - size / 2)^2, size = 1 / tau

    Of sums over tokens, as the derivation has it: TRL's ``ipo`` takes means, which is another game.

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
    """KTO's, of one response: desirable in [0, 1], divergence = KL(pi_theta || anchor), through which no gradient goes.

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
    """SimPO's, of mean log-probabilities a token without an anchor.  -log sigmoid((m_w - m_l - margin) / size)

    Args:
        chosen, rejected: m_w and m_l, log pi_theta over the number of tokens, ``[...]``.
        size: 1 / beta.
        margin: gamma / beta, in nats a token.

    Source: arXiv 2405.14734, equation 6.

    Example:
        >>> simpo(torch.tensor([-1.0]), torch.tensor([-1.5]), size=0.1, margin=0.5)  # log 2 at the margin
        tensor([0.6931])
    """
    return -logsigmoid((chosen - rejected - margin) / size)


def rebel(
    first: Float[Tensor, "*#batch"],
    second: Float[Tensor, "*#batch"],
    gain: Float[Tensor, "*#batch"],
    other: Float[Tensor, "*#batch"],
    size: float,
) -> Float[Tensor, "*#batch"]:
    """REBEL's of two responses and their rewards.  (l - l' - size (g - g'))^2

    With g = P(y beats y'') and g' = P(y' beats y'') of a third response it is online IPO's.

    Args:
        first, second: l and l', ``[...]``.
        gain, other: g and g', ``[...]``.
        size: eta.

    Source: arXiv 2404.16767, equation 1; arXiv 2403.08635 for online IPO.

    Example:
        >>> ratio, gain = torch.tensor([0.5, 0.0]), torch.tensor([0.75, 0.5])
        >>> rebel(*pair(ratio), *pair(gain), size=2.0)  # 0: the ratios differ by eta times what the gains do
        tensor([[0., 0.],
                [0., 0.]])
    """
    return (first - second - size * (gain - other)).square()


def dno(
    first: Float[Tensor, "*#batch"],
    second: Float[Tensor, "*#batch"],
    gain: Float[Tensor, "*#batch"],
    other: Float[Tensor, "*#batch"],
    size: float,
) -> Float[Tensor, "*#batch"]:
    """DNO's cross-entropy of two responses and their win rates.

    -[s log sigmoid(h) + (1 - s) log sigmoid(-h)],  s = sigmoid(g - g'),  h = (l - l') / size

    It is least where h = g - g', as REBEL's is, and grows linearly beyond.

    Args:
        first, second: l and l', ``[...]``.
        gain, other: g and g', ``[...]`` in [0, 1].
        size: eta.

    Source: arXiv 2404.03715, equation 8 (in algorithm 1).

    Example:
        >>> half = torch.tensor(0.5)
        >>> [round(float(dno(l, torch.tensor(0.0), half, half, size=1.0)), 3) for l in torch.tensor([-1.0, 0.0, 1.0])]
        [0.813, 0.693, 0.813]
    """
    share, h = (gain - other).sigmoid(), (first - second) / size
    return -(share * logsigmoid(h) + (1 - share) * logsigmoid(-h))


def gpo(ratio: Float[Tensor, "*#batch"], score: Float[Tensor, "*#batch"], size: float) -> Float[Tensor, "*#batch"]:
    """GPO's, of one response: score = mean of s(y, y_k), skew, so that no 1/2 is taken off.  (l - size s)^2

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


@dataclass(frozen=True)
class Judged:
    """What a loss of a fit sees of some prompts with R responses each. Tensors are ``[prompts, R]`` unless said.

    Attributes:
        now: log pi_theta, which the gradient goes to.
        anchor, sampler: log-probabilities, see ``MicroBatch``.
        gains: sum_j c_j P(y beats rho_j), or of scores for ``gpo``; see ``Kind.payoff``.
        weights: of the responses; those of a prompt sum to the prompt's.
        lengths: tokens.
        target: what the mirror step asks of the log-ratio, see ``regression.targets``.
        baseline: of the mirror step.
        size: of the Step.
        table: P[i, j] among the responses, ``[prompts, R, R]``, NaN where not judged; None where no loss needs it.
        hard: of two responses the one that gains more is the chosen one; False: each is, with the oracle's probability.
        whole: the responses are all that there are, so that each is compared with itself too.
        margin: gamma / beta of SimPO.
        ratio: now - anchor, l.

    Example:
        >>> zero, even = torch.zeros(1, 2), torch.full((1, 2), 0.5)
        >>> length = torch.tensor([[3, 3]])
        >>> table = torch.tensor([[[0.5, 0.9], [0.1, 0.5]]])
        >>> judged = Judged(zero, zero, zero, even, even, length, zero, "centred", size=1.0, table=table)
        >>> float(LOSSES["ipo"].of(judged))  # 1/4, whichever of the two is the chosen one
        0.25
    """

    now: Float[Tensor, "prompts R"]
    anchor: Float[Tensor, "prompts R"]
    sampler: Float[Tensor, "prompts R"]
    gains: Float[Tensor, "prompts R"]
    weights: Float[Tensor, "prompts R"]
    lengths: Num[Tensor, "prompts R"]
    target: Float[Tensor, "prompts R"]
    baseline: Baseline
    size: float
    table: Float[Tensor, "prompts R R"] | None = None
    hard: bool = False
    whole: bool = False
    margin: float = 0.5

    @cached_property
    def ratio(self) -> Float[Tensor, "prompts R"]:
        return self.now - self.anchor

    @property
    def P(self) -> Float[Tensor, "prompts R R"]:
        """The table, ``[prompts, R, R]``.

        Raises:
            ValueError: there is none.
        """
        if self.table is None:
            raise NashwardError("this loss compares responses with each other: it needs the table of their judgements")
        return self.table

    @property
    def chosen(self) -> Float[Tensor, "prompts R R"]:
        """The probability that the first is the chosen one of a pair, ``[prompts, R, R]``; NaN where not judged.

        Raises:
            ValueError: it is not ``hard``, and there is no table.
        """
        if not self.hard:
            return self.P
        first, second = pair(self.gains)
        return (first > second).to(self.gains) + 0.5 * (first == second)

    def responses(self, each: Float[Tensor, "prompts R"]) -> Float[Tensor, ""]:
        """The weighted sum over the responses of all prompts, ``[]``, of ``each`` ``[prompts, R]``."""
        return (self.weights * each).sum()

    def pairs(self, each: Float[Tensor, "prompts R R"], chance: Float[Tensor, "prompts R R"]) -> Float[Tensor, ""]:
        """The mean over a prompt's pairs of ``each``, an ordered pair counting by its ``chance``, both
        ``[prompts, R, R]``; the sum of the prompts' means, ``[]``.

        Pairs weigh the product of their responses. What was not judged (NaN) does not count, nor does a response with
        itself, unless the responses are all that there are: two draws may then be of one.
        """
        first, second = pair(self.weights)
        itself = torch.eye(chance.shape[-1], dtype=torch.bool, device=chance.device) & (not self.whole)
        known = ~chance.isnan() & ~itself
        weight = (first * second).masked_fill(~known, 0.0)
        total = weight.sum((-2, -1)) / 2  # of unordered pairs
        found = (weight * chance.nan_to_num() * each).sum((-2, -1)) / total.clamp_min(1e-30)
        return (found * self.weights.sum(-1)).sum()


def pair(values: Num[Tensor, "*batch R"]) -> tuple[Num[Tensor, "*batch R R"], Num[Tensor, "*batch R R"]]:
    """The first's and the second's of every ordered pair, each ``[..., R, R]``, of values ``[..., R]``.

    Example:
        >>> pair(torch.tensor([1, 2]))
        (tensor([[1, 1],
                [2, 2]]), tensor([[1, 2],
                [1, 2]]))
    """
    return torch.broadcast_tensors(values.unsqueeze(-1), values.unsqueeze(-2))


def _mirror(judged: Judged) -> Float[Tensor, ""]:
    return regression.loss(judged.ratio, judged.target, judged.weights, judged.baseline)


def _sppo(judged: Judged) -> Float[Tensor, ""]:
    return judged.responses(sppo(judged.ratio, judged.gains, judged.size))


def _gpo(judged: Judged) -> Float[Tensor, ""]:
    return judged.responses(gpo(judged.ratio, judged.gains, judged.size))


def _sppo_single(judged: Judged) -> Float[Tensor, ""]:
    each = sppo_pair(*pair(judged.ratio), judged.P.nan_to_num(), judged.size)
    return judged.pairs(each, judged.chosen.masked_fill(judged.P.isnan(), torch.nan))


def _sppo_hard(judged: Judged) -> Float[Tensor, ""]:
    return judged.pairs(sppo_pair(*pair(judged.ratio), 1.0, judged.size), judged.chosen)


def _dpo(judged: Judged) -> Float[Tensor, ""]:
    return judged.pairs(dpo(*pair(judged.ratio), judged.size), judged.chosen)


def _ipo(judged: Judged) -> Float[Tensor, ""]:
    return judged.pairs(ipo(*pair(judged.ratio), judged.size), judged.chosen)


def _simpo(judged: Judged) -> Float[Tensor, ""]:
    means = judged.now / judged.lengths.to(judged.now).clamp_min(1)
    return judged.pairs(simpo(*pair(means), judged.size, judged.margin), judged.chosen)


def _kto(judged: Judged) -> Float[Tensor, ""]:
    """A response is desirable with the probability that it wins; the divergence is the prompt's own, by importance
    weights on its responses, in place of the batch's mismatched ones: not negative, and exact where they are all."""
    best = judged.gains.amax(-1, keepdim=True)
    desirable = (judged.gains == best).to(judged.gains) if judged.hard else judged.gains.clamp(0, 1)
    known = judged.weights.log() + (judged.now - judged.sampler).detach()  # -inf where the weight is 0
    ratio = judged.ratio.detach()
    divergence = (known.softmax(-1) * (ratio + (-ratio).expm1())).sum(-1, keepdim=True)
    return judged.responses(kto(judged.ratio, desirable, divergence, judged.size))


def _rebel(judged: Judged) -> Float[Tensor, ""]:
    return judged.pairs(rebel(*pair(judged.ratio), *pair(judged.gains), judged.size), _even(judged))


def _dno(judged: Judged) -> Float[Tensor, ""]:
    return judged.pairs(dno(*pair(judged.ratio), *pair(judged.gains), judged.size), _even(judged))


def _online_ipo(judged: Judged) -> Float[Tensor, ""]:
    """The third response of a pair is each of the prompt's in turn but the two; where they are all there are, any."""
    P, ratio = judged.P, judged.ratio
    count = ratio.shape[-1]
    first, second = P[:, :, None, :], P[:, None, :, :]  # [prompts, first, second, third]
    own = torch.eye(count, dtype=torch.bool, device=P.device)
    aside = torch.zeros_like(own)[None] if judged.whole else own[:, None, :] | own[None, :, :]
    third = judged.weights[:, None, None, :].masked_fill(first.isnan() | second.isnan() | aside, 0.0)
    each = rebel(ratio[:, :, None, None], ratio[:, None, :, None], first.nan_to_num(), second.nan_to_num(), judged.size)
    mean = (third * each).sum(-1) / third.sum(-1).clamp_min(1e-30)
    return judged.pairs(mean, _even(judged))


def _even(judged: Judged) -> Float[Tensor, "prompts R R"]:
    """Both orders of a pair alike, for losses that are the same in either."""
    return torch.full_like(pair(judged.weights)[0], 0.5)


def _score(P: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    """s(y, y') with P = sigmoid(s): what a general preference model gives, in units of its temperature."""
    return P.logit(eps=CERTAIN)


@dataclass(frozen=True)
class Kind:
    """A loss as a fit takes it; ``LOSSES`` has them by name.

    Attributes:
        of: its value, a sum over prompts, so that micro-batches add up.
        pairs: it needs the table of the responses against each other.
        payoff: what a win probability counts in ``Judged.gains``.
        apart: it is a sum over responses, each of which may pass alone (mirror: but for the centred baseline).
    """

    of: Callable[[Judged], Float[Tensor, ""]]
    pairs: bool = False
    payoff: Callable[[Tensor], Tensor] = lambda P: P
    apart: bool = False


LOSSES: dict[Loss, Kind] = {
    "mirror": Kind(_mirror, apart=True),
    "sppo": Kind(_sppo, apart=True),
    "sppo-single": Kind(_sppo_single, pairs=True),
    "sppo-hard": Kind(_sppo_hard, pairs=True),
    "dpo": Kind(_dpo, pairs=True),
    "ipo": Kind(_ipo, pairs=True),
    "kto": Kind(_kto),
    "simpo": Kind(_simpo, pairs=True),
    "rebel": Kind(_rebel),
    "online-ipo": Kind(_online_ipo, pairs=True),
    "dno": Kind(_dno),
    "gpo": Kind(_gpo, payoff=_score, apart=True),
}


@dataclass(frozen=True)
class Objective:
    """What a fit lowers: a loss, and how it reads its responses; see ``Judged`` for the attributes.

    Example:
        >>> Objective("sppo").apart("constant"), Objective("dpo").apart("constant")
        (True, False)
    """

    loss: Loss = "mirror"
    hard: bool = False
    whole: bool = False
    margin: float = 0.5

    def apart(self, baseline: Baseline) -> bool:
        """Whether the responses of a prompt may pass through the network one after another."""
        return LOSSES[self.loss].apart and not (self.loss == "mirror" and baseline == "centred")


MIRROR = Objective()


def objective(fit: Fit, whole: bool) -> Objective:
    """What a fit with these settings minimises; ``whole``: the responses are all that there are.

    Example:
        >>> objective(Fit(loss="dpo", selection="best-worst"), whole=False)
        Objective(loss='dpo', hard=True, whole=False, margin=0.5)
    """
    return Objective(fit.loss, fit.selection == "best-worst", whole, fit.margin)


def check(loss: Loss, selection: Selection, solver: Solver, responses: int) -> None:
    """Refuse a loss that cannot do what the solver or the number of responses asks of it.

    A label says which of two responses beats the other, so that the opponent is whoever they were sampled from:
    2 x - previous is nobody. With best-worst the labels are win rates against any opponent.

    Raises:
        ValueError: a loss of labels, and one of the solver's first Steps has a blend for its opponent; too few
            responses for a third one.

    Example:
        >>> check("online-ipo", "all", solver=None, responses=2)
        Traceback (most recent call last):
        nashward.errors.NashwardError: online-ipo compares two responses with a third: it needs at least 3, got 2
    """
    if loss == "online-ipo" and responses < 3:
        raise NashwardError(f"online-ipo compares two responses with a third: it needs at least 3, got {responses}")
    if not LOSSES[loss].pairs or selection == "best-worst":
        return
    start = Policy(None, "start")
    play = solver.play(start, start)
    step = next(play)
    for number in range(STEPS):
        members = {} if step.opponent is None else step.opponent.members()
        if len(members) > 1 or any(isinstance(policy.value, OpponentName) for policy in members):
            able = ", ".join(name for name, kind in LOSSES.items() if not kind.pairs)
            raise NashwardError(
                f"the loss {loss} compares responses of one policy, and {type(solver).__name__} plays against others "
                f"or blends of several; take --solver mwu without opponents, or a loss of win rates: {able}"
            )
        step = play.send(Policy(None, str(number)))


assert set(LOSSES) == set(get_args(Loss))
