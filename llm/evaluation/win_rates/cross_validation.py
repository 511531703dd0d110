"""The L1 penalty of the length-controlled fit, chosen by cross-validation as in AlpacaEval 2."""

from __future__ import annotations

import numpy as np

from nashward.games.shapes import Float

from .logistic import fit

PENALTIES = 1 / np.logspace(-4, 4, 10)  # largest first: each fit is warm-started from the previous one
FOLDS = 5


def chosen_penalty(
    features: Float[np.ndarray, "N k"], weights: Float[np.ndarray, " N"], labels: Float[np.ndarray, " N"]
) -> float:
    """The penalty of ``PENALTIES`` with the smallest weighted cross-entropy on held-out folds.

    The rows are assigned to five folds from the last to the first, as scikit-learn's ``GroupKFold`` does with groups
    of equal size. The means over each fold of a_i * (cross-entropy of row i) are averaged; of equal losses the largest
    penalty is taken.

    Args:
        features, weights, labels: ``[N, k]``, ``[N]`` and ``[N]`` in [0, 1]; the gamed baseline's rows come first.

    Returns:
        the penalty, 1 / C.

    Raises:
        RuntimeError: a fit does not converge, see ``logistic.fit``.

    Source: ``glm_winrate.py`` of alpaca_eval 0.6.6.

    Example:
        >>> features, labels = np.ones((10, 1)), np.array([0.0, 1.0] * 5)  # no signal: the largest
        >>> round(chosen_penalty(features, np.ones(10), labels))
        10000
    """
    fold = np.arange(len(features))[::-1] % FOLDS
    losses = np.zeros(len(PENALTIES))
    for k in range(FOLDS):
        training, held_out = fold != k, fold == k
        x, a, w = features[training], weights[training], None
        moments = (a * labels[training]) @ x
        for number, penalty in enumerate(PENALTIES):
            w = fit(x, a, moments, penalty, start=w)
            z = features[held_out] @ w
            losses[number] += (weights[held_out] * (np.logaddexp(0, z) - labels[held_out] * z)).mean()
    return float(PENALTIES[np.argmin(losses)])
