"""How right a judge is by its agreement with other judges, without labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

import numpy as np

from nashward.games.analysis.confidence import one_sided
from nashward.games.analysis.dawid_skene import DawidSkene, dawid_skene
from nashward.games.shapes import Float, Int

from .finding import Finding, NotMeasured, clustered_mean
from .probe import Judged

OTHER_WAY_ROUND = "worse than a coin: it judges the other way round"
CHANCE = 0.01  # from which p-value on labels and agreement may differ by chance


def agreement(
    judged: Judged, others: Mapping[str, Float[np.ndarray, " N"]], inverted_by_labels: bool = False
) -> Iterator[Finding | NotMeasured]:
    """Whether it is less accurate than the other judges, by their agreement alone.

    One that judges the other way round by its labels too has one fault, which ``accuracy`` names. Labels say which side
    is right: where they contradict the agreement beyond chance, it is undecided.
    """
    if len(others) < 2:
        yield NotMeasured("agreement", "two other judges (--beside)")
        return
    verdicts = np.stack([judged.P, *others.values()])
    decided = (verdicts != 0.5) & ~np.isnan(verdicts)
    if not (decided[0] & decided[1:].any(0)).any():
        yield NotMeasured("agreement", "a pair that this judge and another one decide")
        return
    fit = dawid_skene(verdicts)
    rate, error = float(fit.accuracy[0]), float(fit.standard_error[0])
    if by_labels := _contradiction(judged, fit):
        yield NotMeasured(
            "agreement",
            "labels and other judges that name the same side",
            f"is right in {rate:.0%} of the pairs by its agreement with {', '.join(others)} (Dawid-Skene), but "
            f"{by_labels}: agreement does not tell which side is right",
        )
        return
    inverted, far = bool(fit.interval[1][0] < 0.5), bool(fit.suspect[0])
    beyond = (inverted or far) and not (inverted and inverted_by_labels)
    text = f"is right in {rate:.0%} of the pairs by its agreement with {', '.join(others)} (Dawid-Skene)"
    if inverted:
        text += f", {OTHER_WAY_ROUND}"
        advice = "see on which pairs they differ: where the other judges are right, exchange its verdicts"
    else:
        text += ", less than half as far above chance as they are" * far
        advice = (
            "take another judge, or fit one to the labels (nashward fit-oracle)"
            if (~np.isnan(judged.labels)).any()
            else "the page shows the pairs on which it is furthest from them: see who is right there"
        )
    notes = [f"{OTHER_WAY_ROUND}, as by the labels"] if inverted and inverted_by_labels else []
    notes += [*_others(fit, list(others)), _same_verdicts(verdicts, ["it", *others], judged.clusters)]
    yield Finding(
        "agreement", rate, rate * (1 - rate) * error, 0.0 if beyond else 1.0, beyond, text, advice,
        note="; ".join(notes),
    )  # fmt: skip


def _contradiction(judged: Judged, fit: DawidSkene) -> str:
    """What labels say against the agreement, of all judges' verdicts together or of this judge's; empty: nothing."""
    y = judged.unseen_labels
    together = _by_labels(y, fit.log_odds, judged)
    if together[1] < CHANCE:
        return f"all their verdicts together are right in {together[0]:.0%} by the labels"
    alone, worse, better = _by_labels(y, judged.log_odds, judged)
    low, high = fit.interval[0][0], fit.interval[1][0]
    if (high < 0.5 and better < CHANCE) or (low > 0.5 and worse < CHANCE):
        return f"in {alone:.0%} by the labels"
    return ""


def _by_labels(
    y: Float[np.ndarray, " N"], log_odds: Float[np.ndarray, " N"], judged: Judged
) -> tuple[float, float, float]:
    """How often log-odds are on the labels' side, and the p-values of a coin that is as often wrong, and right."""
    known = ~np.isnan(y + log_odds)
    if not known.any():
        return 0.5, 1.0, 1.0
    right = np.where(log_odds == 0, 0.5, np.where(log_odds > 0, y, 1 - y))[known]
    rate, error, count = clustered_mean(right, judged.clusters[known], judged.votes[known])
    return rate, one_sided(0.5 - rate, error, count), one_sided(rate - 0.5, error, count)


def _others(fit: DawidSkene, names: Sequence[str]) -> Iterator[str]:
    """How often each other judge is right by the agreement of all; who is worse than a coin is named as that."""
    for name, rate, high in zip(names, fit.accuracy[1:], fit.interval[1][1:], strict=True):
        yield f"{name} is right in {rate:.0%}" + f", {OTHER_WAY_ROUND}" * bool(high < 0.5)


def _same_verdicts(
    verdicts: Float[np.ndarray, "judges N"], names: Sequence[str], clusters: Int[np.ndarray, " N"]
) -> str:
    """In which share of the pairs that both decide each two judges name the same winner."""
    said = []
    for (one, a), (other, b) in combinations(zip(names, np.sign(verdicts - 0.5), strict=True), 2):
        both = np.abs(a * b) == 1  # not NaN
        if both.any():
            share, error, _ = clustered_mean((a == b)[both].astype(float), clusters[both])
            said.append(f"{one} and {other} {share:.0%}" + (f" ± {error:.0%}" if error == error else ""))
    return f"the same winner: {', '.join(said)}"
