"""Several oracles as one: the mean of their log-odds or of their probabilities, or the majority of their verdicts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from nashward.errors import NashwardError
from nashward.games.objectives.multi_objective import most_of
from nashward.games.shapes import Float
from nashward.shortened import quoted

from ...config.fields import check_choice
from ..matrices import average_orders
from ..protocol import Pairs, PreferenceOracle

Rule = Literal["log-odds", "probability", "majority", "weighted-majority"]


class Ensemble(PreferenceOracle):
    """Several oracles that judge the same pairs as one oracle.

    With P_m = P_m(i beats j) of member m and its log-odds L_m = log P_m - log(1 - P_m), both orders averaged, the rules
    are

    .. math::
        \\text{log-odds: } L = \\sum_m w_m L_m, \\qquad \\text{probability: } P = \\sum_m w_m P_m,

    .. math::
        \\text{majority: } P = \\Pr(S > M / 2) + \\tfrac{1}{2} \\Pr(S = M / 2), \\quad
        S = \\sum_m \\mathrm{Bernoulli}(P_m), \\qquad
        \\text{weighted majority: } L = \\sum_m w_m \\, \\mathrm{sign}(L_m)

    with weights that sum to 1 in both means. In the majority each of the M members casts one vote, independently of the
    others, and a tie is decided by a coin. In the weighted majority a member counts by its verdict alone, and w_m is
    what this adds to the log-odds: log(a_m / (1 - a_m)) of an accuracy a_m, below 0 for a member that is worse than a
    coin. Each rule keeps P + P^T = 1. A mean of log-odds of transitive members is transitive; a majority of transitive
    members may cycle (Condorcet), as a mean of their probabilities may.

    With pessimism k the result is drawn to 1/2 where the members differ: P becomes 1/2 + (P - 1/2) max(0, 1 - k sd),
    sd the standard deviation of their P_m. It is also the standard error of ``preference_matrices``, ``std``.

    A judgement that one member lacks is missing. What is cached are the members' judgements.

    Args:
        members: at least one oracle, with the aggregation "calibrated". A source is made an oracle by ``as_oracle``.
        rule: see above.
        weights: one a member. Of the means not negative, and divided by their sum; None: equal ones. Of the weighted
            majority any finite ones.
        pessimism: k, at least 0.
        name: None: the rule with the members' names.

    Raises:
        ValueError: no members, an unknown rule, weights that do not fit (the majority has none, the weighted one needs
            them), a pessimism below 0, a member with another aggregation.

    Source: Condorcet 1785 (the majority and its cycles); Genest & Zidek 1986 (linear and logarithmic opinion pools);
        Nitzan & Paroush 1982 (the weighted majority). The pessimism is the project's own.

    Example:
        >>> from nashward.llm.oracles import Function, preference_matrices
        >>> orders = ["abc", "bca", "cab"]  # each judge ranks transitively, from the best
        >>> judges = [Function(lambda p, i, j, o=o: float(o.index(i) < o.index(j)), symmetric=True) for o in orders]
        >>> preference_matrices(Ensemble(judges, rule="majority"), ["?"], [["a", "b", "c"]])[0].P.tolist()
        [[0.5, 1.0, 0.0], [0.0, 0.5, 1.0], [1.0, 0.0, 0.5]]
    """

    symmetric = True

    def __init__(
        self,
        members: Sequence[PreferenceOracle],
        rule: Rule = "log-odds",
        weights: Sequence[float] | None = None,
        *,
        pessimism: float = 0.0,
        name: str | None = None,
    ) -> None:
        check_choice("rule", rule, Rule)
        self.members, self.rule, self.pessimism = tuple(members), rule, float(pessimism)
        if not 0 <= pessimism < math.inf:
            raise NashwardError(f"pessimism is {pessimism!r}; expected 0 or more standard deviations")
        if not self.members:
            raise NashwardError("an ensemble has at least one member, got none")
        for member in self.members:
            if not isinstance(member, PreferenceOracle):
                raise NashwardError(
                    f"{quoted(member, 60)} is no PreferenceOracle; make it one with llm.oracles.as_oracle"
                )
            if member.aggregation != "calibrated":
                raise NashwardError(
                    f"{member.name} has the aggregation {member.aggregation!r}; the members of an ensemble are "
                    "'calibrated'"
                )
        self.weights = _normalised(weights, len(self.members), rule)
        self.transitive = rule == "log-odds" and not pessimism and all(m.transitive for m in self.members)
        self.name = name or f"{rule} of {', '.join(member.name for member in self.members)}"
        self.sees_copies = any(member.sees_copies for member in self.members)
        self.pairs_per_call = min(member.pairs_per_call for member in self.members)

    @property
    def consulted(self) -> tuple[PreferenceOracle, ...]:
        return self.members

    def cache_key(self) -> str | None:
        keys = [member.cache_key() for member in self.members]
        shrunk = f", pessimism {self.pessimism!r}" if self.pessimism else ""
        return None if None in keys else f"{self.rule} {self.weights} of {keys}{shrunk}"

    def truncated(self, prompt: str, candidates: Sequence[str]) -> int:
        """The most that a member truncates."""
        return max(member.truncated(prompt, candidates) for member in self.members)

    def raw_logits(
        self, prompts: Sequence[str], candidates: Sequence[Sequence[str]], pairs: Sequence[Pairs]
    ) -> list[np.ndarray]:
        each = [averaged_logits(member, prompts, candidates, pairs) for member in self.members]
        return [np.stack(of_prompt) for of_prompt in zip(*each, strict=True)]

    def pooled(self, logits: Float[np.ndarray, "members ..."]) -> Float[np.ndarray, "..."]:
        """The ensemble's log-odds from those of its members, each with both orders averaged.

        Example:
            >>> from nashward.llm.oracles import Length
            >>> Ensemble([Length(), Length(2.0)], "log-odds", [3, 1]).pooled(np.array([[0.5], [1.0]]))
            array([0.625])
        """
        shape, logits = logits.shape[1:], logits.reshape(len(logits), -1)
        missing = np.isnan(logits).any(0)
        known = np.where(missing, 0.0, logits)
        values = self._combined(known)
        if self.pessimism and len(known) > 1:
            trust = np.maximum(0.0, 1.0 - self.pessimism * np.tanh(known / 2).std(0, ddof=1) / 2)
            lead = trust * np.tanh(values / 2) / 2  # of P over 1/2
            values = np.where(trust < 1, log_ratio(0.5 + lead, 0.5 - lead), values)
        return np.where(missing, np.nan, values).reshape(shape)

    def _combined(self, known: Float[np.ndarray, "members pairs"]) -> Float[np.ndarray, " pairs"]:
        """The rule, without pessimism and without missing judgements."""
        if self.rule == "weighted-majority":
            return np.asarray(self.weights @ np.sign(known))
        if self.rule == "log-odds":
            with np.errstate(invalid="ignore"):  # 0 x inf, or inf - inf: members that are certain of opposite winners
                terms = np.where(self.weights[:, None] > 0, self.weights[:, None] * known, 0.0)
                values = terms.sum(0)
            return np.where(np.isnan(values), 0.0, values)  # they tie, as certain judgements of one oracle do
        win, lose = _sigmoid(known), _sigmoid(-known)
        if self.rule == "probability":
            win, lose = self.weights @ win, self.weights @ lose
        else:
            win, lose = most_of(win, lose), most_of(lose, win)
        return log_ratio(win, lose)


def _normalised(weights: Sequence[float] | None, count: int, rule: Rule) -> Float[np.ndarray, " members"]:
    if rule == "weighted-majority":
        values = np.asarray([] if weights is None else weights, dtype=np.float64)
        if values.shape != (count,) or not np.isfinite(values).all():
            raise NashwardError(
                f"weights {None if weights is None else list(weights)} for {count} members of a weighted majority: "
                "expected as many log-odds, log(a / (1 - a)) of an accuracy a"
            )
        return values
    if weights is None:
        return np.full(count, 1 / count)
    if rule == "majority":
        raise NashwardError("in a majority each member has one vote: leave weights out, or name a member twice")
    values = np.asarray(weights, dtype=np.float64)
    if values.shape != (count,) or not (values >= 0).all() or not 0 < values.sum() < math.inf:
        raise NashwardError(f"weights {list(weights)} for {count} members: expected as many, at least 0, not all 0")
    return values / values.sum()


def averaged_logits(
    member: PreferenceOracle, prompts: Sequence[str], candidates: Sequence[Sequence[str]], pairs: Sequence[Pairs]
) -> list[np.ndarray]:
    """A member's log-odds of each pair, both orders averaged, and those of its own members pooled."""
    both = [[*own, *([] if member.symmetric else [(j, i) for i, j in own])] for own in pairs]
    logits: list[Any] = [np.full(len(own), np.nan) for own in both]
    for judged, values in member.judge(prompts, candidates, both):
        for (n, k), value in zip(judged, np.atleast_2d(values).T, strict=True):
            logits[n] = logits[n] if np.ndim(logits[n]) > 1 else np.tile(logits[n], (len(value), 1))
            logits[n][:, k] = value
    averaged = []
    for own, found in zip(pairs, logits, strict=True):
        forward, backward = (found, -found) if member.symmetric else np.split(found, 2, axis=-1)
        with np.errstate(invalid="ignore"):  # members that are certain of opposite winners: missing
            both_orders = np.atleast_2d(average_orders(forward, backward))
            averaged.append(member.pooled(both_orders) if len(own) else np.zeros(0))
    return averaged


def log_ratio(win: Float[np.ndarray, "..."], lose: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """log(win / lose) of probabilities, infinite where one of them is 0."""
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(win) - np.log(lose))


def _sigmoid(logits: Float[np.ndarray, "members pairs"]) -> Float[np.ndarray, "members pairs"]:
    with np.errstate(over="ignore"):
        return 1.0 / (1.0 + np.exp(-logits))
