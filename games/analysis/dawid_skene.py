"""The accuracy of judges without known labels: confusion matrices by expectation and maximisation (Dawid and Skene)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq, minimize
from scipy.special import expit

from nashward.errors import NashwardError

from ..shapes import Bool, Float, Int

PRIOR = 0.5  # so many right and wrong verdicts are added for each judge, so that weights stay finite
TOLERANCE = 1e-9  # largest change of a probability in the last iteration
ITERATIONS = 2000
CONFIDENCE = 1.96  # standard errors
DROP = CONFIDENCE**2 / 2  # of the log-likelihood, at the ends of a profile-likelihood interval
MOST = 32  # judges whose likelihood is profiled: the time grows with their number's cube
FARTHEST = 12.0  # log-odds of an accuracy that is 0 or 1 for all that a profile says


@dataclass(frozen=True)
class DawidSkene:
    """What judges' verdicts on the same pairs say about the judges and the pairs.

    Attributes:
        correct, tie, wrong: [judges], how often a judge names the better one, none, and the worse one; their sum is 1.
        weights: [judges], log(correct / wrong): what a verdict adds to the log-odds of a pair.
        standard_error: [judges], standard errors of the weights.
        interval: [judges] each, both ends of the 95% interval of the accuracy: where the largest likelihood with this
            accuracy held is 1.92 below that of the fit (profile likelihood). Wald's, weight +- 1.96 standard errors, is
            too narrow for a judge who is far better than the others, as what is known of it hangs on theirs; it is
            taken of more than 32 judges. docs/judges.md has how often they hold.
        log_odds: [pairs], the log-odds that the first of the pair is better, from all verdicts on it.
        decided: [judges], how many verdicts are not ties.

    Example:
        >>> sure, coin = [1, 1, 0, 0] * 25, [1, 0] * 50
        >>> fit = dawid_skene(np.array([sure, sure, coin], dtype=float))
        >>> fit.accuracy.round(2).tolist(), fit.suspect.tolist()
        ([1.0, 1.0, 0.5], [False, False, True])
    """

    correct: Float[np.ndarray, " judges"]
    tie: Float[np.ndarray, " judges"]
    wrong: Float[np.ndarray, " judges"]
    weights: Float[np.ndarray, " judges"]
    standard_error: Float[np.ndarray, " judges"]
    interval: tuple[Float[np.ndarray, " judges"], Float[np.ndarray, " judges"]]
    log_odds: Float[np.ndarray, " pairs"]
    decided: Int[np.ndarray, " judges"]

    @property
    def accuracy(self) -> Float[np.ndarray, " judges"]:
        """[judges], the share of right verdicts among those that are not ties."""
        return expit(self.weights)

    @property
    def suspect(self) -> Bool[np.ndarray, " judges"]:
        """[judges], whether a judge is, at 95%, less than half as far above chance as the others are on average.

        The average weighs judges by their verdicts: little is known about a judge with few, and it counts little.
        """
        above, n = self.accuracy - 0.5, self.decided
        others = ((n * above).sum() - n * above) / (n.sum() - n)
        return self.interval[1] - 0.5 < others / 2


def dawid_skene(verdicts: Float[np.ndarray, "judges pairs"]) -> DawidSkene:
    r"""Judges' confusion matrices and each pair's better response by maximum likelihood, without known labels.

    Each response of a pair is the better one with probability 1/2. Judge m names the better one with probability c_m,
    the other with w_m and none with t_m, independently of the other judges. A pair and its mirror image count as one
    (orders are symmetrised), so the confusion matrix has these three numbers. With s_mi = 1 where judge m prefers the
    first of pair i, -1 where the second, 0 at a tie:

    .. math::
        \text{logit } q_i = \sum_m s_{mi} \log \frac{c_m}{w_m}, \qquad
        c_m \propto \sum_i q_i [s_{mi} = 1] + (1 - q_i) [s_{mi} = -1]

    are repeated, from q_i = the share of verdicts for the first. Judges that err together, such as models of one
    family, pass for accurate; and if most judges are worse than a coin, all verdicts are read the wrong way round.

    Args:
        verdicts: [judges, pairs], 1 for the first, 0 for the second, 1/2 for a tie, NaN where there is none. Anything
            between counts by its side of 1/2.

    Returns:
        the fit, with standard errors from the observed information.

    Raises:
        ValueError: fewer than three judges, which nothing can tell apart; numbers out of [0, 1]; a judge that decided
            no pair that another one decided (its number is given).

    Source: Dawid & Skene 1979; Louis 1982 for the observed information; Nitzan & Paroush 1982 for known
        accuracies; Venzon & Moolgavkar 1988 for profile-likelihood intervals.

    Example:
        >>> votes = np.array([[1, 1, 1, 0], [1, 1, 0, 0], [1, 0, 1, 0.5]])
        >>> (dawid_skene(votes).log_odds > 0).tolist()
        [True, True, True, False]
    """
    v = np.asarray(verdicts, dtype=np.float64)
    if v.ndim != 2 or len(v) < 3:
        raise NashwardError(
            f"verdicts of shape {v.shape}; Dawid-Skene needs at least 3 judges, [judges, pairs]: two cannot be told "
            "apart without labels"
        )
    if ((v < 0) | (v > 1)).any():
        raise NashwardError("verdicts are numbers from 0 to 1 (the second, the first), or NaN for none")
    side = np.sign(np.nan_to_num(v, nan=0.5) - 0.5)
    decided = side != 0
    with_another = decided & (decided.sum(0) > 1)
    if alone := [m for m in range(len(v)) if not with_another[m].any()]:
        raise NashwardError(f"judge {alone[0] + 1} decided no pair that another judge decided as well")
    ties = (~decided & ~np.isnan(v)).sum(1)
    first, second = side > 0, side < 0
    q = (PRIOR + first.sum(0)) / (2 * PRIOR + decided.sum(0))
    for _ in range(ITERATIONS):
        right = PRIOR + first @ q + second @ (1 - q)
        wrong = PRIOR + first @ (1 - q) + second @ q
        weights = np.log(right) - np.log(wrong)
        log_odds = weights @ side
        q, before = expit(log_odds), q
        if np.abs(q - before).max(initial=0.0) < TOLERANCE:
            break
    total = right + wrong + ties
    likelihood = _Likelihood.of(side)
    error = np.sqrt(np.abs(np.diag(np.linalg.pinv(-likelihood.hessian(weights), hermitian=True))))
    low, high = weights - CONFIDENCE * error, weights + CONFIDENCE * error
    if len(weights) <= MOST:
        low, high = (
            np.array([likelihood.profile_end(weights, judge, sign * error[judge]) for judge in range(len(weights))])
            for sign in (-1.0, 1.0)
        )
    interval = expit(low), expit(high)
    return DawidSkene(right / total, ties / total, wrong / total, weights, error, interval, log_odds, decided.sum(1))


@dataclass(frozen=True)
class _Likelihood:
    """The log-likelihood of weights, with that of the added verdicts, over the different columns of verdicts.

    side: [judges, columns], 1 for the first, -1 for the second, 0 for neither.
    count: [columns], how many pairs have each column.
    """

    side: Float[np.ndarray, "judges columns"]
    count: Int[np.ndarray, " columns"]

    @classmethod
    def of(cls, side: Float[np.ndarray, "judges pairs"]) -> _Likelihood:
        return cls(*np.unique(side, axis=1, return_counts=True))

    def value(self, weights: Float[np.ndarray, " judges"]) -> float:
        right, wrong = -np.logaddexp(0, -weights), -np.logaddexp(0, weights)
        if_first = right @ (self.side > 0) + wrong @ (self.side < 0)
        of_pairs = if_first + np.logaddexp(0, -weights @ self.side)
        return float(self.count @ of_pairs + PRIOR * (right + wrong).sum())

    def gradient(self, weights: Float[np.ndarray, " judges"]) -> Float[np.ndarray, " judges"]:
        q, decided = expit(weights @ self.side), (self.side != 0) @ self.count
        right = (self.side > 0) @ (self.count * q) + (self.side < 0) @ (self.count * (1 - q))
        return PRIOR + right - (decided + 2 * PRIOR) * expit(weights)

    def hessian(self, weights: Float[np.ndarray, " judges"]) -> Float[np.ndarray, "judges judges"]:
        """Louis 1982: what is lost by not knowing the better responses, less the information given them."""
        q, accuracy = expit(weights @ self.side), expit(weights)
        known = ((self.side != 0) @ self.count + 2 * PRIOR) * accuracy * (1 - accuracy)
        lost = (self.side * (self.count * q * (1 - q))) @ self.side.T
        return lost - np.diag(known)

    def profile_end(self, best: Float[np.ndarray, " judges"], judge: int, step: float) -> float:
        """The weight of a judge, from the best one in the direction of a step, where the profile has fallen enough."""
        least, others = self.value(best) - DROP, best
        inside, outside = float(best[judge]), float(best[judge]) + CONFIDENCE * float(np.clip(step, -1.0, 1.0))
        while (at := self._profile(others, judge, outside))[0] > least:
            inside, others = outside, at[1]
            if abs(outside) > FARTHEST:
                return outside
            outside += 1.5 * (outside - float(best[judge]))
        ends = sorted((inside, outside))
        return float(brentq(lambda weight: self._profile(others, judge, weight)[0] - least, *ends, xtol=1e-3))

    def _profile(
        self, start: Float[np.ndarray, " judges"], judge: int, weight: float
    ) -> tuple[float, Float[np.ndarray, " judges"]]:
        """The largest value with the judge's weight held, from a start of the others', and all weights there."""
        free = np.arange(len(start)) != judge

        def with_held(others: Float[np.ndarray, " others"]) -> Float[np.ndarray, " judges"]:
            weights = np.full(len(start), weight)
            weights[free] = others
            return weights

        found = minimize(
            lambda others: -self.value(with_held(others)),
            start[free],
            jac=lambda others: -self.gradient(with_held(others))[free],
            hess=lambda others: -self.hessian(with_held(others))[np.ix_(free, free)],
            method="trust-exact",
            options={"gtol": 1e-4},
        )
        return -float(found.fun), with_held(found.x)
