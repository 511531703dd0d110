"""The penalty of the length-controlled fit by cross-validation, as AlpacaEval 2 chooses it."""

from __future__ import annotations

import numpy as np

from nashward.games.shapes import Float

from .logistic import fit

PENALTIES = 1 / np.logspace(-4, 4, 10)  # largest first: each fit starts where the last ended
FOLDS = 5


def chosen_penalty(
    features: Float[np.ndarray, "N k"], weights: Float[np.ndarray, " N"], labels: Float[np.ndarray, " N"]
) -> float:
    """The one of ``PENALTIES`` with the smallest weighted cross-entropy on rows that were left out.

    The rows are dealt to five folds from the last to the first, which is what scikit-learn's ``GroupKFold`` does where
    each group has the same size. The folds' means of a_i * (cross-entropy of row i) are averaged; among equal
    penalties the largest is taken.

    Args:
        features, weights, labels: ``[N, k]``, ``[N]`` and ``[N]`` in [0, 1]; the gamed baseline's rows come first.

    Raises:
        RuntimeError: a fit finds no minimum, see ``logistic.fit``.

    Source: ``glm_winrate.py`` of alpaca_eval 0.6.6.

    Example:
        >>> features, labels = np.ones((10, 1)), np.array([0.0, 1.0] * 5)  # nothing to be learned: the largest
        >>> round(chosen_penalty(features, np.ones(10), labels))
        10000
    """
    fold = np.arange(len(features))[::-1] % FOLDS
    losses = np.zeros(len(PENALTIES))
    for k in range(FOLDS):
        own, out = fold != k, fold == k
        x, a, w = features[own], weights[own], None
        moments = (a * labels[own]) @ x
        for number, penalty in enumerate(PENALTIES):
            w = fit(x, a, moments, penalty, start=w)
            z = features[out] @ w
            losses[number] += (weights[out] * (np.logaddexp(0, z) - labels[out] * z)).mean()
    return float(PENALTIES[np.argmin(losses)])
