"""What the demo on a real model measures: its policies under each judge, the cycles, and what was given up."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from nashward.games.shapes import Float
from nashward.llm.data.rollouts import Response
from nashward.llm.evaluation.players import START, policies, sample_responses
from nashward.llm.evaluation.tables import TournamentTables
from nashward.llm.evaluation.win_rates.win_rate import WinRate
from nashward.llm.oracles import PreferenceOracle, preference_matrices
from nashward.llm.run.selfplay import Run, SelfPlay, iterates
from nashward.llm.store.run_folder import RunFolder

from .stored import judged

MAJORITY = "majority"
Answers = Mapping[str, Sequence[Sequence[Response]]]  # by the policy: for each prompt its responses


@dataclass(frozen=True)
class Ring:
    """Three responses to a prompt that go in a circle: the first beats the second, that the third, that the first.

    Attributes:
        prompt: its id.
        texts: the three.
        P: [3], how surely each beats the next.
    """

    prompt: str
    texts: tuple[str, str, str]
    P: tuple[float, float, float]


@dataclass(frozen=True)
class JudgeGame:
    """The policies of a run under each judge, on prompts that it was not trained on.

    Attributes:
        prompts: their texts.
        answers: of each policy.
        tables: by the judge, ``MAJORITY`` first: the mean win probability of each pair of policies on each prompt.
        cyclic: the share of the triples of responses that the majority sends in a circle, with its error over the
            prompts of the run.
        triples: how many there were.
        ring: the clearest of them; None: there is none.
        divergence: of the last iterate from the start, nats per response, with its error, as the run measured it.
    """

    prompts: list[str]
    answers: Answers
    tables: dict[str, TournamentTables]
    cyclic: WinRate
    triples: int
    ring: Ring | None
    divergence: tuple[float, float | None]

    @property
    def last(self) -> str:
        """The last iterate."""
        return [name for name in self.answers if name.startswith("iteration")][-1]

    def rate(self, judge: str, policy: str) -> WinRate:
        """Of a policy against the start."""
        return self.tables[judge].rate(policy, START)

    def tokens(self, policy: str) -> tuple[float, float]:
        """The mean length of a response, with its error over prompts."""
        lengths = [float(np.mean([len(response.ids) for response in row])) for row in self.answers[policy]]
        return float(np.mean(lengths)), float(np.std(lengths, ddof=1) / len(lengths) ** 0.5)

    def numbers(self) -> dict[str, Any]:
        """All of it as JSON holds it."""
        return {
            "prompts": len(self.prompts),
            "games": {judge: table.summary() for judge, table in self.tables.items()},
            "against_start": {
                judge: {policy: [rate.value, rate.standard_error, *rate.interval] for policy in self.answers
                        if policy != START and (rate := self.rate(judge, policy))}
                for judge in self.tables
            },
            "cyclic_triples": [self.cyclic.value, self.cyclic.standard_error, self.triples],
            "ring": None if self.ring is None else {"texts": self.ring.texts, "P": self.ring.P},
            "tokens": {policy: self.tokens(policy) for policy in self.answers},
            "kl": self.divergence,
        }  # fmt: skip


def measure(
    play: SelfPlay,
    run: Run,
    prompts: Sequence[Any],
    count: int,
    judges: Mapping[str, PreferenceOracle],
    seed: int,
    say: Callable[[str], object],
) -> JudgeGame:
    """Sample ``count`` responses of each policy to the prompts, which the run folder keeps, and judge them."""
    home = RunFolder(run.folder)
    answers = sample_responses(
        home, policies(home), lambda: play.model, prompts, count, play.sampling, seed, lambda what: say(f"   {what}")
    )
    texts = [prompt.text for prompt in prompts]
    tables = {}
    for name, judge in judges.items():
        say(f"   judging: {name}")
        tables[name] = _tables(judge, texts, answers)
    cyclic, triples, ring = _cycles(run.folder)
    after = iterates(run.folder)[-1]["after"]
    moved = (after["kl_to_reference"], after.get("kl_to_reference_error"))
    return JudgeGame(texts, answers, tables, cyclic, triples, ring, moved)


def _tables(judge: PreferenceOracle, prompts: Sequence[str], answers: Answers) -> TournamentTables:
    """The mean over all pairs of responses of two policies, on each prompt."""
    texts = {name: [[response.text for response in row] for row in rows] for name, rows in answers.items()}
    tables = np.full((len(prompts), len(texts), len(texts)), 0.5)
    for (i, a), (j, b) in combinations(enumerate(texts), 2):
        results = preference_matrices(judge, prompts, texts[a], texts[b])
        tables[:, i, j] = [result.P.mean() for result in results]
        tables[:, j, i] = 1 - tables[:, i, j]
    return TournamentTables(tuple(texts), tables)


def _cycles(folder: Path) -> tuple[WinRate, int, Ring | None]:
    """The share of the triples of different responses that go in a circle, their number, and the clearest of them."""
    shares: dict[str, list[float]] = {}
    best: tuple[float, Ring | None] = (0.0, None)
    triples = 0
    for prompt, texts, table in judged(folder):
        P = np.array(table, dtype=float)
        found = [rings(P[np.ix_(three, three)]) for three in map(list, _distinct(texts))]
        shares.setdefault(prompt, []).extend(float(margin > 0) for margin, _ in found)
        triples += len(found)
        for three, (margin, turn) in zip(_distinct(texts), found, strict=True):
            if margin > best[0]:
                a, b, c = (three[k] for k in turn)
                sure = (float(P[a, b]), float(P[b, c]), float(P[c, a]))
                best = margin, Ring(prompt, (texts[a], texts[b], texts[c]), sure)
    means = np.array([np.mean(values) for values in shares.values() if values])
    if not len(means):
        return WinRate(float("nan"), float("nan"), 0), 0, None
    return WinRate.of(means), triples, best[1]


def _distinct(texts: Sequence[str]) -> list[tuple[int, int, int]]:
    return [(i, j, k) for i, j, k in combinations(range(len(texts)), 3) if len({texts[i], texts[j], texts[k]}) == 3]


def rings(P: Float[np.ndarray, "3 3"]) -> tuple[float, tuple[int, int, int]]:
    """How clear a cycle of three in P [3, 3] is, and its order: its smallest margin above 1/2, not positive if none.

    Example:
        >>> rings(np.array([[0.5, 0.25, 0.75], [0.75, 0.5, 0.375], [0.25, 0.625, 0.5]]))
        (0.125, (0, 2, 1))
    """
    turns = {(0, 1, 2): min(P[0, 1], P[1, 2], P[2, 0]), (0, 2, 1): min(P[0, 2], P[2, 1], P[1, 0])}
    turn = max(turns, key=lambda each: turns[each])
    return float(turns[turn]) - 0.5, turn
