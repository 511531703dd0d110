"""What length and layout add to a judge's log-odds or to labels, beside authors and beside each other."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from nashward.games.analysis.contextual import WITHIN, ContextualBradleyTerry, contextual_bradley_terry, share_within
from nashward.games.analysis.style import STYLE, relative_differences, style_counts
from nashward.games.shapes import Float, Int

from .probe import Judged

FEW_PAIRS = 10  # judged ones, from which on the effects of style are
BESIDE = 0.2  # share of a mark's differences that lengths leave over, from which on its effect is told from theirs
SHORTEST = 0.25  # tokens of a text of one character; an empty one counts as that
LENGTH = STYLE.index("length")


@dataclass(frozen=True)
class StyleFit:
    """The effects of style on log-odds or on labels, beside the authors' scores where all authors are known.

    Attributes:
        outcomes, a, b, clusters, scale: what is fitted: [N], the counts of both responses [N, 4] (``style_counts``),
            the prompts [N].
        first, second: [N], the authors; None: not known.
        weights: [N], of the outcomes; None: equal ones.
    """

    outcomes: Float[np.ndarray, " N"]
    a: Float[np.ndarray, "N 4"]
    b: Float[np.ndarray, "N 4"]
    clusters: Int[np.ndarray, " N"]
    scale: Literal["wins", "log-odds"]
    first: Int[np.ndarray, " N"] | None = None
    second: Int[np.ndarray, " N"] | None = None
    weights: Float[np.ndarray, " N"] | None = None

    @cached_property
    def fit(self) -> ContextualBradleyTerry:
        """The features in the order of ``STYLE``. One that the authors decide has the slope 0, and no error."""
        return self._fit(self._beside_authors, True)

    @cached_property
    def within(self) -> Float[np.ndarray, " 4"] | None:
        """[4], the share of each feature's differences that lies within authors; None where they are not known.

        Lengths are compared by their logarithms: an author who writes twice as much as another, whatever the prompt,
        then leaves nothing over, while relative differences of three lengths do.
        """
        if self.first is None or self.second is None:
            return None
        return share_within(np.c_[self._log_lengths, self.a[:, 1:] - self.b[:, 1:]], self.first, self.second)

    @cached_property
    def beyond(self) -> ContextualBradleyTerry:
        """The features, and behind them the difference of the lengths and that of their logarithms.

        A judge whose log-odds grow with length otherwise than in the relative difference leaves a rest there that
        layout, which goes with length, would stand for.
        """
        return self._fit(np.c_[self._beside_authors, self._other_lengths], True)

    @cached_property
    def beside_length(self) -> Float[np.ndarray, " 4"]:
        """[4], the share of a feature's differences, within authors, that lengths in these forms leave over."""
        lengths = np.c_[self._beside_authors[:, LENGTH], self._other_lengths]
        shares = np.ones(len(STYLE))
        for k in range(len(STYLE)):
            column = self._beside_authors[:, k]
            total = self._left(column, lengths[:, :0])
            if k != LENGTH and total > 1e-12 * len(column):
                shares[k] = min(self._left(column, lengths) / total, 1.0)
        return shares

    @property
    def rms(self) -> Float[np.ndarray, " 4"]:
        """[4], the root mean square of each feature, a standard deviation of its difference."""
        return np.sqrt((self._features**2).mean(0))

    def hidden(self, k: int) -> bool:
        """Whether the authors decide feature k, so that its effect cannot be told from theirs."""
        return self.within is not None and bool(self.within[k] < WITHIN)

    def by_length(self, k: int) -> bool:
        """Whether the lengths decide feature k, so that its effect cannot be told from theirs."""
        return bool(self.beside_length[k] < BESIDE)

    def of(self, k: int) -> ContextualBradleyTerry:
        """The fit that has the effect of feature k: of layout that beside length in other forms."""
        return self.fit if k == LENGTH else self.beyond

    def alone(self, k: int) -> ContextualBradleyTerry | None:
        """That fit without the authors' scores; None where none are fitted."""
        others = self._other_lengths[:, : 0 if k == LENGTH else None]
        return None if self.within is None else self._fit(np.c_[self._features, others], False)

    @property
    def control(self) -> ContextualBradleyTerry:
        """The features without those that authors or lengths decide, whose slopes are 0 and have no error."""
        return self._fit(self.controlled, True)

    @property
    def controlled(self) -> Float[np.ndarray, "N 4"]:
        """[N, 4], those features; the others are 0."""
        told = [not (self.hidden(k) or self.by_length(k)) for k in range(len(STYLE))]
        return np.where(told, self._features, 0.0)

    @cached_property
    def _features(self) -> Float[np.ndarray, "N 4"]:
        return relative_differences(self.a, self.b)

    @cached_property
    def _beside_authors(self) -> Float[np.ndarray, "N 4"]:
        """The features without those that the authors decide."""
        return self._features if self.within is None else np.where(self.within < WITHIN, 0.0, self._features)

    @cached_property
    def _log_lengths(self) -> Float[np.ndarray, " N"]:
        one, other = (np.log(np.maximum(side[:, LENGTH], SHORTEST)) for side in (self.a, self.b))
        return one - other

    @cached_property
    def _other_lengths(self) -> Float[np.ndarray, "N 2"]:
        return np.c_[self.a[:, LENGTH] - self.b[:, LENGTH], self._log_lengths]

    def _fit(self, features: Float[np.ndarray, "N d"], authors: bool) -> ContextualBradleyTerry:
        first, second = (self.first, self.second) if authors else (None, None)
        return contextual_bradley_terry(
            self.outcomes, features, first, second, self.clusters, self.scale, weights=self.weights
        )

    def _left(self, column: Float[np.ndarray, " N"], features: Float[np.ndarray, "N d"]) -> float:
        """The sum of squares of a column that a number for each author, and features, leave over."""
        fit = contextual_bradley_terry(column, features, self.first, self.second, scale="log-odds")
        left = column - features @ fit.slopes
        if self.first is not None and self.second is not None:
            left = left - fit.scores[self.first] + fit.scores[self.second]
        return float((left**2).sum())


def style_fit(judged: Judged, outcomes: Float[np.ndarray, " N"], scale: Literal["wins", "log-odds"]) -> StyleFit | None:
    """The effects of style on log-odds or on labels; None with fewer than ``FEW_PAIRS``.

    Where the authors of some pairs are known, and these are enough, they alone are fitted.
    """
    known = ~np.isnan(outcomes)
    named = known & np.array([bool(pair.author_a and pair.author_b) for pair in judged.pairs])
    known = named if named.sum() >= FEW_PAIRS else known
    if known.sum() < FEW_PAIRS:
        return None
    pairs = [pair for pair, is_known in zip(judged.pairs, known, strict=True) if is_known]
    counts = {text: style_counts(text) for pair in pairs for text in (pair.a, pair.b)}
    a, b = (
        np.array([counts[text] for text in side]) for side in zip(*((pair.a, pair.b) for pair in pairs), strict=True)
    )
    names = sorted({name for pair in pairs for name in (pair.author_a, pair.author_b) if name is not None})
    first = second = None
    if names and all(pair.author_a and pair.author_b for pair in pairs):
        first, second = (
            np.array([names.index(str(getattr(pair, side))) for pair in pairs]) for side in ("author_a", "author_b")
        )
    votes = judged.votes[known] if scale == "wins" else None  # of labels, each a share of so many comparisons
    return StyleFit(outcomes[known], a, b, judged.clusters[known], scale, first, second, votes)
