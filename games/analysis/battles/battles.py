"""Battles of models: the win table, the maximal lottery with bands, ratings, cycles."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from scipy.sparse.csgraph import connected_components
from scipy.special import expit, logit
from torch import Tensor

from nashward.errors import NashwardError

from ...forms.game import PreferenceGame
from ...shapes import Bool, Float, Int
from ..confidence import JEFFREYS
from ..contextual import WITHIN, ContextualBradleyTerry, contextual_bradley_terry
from ..game_ratings import ClassLottery, class_lottery
from ..pair_tests import DRAWS, margin_p_values, winner_p_value, with_further_variance
from ..ratings import Ratings, bradley_terry, elo, has_maximum, scores
from ..significant_cycles import Cycle, cycles_below
from .bands import WHOLE, Bands, lotteries
from .copies import copies
from .misfit import misfit_p_value
from .records import ONE, Alike, alike, counted_margins, margins_alike, mean_margins
from .settled_models import settled
from .style_control import FittedStyle, at_equal_style, known_style, scores_beside, style_within, variance_by_slopes
from .win_tables import smoothed, summed

FLOOR = 1e-9  # of wins that are drawn, so that scores stay finite
PAIRS = 3  # of a model, whose prior its rating has: fewer make the bands of few prompts too narrow
CHUNK = 500_000  # win probabilities at once


@dataclass(frozen=True)
class Battles:
    """Battles between n models, one a record.

    Attributes:
        labels: of the models, sorted.
        first, second: [battles], the places of both models in ``labels``.
        won, lost: [battles], how often the first and the second won, a tie as half a win of each.
        prompt: [battles], the number of the prompt.
        prompts: how many prompts there are.
        by_prompt: whether they are given, so that what one of them decides can be told from what many do.
        smoothing: a of the prior Beta(a, a) on each win probability. With 0 the table is the observed frequencies;
            ratings and draws without prompts, which need a prior, then use Jeffreys' 1/2.
        style: [battles, 4], the differences of both responses' style (``style_differences``); None: not known.
        categories: of battles, by name, as flags [battles].
        fitted: at equal style, the battles as they were fought, and the slopes of style; None: these are they.
        ties: [battles], of records of several battles how many are ties, which vary less; None: not known.

    Example:
        >>> battles = Battles.of_tables(("x", "y"), np.array([[[0.0, 2.5], [1.5, 0.0]]]))
        >>> battles.met.tolist(), battles.game.P[0].tolist(), battles.missing
        ([[0.0, 4.0], [4.0, 0.0]], [0.5, 0.6], [])
    """

    labels: tuple[str, ...]
    first: Int[np.ndarray, " battles"]
    second: Int[np.ndarray, " battles"]
    won: Float[np.ndarray, " battles"]
    lost: Float[np.ndarray, " battles"]
    prompt: Int[np.ndarray, " battles"]
    prompts: int
    by_prompt: bool
    smoothing: float = JEFFREYS
    style: Float[np.ndarray, "battles 4"] | None = None
    categories: Mapping[str, Bool[np.ndarray, " battles"]] = field(default_factory=dict)
    fitted: FittedStyle | None = None
    ties: Float[np.ndarray, " battles"] | None = None

    @classmethod
    def of_tables(
        cls, labels: tuple[str, ...], wins: Float[np.ndarray, "prompts n n"], smoothing: float = JEFFREYS
    ) -> Battles:
        """Of tables of wins, one a prompt; a single one is of battles whose prompts are not given.

        Example:
            >>> Battles.of_tables(("x", "y"), np.array([[[0.0, 3.0], [1.0, 0.0]]])).total.tolist()
            [[0.0, 3.0], [1.0, 0.0]]
        """
        upper = np.triu(wins + wins.swapaxes(1, 2) > 0, 1)
        prompt, first, second = upper.nonzero()
        won, lost = wins[prompt, first, second], wins[prompt, second, first]
        return cls(tuple(labels), first, second, won, lost, prompt, len(wins), len(wins) > 1, smoothing)

    @property
    def wins(self) -> Float[np.ndarray, "prompts n n"]:
        """[prompts, n, n], how often i beat j on each prompt: large where there are many prompts and models."""
        wins = np.zeros((self.prompts, len(self.labels), len(self.labels)))
        np.add.at(wins, (self.prompt, self.first, self.second), self.won)
        np.add.at(wins, (self.prompt, self.second, self.first), self.lost)
        return wins

    @cached_property
    def total(self) -> Float[np.ndarray, "n n"]:
        """[n, n], the wins over all prompts."""
        return self._summed(self.won, self.lost)

    @cached_property
    def met(self) -> Float[np.ndarray, "n n"]:
        """[n, n], the number of battles of each pair."""
        return self.total + self.total.T

    @property
    def missing(self) -> list[tuple[str, str]]:
        """The pairs that never met; their probability is the prior's 1/2."""
        pairs = np.argwhere(np.triu(self.met == 0, 1))
        return [(self.labels[i], self.labels[j]) for i, j in pairs]

    @cached_property
    def game(self) -> PreferenceGame:
        """P_ij = (wins_ij + a) / (met_ij + 2 a), the mean of the posterior Beta."""
        return PreferenceGame(smoothed(self.total[None], self.smoothing)[0], self.labels)

    @cached_property
    def ratings(self) -> Ratings:
        """Bradley-Terry ratings, each pair smoothed by the same prior, and each model by that of three pairs at most.

        With one on each pair the ratings of many models, whose pairs met a few times each, would shrink. At equal
        style they are those of the battles as they were fought, beside the effects of style, with the same prior.
        Their mean is that of ``settled`` models: a few battles of a new one would move and widen all others.
        """
        found = bradley_terry(self.total.clip(0), self._prior_of_ratings)
        if self.fitted is not None:
            prior = self._prior_of_ratings / 2 * (1 - np.eye(len(self.labels)))
            beside = self._scores_beside(np.ones(len(self.won)), prior, np.zeros(len(self.labels)))
            found = Ratings.of(torch.from_numpy(beside), torch.from_numpy(self.total.clip(0) + prior))
        return replace(found, scores=self._anchored(found.scores))

    @cached_property
    def lottery(self) -> ClassLottery:
        """The maximal lottery of the table, over classes of clones."""
        return class_lottery(self.game.P.numpy())

    @cached_property
    def misfit_p_value(self) -> float:
        """``fit_p_value`` of scores alone: how likely battles so far from any scores are without cycles."""
        return self.fit_p_value()

    def fit_p_value(self, style: bool = False) -> float:
        """How likely battles so far from fitted scores, and ``style``, are without cycles: ``misfit_p_value``.

        Scores far enough apart explain models who never beat the others: fitted are the battles within each group.
        """
        group = connected_components(self.total > 0, directed=True, connection="strong")[1]
        within = self.of_records(group[self.first] == group[self.second])
        if not len(within.first):
            beyond = (self.met > 0).sum() / 2 - len(group) + connected_components(self.met > 0)[0]
            return 1.0 if beyond > 0 else math.nan
        fit = within.scores(style)
        x = within._known_style() if style else np.zeros((len(within.first), 0))
        x = np.where(within.first > within.second, -1.0, 1.0)[:, None] * x
        i, j, margin, met, record = margins_alike(within.first, within.second, within._alike)
        p = expit(fit.scores[i] - fit.scores[j] + x[record] @ fit.slopes)
        prompt = within.prompt[record] if self.by_prompt else None
        return misfit_p_value(met * (margin + 0.5), met, p, np.stack([i, j], 1), prompt, x[record])

    def cycles(self, level: float = 0.05, draws: int = 20_000, seed: int = 0) -> list[Cycle]:
        """The cycles of three that are no chance of the prompts, or of the battles where prompts are not given.

        As ``significant_cycles``, from battles. Without prompts each battle counts on its own: a sign test.

        Args:
            level: how many of the leaderboards without a cycle may seem to have one.
            draws: of the signs, at least.
            seed: of the draws.
        """
        n = len(self.labels)
        draws = max(draws, int(n * (n - 1) / level))
        return cycles_below(self._p_values(draws, seed), level, draws)

    def winner_p_value(self, winner: int, draws: int = DRAWS, seed: int = 0) -> float:
        """How likely, at most, a model seems to beat every other one as clearly where none does, as ``winner_p_value``.

        Without prompts each battle counts on its own. ``draws`` and ``seed`` are of the signs.
        """
        return winner_p_value(self._p_values(draws, seed), winner)

    @property
    def compared(self) -> Int[np.ndarray, "n n"]:
        """[n, n], on how many prompts each pair met, or in how many battles where prompts are not given."""
        if not self.by_prompt:
            return self.met.astype(np.int64)
        i, j, margin = self._margins
        return self._summed(np.ones(len(margin)), np.ones(len(margin)), i, j).astype(np.int64)

    def fewest_with(self, model: int) -> int:
        """The other model that this one was compared with least."""
        others = np.delete(np.arange(len(self.labels)), model)
        return int(others[self.compared[model, others].argmin()])

    def _p_values(self, draws: int, seed: int) -> Float[np.ndarray, "n n"]:
        """[n, n], one-sided p-values of "i beats j on average"."""
        n = len(self.labels)
        if self.by_prompt or not self._counts:
            i, j, margin = self._margins if self.by_prompt else self._each
            p = margin_p_values(n, i, j, margin, draws=draws, seed=seed)
            if self.fitted is None:
                return p
            met = self._summed(np.ones(len(i)), np.ones(len(i)), i, j)
            mean = self._summed(margin, -margin, i, j) / np.maximum(met, 1)
            group = self.prompt if self.by_prompt else np.arange(len(self.first))
            further = variance_by_slopes(*self._each, self.first, self.game.P.numpy(), group, self.fitted)
            return with_further_variance(p, mean, further)
        counts = counted_margins(margins_alike(self.first, self.second, self._alike))
        return margin_p_values(n, *counts, draws=draws, seed=seed)

    def of_category(self, name: str) -> Battles:
        """The battles of one category; the models stay the same, also those that fought none of them.

        Raises:
            ValueError: no such category; the name of a language is enough where no other category has it.
        """
        full = name if name in self.categories else f"language {name}"
        if full not in self.categories:
            known = ", ".join(self.categories) or "none"
            raise NashwardError(f"there is no category {name!r} among these battles; they have: {known}")
        return self.of_records(self.categories[full])

    def of_records(self, at: Bool[np.ndarray, " battles"]) -> Battles:
        """Some of the battles, of the same models.

        Args:
            at: [battles], which.
        """
        return replace(
            self, first=self.first[at], second=self.second[at], won=self.won[at], lost=self.lost[at],
            prompt=self.prompt[at], style=None if self.style is None else self.style[at],
            categories={other: flags[at] for other, flags in self.categories.items()},
            fitted=None if self.fitted is None else self.fitted.of_records(at),
            ties=None if self.ties is None else self.ties[at],
        )  # fmt: skip

    def without_idle(self) -> Battles:
        """Without the models that fought no battle."""
        fought = np.flatnonzero(self.met.sum(1) > 0)
        place = np.zeros(len(self.labels), dtype=np.int64)
        place[fought] = np.arange(len(fought))
        labels = tuple(self.labels[k] for k in fought)
        return replace(self, labels=labels, first=place[self.first], second=place[self.second])

    def scores(self, style: bool = False, prior: bool = False) -> ContextualBradleyTerry:
        """Bradley-Terry scores with standard errors over prompts, with the effects of style beside them or without.

        Without the prior they are what ``arena-rank`` has, unweighted, where the likelihood has a maximum.

        Args:
            style: fit the four features of style as well.
            prior: with that of ``ratings``, at equal style.

        Raises:
            ValueError: the style is not known, or records are counts of several battles.
        """
        features = self._known_style() if style else np.zeros((len(self.first), 0))
        clusters = self.prompt if self.by_prompt else None
        least = 0.0 if prior or has_maximum(self.total, groups=True) else 0.1
        won, first, second, weights = self.won, self.first, self.second, None
        if self._counts:
            at, won, weights = self._alike
            first, second, features = first[at], second[at], features[at]
            clusters = None if clusters is None else clusters[at]
        return contextual_bradley_terry(
            won, features, first, second, clusters, ridge=least, weights=weights,
            smoothing=self._prior_of_ratings if prior else 0.0,
        )  # fmt: skip

    def style_controlled(self) -> tuple[Battles, ContextualBradleyTerry]:
        """The battles as they would have gone between responses of equal style, and the fit of what style adds.

        By ``at_equal_style``, with the slopes of the fit, which has the prior of the ratings.

        Raises:
            ValueError: as ``scores``.
        """
        fit, prior = self.scores(style=True, prior=True), self.smoothing or JEFFREYS
        won, gained = at_equal_style(self.won, self.first, self.second, self._known_style(), fit.slopes, prior)
        fitted = FittedStyle(self.won, fit.slopes, fit.influence, gained)
        return replace(self, won=won, lost=1 - won, fitted=fitted), fit

    @cached_property
    def style_within(self) -> Float[np.ndarray, " 4"]:
        """[4], the share of each feature of style that who wrote a response does not explain."""
        return style_within(self._known_style(), self.first, self.second)

    @property
    def style_of_models(self) -> Bool[np.ndarray, " 4"]:
        """[4], the features that who wrote a response decides: their effect cannot be told from the models'."""
        return self.style_within < WITHIN

    def without_style_of_models(self) -> Battles:
        """The battles without those features, so that what the models are is not taken for style."""
        return replace(self, style=np.where(self.style_of_models, 0.0, self._known_style()))

    def _known_style(self) -> Float[np.ndarray, "battles 4"]:
        if self._counts:
            raise NashwardError("some rows count several battles; style is controlled battle by battle")
        return known_style(self.style)

    def bands(self, share: float = 0.9, draws: int = 400, seed: int = 0) -> Bands:
        """The maximal lottery and Elo's ratings, with bands from the bootstrap.

        Each prompt has a weight from the exponential distribution (the Bayesian bootstrap), so that the battles of a
        prompt stay together; each draw has wins of the prior beside them, Gamma(a) prompts won and as many lost, since
        a pair whose prompts all went one way would have no spread otherwise. A pair that met once on each prompt has
        then the Beta posterior, as each pair has where the prompts are not given. Prompts that are drawn with
        replacement would make the bands too narrow where there are few. At equal style each draw has slopes of style
        of its own, by one step of their fit to the weighted battles; without prompts each battle has then a weight.

        Returns:
            The bands that hold this share of the draws.

        Raises:
            ValueError: a share out of (0, 1), fewer than two draws.

        Source: Rubin 1981, "The Bayesian bootstrap".
        """
        if not 0 < share < 1:
            raise NashwardError(f"share must be between 0 and 1, got {share}")
        if draws < 2:
            raise NashwardError(f"draws must be at least 2, got {draws}")
        wins, prior = self._drawn(draws, np.random.default_rng(seed))
        own, same, others = self.lottery, np.arange(len(self.labels)), 1 - np.eye(len(self.labels))
        if self.by_prompt:  # equal counts are of different battles
            same = copies(self.game.P.numpy(), self.first, self.second, self.won, self.lost, self.prompt)
        prior = prior[:, same[:, None], same]  # copies stay copies
        needed = 0.0 if self._prior_counts else JEFFREYS * others  # by ratings
        share_of_prior = self._prior_of_ratings / (2 * (self.smoothing or JEFFREYS))
        ends, ratings, weights = [], [], self._weights(draws, np.random.default_rng(seed))  # those of the wins
        chunk = max(1, CHUNK // len(self.labels) ** 2)  # draws whose tables stay in the processor's cache
        for k in range(0, draws, chunk):
            some, of_prior = wins[k : k + chunk], prior[k : k + chunk] * self._prior_counts
            ends.append(lotteries(smoothed(some + of_prior, 0.0), same))
            of_prior, start = (of_prior + needed) * share_of_prior, self.ratings.scores
            if self.fitted is None:
                ratings.append(elo(self._anchored(scores(torch.from_numpy(some + of_prior), start=start))))
            else:
                drawn = [self._scores_beside(next(weights), one, start.numpy()) for one in of_prior]
                ratings.append(elo(self._anchored(torch.from_numpy(np.stack(drawn)))))
        at = torch.tensor([(1 - share) / 2, (1 + share) / 2], dtype=torch.float64)
        least, most = (torch.from_numpy(np.concatenate(end)) for end in zip(*ends, strict=True))
        low, high = torch.quantile(least, at[0], dim=0), torch.quantile(most, at[1], dim=0)
        elo_low, elo_high = torch.quantile(torch.cat(ratings), at, dim=0)
        lottery, rating = torch.from_numpy(own.policy), self.ratings.elo
        least_of_all, most_of_all = map(torch.from_numpy, own.ranges(self.game.P.numpy()))
        low, high = torch.minimum(low, least_of_all), torch.maximum(high, most_of_all)
        return Bands(
            lottery, torch.minimum(low, lottery), torch.maximum(high, lottery),
            rating, torch.minimum(elo_low, rating), torch.maximum(elo_high, rating), share,
            (least > WHOLE).to(torch.float64).mean(0),
        )  # fmt: skip

    def _anchored(self, scores: Float[Tensor, "*draws n"]) -> Float[Tensor, "*draws n"]:
        """Scores whose mean over the settled models is 0."""
        return scores - scores[..., settled(self.met)].mean(-1, keepdim=True)

    @property
    def _prior_of_ratings(self) -> float:
        """The battles of each pair, half of them won, that the ratings have in addition."""
        return 2 * (self.smoothing or JEFFREYS) * min(1.0, PAIRS / max(len(self.labels) - 1, 1))

    def _scores_beside(
        self, weight: Float[np.ndarray, " battles"], prior: Float[np.ndarray, "n n"], start: Float[np.ndarray, " n"]
    ) -> Float[np.ndarray, " n"]:
        """[n], scores of weighted battles beside the effects of style, whose slopes are those of these weights."""
        assert self.fitted is not None, "battles at equal style"
        effect = self._known_style() @ self.fitted.drawn(weight)
        return scores_beside(self.fitted.won, self.first, self.second, effect, weight, prior, start)

    @property
    def _prior_counts(self) -> bool:
        """Whether draws of the table have wins of the prior."""
        return bool(self.smoothing) or not self.by_prompt

    def _drawn(
        self, draws: int, random: np.random.Generator
    ) -> tuple[Float[np.ndarray, "draws n n"], Float[np.ndarray, "draws n n"]]:
        """[draws, n, n] each: wins drawn from the bootstrap or the posterior, and the prior's."""
        n = len(self.labels)
        battles = np.ones((n, n))
        at, outcome, times = self._alike
        if self.by_prompt or self.fitted is not None:
            wins = np.empty((draws, n, n))
            for table, weight in zip(wins, self._weights(draws, random), strict=True):
                moved = self._moved(weight)
                table[:] = self._summed(weight * (self.won + moved), weight * (self.lost - moved))
        elif ((outcome > 0) & (outcome < 1)).any():  # ties vary less than wins do
            each = (random.gamma(times) for _ in range(draws))
            i, j = self.first[at], self.second[at]
            wins = np.stack([summed(n, i, j, weight * outcome, weight * (1 - outcome)) for weight in each])
        else:
            wins = random.gamma(self.total.clip(0), size=(draws, n, n))
        if self.by_prompt:
            i, j, _ = self._margins
            prompts = self._summed(np.ones(len(i)), np.zeros(len(i)), i, j)
            prompts = prompts + prompts.T
            battles = self.met / np.maximum(prompts, 1) + (prompts == 0)  # of a pair on a prompt, on average
        prior = np.maximum(random.gamma(self.smoothing or JEFFREYS, size=wins.shape), FLOOR) * (1 - np.eye(n))
        return np.maximum(wins, 0.0), battles * prior

    def _weights(self, draws: int, random: np.random.Generator) -> Iterator[Float[np.ndarray, " battles"]]:
        """[battles], those of each draw: of a prompt's battles they are equal."""
        group = self.prompt if self.by_prompt else np.arange(len(self.first))
        for _ in range(draws):
            yield random.exponential(size=self.prompts if self.by_prompt else len(group))[group]

    def _moved(self, weight: Float[np.ndarray, " battles"]) -> Any:
        """[battles], by how much the first one's wins at equal style change with the slopes of weighted battles."""
        if self.fitted is None:
            return 0.0
        even = self.game.P.numpy()[self.first, self.second]
        moved = self.fitted.gained @ (self.fitted.drawn(weight) - self.fitted.slopes)
        return expit(logit(even) + moved) - even

    @cached_property
    def _margins(self) -> tuple[Int[np.ndarray, " m"], Int[np.ndarray, " m"], Float[np.ndarray, " m"]]:
        """One record a prompt and pair: i < j, and the mean margin of i over j, in [-1/2, 1/2] (but for style)."""
        return mean_margins(len(self.labels), self.prompt, *self._each, self.won + self.lost)

    @cached_property
    def _each(self) -> tuple[Int[np.ndarray, " battles"], Int[np.ndarray, " battles"], Float[np.ndarray, " battles"]]:
        """The records as they are, but with i < j."""
        swapped, margin = self.first > self.second, self.won / (self.won + self.lost) - 0.5
        i, j = np.where(swapped, self.second, self.first), np.where(swapped, self.first, self.second)
        return i, j, np.where(swapped, -margin, margin)

    @cached_property
    def _counts(self) -> bool:
        """Whether some records are of several battles."""
        return bool((np.abs(self.won + self.lost - 1) > ONE).any())

    @cached_property
    def _alike(self) -> Alike:
        return alike(self.won, self.lost, self.ties)

    def _summed(
        self, won: Float[np.ndarray, " m"], lost: Float[np.ndarray, " m"], i: Any = None, j: Any = None
    ) -> Float[np.ndarray, "n n"]:
        """[n, n], the sums over records: ``won`` of i over j and ``lost`` of j over i."""
        i, j = self.first if i is None else i, self.second if j is None else j
        return summed(len(self.labels), i, j, won, lost)
