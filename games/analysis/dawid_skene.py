"""The accuracy of judges without known labels: confusion matrices by expectation and maximisation (Dawid and Skene)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from nashward.errors import NashwardError

from ..shapes import Bool, Float, Int

PRIOR = 0.5  # so many right and wrong verdicts are added for each judge, so that weights stay finite
TOLERANCE = 1e-9  # largest change of a probability in the last iteration
ITERATIONS = 2000
CONFIDENCE = 1.96  # standard errors


@dataclass(frozen=True)
class DawidSkene:
    """What judges' verdicts on the same pairs say about the judges and the pairs.

    Attributes:
        correct, tie, wrong: [judges], how often a judge names the better one, none, and the worse one; their sum is 1.
        weights: [judges], log(correct / wrong): what a verdict adds to the log-odds of a pair.
        standard_error: [judges], standard errors of the weights.
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
    log_odds: Float[np.ndarray, " pairs"]
    decided: Int[np.ndarray, " judges"]

    @property
    def accuracy(self) -> Float[np.ndarray, " judges"]:
        """[judges], the share of right verdicts among those that are not ties."""
        return expit(self.weights)

    @property
    def interval(self) -> tuple[Float[np.ndarray, " judges"], Float[np.ndarray, " judges"]]:
        """Both ends of the 95% interval of the accuracy, [judges] each, symmetric in the log-odds.

        Where one judge is far better than the others it is too narrow for this one (docs/judges.md has how often).
        """
        spread = CONFIDENCE * self.standard_error
        return expit(self.weights - spread), expit(self.weights + spread)

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
        accuracies.

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
    accuracy, total = expit(weights), right + wrong + ties
    # Louis 1982: the information on log(c / w) given the better responses, less what is lost by not knowing them
    information = np.diag((decided.sum(1) + 2 * PRIOR) * accuracy * (1 - accuracy)) - (side * q * (1 - q)) @ side.T
    error = np.sqrt(np.abs(np.diag(np.linalg.pinv(information, hermitian=True))))
    return DawidSkene(right / total, ties / total, wrong / total, weights, error, log_odds, decided.sum(1))
