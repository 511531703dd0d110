"""Battles in the shape of LMArena's files, with a cycle, a taste for style, a copy and a speciality planted.

python benchmarks/arena_battles.py battles.jsonl --battles 50000
nashward leaderboard battles.jsonl --style-control
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nashward.games.analysis.style import relative_differences

CYCLE = ("rock", "paper", "scissors")  # paper beats rock, scissors beat paper, rock beats scissors
COPY = "rock-again"  # of rock: the same model under another name
VERBOSE = "verbose"  # wins by its style alone
SPECIALIST = "specialist"  # good at mathematics
SLOPES = np.array([1.5, 0.6, 0.9, 0.4])  # log-odds a unit of the style's differences: length, headers, lists, bold
TURN = 0.8  # log-odds by which the cycle turns
MATH = 1.5  # log-odds that the specialist gains there
LANGUAGES = (("en", 0.6), ("pl", 0.15), ("de", 0.15), ("ja", 0.1))


@dataclass(frozen=True)
class Planted:
    """What the battles are drawn from.

    Attributes:
        names: of the models.
        log_odds: [n, n], that i beats j at equal style, outside of mathematics.
    """

    names: tuple[str, ...]
    log_odds: np.ndarray


def planted(models: int = 12, copy: bool = True) -> Planted:
    """``models`` of which the last is a copy of the first, where there is one: three in a cycle on top, then scores."""
    others = models - len(CYCLE) - 2 - copy
    names = [*CYCLE, VERBOSE, SPECIALIST, *(f"model-{k:03}" for k in range(others))]
    scores = np.r_[np.full(3, 0.9), 0.4, 0.2, np.linspace(0.2, -1.2, others)]
    log_odds = scores[:, None] - scores
    for k in range(3):
        log_odds[(k + 1) % 3, k] += TURN
        log_odds[k, (k + 1) % 3] -= TURN
    if copy:
        names.append(COPY)
        at = [*range(models - 1), 0]
        log_odds = log_odds[np.ix_(at, at)]
    return Planted(tuple(names), log_odds)


def rows(truth: Planted, battles: int, seed: int = 0, chunk: int = 50_000) -> Iterator[dict[str, Any]]:
    """The battles, as LMArena's rows: ties are such that the mean of the wins is the win probability."""
    random, n = np.random.default_rng(seed), len(truth.names)
    habit = np.random.default_rng(1).uniform(0.3, 0.7, (n, 4))  # of length and layout, by model
    habit[truth.names.index(VERBOSE)] = 1.0
    if truth.names[-1] == COPY:
        habit[-1] = habit[0]
    specialist = truth.names.index(SPECIALIST)
    tongues = random.choice(len(LANGUAGES), battles, p=[share for _, share in LANGUAGES])
    for begin in range(0, battles, chunk):
        size = min(chunk, battles - begin)
        first = random.integers(0, n, size)
        second = (first + random.integers(1, n, size)) % n
        math, code = random.random(size) < 0.15, random.random(size) < 0.2
        tokens, marks = [], []
        for model in (first, second):
            length = np.maximum(20, np.exp(5.0 + 1.5 * habit[model, 0] + 0.5 * random.normal(size=size))).astype(int)
            tokens.append(length)
            marks.append(random.poisson(0.05 * habit[model, 1:] * length[:, None]))
        sides = [np.c_[length, count / length[:, None]] for length, count in zip(tokens, marks, strict=True)]
        gain = MATH * math * ((first == specialist) * 1.0 - (second == specialist))
        logit = truth.log_odds[first, second] + relative_differences(*sides) @ SLOPES + gain
        p = 1 / (1 + np.exp(-logit))
        tie = 0.5 * np.minimum(p, 1 - p)
        drawn = random.random(size)
        won = np.where(drawn < tie, 2, np.where(drawn < tie + p - tie / 2, 0, 1))
        for k in range(size):
            number = begin + k
            yield {
                "id": f"{seed}-{number}",
                "model_a": truth.names[first[k]],
                "model_b": truth.names[second[k]],
                "winner": ("model_a", "model_b", "tie" if number % 2 else "both_bad")[won[k]],
                "evaluation_session_id": f"{seed}-{number // 3}",
                "evaluation_order": number % 3 + 1,
                "conv_metadata": _metadata("a", tokens[0][k], marks[0][k]) | _metadata("b", tokens[1][k], marks[1][k]),
                "category_tag": {
                    "creative_writing_v0.1": {"creative_writing": bool(number % 7 == 0), "score": "no"},
                    "if_v0.1": {"if": bool(number % 5 == 0), "score": 3},
                    "math_v0.1": {"math": bool(math[k])},
                },
                "language": LANGUAGES[tongues[number]][0],
                "is_code": bool(code[k]),
                "timestamp": "2025-06-01T12:00:00",
            }


def _metadata(side: str, tokens: int, marks: np.ndarray) -> dict[str, Any]:
    headers, items, bold = (int(count) for count in marks)
    return {
        f"sum_assistant_{side}_tokens": int(tokens),
        f"header_count_{side}": {"h1": 0, "h2": headers // 2, "h3": headers - headers // 2},
        f"list_count_{side}": {"ordered": items // 3, "unordered": items - items // 3},
        f"bold_count_{side}": {"**": bold, "__": 0},
    }


def write(path: Path, truth: Planted, battles: int, seed: int = 0) -> Path:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows(truth, battles, seed))
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--battles", type=int, default=50_000)
    parser.add_argument("--models", type=int, default=12)
    parser.add_argument("--without-copy", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    truth = planted(given.models, not given.without_copy)
    write(given.out, truth, given.battles, given.seed)
    print(f"{given.battles} battles of {len(truth.names)} models: {given.out}")


if __name__ == "__main__":
    main()
