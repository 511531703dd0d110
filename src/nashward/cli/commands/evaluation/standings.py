"""Every ranking of the models of a leaderboard, as ``nashward leaderboard`` prints and writes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nashward import games

if TYPE_CHECKING:
    from nashward.games.analysis.leaderboard import Bands, Battles, InCategory

CERTAIN = 1.645  # standard errors


@dataclass(frozen=True)
class Standings:
    """All that is ranked.

    Attributes:
        battles: who beat whom how often.
        origin: lines on how they came about.
        rates: win rates and their standard errors, [n] each, where models were judged.
        original: the battles as they were fought, where style was taken out of them.
        logits_curl: the mean share of a prompt's logits that no score explains; None without an oracle.
        apart: [n, n], the pairs whose lengths hardly overlap, where they are taken out: there is no verdict on these.
        style: the fit of it, where style was taken out.
        corrections: those of the oracle (``corrections_of``), with what was fitted.
        style_left: the share of an oracle's log-odds (mean square) that this leaves over; 1 where it was not.
    """

    battles: Battles
    origin: list[str]
    rates: tuple[Any, Any] | None = None
    logits_curl: float | None = None
    original: Battles | None = None
    apart: Any = None
    style: games.analysis.contextual.ContextualBradleyTerry | None = None
    style_left: float = 1.0
    corrections: Sequence[dict[str, Any]] = ()

    @property
    def hollow(self) -> bool:
        """Whether an oracle judges by style all but alone, so that there is no verdict on what is left of it."""
        from nashward.llm.oracles.corrections.corrected import MOST_TAKEN

        return self.style_left < MOST_TAKEN


def ranked(standings: Standings, seed: int) -> dict[str, Any]:
    """Every ranking, the models in the order of their lottery and, where they share it, of their ratings."""
    social_choice = games.analysis.social_choice
    battles, apart, categories = standings.battles, standings.apart, _categories(standings)
    game, bands, labels, lottery = battles.game, battles.bands(seed=seed), battles.labels, battles.lottery
    winner, smith = int(social_choice.condorcet_winner(game.P)), social_choice.smith_set(game.P).tolist()
    untested = winner < 0 or _untested(standings, winner)
    return {
        "about": standings.origin,
        "models": _model_rows(standings, bands, categories, smith),
        "nash_unique": lottery.only,
        "nash_unique_over_classes": lottery.unique,
        "clones": [[labels[i] for i in players] for players in lottery.clones],
        "leans_on": _leans_on(standings),
        "share_of_draws": bands.share,
        "condorcet_winner": labels[winner] if winner >= 0 else None,
        "condorcet_p_value": None if untested else battles.winner_p_value(winner, seed=seed),
        "lengths_apart": apart_pairs(labels, apart),
        "smith_set": [label for label, member in zip(labels, smith, strict=True) if member],
        "curl": float(social_choice.curl_fraction(game.P - 0.5)),
        "logits_curl": standings.logits_curl,
        "misfit_p_value": _misfit_p_value(standings),
        "cycles": [] if standings.hollow else _cycles(battles, apart, seed),
        "style": None if standings.style is None else _style(standings.style),
        "style_left": standings.style_left,
        "corrections": list(standings.corrections),
        "hollow": standings.hollow,
        "categories": [_category_row(category, labels, len(categories)) for category in categories],
        "never_met": battles.missing,
        "labels": labels,
        "P": game.P,
    }  # fmt: skip


def _untested(standings: Standings, model: int) -> bool:
    """Whether the battles of a model are too few, or its responses too different in length, for a test of its wins."""
    if standings.hollow:
        return True
    battles, apart = standings.battles, standings.apart
    fewest = battles.compared[model, battles.fewest_with(model)]
    return fewest < games.analysis.pair_tests.MIN_PROMPTS or (apart is not None and bool(apart[model].any()))


def _model_rows(
    standings: Standings, bands: Bands, categories: list[InCategory], smith: Sequence[bool]
) -> list[dict[str, Any]]:
    """A row for each model, by its lottery and then by its rating."""
    game_ratings, battles = games.analysis.game_ratings, standings.battles
    labels, P = battles.labels, battles.game.P
    copeland = games.analysis.social_choice.copeland(P).tolist()
    deviations = game_ratings.deviation_ratings(P)
    certain = bool(((P == 0) | (P == 1)).any())  # log-odds of these are not finite
    averaging = None if certain else games.analysis.ratings.ELO * game_ratings.nash_averaging(P)
    rows = []
    for i in sorted(range(len(labels)), key=lambda i: (-float(bands.lottery[i]), -float(bands.elo[i]))):
        row = {
            "model": labels[i], "battles": float(battles.met[i].sum()),
            "nash": float(bands.lottery[i]), "nash_band": [float(bands.low[i]), float(bands.high[i])],
            "nash_alone": float(bands.whole[i]),
            "elo": float(bands.elo[i]), "elo_band": [float(bands.elo_low[i]), float(bands.elo_high[i])],
            "deviation": float(deviations[i]), "nash_averaging": None if averaging is None else float(averaging[i]),
            "copeland": copeland[i], "smith": smith[i], "worst_category": _worst(categories, i),
        }  # fmt: skip
        if standings.rates is not None:
            row |= {"win_rate": float(standings.rates[0][i]), "win_rate_error": float(standings.rates[1][i])}
        rows.append(row)
    return rows


def _category_row(category: InCategory, labels: tuple[str, ...], categories: int) -> dict[str, Any]:
    """A category as one of so many, for which the test of who beats the Nash there is corrected."""
    best, beyond_noise = category.beats_most(categories)
    return {
        "name": category.name, "battles": category.battles,
        "elo": _by_label(labels, category.elo), "elo_error": _by_label(labels, category.elo_error),
        "rate_against_nash": _by_label(labels, category.rate),
        "rate_against_nash_error": _by_label(labels, category.rate_error),
        "beats_nash_most": None if best is None else labels[best], "beyond_noise": beyond_noise,
    }  # fmt: skip


def _leans_on(standings: Standings) -> dict[str, Any] | None:
    """The models of few battles that change who leads, and the Nash without them."""
    battles = standings.battles
    found = games.analysis.battles.few_battles(battles) if standings.rates is None else None
    if found is None:
        return None
    few = [
        {"model": label, "battles": float(met.sum()), "most_with_one": float(met.max())}
        for label, met, is_few in zip(battles.labels, battles.met, found.few, strict=True) if is_few
    ]  # fmt: skip
    without = None if found.without is None else _by_label(battles.labels, found.without)
    return {"models": few, "moved": found.moved, "nash_without": without}


def _misfit_p_value(standings: Standings) -> float | None:
    """How likely battles that scores explain are so far from them; cycles are one reason for a misfit."""
    if standings.original is not None:
        return standings.original.fit_p_value(style=True)
    return standings.battles.misfit_p_value if standings.rates is None else None


def _categories(standings: Standings) -> list[InCategory]:
    """The categories, the one in which the Nash is beaten most surely first."""
    battles = standings.battles if standings.original is None else standings.original
    overall = standings.battles.ratings.elo.numpy()
    lottery, style = standings.battles.lottery.policy, standings.original is not None
    found = games.analysis.battles.by_category(battles, lottery, overall, style)

    def lower_end(category: InCategory) -> float:
        best = category.beats_most(len(found))[0]
        if best is None:
            return 0.0
        return float(category.rate[best] - CERTAIN * category.rate_error[best])

    return sorted(found, key=lower_end, reverse=True)


def _worst(categories: list[InCategory], model: int) -> dict[str, Any] | None:
    """The category in which a model is most surely low: by the upper end of its rating there, since few battles err."""
    known = [category for category in categories if category.elo_error[model] == category.elo_error[model]]  # not NaN
    if not known:
        return None
    worst = min(known, key=lambda category: category.elo[model] + CERTAIN * category.elo_error[model])
    return {"name": worst.name, "elo": float(worst.elo[model]), "elo_error": float(worst.elo_error[model])}


def _cycles(battles: Battles, apart: Any, seed: int) -> list[dict[str, Any]]:
    P, labels = battles.game.P, battles.labels
    found = []
    for cycle in battles.cycles(seed=seed):
        i, j, k = cycle.players
        if apart is not None and (apart[i, j] or apart[j, k] or apart[k, i]):
            continue
        pairs = [
            {"winner": labels[a], "loser": labels[b], "win_rate": float(P[a, b]), "battles": float(battles.met[a, b])}
            for a, b in ((i, j), (j, k), (k, i))
        ]
        found.append({"models": [labels[i], labels[j], labels[k]], "p_value": cycle.p_value, "floor": cycle.floor,
                      "pairs": pairs})  # fmt: skip
    return found


def _style(fit: games.analysis.contextual.ContextualBradleyTerry) -> dict[str, dict[str, float] | None]:
    """What a standard deviation of each feature adds to the log-odds, with its standard error; None: not measured."""
    columns = zip(fit.coefficients, fit.standard_error, fit.slopes, fit.slope_errors, strict=True)
    names = ("coefficient", "error", "slope", "slope_error")
    return {
        feature: None
        if values[0] == 0 and values[1] != values[1]
        else dict(zip(names, map(float, values), strict=True))
        for feature, values in zip(games.analysis.style.STYLE, columns, strict=True)
    }


def _by_label(labels: tuple[str, ...], values: Any) -> dict[str, float | None]:
    numbers = [None if value != value else float(value) for value in values]  # NaN is not NaN
    return dict(zip(labels, numbers, strict=True))


def apart_pairs(labels: tuple[str, ...], apart: Any) -> list[tuple[str, str]]:
    n = len(labels)
    return [] if apart is None else [(labels[i], labels[j]) for i in range(n) for j in range(i + 1, n) if apart[i, j]]
