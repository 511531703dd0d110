"""A judge examined: all measures, the noise of its tables, what it costs an equilibrium, its most doubtful pairs."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.special import expit, logit

from nashward import games
from nashward.counted import counted
from nashward.games.shapes import Float

from ...config.limits import DiagnosisLimits
from ..cache import Cache
from ..protocol import PreferenceOracle
from . import biases
from .agreement import agreement
from .finding import Finding, NotMeasured
from .marks import effects_of_marks, unmarked
from .probe import LARGEST, Judged, Pair, judge_pairs

logger = logging.getLogger(__name__)

AGAIN = 60  # pairs that are judged a second time
SHOWN = 5  # of the pairs that look most wrong
DRAWS = 20  # of noise, a prompt


@dataclass(frozen=True)
class Cost:
    """What a judge's noise costs the equilibrium of one prompt's responses.

    Attributes:
        noise: the standard deviation of an averaged judgement, in log-odds.
        error: the largest error of a win probability among a prompt's pairs, on average over draws of that noise.
        gap: the mean duality gap, in the table without the noise, of the Nash of a table with it.
        responses: a prompt, on average.
    """

    noise: float
    error: float
    gap: float
    responses: float


@dataclass(frozen=True)
class Diagnosis:
    """What was found of a judge.

    Attributes:
        oracle: its name.
        prompts, pairs, labelled: how many it was examined on.
        findings: all measures that were made.
        not_measured: those that were not, each with what it needs.
        cost: of its noise; None where nothing shows the noise, or where it is not measured.
        doubtful: the pairs that look most wrong, the first the most, each with its P(a beats b) and why.

    Example:
        >>> from nashward.llm.oracles import Length
        >>> from nashward.llm.oracles.diagnosis.probe import Pair
        >>> pairs = [Pair(f"Prompt {k}", "Yes. " * (k % 5 + 1), "No, never.") for k in range(40)]
        >>> diagnosis = diagnose(Length(), pairs)
        >>> print(diagnosis.headline)  # doctest: +ELLIPSIS
        length: 1 problem found on 40 prompts: it prefers longer responses, by 0.58 ± 0.00 in log-odds ...
    """

    oracle: str
    prompts: int
    pairs: int
    labelled: int
    findings: list[Finding]
    not_measured: list[NotMeasured]
    cost: Cost | None
    doubtful: list[tuple[Pair, float, str]]

    @property
    def named(self) -> list[Finding]:
        """The findings that are beyond their limits and beyond chance."""
        return [finding for finding in self.findings if finding.named]

    @property
    def headline(self) -> str:
        """What is wrong with the judge, or that nothing was found by how many of all measures; what is undecided."""
        on = counted(self.prompts, "prompt")
        undecided = "; it ".join(one.text for one in self.not_measured if one.text)
        hidden = f". Undecided: it {undecided}" if undecided else ""
        if self.named:
            count = f"{counted(len(self.named), 'problem')} found on {on}"
            return f"{self.oracle}: {count}: it " + "; it ".join(finding.text for finding in self.named) + hidden
        right = next((f"; it {one.text}" for one in self.findings if one.kind == "accuracy"), "")
        lacking = len({one.kind for one in self.not_measured} - {"cost"})
        made = len({one.kind for one in self.findings})
        by = f" by {made} of {made + lacking} measures" if lacking else ""
        return f"{self.oracle}: no problem found on {on}{by}{right}{hidden}"

    @property
    def lacking(self) -> dict[str, list[str]]:
        """The measures that were not made, by what they need."""
        kinds: dict[str, list[str]] = {}
        for one in self.not_measured:
            kinds.setdefault(one.needs, []).append(one.kind)
        return kinds

    def as_dict(self) -> dict[str, Any]:
        """All of it in values that JSON can hold."""
        return {
            "headline": self.headline,
            "oracle": self.oracle,
            "prompts": self.prompts,
            "pairs": self.pairs,
            "labelled": self.labelled,
            "problems": [finding.kind for finding in self.named],
            "findings": [dataclasses.asdict(finding) for finding in self.findings],
            "not_measured": [dataclasses.asdict(one) for one in self.not_measured],
            "cost": None if self.cost is None else dataclasses.asdict(self.cost),
            "doubtful": [
                {**dataclasses.asdict(pair), "P": probability, "why": why} for pair, probability, why in self.doubtful
            ],
        }


def diagnose(
    oracle: PreferenceOracle,
    pairs: Sequence[Pair],
    others: Mapping[str, PreferenceOracle] | None = None,
    limits: DiagnosisLimits | None = None,
    cache: Cache | str | Path | None = None,
    seed: int = 0,
    fitted: Collection[str] = (),
) -> Diagnosis:
    """Examine a judge on pairs of responses.

    Each measure that has an error is tested; over all of them a judge without any error is accused of one with the
    probability ``limits.level`` at most (Bonferroni). Errors are over prompts.

    Args:
        oracle: the judge.
        pairs: see ``probe_pairs``.
        others: other judges, by name; two at least for a measure of agreement.
        limits: sizes from which on an error is named; None: ``DiagnosisLimits()``.
        cache: of judgements. The measure of repeatability judges the first 60 pairs again without it; what a judge
            behind a server is paid for that is kept, as all of its verdicts are.
        seed: of the draws behind the cost.
        fitted: prompts whose labels the judge was fitted to: how right it is is measured on the others.

    See also: ``nashward.llm.report.diagnosis``, its page.
    """
    limits = limits or DiagnosisLimits()
    repeats = min(len(pairs), AGAIN)
    changed = unmarked(pairs)
    marked = sum(map(len, changed.values()))
    logger.info(
        "%s: %d pairs are judged, %d of them again%s", oracle.name, len(pairs), repeats,
        f", and {marked} responses beside themselves without a mark of layout" if marked else "",
    )  # fmt: skip
    oracle.expect(2 * (len(pairs) + repeats + marked))
    judged = dataclasses.replace(judge_pairs(oracle, pairs, cache), fitted=fitted)
    marks = effects_of_marks(oracle, changed, cache)
    oracle.redraw()
    again = judge_pairs(oracle, judged.pairs[:AGAIN])
    beside = {
        name: judge_pairs(other, pairs, cache if other.cache_key() else None).P
        for name, other in (others or {}).items()
    }
    right = [*biases.accuracy(judged, limits)]
    measures = [
        *biases.order(judged, limits, oracle.symmetric),
        *biases.style(judged, limits, marks),
        *right,
        *biases.favours(judged, limits),
        *biases.cycles(judged, limits),
        *agreement(judged, beside, any(isinstance(one, Finding) and one.advice == biases.INVERTED for one in right)),
        *biases.repeated(judged, again, limits),
        *biases.coverage(judged, limits),
    ]
    findings = [one for one in measures if isinstance(one, Finding)]
    not_measured = [one for one in measures if isinstance(one, NotMeasured)]
    if not _tables(judged):
        not_measured.append(NotMeasured("cost", "a pair that is judged"))
    return Diagnosis(
        oracle.name,
        int(judged.clusters.max()) + 1,
        len(judged.pairs),
        int((~np.isnan(judged.labels)).sum()),
        biases.confirmed(findings, limits),
        not_measured,
        cost(judged, again, seed),
        _doubtful(judged, beside),
    )


def noise(judged: Judged, again: Judged) -> float:
    """The standard deviation of a judgement averaged over both orders, in log-odds.

    The larger of two: that of (L_ab + L_ba) / 2 over pairs, which has the noise of (L_ab - L_ba) / 2 and no quality in
    it; and that of judging again. Of an oracle that was fitted the error that its folds show, if that is larger still.
    """
    halves = (judged.forward + judged.backward) / 2
    changes = (again.log_odds - judged.log_odds[: len(again.log_odds)]) / np.sqrt(2)
    changes = changes[~np.isnan(changes)]
    found = [np.nanstd(halves), np.sqrt((changes**2).sum() / max(len(changes), 1))]
    if judged.error is not None:
        ends = np.clip([judged.P - judged.error, judged.P + judged.error], expit(-LARGEST), expit(LARGEST))
        low, high = logit(ends)
        found.append(np.sqrt(np.nanmean((high - low) ** 2)) / 2)
    return float(max(found))


def cost(judged: Judged, again: Judged, seed: int = 0) -> Cost | None:
    """What the noise costs: the Nash of each prompt's table with noise, played in the table without it."""
    tables = _tables(judged)
    size = noise(judged, again) if tables else 0.0
    if not size > 1e-9:
        return None
    random, errors, gaps, counts = np.random.default_rng(seed), [], [], []
    for table in tables:
        upper = np.triu_indices(len(table), 1)
        noisy = np.tile(table, (DRAWS, 1, 1))
        noisy[:, *upper] += size * random.normal(size=(DRAWS, len(upper[0])))
        noisy[:, *upper[::-1]] = -noisy[:, *upper]
        true, drawn = _game(table), _game(noisy)
        errors.append(float((drawn.P - true.P).abs().amax((-2, -1)).mean()))
        policies = games.nash(drawn).policy
        gaps.append(float(np.mean([float(games.duality_gap(true, policy)) for policy in policies])))
        counts.append(len(table))
    return Cost(size, float(np.mean(errors)), float(np.mean(gaps)), float(np.mean(counts)))


def _game(log_odds: Float[np.ndarray, "*batch n n"]) -> games.PreferenceGame:
    P = np.tanh(log_odds / 2) / 2 + 0.5
    return games.PreferenceGame(torch.from_numpy((P + 1 - P.swapaxes(-1, -2)) / 2))


def _tables(judged: Judged, most: int = 100) -> list[Float[np.ndarray, "n n"]]:
    """Log-odds of the first prompts' responses against each other.

    Of a prompt not all of whose pairs were judged, as of labelled ones beside responses of authors, the response that
    lacks the most is left out, until all were.
    """
    by_prompt: dict[str, list[int]] = {}
    for k, pair in enumerate(judged.pairs):
        by_prompt.setdefault(pair.prompt, []).append(k)
    tables = []
    for indices in list(by_prompt.values())[:most]:
        texts = list(dict.fromkeys(text for k in indices for text in (judged.pairs[k].a, judged.pairs[k].b)))
        table = np.full((len(texts), len(texts)), np.nan)
        np.fill_diagonal(table, 0.0)
        for k in indices:
            i, j = texts.index(judged.pairs[k].a), texts.index(judged.pairs[k].b)
            table[i, j], table[j, i] = judged.log_odds[k], -judged.log_odds[k]
        while np.isnan(table).any():
            worst = int(np.isnan(table).sum(0).argmax())
            table = np.delete(np.delete(table, worst, 0), worst, 1)
        if len(table) > 1:
            tables.append(table)
    return tables


def _doubtful(judged: Judged, others: Mapping[str, Float[np.ndarray, " N"]]) -> list[tuple[Pair, float, str]]:
    """The pairs on which the judge is furthest from labels, else from other judges, else from itself."""
    P, y = judged.P, judged.labels
    if (~np.isnan(y)).any():
        away, why = np.abs(P - y), "far from the label"
    elif others:
        away, why = np.abs(P - np.nanmean(np.stack(list(others.values())), axis=0)), "far from the other judges"
    else:
        away, why = np.abs(judged.forward + judged.backward) / 2, "the order shown moves it most"
    order = np.argsort(-np.nan_to_num(away, nan=-1.0), kind="stable")[:SHOWN]
    return [(judged.pairs[k], float(P[k]), why) for k in order if away[k] > 0]
