"""The corrections of an oracle: each an odd function of its log-odds, so that tables stay complementary."""

from __future__ import annotations

import logging
import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import expit

from nashward.errors import NashwardError
from nashward.games.analysis.contextual import ContextualBradleyTerry, contextual_bradley_terry
from nashward.games.analysis.style import STYLE, entangled_in_words, style_differences
from nashward.games.shapes import Float

from ..cache import AnyCache
from ..diagnosis.biases import LARGEST_FACTOR, WORDS
from ..diagnosis.probe import CERTAIN, Judged, finite, judge_pairs, probe_pairs
from ..diagnosis.style_fit import style_fit
from ..ensembles.ensemble import averaged_logits, log_ratio
from ..fitting.votes import Vote
from ..protocol import Pairs, PreferenceOracle

logger = logging.getLogger(__name__)

LEAST = 30  # labelled pairs for a fit
MOST_TAKEN = 0.2  # the share of log-odds (mean square) that style may leave over without a warning
MOST_VOTES = 20  # of which a share's own noise hides flips
MARGIN = 20.0  # log-odds within which two texts may tie, at most


class Corrected(PreferenceOracle):
    """Base of corrections: an oracle whose log-odds, averaged over both orders, are changed.

    A subclass writes ``corrected``, an odd function.

    Args:
        oracle: with the aggregation "calibrated".
        parameters: what the correction depends on, to the last digit.

    Raises:
        ValueError: another aggregation.
    """

    symmetric = True
    what: str = "corrected"
    by_labels = True  # whether ``fitted`` reads those of the pairs

    def __init__(self, oracle: PreferenceOracle, parameters: object) -> None:
        if oracle.aggregation != "calibrated":
            raise NashwardError(f"{oracle.name} has the aggregation {oracle.aggregation!r}; corrected are 'calibrated'")
        self.oracle, self.parameters = oracle, repr(parameters)
        self.name = f"{oracle.name}, {self.what}"
        self.pairs_per_call, self.sees_copies = oracle.pairs_per_call, oracle.sees_copies

    @property
    def consulted(self) -> tuple[PreferenceOracle, ...]:
        return (self.oracle,)

    @property
    def values(self) -> dict[str, float]:
        """What the correction depends on, by name, as it was fitted or given."""
        return {}

    def cache_key(self) -> str | None:
        key = self.oracle.cache_key()
        return key and f"{self.what} {self.parameters} of {key}"

    def truncated(self, prompt: str, candidates: Sequence[str]) -> int:
        return self.oracle.truncated(prompt, candidates)

    def raw_logits(
        self, prompts: Sequence[str], candidates: Sequence[Sequence[str]], pairs: Sequence[Pairs]
    ) -> list[np.ndarray]:
        known = averaged_logits(self.oracle, prompts, candidates, pairs)
        return [
            self.corrected(logits, [texts[i] for i, _ in own], [texts[j] for _, j in own]) if len(own) else logits
            for logits, texts, own in zip(known, candidates, pairs, strict=True)
        ]

    @abstractmethod
    def corrected(
        self, logits: Float[np.ndarray, " pairs"], first: Sequence[str], second: Sequence[str]
    ) -> Float[np.ndarray, " pairs"]:
        """The log-odds of pairs from those of the oracle."""


class StyleControl(Corrected):
    r"""An oracle without what length and layout add.

    .. math::  L - \sum_k g_k x_k

    with x the features of ``games.analysis.style``, those of exchanged texts being opposite. A certain judgement (P of
    0 or 1) counts as log-odds of 4, as it does where g is fitted.

    Attributes:
        fit: of which g are the slopes; None where they were given.
        left: the share of the log-odds (mean square) that the fit leaves over.

    Args:
        oracle: the oracle.
        coefficients: g, [4], log-odds a unit of the features.

    Raises:
        ValueError: another number of coefficients.

    Source: the style control of Chatbot Arena (2024) and Arena-Hard v2 (arXiv 2406.11939 and its code).

    Example:
        >>> from nashward.llm.oracles import Length
        >>> pairs = [Vote(f"p{k}", "yes " * (k + 1), "no " * 9, wins=0, n=1) for k in range(40)]
        >>> control = StyleControl.fitted(Length(), pairs)
        >>> given = ["p"], [["yes " * 12, "no " * 9]], [[(0, 1)]]
        >>> [judge.raw_logits(*given)[0].round(2) for judge in (Length(), control)]
        [array([0.56]), array([-0.08])]
    """

    what = "style controlled"
    by_labels = False
    fit: ContextualBradleyTerry | None = None
    left: float = 1.0

    def __init__(self, oracle: PreferenceOracle, coefficients: Sequence[float]) -> None:
        self.coefficients = np.asarray(coefficients, dtype=np.float64)
        if self.coefficients.shape != (len(STYLE),):
            raise NashwardError(f"{len(coefficients)} coefficients; expected one each of {', '.join(STYLE)}")
        super().__init__(oracle, self.coefficients.tolist())

    @property
    def values(self) -> dict[str, float]:
        return dict(zip(STYLE, self.coefficients.tolist(), strict=True))

    @classmethod
    def fitted(cls, oracle: PreferenceOracle, votes: Sequence[Vote], cache: AnyCache = None) -> StyleControl:
        """The effects of style on the oracle's own judgements of these pairs, whose labels are not read.

        Raises:
            ValueError: fewer than 30 pairs that it judges.
        """
        return cls.of(oracle, _judged(oracle, votes, cache))

    @classmethod
    def of(cls, oracle: PreferenceOracle, judged: Judged) -> StyleControl:
        """The effects of style on judgements, beside the authors' scores where all are known (``StyleFit.control``)."""
        _enough(~np.isnan(judged.log_odds), oracle)
        found = style_fit(judged, judged.log_odds, "log-odds")
        assert found is not None, "there are more pairs than a fit of style needs"
        for decides, is_decided in (("authors", found.hidden), ("lengths", found.by_length)):
            if kinds := [WORDS[kind] for k, kind in enumerate(STYLE) if is_decided(k)]:
                logger.warning(
                    "%s: style control fits no effect of %s: the responses' %s decide them, so that it "
                    "cannot be told from that of the %s",
                    oracle.name, " and ".join(kinds), decides, decides,
                )  # fmt: skip
        if (together := entangled_in_words(found.controlled)) is not None:
            logger.warning("%s: of its style %s", oracle.name, together)
        fit = found.control
        control = cls(oracle, fit.slopes.tolist())
        control.fit = fit
        texts = ([getattr(pair, side) for pair in judged.pairs] for side in "ab")
        over = np.nanmean(control.corrected(judged.log_odds, *texts) ** 2) / (np.nanmean(judged.log_odds**2) or 1.0)
        control.left = float(over)
        if control.left < MOST_TAKEN:
            logger.warning(
                "%s: style control takes %.0f%% of its log-odds (mean square) out: what is left may say little",
                oracle.name, 100 * (1 - control.left),
            )  # fmt: skip
        return control

    def corrected(
        self, logits: Float[np.ndarray, " pairs"], first: Sequence[str], second: Sequence[str]
    ) -> Float[np.ndarray, " pairs"]:
        return finite(logits) - style_differences(first, second) @ self.coefficients


class Calibrated(Corrected):
    """An oracle whose log-odds are divided by a temperature: above 1 they move towards 0.

    A certain judgement (P of 0 or 1) counts as log-odds of 4, as it does where the temperature is fitted.

    Args:
        oracle: the oracle.
        temperature: above 0.

    Raises:
        ValueError: a temperature that is not above 0.

    Source: Platt 1999; Guo et al. 2017 (arXiv 1706.04599).

    Example:
        >>> from nashward.llm.oracles import Length
        >>> Calibrated(Length(), 2.0).raw_logits(["p"], [["aaa", "b"]], [[(0, 1)]])[0].round(3)
        array([0.347])
    """

    what = "calibrated"

    def __init__(self, oracle: PreferenceOracle, temperature: float) -> None:
        if not 0 < temperature < math.inf:
            raise NashwardError(f"the temperature is {temperature!r}; expected a number above 0")
        self.temperature = float(temperature)
        super().__init__(oracle, self.temperature)
        self.transitive = oracle.transitive

    @property
    def values(self) -> dict[str, float]:
        return {"temperature": self.temperature}

    @classmethod
    def fitted(cls, oracle: PreferenceOracle, votes: Sequence[Vote], cache: AnyCache = None) -> Calibrated:
        """The temperature at which labels are likeliest, at most 20.

        Raises:
            ValueError: fewer than 30 labelled pairs that it judges, no winner among them, or labels that contradict it.
        """
        A, y, n = _labelled(oracle, votes, cache)
        fit = contextual_bradley_terry(y, A[:, None], weights=n)
        slope = float(fit.slopes[0])
        if not slope > 0:
            raise NashwardError(f"the labels contradict {oracle.name}: no temperature corrects that")
        return cls(oracle, float(np.clip(1 / slope, 1 / LARGEST_FACTOR, LARGEST_FACTOR)))

    def corrected(
        self, logits: Float[np.ndarray, " pairs"], first: Sequence[str], second: Sequence[str]
    ) -> Float[np.ndarray, " pairs"]:
        return finite(logits) / self.temperature


class Unflipped(Corrected):
    r"""An oracle whose verdicts are flipped with probability e, independently, without the flips.

    .. math::  P' = \frac{P - e}{1 - 2 e}

    within [0, 1] in tables, where certain judgements stay as they are. What a regression fits is the P' of both orders'
    mean as it is (``PairwiseResult.targets``): its mean over flips is the P without them, that of the clipped one is
    nearer to 1/2. For probabilities that are shares of hard verdicts, as of votes: errors that a judge makes each time
    are no flips. What is cached are the oracle's own judgements.

    Args:
        oracle: the oracle.
        flips: e, in [0, 1/2).

    Raises:
        ValueError: e out of its range.

    Source: rDPO (arXiv 2403.00409), which corrects the loss by the same estimate.

    Example:
        >>> from nashward.llm.oracles import Function, preference_matrices
        >>> votes = Function(lambda prompt, a, b: 0.7 if a < b else 0.3, symmetric=True)
        >>> preference_matrices(Unflipped(votes, 0.1), ["p"], [["a", "b"]])[0].P.round(3).tolist()
        [[0.5, 0.75], [0.25, 0.5]]
        >>> (result,) = preference_matrices(Unflipped(votes, 0.4), ["p"], [["a", "b"]])
        >>> result.P.round(3).tolist(), result.targets.round(3).tolist()
        ([[0.5, 1.0], [0.0, 0.5]], [[0.5, 1.5], [-0.5, 0.5]])
    """

    what = "without flips"

    def __init__(self, oracle: PreferenceOracle, flips: float) -> None:
        if not 0 <= flips < 0.5:
            raise NashwardError(f"the share of flips is {flips!r}; expected 0 or more, below 1/2")
        self.flips = float(flips)
        super().__init__(oracle, self.flips)

    @property
    def values(self) -> dict[str, float]:
        return {"flips": self.flips}

    @classmethod
    def fitted(cls, oracle: PreferenceOracle, votes: Sequence[Vote], cache: AnyCache = None) -> Unflipped:
        """The e at which P' is nearest to the labels (least squares, each vote counted; a tie is half a win).

        Labels drawn from probabilities are on the oracle's wrong side without any flip, so that e is at most the mean
        probability of that side, and as much where the labels are certain or all judgements are. Of a P that is a share
        of few votes the e by uncertain labels is too small: the votes' own noise looks as certainty.

        Raises:
            ValueError: fewer than 30 labelled pairs that it judges, or a mean of 1/2 or more on the wrong side.
        """
        A, y, n = _labelled(oracle, votes, cache)
        A = np.where(np.abs(A) == CERTAIN, np.copysign(np.inf, A), A)  # certain judgements stay as they are
        decided = y != 0.5
        wrong = expit(np.where(y > 0.5, -A, A))[decided]
        most = float((0.5 + (n[decided] * wrong).sum()) / (1 + n[decided].sum()))
        if most >= 0.5:
            raise NashwardError(f"{oracle.name} is on the wrong side of the labels in {most:.0%}: these are no flips")
        tried = np.linspace(0.0, most, 1001)
        leads = (np.clip(np.tanh(A / 2) / (2 * (1 - 2 * e)), -0.5, 0.5) for e in tried)
        losses = np.array([(n * (y - 0.5 - lead) ** 2).sum() for lead in leads])
        found = float(tried[losses <= losses.min() + 1e-9 * n.sum()][-1])
        levels = len(np.unique(expit(A).round(9)))
        if levels <= MOST_VOTES + 1 and found < most:
            what = "%s: P has %d values, as of few votes: the %.3g of flips found is too small; give it by flips:by=E"
            logger.warning(what, oracle.name, levels, found)  # the votes' own noise looks as certainty
        return cls(oracle, found)

    def cache_key(self) -> str | None:
        key = self.oracle.cache_key()
        return key and f"{self.what} {self.parameters}, which are in what is kept, of {key}"

    def raw_logits(
        self, prompts: Sequence[str], candidates: Sequence[Sequence[str]], pairs: Sequence[Pairs]
    ) -> list[np.ndarray]:
        """The oracle's own log-odds, both orders averaged: ``pooled`` and ``unclipped`` correct them."""
        return averaged_logits(self.oracle, prompts, candidates, pairs)

    def pooled(self, logits: Float[np.ndarray, "members ..."]) -> Float[np.ndarray, "..."]:
        return self.corrected(logits.mean(0), (), ())

    def unclipped(self, logits: Float[np.ndarray, "members ..."]) -> Float[np.ndarray, "..."]:
        return 0.5 + self._lead(logits.mean(0))

    def corrected(
        self, logits: Float[np.ndarray, "..."], first: Sequence[str], second: Sequence[str]
    ) -> Float[np.ndarray, "..."]:
        lead = np.clip(self._lead(logits), -0.5, 0.5)
        return log_ratio(0.5 + lead, 0.5 - lead)

    def _lead(self, logits: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """P' - 1/2: (P - e) / (1 - 2 e) - 1/2 is (P - 1/2) / (1 - 2 e), and P - 1/2 is tanh(L / 2) / 2."""
        return np.asarray(np.tanh(logits / 2) / (2 * (1 - 2 * self.flips)))


class WithTies(Corrected):
    r"""An oracle that has to choose, for people who may call a tie, which is half a win.

    .. math::
        P(\text{a wins}) = \sigma(L - t), \qquad P(\text{b wins}) = \sigma(-L - t), \qquad
        P = \frac{\sigma(L - t) + \sigma(L + t)}{2}

    Args:
        oracle: the oracle.
        margin: t, at least 0, log-odds within which two texts tie.

    Raises:
        ValueError: a margin below 0.

    Source: Rao & Kupper 1967.

    Example:
        >>> from nashward.llm.oracles import Length
        >>> WithTies(Length(), 1.0).raw_logits(["p"], [["aaa", "b"]], [[(0, 1)]])[0].round(3)
        array([0.551])
    """

    what = "with ties"

    def __init__(self, oracle: PreferenceOracle, margin: float) -> None:
        if not 0 <= margin < math.inf:
            raise NashwardError(f"the margin of ties is {margin!r}; expected 0 or more")
        self.margin = float(margin)
        super().__init__(oracle, self.margin)

    @property
    def values(self) -> dict[str, float]:
        return {"margin": self.margin}

    @classmethod
    def fitted(cls, oracle: PreferenceOracle, votes: Sequence[Vote], cache: AnyCache = None) -> WithTies:
        """The margin at which labels with ties are likeliest: a single comparison with half a win is a tie.

        One vote for each side, or two of four comparisons, are no ties.

        Raises:
            ValueError: fewer than 30 labelled pairs that it judges, or ties alone.
        """
        judged = _judged(oracle, votes, cache)
        _enough(~np.isnan(judged.log_odds), oracle)
        known = {(pair.prompt, pair.a, pair.b): A for pair, A in zip(judged.pairs, judged.log_odds, strict=True)}
        known |= {(prompt, b, a): -A for (prompt, a, b), A in known.items()}
        counted = [vote for vote in votes if vote.weight > 0 and not np.isnan(known.get(_key(vote), np.nan))]
        A = np.array([known[_key(vote)] for vote in counted])
        wins, n, weight = (np.array([getattr(vote, name) for vote in counted]) for name in ("wins", "n", "weight"))
        tied = (n == 1) & (wins == 0.5)
        if not tied.any():
            return cls(oracle, 0.0)
        if tied.all():
            raise NashwardError(
                f"all {len(counted)} votes are ties, of which a larger margin is always likelier: give pairs with "
                "winners too, or the margin itself (ties:by=NUMBER)"
            )
        of_win, of_loss, of_tie = (weight * times for times in (wins * ~tied, (n - wins) * ~tied, 1.0 * tied))

        def loss(margin: float) -> float:
            win, lose = expit(A - margin), expit(-A - margin)
            p = np.maximum([win, lose, 1 - win - lose], 1e-300)
            return -float((np.array([of_win, of_loss, of_tie]) * np.log(p)).sum())

        found = minimize_scalar(loss, bounds=(0.0, MARGIN), method="bounded", options={"xatol": 1e-8})
        return cls(oracle, float(found.x))

    def corrected(
        self, logits: Float[np.ndarray, " pairs"], first: Sequence[str], second: Sequence[str]
    ) -> Float[np.ndarray, " pairs"]:
        size = np.abs(logits)  # so that opposite log-odds stay exactly opposite
        win = (expit(size - self.margin) + expit(size + self.margin)) / 2
        lose = (expit(-size - self.margin) + expit(-size + self.margin)) / 2
        return np.sign(logits) * log_ratio(win, lose)


def corrections_of(oracle: PreferenceOracle) -> list[dict[str, Any]]:
    """The corrections within an oracle, the innermost first, each with the oracle that it corrects and its values.

    Example:
        >>> from nashward.llm.oracles import Length
        >>> corrections_of(WithTies(Calibrated(Length(), 2.0), 0.5))[1]
        {'oracle': 'length, calibrated', 'correction': 'with ties', 'values': {'margin': 0.5}}
    """
    found = [one for inner in oracle.consulted for one in corrections_of(inner)]
    if isinstance(oracle, Corrected):
        found.append({"oracle": oracle.oracle.name, "correction": oracle.what, "values": oracle.values})
    return found


def _judged(oracle: PreferenceOracle, votes: Sequence[Vote], cache: AnyCache) -> Judged:
    return judge_pairs(oracle, probe_pairs(votes), cache if oracle.cache_key() else None)


def _key(vote: Vote) -> tuple[str, str, str]:
    return vote.prompt, vote.a, vote.b


def _enough(known: np.ndarray, oracle: PreferenceOracle) -> None:
    if known.sum() < LEAST:
        raise NashwardError(
            f"{oracle.name} judges {known.sum()} of the pairs; a correction is fitted to {LEAST} different ones or more"
        )


def _labelled(
    oracle: PreferenceOracle, votes: Sequence[Vote], cache: AnyCache
) -> tuple[Float[np.ndarray, " N"], Float[np.ndarray, " N"], Float[np.ndarray, " N"]]:
    """Log-odds, shares of wins and numbers of comparisons of the labelled pairs that an oracle judges."""
    judged = _judged(oracle, votes, cache)
    known = ~np.isnan(judged.log_odds)
    _enough(known, oracle)
    n = np.array([pair.n for pair in judged.pairs])
    if (judged.labels[known] == 0.5).all():
        raise NashwardError(
            f"all {known.sum()} labels are ties, or as many votes for each side, which say nothing of how right "
            f"{oracle.name} is: give pairs with winners"
        )
    return judged.log_odds[known], judged.labels[known], n[known]
