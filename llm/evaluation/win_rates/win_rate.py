"""The win rate of a policy against another under a preference oracle, with its standard error over prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nashward.errors import NashwardError
from nashward.games.analysis.confidence import win_rate_error, win_rate_interval, win_rate_p_value
from nashward.games.shapes import Float

from ...oracles import PairwiseResult, PreferenceOracle, preference_matrices
from ...oracles.ensembles.objectives import check_judges_pairs

UNDECIDED = "is not told apart from"
COUNTS_A_LOSS = "verdicts, and p, count one more prompt as lost, which a sample may have missed (docs/evaluation.md)"


@dataclass(frozen=True)
class WinRate:
    """P(a response of one policy beats a response of another), with its standard error over prompts.

    Attributes:
        value: in [0, 1].
        standard_error: of the value; NaN with a single prompt. Of few prompts that are alike it is no less than
            ``games.analysis.confidence.least_error``.
        prompts: the number of judged prompts.

    Example:
        >>> print(WinRate(0.5417, 0.021, prompts=100))
        0.542 ± 0.021
        >>> WinRate(0.5417, 0.021, prompts=100).verdict, WinRate(0.6, 0.021, prompts=100).verdict
        ('is not told apart from', 'beats')
    """

    value: float
    standard_error: float
    prompts: int

    @classmethod
    def of(cls, values: Float[np.ndarray, " N"]) -> WinRate:
        """The mean of the win rates of N prompts, each in [0, 1], with its standard error.

        Example:
            >>> print(WinRate.of(np.array([0.75, 0.25, 0.75, 0.5])), WinRate.of(np.full(4, 0.5)))
            0.562 ± 0.126 0.500 ± 0.112
        """
        return cls(float(np.mean(values)), win_rate_error(values), len(values))

    @property
    def interval(self) -> tuple[float, float]:
        """The 95% confidence interval, see ``games.analysis.confidence.win_rate_interval``."""
        return win_rate_interval(self.value, self.standard_error, self.prompts)

    @property
    def verdict(self) -> str:
        """In words: "beats" or "loses to" where the interval is on one side of 1/2, else "is not told apart from"."""
        low, high = self.interval
        return "beats" if low > 0.5 else "loses to" if high < 0.5 else UNDECIDED

    @property
    def p_value(self) -> float:
        """One-sided, of a win rate that is not above 1/2: below .025 where the verdict is "beats"."""
        return win_rate_p_value(self.value, self.standard_error, self.prompts)

    def __str__(self) -> str:
        return f"{self.value:.3f} ± {self.standard_error:.3f}"


def win_rate(
    oracle: PreferenceOracle,
    prompts: Sequence[str],
    responses: Sequence[Sequence[str]],
    opponents: Sequence[Sequence[str]],
) -> WinRate:
    """The mean win probability of ``responses`` against ``opponents``, over all pairs of each prompt.

    .. math::
        W = \\frac{1}{N} \\sum_{n=1}^N W_n, \\qquad W_n = \\frac{1}{K M} \\sum_{k, m} P(y_k \\succ z_m | x_n),
        \\qquad \\text{error} = \\sqrt{\\frac{1}{N (N - 1)} \\sum_n (W_n - W)^2}

    All prompts have equal weight. The standard error is that of the mean over prompts, since the pairs of one prompt
    are not independent; of few prompts that are alike it is no less than ``WinRate`` says. Missing judgements are left
    out, as are prompts without a judgement.

    Args:
        oracle: the preference oracle.
        prompts: N raw instructions x.
        responses: for each prompt K responses y; K may differ.
        opponents: for each prompt M responses z to beat; M may differ.

    Returns:
        W with its standard error.

    Raises:
        ValueError: no two different responses were judged; the oracle is of objectives under floors or in their worst
            case; as ``preference_matrices``.

    See also:
        ``length_controlled_win_rate``: at equal lengths.
        ``tournament``: of several policies against each other.

    Example:
        >>> from nashward.llm.oracles import Function
        >>> longer = Function(lambda prompt, a, b: 0.5 + 0.25 * ((len(a) > len(b)) - (len(a) < len(b))))
        >>> print(win_rate(longer, ["Say hello.", "Say no."], [["Hello!"], ["No."]], [["Hi."], ["No!"]]))
        0.625 ± 0.255
    """
    check_judges_pairs(oracle)
    results = preference_matrices(oracle, prompts, responses, opponents)
    means = judged_means(results)
    if not len(means):
        raise NashwardError("the oracle judged no pair; there is no win rate")
    return WinRate.of(means)


def judged_means(results: Sequence[PairwiseResult]) -> Float[np.ndarray, " prompts"]:
    """The mean win probability of each prompt that has one; none where of all different responses no two were judged,
    as equal ones tie whoever judges."""
    asked = sum(result.meta["calls"] + result.meta["cached"] for result in results)
    if asked and asked == sum(result.meta["missing"] for result in results):
        return np.zeros(0)
    return np.array([result.P[~np.isnan(result.P)].mean() for result in results if not np.isnan(result.P).all()])
