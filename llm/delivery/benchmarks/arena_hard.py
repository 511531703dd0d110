"""Arena-Hard's verdicts: each answer beside the baseline's in both orders, on five points."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nashward.errors import NashwardError
from nashward.games.analysis.contextual import contextual_bradley_terry
from nashward.games.analysis.style import relative_differences

from ...oracles.judges.protocols.answers import Answer
from ...oracles.judges.protocols.published import FIVE_POINT
from .answer_files import Answers, Question
from .judged_scores import BenchmarkJudge, Mean

RESAMPLES = 1000
LEVELS = (0.05, 0.95)  # of the interval, as Arena-Hard has them


@dataclass(frozen=True)
class Battle:
    """One question, answered by a model and by the baseline.

    Attributes:
        model, baseline: their names.
        question: the question.
        verdicts: with the baseline shown first, and with the model shown first; None: not read.
        outputs: what the judge wrote of each; None where the texts were too long for it.
        style: the differences of style of the two answers, model less baseline, [4]; None: not counted in the files.
    """

    model: str
    baseline: str
    question: Question
    verdicts: tuple[Answer | None, Answer | None]
    outputs: tuple[str | None, str | None]
    style: tuple[float, ...] | None

    @property
    def scores(self) -> tuple[float, ...]:
        """The games for the model, each 1, 1/2 or 0; three of a strong verdict. Without both verdicts there are none.

        Example:
            >>> much, tie = FIVE_POINT.read("[[B>>A]]"), FIVE_POINT.read("[[A=B]]")
            >>> Battle("mine", "base", Question(0, ("Hi",)), (much, tie), ("", ""), None).scores
            (1.0, 1.0, 1.0, 0.5)
        """
        second, first = self.verdicts
        if second is None or first is None:
            return ()
        return (*_games(second.losses, second.wins), *_games(first.wins, first.losses))

    def row(self, judge: str) -> dict[str, Any]:
        """As Arena-Hard's ``model_judgment`` files have it."""
        games = [
            {"score": None if verdict is None else verdict.text, "judgment": {"answer": output}}
            for verdict, output in zip(self.verdicts, self.outputs, strict=True)
        ]
        return {
            "uid": self.question.key, "category": self.question.dataset, "judge": judge, "model": self.model,
            "baseline": self.baseline, "games": games,
        }  # fmt: skip


def fight(
    judge: BenchmarkJudge, questions: Sequence[Question], answers: Answers, baselines: Mapping[str | None, Answers]
) -> list[Battle]:
    """The battles of a model's answers with the baseline's.

    Args:
        judge: who judges.
        questions: of the benchmark.
        answers: of the model.
        baselines: by the category of the question.

    Raises:
        EndpointError, BudgetError, OSError: see ``PaidCalls.outputs``.

    Source: Li et al. 2024, arXiv 2406.11939, and the code of Arena-Hard v2; the instructions are in our own words.
    """
    conversations: list[list[dict[str, str]]] = []
    for question in questions:
        base, own = baselines[question.dataset].turns[question.key][0], answers.turns[question.key][0]
        conversations += [FIVE_POINT.messages(question.turns[0], *pair) for pair in ((base, own), (own, base))]
    outputs = judge.write(conversations)
    verdicts = [None if output is None else FIVE_POINT.read(output) for output in outputs]
    return [
        Battle(
            answers.name, baselines[question.dataset].name, question, (verdicts[2 * k], verdicts[2 * k + 1]),
            (outputs[2 * k], outputs[2 * k + 1]),
            _style(answers.style.get(question.key), baselines[question.dataset].style.get(question.key)),
        )
        for k, question in enumerate(questions)
    ]  # fmt: skip


@dataclass(frozen=True)
class WinRate:
    """Of a model over the baseline.

    Attributes:
        rate: the mean of the games, a strong verdict three of them, with its error over questions.
        low, high: the 5% and 95% quantiles of the rate over resampled questions.
        equal_style: the rate at equal style, with its error; None: not requested, or not known.
        dropped: questions without both verdicts.
    """

    rate: Mean
    low: float
    high: float
    equal_style: Mean | None
    dropped: int


def win_rates(battles: Sequence[Battle], style_control: bool = False, seed: int = 0) -> dict[str, WinRate]:
    """The win rate in each category.

    Args:
        battles: of one model.
        style_control: also the rate at equal style: Bradley-Terry scores with the style of both answers beside them.
        seed: of the resamples.

    Raises:
        NashwardError: a category without a verdict; style that is not counted in the answer files.

    Source: the code of Arena-Hard v2 (``show_result.py``), where games are resampled; questions are here, whose games
        hang together. Its style features are centred over all models that are compared; here they are not, so that the
        rate is that of equal style.
    """
    found = {}
    for category in dict.fromkeys(str(battle.question.dataset) for battle in battles):
        own = [battle for battle in battles if str(battle.question.dataset) == category]
        read = [battle for battle in own if battle.scores]
        if not read:
            raise NashwardError(
                f"none of {len(own)} questions of {category} has both verdicts, as [[A>B]]; look into the verdicts, or "
                "raise --judge-max-tokens for a model that thinks"
            )
        games = [(k, score) for k, battle in enumerate(read) for score in battle.scores]
        sums, counts = np.array([[sum(b.scores), len(b.scores)] for b in read], dtype=np.float64).T
        drawn = np.random.default_rng(seed).integers(len(read), size=(RESAMPLES, len(read)))
        low, high = np.quantile(sums[drawn].sum(1) / counts[drawn].sum(1), LEVELS)
        rate = Mean.of([score for _, score in games], [k for k, _ in games])
        equal = _at_equal_style(read) if style_control else None
        found[category] = WinRate(rate, float(low), float(high), equal, len(own) - len(read))
    return found


def _at_equal_style(battles: Sequence[Battle]) -> Mean:
    lacking = next((battle for battle in battles if battle.style is None), None)
    if lacking is not None:
        raise NashwardError(
            f"style control needs the metadata of Arena-Hard's answer files, which question {lacking.question.key!r} "
            f"of {lacking.model} or {lacking.baseline} lacks; leave --style-control out, or answer with --format "
            "arena-hard"
        )
    rows = [(k, score, battle.style) for k, battle in enumerate(battles) for score in battle.scores]
    clusters, outcomes, features = (np.array(part) for part in zip(*rows, strict=True))
    players = np.zeros(len(rows), dtype=np.int64)
    fit = contextual_bradley_terry(outcomes, features, players + 1, players, clusters)
    apart, error = float(fit.scores[1] - fit.scores[0]), 2 * float(fit.score_errors[1])  # opposite scores
    rate = 1 / (1 + math.exp(-apart))
    return Mean(rate, rate * (1 - rate) * error, len(rows))


def _games(wins: float, losses: float) -> list[float]:
    """One game of 1, 1/2 or 0, three of a strong verdict."""
    total = wins + losses
    return [wins / total] * round(total)


def _style(own: tuple[int, ...] | None, base: tuple[int, ...] | None) -> tuple[float, ...] | None:
    """From counts of tokens, headers, items and bold parts."""
    if own is None or base is None or len(own) != 4 or len(base) != 4:
        return None
    a, b = (np.array([[n[0], *(count / max(n[0], 1) for count in n[1:])]]) for n in (own, base))
    return tuple(relative_differences(a, b)[0].tolist())
