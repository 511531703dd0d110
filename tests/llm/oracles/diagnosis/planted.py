"""A simulated judge on simulated responses, clean or with one error of a stated size."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

import numpy as np

from nashward.games.analysis.style import STYLE, style_differences
from nashward.llm.oracles import PreferenceOracle
from nashward.llm.oracles.diagnosis.diagnose import Diagnosis, diagnose
from nashward.llm.oracles.diagnosis.probe import Pair, probe_pairs
from nashward.llm.oracles.fitting.votes import Vote

PROMPTS, AUTHORS = 200, ("ada", "bea", "cyd", "dan")
PLANTED: dict[str, float] = {  # the size of each error
    "order": 0.3,  # log-odds of the response shown first
    "flips": 2.5,  # standard deviation of what the order adds, in log-odds
    **dict.fromkeys(STYLE, 0.3),  # log-odds a standard deviation of the feature
    "accuracy": 0.0,  # the share of quality in what the judge goes by
    "calibration": 3.0,  # the factor on the log-odds
    "favour": 1.5,  # log-odds of the author ada
    "cycles": 0.6,  # log-odds of each author over the next
    "agreement": 0.0,  # as accuracy, without labels, beside two other judges
    "repeat": 0.5,  # standard deviation of the log-odds from call to call
    "truncated": 0.1,  # share of texts
    "missing": 0.1,  # share of pairs
}


def _text(random: np.random.Generator, name: str) -> str:
    """A response whose length and layout say nothing of its quality."""
    lines = [f"{name}: " + "word " * int(random.integers(3, 60))]
    for mark in ("# part", "- item", "**bold**"):
        lines += [f"{mark} one"] * int(random.integers(0, 4) * (random.random() < 0.5))
    return "\n".join(lines)


def _name(text: str) -> str:
    """Of a response, also of one without its marks, which is as good."""
    return text.split(":")[0]


class World:
    """Prompts with a response of each author, their qualities, and one vote of a person on each prompt."""

    def __init__(self, seed: int) -> None:
        self.random = random = np.random.default_rng(seed)
        self.prompts = [f"Prompt {k}" for k in range(PROMPTS)]
        self.answers = {name: [_text(random, f"{name}-{k}") for k in range(PROMPTS)] for name in AUTHORS}
        self.quality = {
            _name(text): 0.2 * place + float(random.normal())
            for place, name in enumerate(AUTHORS)
            for text in self.answers[name]
        }
        self.votes = []
        for k, prompt in enumerate(self.prompts):
            one, other = random.choice(len(AUTHORS), 2, replace=False)
            a, b = self.answers[AUTHORS[one]][k], self.answers[AUTHORS[other]][k]
            p = 1 / (1 + np.exp(self.quality[_name(b)] - self.quality[_name(a)]))
            self.votes.append(Vote(prompt, a, b, wins=float(random.random() < p), n=1))


class Simulated(PreferenceOracle):
    """log-odds = difference in quality + what is the pair's own + what is the order's + one planted error."""

    name = "simulated"

    def __init__(self, world: World, kind: str = "clean", seed: int = 0, size: float | None = None) -> None:
        self.world, self.kind, self.seed = world, kind, seed
        self.size = PLANTED.get(kind, 0.0) if size is None else size
        self.calls = np.random.default_rng(seed)
        texts = [text for row in world.answers.values() for text in row]
        random = np.random.default_rng(seed)
        first, second = random.choice(texts, 4000), random.choice(texts, 4000)
        self.rms = np.sqrt((style_differences(first, second) ** 2).mean(0))  # type: ignore[arg-type]

    def raw_logits(self, prompts: Sequence[str], candidates: Sequence[Sequence[str]], pairs: Any) -> list[np.ndarray]:
        return [
            np.array([self._logit(texts[i], texts[j]) for i, j in own])
            for texts, own in zip(candidates, pairs, strict=True)
        ]

    def _logit(self, a: str, b: str) -> float:
        kind, size = self.kind, self.size
        low, high = sorted((a, b))
        number = [self.seed, *(hash_of(text) for text in (low, high))]
        own = np.random.default_rng(number).normal(size=3)  # of the pair, and of each order
        sign = 1.0 if a == low else -1.0
        share = size if kind in ("accuracy", "agreement") else 1.0
        logit = share * (self.world.quality[_name(a)] - self.world.quality[_name(b)]) + sign * 0.3 * own[0]
        if kind in ("accuracy", "agreement"):
            logit += sign * 1.2 * own[0]
        logit += (size if kind == "flips" else 0.2) * own[1 if a == low else 2]
        author, other = a.split("-")[0], b.split("-")[0]
        if kind == "order":
            logit += size
        elif kind in STYLE:
            k = STYLE.index(kind)
            logit += size * float(style_differences([a], [b])[0, k] / self.rms[k])
        elif kind == "calibration":
            logit *= size
        elif kind == "favour":
            logit += size * ((author == "ada") - (other == "ada"))
        elif kind == "cycles":
            place = AUTHORS.index(author), AUTHORS.index(other)
            if max(place) < 3:  # the first three authors, who are alike but for the cycle
                logit += size * {1: 1.0, 2: -1.0, 0: 0.0}[(place[1] - place[0]) % 3] - 0.2 * (place[0] - place[1])
        elif kind == "repeat":
            logit += size * self.calls.normal()
        elif kind == "missing" and np.random.default_rng(number[1:]).random() < size:
            logit = np.nan
        return logit

    def truncated(self, prompt: str, candidates: Sequence[str]) -> int:
        return sum(hash_of(text) % 100 < 100 * self.size for text in candidates) if self.kind == "truncated" else 0


def hash_of(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=4).digest(), "big")


def examine(kind: str, seed: int, labels: bool | None = None) -> Diagnosis:
    """The diagnosis of a simulated judge on 200 prompts, with labels where the error needs them, or where asked."""
    world = World(seed)
    labels = kind in ("clean", "accuracy", "calibration", "favour") if labels is None else labels
    pairs: list[Pair] = probe_pairs(world.votes if labels else (), world.prompts, world.answers)
    others = {name: Simulated(world, seed=seed + 1000 * k) for k, name in ((1, "second"), (2, "third"))}
    return diagnose(Simulated(world, kind, seed), pairs, others if kind in ("clean", "agreement") else None, seed=seed)
