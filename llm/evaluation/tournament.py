"""A tournament: models that answered the same prompts, and the game that an oracle makes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nashward.errors import NashwardError
from nashward.games import PreferenceGame
from nashward.games.analysis.leaderboard import Battles
from nashward.games.shapes import Float, Int

from ..oracles import Cache, PreferenceOracle, preference_matrices

CHUNK = 64  # prompts judged at once


@dataclass(frozen=True)
class Tournament:
    """Who beats whom among n players.

    Attributes:
        game: P ``[n, n]``, the mean over prompts of the probability that i's answer beats j's, with the players' names.
        standard_error: of P, ``[n, n]``, from the spread over prompts; NaN where fewer than two were judged.
        win_rate: ``[n]``, the mean of P[i, j] over the other players j.
        win_rate_error: its standard error ``[n]``, from the spread over prompts; NaN where a pair has fewer than two.
        judged: how many prompts each entry rests on, ``[n, n]``.
        curl: the mean of the share of the logits that no score explains, over the prompts with three different answers
            at least, all judged (two have no cycle); NaN where there are none.
        battles: the judgements as battles, prompt by prompt, whose table is ``game``'s: bands and ratings.
    """

    game: PreferenceGame
    standard_error: Float[np.ndarray, "n n"]
    win_rate: Float[np.ndarray, " n"]
    win_rate_error: Float[np.ndarray, " n"]
    judged: Int[np.ndarray, "n n"]
    curl: float
    battles: Battles


def tournament(
    oracle: PreferenceOracle,
    prompts: Sequence[str],
    answers: Mapping[str, Sequence[str | None]],
    *,
    cache: Cache | str | Path | None = None,
    progress: Any = None,
) -> Tournament:
    """Every player against every other on every prompt.

    .. math::
        P_{ij} = \\frac{1}{|N_{ij}|} \\sum_{x \\in N_{ij}} P(y_i(x) \\succ y_j(x) | x), \\qquad
        W_i = \\frac{1}{n - 1} \\sum_{j \\ne i} P_{ij}

    with y_i(x) the answer of player i, N_ij the prompts on which the two were judged and W the win rates.

    Args:
        oracle: the judge.
        prompts: N instructions.
        answers: for each player its N answers; None where it has none, which is nobody's win.
        cache: see ``preference_matrices``.
        progress: called with the number of prompts that were judged, after each part.

    Raises:
        ValueError: if there are fewer than two players, a player has not N answers, or a pair was never judged.

    Example:
        >>> from nashward.llm.oracles import Length
        >>> answers = {"terse": ["Hi.", "No."], "chatty": ["Hello, dear reader!", None], "calm": ["Hello!", "Never."]}
        >>> found = tournament(Length(), ["Say hello.", "Say no."], answers)
        >>> found.win_rate.round(2).tolist(), found.judged.tolist()
        ([0.27, 0.79, 0.45], [[2, 1, 2], [1, 1, 1], [2, 1, 2]])
    """
    players = list(answers)
    if len(players) < 2:
        raise NashwardError(f"{len(players)} players; a tournament needs at least 2")
    for name in players:
        if len(answers[name]) != len(prompts):
            raise NashwardError(f"{name} has {len(answers[name])} answers to {len(prompts)} prompts; expected one each")
    tables, curls = [], []
    for start in range(0, len(prompts), CHUNK):
        part = range(start, min(start + CHUNK, len(prompts)))
        there = [[i for i, name in enumerate(players) if answers[name][k] is not None] for k in part]
        asked = [(k, own) for k, own in zip(part, there, strict=True) if own]
        candidates = [[str(answers[players[i]][k]) for i in own] for k, own in asked]
        results = preference_matrices(oracle, [prompts[k] for k, _ in asked], candidates, cache=cache)
        for (_, own), texts, result in zip(asked, candidates, results, strict=True):
            table = np.full((len(players), len(players)), np.nan)
            table[np.ix_(own, own)] = result.P
            tables.append(table)
            if len(set(texts)) >= 3 and not np.isnan(result.meta["curl"]):
                curls.append(result.meta["curl"])
        if progress is not None:
            progress(len(part))
    P = np.array(tables).reshape(-1, len(players), len(players))
    judged = (~np.isnan(P)).sum(0)
    if not judged.all():
        i, j = np.argwhere(judged == 0)[0]
        raise NashwardError(f"{oracle.name} judged no answer of {players[i]} against one of {players[j]}")
    # the lower triangle is the complement of the upper, so that P + P.T == 1 holds after rounding as well
    mean = np.nan_to_num(P).sum(0) / judged
    lower = np.tril_indices(len(players), -1)
    mean[lower] = 1 - mean.T[lower]
    deviation = np.nan_to_num(P - mean)
    others = ~np.eye(len(players), dtype=bool)
    # by how much each prompt moves the mean over the others: what a player's answer moves in all its pairs is added up
    moves = (deviation / judged * others).sum(2) / (len(players) - 1)
    count = (~np.isnan(P) & others).any(2).sum(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.sqrt((deviation**2).sum(0) / (judged - 1) / judged)
        rate_error = np.sqrt((moves**2).sum(0) * count / (count - 1))
    rate_error[np.where(others, judged, 2).min(1) < 2] = np.nan
    return Tournament(
        PreferenceGame(mean, labels=players),
        error,
        mean.mean(1, where=others),
        rate_error,
        judged,
        float(np.mean(curls)) if curls else np.nan,
        Battles(tuple(players), np.where(others, np.nan_to_num(P), 0.0), smoothing=0.0),
    )
