"""Win rates from few people's votes on a run's responses, and the oracle's judgements of all of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from nashward.errors import NashwardError
from nashward.games.analysis.prediction_powered import FEWEST, prediction_powered
from nashward.games.shapes import Float

from ...oracles import Vote

TO_LABEL = "to-label.jsonl"  # in the folder of evaluations
Z = 1.96  # standard errors of a 95% interval


def labelled_win_rate(
    votes: Sequence[Vote],
    prompts: Sequence[str],
    responses: Sequence[str],
    opponents: Sequence[str],
    judged: Float[np.ndarray, " N"],
) -> dict[str, Any] | None:
    r"""The prediction-powered win rate of responses over opponents, in percent.

    .. math::  \tfrac{1}{2} + s \, (\theta - \tfrac{1}{2})

    with s the share of the N prompts whose two texts differ, and theta the rate on these: equal texts tie, and nobody
    votes on them. An end of the interval is as far away as that of theta and the error of s are together.

    Args:
        votes: of people, on pairs of these texts in either order; others are of other pairs and are left out. The
            prompts that were voted on are a random part of those with two different texts.
        prompts, responses, opponents: N texts each.
        judged: [N], P(response beats opponent); NaN: not judged, left out.

    Returns:
        the values that ``evaluation.json`` holds; None where fewer than 10 prompts have votes.

    Source: PPI++ (arXiv 2311.01453), see ``games.analysis.prediction_powered``.

    Example:
        >>> texts = [f"Prompt {k}" for k in range(40)]
        >>> votes = [Vote(prompt, "yes", "no", wins=1, n=1) for prompt in texts[:20]]
        >>> labelled_win_rate(votes, texts, ["yes"] * 40, ["no"] * 40, np.full(40, 0.8))["labels"]
        20
    """
    shares: dict[tuple[str, str, str], list[float]] = {}
    for vote in votes:
        for key, wins in (
            ((vote.prompt, vote.a, vote.b), vote.wins),
            ((vote.prompt, vote.b, vote.a), vote.n - vote.wins),
        ):
            counted = shares.setdefault(key, [0.0, 0.0])
            counted[0] += vote.weight * wins
            counted[1] += vote.weight * vote.n
    keys = list(zip(prompts, responses, opponents, strict=True))
    voted = [
        shares[key][0] / shares[key][1] if shares.get(key, [0, 0])[1] and key[1] != key[2] else np.nan for key in keys
    ]
    label, known = np.array(voted), ~np.isnan(judged)
    here = known & ~np.isnan(label)
    if here.sum() < FEWEST:
        return None
    different = known & np.array([text != other for _, text, other in keys])
    found = prediction_powered(label[here], judged[here], judged[different & ~here])
    share = float(different.sum() / known.sum())

    def over_all(rate: float) -> float:
        return 100 * (0.5 + share * (rate - 0.5))

    def interval(rate: float, ends: tuple[float, float]) -> list[float]:
        of_share = Z * (rate - 0.5) * math.sqrt(share * (1 - share) / known.sum())
        return [over_all(rate) + 100 * side * math.hypot(share * (end - rate), of_share)
                for side, end in zip((-1, 1), ends, strict=True)]  # fmt: skip

    return {
        "win_rate": over_all(found.value),
        "interval": interval(found.value, found.interval),
        "labels_alone": over_all(found.labels_alone),
        "labels_interval": interval(found.labels_alone, found.labels_interval),
        "oracle_alone": over_all(found.judge_alone),
        "weight": found.weight,
        "labels": found.labels,
    }


def pairs_to_label(
    prompts: Sequence[str], responses: Sequence[str], opponents: Sequence[str], seed: int, most: int = 100
) -> list[dict[str, str]]:
    """Pairs of different texts on prompts drawn at random, in an order that says nothing of who wrote them.

    Returns:
        rows with ``prompt``, ``a`` and ``b``; who labels them adds ``winner``: "a", "b" or "tie".

    Example:
        >>> pairs_to_label(["Say yes."], ["Yes."], ["No."], seed=1)
        [{'prompt': 'Say yes.', 'a': 'No.', 'b': 'Yes.'}]
    """
    random = np.random.default_rng(seed)
    different = [k for k in range(len(prompts)) if responses[k] != opponents[k]]
    chosen = random.permutation(different)[:most]
    sides = random.choice((-1, 1), len(chosen))
    pairs = [(responses[k], opponents[k])[:: int(side)] for k, side in zip(chosen, sides, strict=True)]
    return [{"prompt": prompts[k], "a": a, "b": b} for k, (a, b) in zip(chosen, pairs, strict=True)]


def check_votes(votes: Sequence[Vote], prompts: Sequence[str], players: Sequence[Sequence[str]]) -> None:
    """Refuse votes of which none is on two of the players' responses.

    Raises:
        ValueError: there is none.
    """
    texts = [{prompt: text for prompt, text in zip(prompts, row, strict=True)} for row in players]
    for vote in votes:
        if {vote.a, vote.b} <= {own.get(vote.prompt) for own in texts}:
            return
    raise NashwardError(
        f"none of the {len(votes)} labels is on two responses of this evaluation; label pairs of the texts that it "
        "sampled, which a second call with the same --seed and --limit uses again"
    )
