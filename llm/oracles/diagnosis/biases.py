"""The measures of a judge, each a function of what it judged; all together are held to one level."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from nashward.counted import counted
from nashward.games.analysis.confidence import one_sided
from nashward.games.analysis.contextual import ContextualBradleyTerry, contextual_bradley_terry
from nashward.games.analysis.significant_cycles import significant_cycles
from nashward.games.analysis.style import STYLE
from nashward.games.shapes import Bool
from nashward.p_text import p_text

from ...config.limits import DiagnosisLimits
from ..fitting.summary import VoteCycle, ring, vote_cycles
from ..fitting.votes import Vote
from .finding import Finding, NotMeasured, clustered_mean, two_sided
from .probe import CERTAIN, Judged
from .style_fit import FEW_PAIRS, StyleFit, style_fit

FEW = 30  # labelled pairs, from which on accuracy and calibration are tested
FEW_PROMPTS = 5  # judged in both orders, from which on the effects of the order are
CHANCE = 0.05  # from which p-value on an effect that stands beside a measure may be chance
TESTS = 10  # among which a cycle is one, for its level
LARGEST_FACTOR = 20.0  # of log-odds: larger ones, and labels that contradict them, are not told apart from it
SEPARATED = 10.0  # in log-odds a standard deviation: labels that a feature decides alone have no finite slope
INVERTED = (
    "it judges the other way round, or the labels name the other side: see what their winner means; where they are "
    "right, exchange its verdicts"
)
COIN = "a judge that is told apart from a coin by the labels"
LOG_ODDS = "log-odds that are larger where the labels agree with it more often, beyond chance"
Measure = Finding | NotMeasured
WORDS = {"length": "longer responses", "headers": "headers", "lists": "lists", "bold": "bold text"}


def order(judged: Judged, limits: DiagnosisLimits, symmetric: bool) -> Iterator[Measure]:
    """What being shown first adds, and how often it decides; nothing of an oracle that is symmetric by construction."""
    known = ~np.isnan(judged.forward + judged.backward)
    prompts = len(np.unique(judged.clusters[known]))
    if symmetric or prompts < FEW_PROMPTS:
        needs = f"{FEW_PROMPTS} prompts judged in both orders, given: {prompts}"
        needs = "the two orders apart, this oracle has one log-odds for both" if symmetric else needs
        yield from (NotMeasured(kind, needs) for kind in ("order", "flips"))
        return
    first, second, clusters = judged.forward[known], judged.backward[known], judged.clusters[known]
    bias, error, count = clustered_mean((first + second) / 2, clusters)
    where = "first" if bias > 0 else "second"
    yield Finding(
        "order", bias, error, two_sided(bias, error, count), abs(bias) > limits.order,
        f"prefers what is shown {where}, by {abs(bias):.2f} ± {error:.2f} in log-odds",
        "both orders are judged and averaged here, which takes this out; judge in both orders elsewhere too",
    )  # fmt: skip
    flipped = (np.sign(first) == np.sign(second)) & (first != 0)
    rate, error, count = clustered_mean(flipped.astype(float), clusters)
    yield Finding(
        "flips", rate, error, one_sided(rate - limits.flips, error, count), rate > limits.flips,
        f"names another winner in {rate:.0%} ± {error:.0%} of the pairs when the order changes",
        "its judgements are noisy: add judges (--oracle given again), or a stronger one",
    )  # fmt: skip


def style(
    judged: Judged, limits: DiagnosisLimits, marks: Mapping[str, ContextualBradleyTerry] | None = None
) -> Iterator[Measure]:
    """What length and layout add, beyond what they add for the labels where these have them.

    Beyond labels is compared on their scale: what a judge without error adds to votes drawn with its P on the same
    pairs is what it adds to the labels. In log-odds it is more, as a logistic fit leaves out what else these go by.
    Of authors' responses it is what they add within authors: an author's own length is a part of the author's score.
    Of layout it is what its marks add to the same response (``effects_of_marks``); without that, what layout adds
    beside length in whatever form (``StyleFit.beyond``).
    """
    found = style_fit(judged, judged.log_odds, "log-odds")
    if found is None:
        needs = f"{FEW_PAIRS} judged pairs, given: {(~np.isnan(judged.log_odds)).sum()}"
        yield from (NotMeasured(kind, needs) for kind in STYLE)
        return
    labels = judged.labels
    enough = (~np.isnan(labels + judged.log_odds)).sum() >= FEW
    labelled = style_fit(judged, np.where(np.isnan(judged.log_odds), np.nan, labels), "wins") if enough else None
    votes = style_fit(judged, np.where(np.isnan(labels), np.nan, judged.P), "wins") if enough else None
    for k, kind in enumerate(STYLE):
        by_itself = (marks or {}).get(kind)
        if by_itself is None and found.hidden(k):
            yield _hidden(kind, k, found, limits)
            continue
        if by_itself is None and found.by_length(k):
            yield _by_length(kind, k, found, limits)
            continue
        fit, own = found.of(k), None if labelled is None else labelled.of(k)
        if by_itself is None and math.isnan(fit.standard_error[k]):
            yield NotMeasured(kind, "pairs that differ in it")
            continue
        if own is not None and abs(own.slopes[k] * fit.scale[k]) > SEPARATED:
            yield NotMeasured(kind, f"labels of which {WORDS[kind]} do not decide every one")
            continue
        effect = _effect(fit, k)
        slope, error, of_labels, net = _excess(k, effect, None if votes is None else votes.of(k), own)
        clusters, how, note = fit.clusters, ", within authors" * (found.within is not None), ""
        agreed = True
        if by_itself is None:
            note = _between(k, found, votes, labelled)
        else:  # labels are known across responses alone: what is beyond theirs has to be so there too
            across, how, note = slope, ", in the same responses with its marks and without", _across(k, found)
            effect = _effect(by_itself, 0, float(found.rms[k]))
            slope, error, of_labels, net = _excess(k, effect, None, own, same=True)
            clusters, agreed = by_itself.clusters, not of_labels or math.copysign(across, across * slope) > limits.style
        size = f"by {abs(effect[0]):.2f} ± {effect[1]:.2f} in log-odds a standard deviation{how}"
        text = f"{'prefers' if effect[0] > 0 else 'dislikes'} {WORDS[kind]}, {size}"
        alone, p_value = two_sided(*effect[:2], clusters), two_sided(slope, error, clusters)
        large = min(abs(effect[0]), abs(slope)) > limits.style
        if net and not of_labels and large and alone <= limits.level < p_value:
            needs = f"more labels, to tell whether they prefer {WORDS[kind]} as it does"
            yield NotMeasured(kind, needs, f"{text} ({net})")
            continue
        advice = "take it out: --correct style:pairs=FILE, or for length fit-oracle --length remove"
        if net:
            size = f"by {abs(slope):.2f} ± {error:.2f} in log-odds a standard deviation{how}"
            text = f"prefers {WORDS[kind]} {'more' if slope > 0 else 'less'} than the labels do, {size} ({net})"
            against = slope * effect[0] > 0 and alone < CHANCE
            if slope * of_labels < 0 and not against:
                agreed = False
                net += ". The labels go by it more: they may be biased, nothing is to be taken out of the judge"
        yield Finding(
            kind, slope, error, p_value, agreed and abs(slope) > limits.style, text, advice,
            note="; ".join(filter(None, (net, note))),
        )  # fmt: skip


def _effect(fit: ContextualBradleyTerry, k: int, scale: float | None = None) -> tuple[float, float, float]:
    """Of feature k of a fit the log-odds that a standard deviation adds, their error, and the standard deviation."""
    size = float(fit.scale[k]) if scale is None else scale
    return float(fit.slopes[k]) * size, float(fit.slope_errors[k]) * size, size


def _excess(
    k: int,
    effect: tuple[float, float, float],
    votes: ContextualBradleyTerry | None,
    own: ContextualBradleyTerry | None,
    same: bool = False,
) -> tuple[float, float, float, str]:
    """What feature k adds beyond its part of the labels, the error of that, this part, 0 where it may be chance, and
    what is to be said of it. Of ``votes``, a fit to the judge's P, the labels' part is taken off; else of its effect,
    which is of the ``same`` responses with its marks and without, where the labels' is across responses.
    """
    slope, error, scale = effect
    if own is None or math.isnan(own.slope_errors[k]):
        return slope, error, 0.0, ""
    of_labels, its_error, _ = _effect(own, k, scale)
    said, drawn = f"its own is {slope:+z.2f} ± {error:.2f}", ""
    if votes is not None:
        slope, error, _ = _effect(votes, k, scale)
        drawn = f", on votes drawn with its P {slope:+z.2f} ± {error:.2f}"
    chance = not two_sided(of_labels, its_error, own.clusters) < CHANCE
    its_size = f"{of_labels:+z.2f} ± {its_error:.2f}" + ", which may be chance" * chance
    net = f"that of the labels is {its_size}; {said}{drawn}"
    if same:
        net = f"{said}; that of the labels, across whole responses, is {its_size}: the less, the more else decides them"
    return slope - of_labels, math.hypot(error, its_error), 0.0 if chance else of_labels, net


def _between(k: int, found: StyleFit, votes: StyleFit | None, labelled: StyleFit | None) -> str:
    """What of a feature the authors' scores take; that they are not known."""
    if found.within is None or (alone := found.alone(k)) is None:
        return "who wrote the responses is not known: what it thinks of the authors is in it"
    drawn, own = (None if fit is None else fit.alone(k) for fit in (votes, labelled))
    value, error, *_ = _excess(k, _effect(alone, k), drawn, own)
    return (
        f"within authors; {1 - found.within[k]:.0%} of the differences are habits of authors, whose quality differs "
        f"too: with them {value:z.3f} ± {error:.3f}"
    )


def _across(k: int, found: StyleFit) -> str:
    """Where an effect of marks is from, and what is seen across responses in its place."""
    value, error, _ = _effect(found.of(k), k)
    within = ", within authors," if found.within is not None else ""
    seen = f"; across responses{within} {value:z.3f} ± {error:.3f}, with all that goes with them"
    return "of the same responses with these marks and without" + ("" if math.isnan(error) else seen)


def _hidden(kind: str, k: int, found: StyleFit, limits: DiagnosisLimits) -> NotMeasured:
    """A feature that the authors decide: what it or they add is seen, and not which of the two."""
    alone = found.alone(k)
    assert alone is not None, "authors that decide a feature have scores"
    value, error = float(alone.coefficients[k]), float(alone.standard_error[k])
    likes = "prefers" if value > 0 else "dislikes"
    large = abs(value) > limits.style and two_sided(value, error, alone.clusters) < limits.level
    text = (
        f"{likes} {WORDS[kind]}, by {abs(value):.2f} ± {error:.2f} in log-odds a standard deviation, which cannot be "
        "told from what it thinks of their authors"
    )
    needs = "authors whose own responses differ in it: who wrote a response decides "
    return NotMeasured(kind, f"{needs}{1 - float(found.within[k]):.0%} of it", text if large else "")  # type: ignore[index]


def _by_length(kind: str, k: int, found: StyleFit, limits: DiagnosisLimits) -> NotMeasured:
    """A mark of layout that goes with length: what it or length adds is seen, unless the mark's is surely small."""
    value, error = float(found.fit.coefficients[k]), float(found.fit.standard_error[k])
    beyond, its_error = float(found.beyond.coefficients[k]), float(found.beyond.standard_error[k])
    likes = "prefers" if value > 0 else "dislikes"
    large = abs(value) > limits.style and two_sided(value, error, found.fit.clusters) < limits.level
    small = one_sided(limits.style - abs(beyond), its_error, found.beyond.clusters) < limits.level
    text = (
        f"{likes} {WORDS[kind]}, by {abs(value):.2f} ± {error:.2f} in log-odds a standard deviation, which cannot be "
        "told on these responses from what it thinks of their length"
    )
    needs = f"responses of like lengths that differ in it: their lengths decide {1 - float(found.beside_length[k]):.0%}"
    return NotMeasured(kind, f"{needs} of it", text if large and not small else "")


def accuracy(judged: Judged, limits: DiagnosisLimits) -> Iterator[Measure]:
    """How often it is on the side of a vote, and whether its log-odds are of the right size."""
    y, A = judged.unseen_labels, judged.log_odds
    known = ~np.isnan(y + A)
    if known.sum() < FEW:
        yield from (NotMeasured(kind, _labels_needed(judged, known)) for kind in ("accuracy", "calibration"))
        return
    right = np.where(A == 0, 0.5, np.where(A > 0, y, 1 - y))[known]
    clusters = judged.clusters[known]
    votes = judged.votes[known]  # as ``accuracy_weights`` has it: a pair of two votes counts twice
    rate, error, count = clustered_mean(right, clusters, votes)
    coin = one_sided(rate - 0.5, error, count) > limits.level  # not shown to be better than one
    worse = one_sided(0.5 - rate, error, count) <= limits.level
    of = f"{known.sum()} pairs" if votes.sum() == known.sum() else f"{votes.sum():g} votes on {known.sum()} pairs"
    ties = int((y[known] == 0.5).sum())
    verdict = ", worse than a coin" if worse else ", not told apart from a coin" if coin else ""
    yield Finding(
        "accuracy", rate, error, 0.0 if coin else 1.0, coin,
        f"agrees with the labels in {rate:.1%} ± {error:.1%} of {of}{verdict}",
        INVERTED if worse
        else "do not train on it yet: give more labels, take another judge, or fit one to them (nashward fit-oracle)",
        note=f"{counted(ties, 'tie')} (or as many votes for each side), each half right" if ties else "",
    )  # fmt: skip
    if coin:  # its log-odds say nothing, whatever their size
        yield NotMeasured("calibration", COIN)
        return
    if (right == 1).all():
        yield NotMeasured("calibration", "labels of which it has some wrong, else no size is too large")
        return
    yield _calibration(judged, known, limits)


def _calibration(judged: Judged, known: Bool[np.ndarray, " N"], limits: DiagnosisLimits) -> Finding:
    """By what factor its log-odds are too large, a certain verdict counting as ``probe.CERTAIN`` nats."""
    y, A, certain, n = (of[known] for of in (judged.labels, judged.log_odds, judged.certain, judged.votes))
    slope, error, count = _slope_of_labels(judged, known)
    factor = min(1 / slope, LARGEST_FACTOR) if slope > 0 else LARGEST_FACTOR
    too = "large" if factor > 1 else "small"
    text = f"gives log-odds that are too {too} by a factor of {max(factor, 1 / factor):.2g}"
    advice = "calibrate it on the labels: --correct temperature:pairs=FILE"
    if factor == LARGEST_FACTOR:
        text += " or more: it is hardly more often right where they are large"
        advice = "its log-odds say little beyond who wins: take another judge, or fit one (nashward fit-oracle)"
    wrong = certain & (np.where(A > 0, y, 1 - y) < 0.5)
    if wrong.any():
        P = np.where(certain, (A > 0).astype(float), 0.5 + np.tanh(A / 2) / 2)
        text += (
            f"; it is certain (P of 0 or 1) of {certain.sum()} of {len(y)} pairs and wrong in {wrong.sum()} of them: "
            f"its log-loss has no bound, its Brier score is {np.average((P - y) ** 2, weights=n):.3f} "
            f"(a coin {np.average((0.5 - y) ** 2, weights=n):.3f})"
        )
    return Finding(
        "calibration", factor, factor * error / slope if factor < LARGEST_FACTOR else math.nan,
        two_sided(slope - 1, error, count), not 1 / limits.calibration <= factor <= limits.calibration, text, advice,
        note=f"a certain verdict counts as log-odds of {CERTAIN:g}" * bool(certain.any()),
    )  # fmt: skip


def favours(judged: Judged, limits: DiagnosisLimits) -> Iterator[Measure]:
    """Win probability that an author is given beyond the labels, its log-odds divided by their calibration factor."""
    y, A = judged.unseen_labels, judged.log_odds
    known = ~np.isnan(y + A)
    if known.sum() < FEW:
        yield NotMeasured("favour", _labels_needed(judged, known))
        return
    slope, error, count = _slope_of_labels(judged, known)
    if one_sided(slope, error, count) > limits.level:  # they tell nothing of the labels, of no author
        yield NotMeasured("favour", LOG_ODDS)
        return
    excess = 0.5 + np.tanh(A * slope / 2) / 2 - y
    names = sorted({name for pair in judged.pairs for name in (pair.author_a, pair.author_b) if name is not None})
    found = []
    for name in names:
        sign = np.array([(pair.author_a == name) - (pair.author_b == name) for pair in judged.pairs])
        own = known & (sign != 0)
        if len(names) < 2 or own.sum() < FEW:
            continue
        lead, error, count = clustered_mean((sign * excess)[own], judged.clusters[own], judged.votes[own])
        found.append((one_sided(lead, error, count), lead, error, name))
    if not found:
        yield NotMeasured("favour", f"two authors (--responses), one of them in {FEW} labelled pairs")
    for p, lead, error, name in found:
        yield Finding(
            "favour", lead, error, min(1.0, p * len(found)), lead > limits.favour,
            f"gives {name} {lead:.1%} ± {error:.1%} more wins than the labels do, after recalibration",
            "let a judge of another family judge this author, or several (--oracle given again)", note=name,
        )  # fmt: skip


def cycles(judged: Judged, limits: DiagnosisLimits) -> Iterator[Measure]:
    """Cycles of three authors that the prompts confirm: never from one prompt."""
    pairs = [k for k, pair in enumerate(judged.pairs) if pair.author_a and pair.author_b]
    names = sorted({str(name) for k in pairs for name in (judged.pairs[k].author_a, judged.pairs[k].author_b)})
    if len(names) < 3:
        yield NotMeasured("cycles", f"three authors (--responses), given: {len(names)}")
        return
    clusters = judged.clusters
    place, P = {name: i for i, name in enumerate(names)}, judged.P
    wins = np.zeros((int(clusters.max()) + 1, len(names), len(names)))
    for k in pairs:
        i, j = place[str(judged.pairs[k].author_a)], place[str(judged.pairs[k].author_b)]
        if not np.isnan(P[k]):
            wins[clusters[k], i, j] += P[k]
            wins[clusters[k], j, i] += 1 - P[k]
    with np.errstate(invalid="ignore"):  # 0 / 0: not judged
        tables = wins / (wins + wins.swapaxes(1, 2))  # on a prompt with several pairs of two authors their mean
    tables[:, range(len(names)), range(len(names))] = 0.5
    found = significant_cycles(tables, level=limits.level / TESTS)
    of_labels = _cycles_of_labels(judged, pairs)
    known = {_from_first(cycle.names) for cycle in of_labels}
    rings = [_from_first(tuple(names[i] for i in cycle.players)) for cycle in found]
    shown = "; ".join(
        f"{ring(cycle)} ({p_text(one.p_value, one.floor)}{', as the labels do' * (cycle in known)})"
        for cycle, one in list(zip(rings, found, strict=True))[:3]
    )
    yield Finding(
        "cycles", len(found), math.nan, 0.0 if found else 1.0, not known.issuperset(rings),
        f"goes in a circle beyond noise: {shown}" if found else "shows no cycle of authors beyond noise",
        "keep the table (Nash, maximal lottery), and no single score", note=_beside_labels(judged, pairs, of_labels),
    )  # fmt: skip


def _from_first(cycle: tuple[str, ...]) -> tuple[str, ...]:
    """A cycle from the name that is first by the alphabet."""
    k = cycle.index(min(cycle))
    return cycle[k:] + cycle[:k]


def _cycles_of_labels(judged: Judged, pairs: Sequence[int]) -> list[VoteCycle]:
    """The cycles of authors that the labels confirm, with the judge's log-odds on their pairs."""
    kept = [k for k in pairs if judged.pairs[k].n and not np.isnan(judged.log_odds[k])]
    votes = [
        Vote(one.prompt, one.a, one.b, one.wins, one.n, models=(str(one.author_a), str(one.author_b)))
        for one in (judged.pairs[k] for k in kept)
    ]
    return [cycle for cycle in vote_cycles(votes, judged.log_odds[kept]) if cycle.prompt is None]


def _beside_labels(judged: Judged, pairs: Sequence[int], cycles: Sequence[VoteCycle]) -> str:
    """Whether the labels go in a circle, and what the judge has of it."""
    if cycles:
        held = ("it does not hold this", "it does too")[min(cycles[0].sides) > 0]
        more = f", and {len(cycles) - 1} more" * (len(cycles) > 1)
        return (
            f"the labels go in a circle beyond noise, {ring(cycles[0].names)} "
            f"({p_text(cycles[0].p_value, cycles[0].floor)}){more}; {held}: its log-odds {cycles[0].leads_in_words}"
        )
    return "the labels show no cycle beyond noise" if any(judged.pairs[k].n for k in pairs) else ""


def repeated(judged: Judged, again: Judged, limits: DiagnosisLimits) -> Iterator[Measure]:
    """How far a win probability changes when the same pair is judged again; ``again`` has the first of the pairs."""
    change = np.abs(judged.P[: len(again.pairs)] - again.P)
    known = ~np.isnan(change)
    if not known.any():
        yield NotMeasured("repeat", "a pair that is judged twice")
        return
    mean, error, count = clustered_mean(change[known], again.clusters[known])
    beyond = mean > limits.repeat
    yield Finding(
        "repeat", mean, error, one_sided(mean - limits.repeat, error, count), beyond,
        f"changes a win probability by {mean:.3f} on average when it judges the same pair again",
        "take temperature 0 or more votes a pair, and keep its judgements in a cache",
    )  # fmt: skip


def coverage(judged: Judged, limits: DiagnosisLimits) -> Iterator[Measure]:
    """What it does not judge, and what it does not read."""
    missing = float(np.isnan(judged.log_odds).mean())
    yield Finding(
        "missing", missing, math.nan, 0.0, missing > limits.missing, f"leaves {missing:.0%} of the pairs unjudged",
        "look at what it answered there: of a judge behind a server that is in *.verdicts.sqlite beside the --cache",
    )  # fmt: skip
    yield Finding(
        "truncated", judged.truncated, math.nan, 0.0, judged.truncated > limits.truncated,
        f"does not read {judged.truncated:.0%} of the texts to their end",
        "take a judge with a longer context, or shorter responses",
    )  # fmt: skip


def _labels_needed(judged: Judged, known: Bool[np.ndarray, " N"]) -> str:
    fitted = " and was not fitted to" if judged.fitted else ""
    return f"{FEW} labelled pairs that it judges{fitted}, given: {known.sum()}"


def _slope_of_labels(judged: Judged, known: Bool[np.ndarray, " N"]) -> tuple[float, float, int]:
    """The factor on the log-odds at which labels are likeliest, its standard error, and how many prompts there are."""
    fit = contextual_bradley_terry(
        judged.labels[known], judged.log_odds[known, None], clusters=judged.clusters[known], weights=judged.votes[known]
    )
    return float(fit.slopes[0]), float(fit.slope_errors[0]), fit.clusters


def confirmed(findings: Sequence[Finding], limits: DiagnosisLimits) -> list[Finding]:
    """The findings, those named that are beyond their limits and, at the level over all of them, beyond chance.

    Source: Bonferroni 1936.

    Example:
        >>> found = confirmed([Finding("order", 0.3, 0.1, 0.003, True, "")] * 2, DiagnosisLimits())
        >>> [finding.named for finding in found]
        [True, True]
    """
    tested = [one for one in findings if 0 < one.p_value < 1]  # of the others the limit alone decides
    level = limits.level / max(len(tested), 1)
    return [replace(one, named=one.beyond and one.p_value <= level) for one in findings]
