"""The win rate of one policy against another under an oracle, with its standard error over prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..oracles import PreferenceOracle, preference_matrices


@dataclass(frozen=True)
class WinRate:
    """P(a response of one policy beats a response of another), with its standard error over prompts."""

    value: float
    standard_error: float
    prompts: int

    def __str__(self) -> str:
        return f"{self.value:.3f} ± {self.standard_error:.3f}"


def win_rate(
    oracle: PreferenceOracle,
    prompts: Sequence[str],
    responses: Sequence[Sequence[str]],
    opponents: Sequence[Sequence[str]],
) -> WinRate:
    """The mean win probability of ``responses`` against ``opponents``, every pair of each prompt judged.

    Prompts weigh the same. The standard error is that of the mean over prompts: the pairs of one prompt are not
    independent of each other.

    Raises:
        ValueError: no prompt has a judgement.
    """
    results = preference_matrices(oracle, prompts, responses, opponents)
    means = np.array([result.P[~np.isnan(result.P)].mean() for result in results if not np.isnan(result.P).all()])
    if not len(means):
        raise ValueError("the oracle judged no pair; there is no win rate")
    error = float(means.std(ddof=1) / np.sqrt(len(means))) if len(means) > 1 else float("nan")
    return WinRate(float(means.mean()), error, len(means))
