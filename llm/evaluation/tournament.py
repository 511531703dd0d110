"""A round-robin tournament of models on the same prompts, as the preference game of their win rates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nashward.counted import counted
from nashward.errors import NashwardError
from nashward.games import PreferenceGame
from nashward.games.analysis.confidence import least_error
from nashward.games.analysis.leaderboard import Battles
from nashward.games.shapes import Bool, Float, Int

from ..oracles import Cache, PreferenceOracle, preference_matrices
from ..oracles.ensembles.objectives import check_judges_pairs
from ..oracles.matrices import cache_of_machine
from ..processes import processes

CHUNK = 64  # prompts judged together


class Unjudged(NashwardError):
    """The oracle judged no two different responses of some pair of players."""


@dataclass(frozen=True)
class Tournament:
    """The pairwise win rates of n players.

    Attributes:
        game: P ``[n, n]``, the mean over prompts of P(the response of i beats that of j), labelled with the players.
        standard_error: of P, ``[n, n]``, from the spread over prompts, of few that are alike no less than
            ``games.analysis.confidence.least_error``; NaN where fewer than two were judged.
        win_rate: ``[n]``, the mean of P[i, j] over the other players j.
        win_rate_error: its standard error ``[n]``, likewise; NaN where a pair has fewer
            than two judged prompts.
        judged: ``[n, n]``, the number of judged prompts of each pair.
        curl: the share of the logits that no score explains, averaged over the prompts with at least three different
            responses, all judged (two responses have no cycle); NaN without such prompts.
        battles: the judgements of each prompt as battles, for bootstrap bands and ratings; their table is that of
            ``game``.
        spread: of an ensemble the mean standard deviation of a win probability over its members, else None.
    """

    game: PreferenceGame
    standard_error: Float[np.ndarray, "n n"]
    win_rate: Float[np.ndarray, " n"]
    win_rate_error: Float[np.ndarray, " n"]
    judged: Int[np.ndarray, "n n"]
    curl: float
    battles: Battles
    spread: float | None = None


def tournament(
    oracle: PreferenceOracle,
    prompts: Sequence[str],
    answers: Mapping[str, Sequence[str | None]],
    *,
    cache: Cache | str | Path | None = None,
    progress: Any = None,
) -> Tournament:
    """Compare all pairs of players on all prompts.

    .. math::
        P_{ij} = \\frac{1}{|N_{ij}|} \\sum_{x \\in N_{ij}} P(y_i(x) \\succ y_j(x) | x), \\qquad
        W_i = \\frac{1}{n - 1} \\sum_{j \\ne i} P_{ij}

    with y_i(x) the response of player i, N_ij the prompts on which the pair was judged and W the win rates. Several
    processes divide the chunks of prompts, and all have the result.

    Args:
        oracle: the preference oracle.
        prompts: N instructions, at least one.
        answers: for each player its N responses; None where it has none, and the prompt then counts for no pair of it.
        cache: see ``preference_matrices``.
        progress: called with the number of prompts judged, after each chunk.

    Raises:
        ValueError: there are fewer than two players, a player does not have N responses, or the oracle is of
            objectives under floors or in their worst case.
        Unjudged: of a pair of players no two different responses were judged, though there are some (equal ones tie
            without a judgement), or both responded to no prompt.

    See also:
        ``nashward.llm.evaluation.win_rates.win_rate.win_rate``: of one policy against another.

    Example:
        >>> from nashward.llm.oracles import Length
        >>> answers = {"terse": ["Hi.", "No."], "chatty": ["Hello, dear reader!", None], "calm": ["Hello!", "Never."]}
        >>> result = tournament(Length(), ["Say hello.", "Say no."], answers)
        >>> result.win_rate.round(2).tolist(), result.judged.tolist()
        ([0.27, 0.79, 0.45], [[2, 1, 2], [1, 1, 1], [2, 1, 2]])
    """
    players = list(answers)
    _check_answers(answers, prompts)
    check_judges_pairs(oracle)
    oracle.expect(len(players) * (len(players) - 1) * len(prompts))
    P, curls, spreads = _judge(oracle, prompts, answers, cache_of_machine(cache, oracle), progress)
    known = ~np.isnan(P)
    _check_judged(oracle, players, known, _different(list(answers.values())))
    judged = known.sum(0)
    # the lower triangle is the complement of the upper, so that P + P.T == 1 also holds after rounding
    mean = np.nan_to_num(P).sum(0) / judged
    lower = np.tril_indices(len(players), -1)
    mean[lower] = 1 - mean.T[lower]
    off_diagonal = ~np.eye(len(players), dtype=bool)
    win_rate = mean.mean(1, where=off_diagonal)
    error, win_rate_error = _standard_errors(P, mean, win_rate)
    return Tournament(
        PreferenceGame(mean, labels=players),
        error,
        win_rate,
        win_rate_error,
        judged,
        float(np.mean(curls)) if curls else np.nan,
        Battles.of_tables(tuple(players), np.where(off_diagonal, np.nan_to_num(P), 0.0), smoothing=0.0),
        float(np.nanmean(spreads)) if spreads.size else None,
    )


def _check_answers(answers: Mapping[str, Sequence[str | None]], prompts: Sequence[str]) -> None:
    if len(answers) < 2:
        raise NashwardError(f"{counted(len(answers), 'player')}; a tournament needs at least 2")
    if not len(prompts):
        raise NashwardError("there are no prompts; a tournament needs at least 1")
    for name, of_player in answers.items():
        if len(of_player) != len(prompts):
            raise NashwardError(
                f"{name} has {counted(len(of_player), 'response')} to {counted(len(prompts), 'prompt')}, "
                "expected as many"
            )


class _Judgements(NamedTuple):
    """The tables of the prompts with a response, NaN where nothing was judged; the curls of those that have one; and
    the standard deviations over the members of an ensemble."""

    tables: Float[np.ndarray, "N n n"]
    curls: list[float]
    spreads: Float[np.ndarray, " pairs"]


def _judge(
    oracle: PreferenceOracle,
    prompts: Sequence[str],
    answers: Mapping[str, Sequence[str | None]],
    cache: Any,
    progress: Any,
) -> _Judgements:
    players = list(answers)

    def judge_chunk(start: int) -> tuple[list[np.ndarray], list[float], list[np.ndarray]]:
        tables, curls, spreads = [], [], []
        chunk = range(start, min(start + CHUNK, len(prompts)))
        respondents = [[i for i, name in enumerate(players) if answers[name][k] is not None] for k in chunk]
        answered = [(k, present) for k, present in zip(chunk, respondents, strict=True) if present]
        candidates = [[str(answers[players[i]][k]) for i in present] for k, present in answered]
        results = preference_matrices(oracle, [prompts[k] for k, _ in answered], candidates, cache=cache)
        for (_, present), texts, result in zip(answered, candidates, results, strict=True):
            table = np.full((len(players), len(players)), np.nan)
            table[np.ix_(present, present)] = result.P
            tables.append(table)
            if result.std is not None:
                spreads.append(result.std[np.triu_indices(len(texts), 1)])
            if len(set(texts)) >= 3 and not np.isnan(result.meta["curl"]):
                curls.append(result.meta["curl"])
        if progress is not None:
            progress(len(chunk))
        return tables, curls, spreads

    parts = processes.map(judge_chunk, range(0, len(prompts), CHUNK))
    return _Judgements(
        np.array([table for part in parts for table in part[0]]).reshape(-1, len(players), len(players)),
        [curl for part in parts for curl in part[1]],
        np.array([value for part in parts for spread in part[2] for value in spread]),
    )


def _standard_errors(
    P: Float[np.ndarray, "N n n"], mean: Float[np.ndarray, "n n"], win_rate: Float[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, "n n"], Float[np.ndarray, " n"]]:
    """Those of ``mean``, the mean of the tables ``P``, and of the win rates; NaN where fewer than two were judged."""
    known, off_diagonal = ~np.isnan(P), ~np.eye(len(mean), dtype=bool)
    judged = known.sum(0)
    deviation = np.nan_to_num(P - mean)
    # the influence of each prompt on the win rates: the pairs of a player share its response, so they are summed
    influence = (deviation / judged * off_diagonal).sum(2) / (len(mean) - 1)
    count = (known & off_diagonal).any(2).sum(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.sqrt((deviation**2).sum(0) / (judged - 1) / judged)
        win_rate_error = np.sqrt((influence**2).sum(0) * count / (count - 1))
    error = np.where(off_diagonal, np.maximum(error, least_error(mean, judged)), error)
    win_rate_error = np.maximum(win_rate_error, least_error(win_rate, count))
    win_rate_error[np.where(off_diagonal, judged, 2).min(1) < 2] = np.nan
    return error, win_rate_error


def _check_judged(
    oracle: PreferenceOracle,
    players: Sequence[str],
    known: Bool[np.ndarray, "N n n"],
    different: Bool[np.ndarray, "N n n"],
) -> None:
    """Refuse a table in which nothing is known of a pair of players."""
    lacking = (known.sum(0) == 0) | (different.any(0) & ~(known & different).any(0))
    if not lacking.any():
        return
    if len(players) > 2 and different.any() and lacking[~np.eye(len(players), dtype=bool)].all():
        pairs = counted(int(np.triu(different.sum(0)).sum()), "pair")
        raise Unjudged(
            f"{oracle.name} judged no two of these responses, of none of {len(players)} players ({pairs} not judged)"
        )
    if (silent := lacking.diagonal()).any():
        raise Unjudged(f"{players[int(silent.argmax())]} has no response to any prompt")
    i, j = np.argwhere(lacking)[0]
    if not different[:, i, j].any():
        raise Unjudged(f"{players[i]} and {players[j]} have no responses to the same prompt")
    pairs = counted(int(different[:, i, j].sum()), "pair")
    raise Unjudged(f"{oracle.name} judged no response of {players[i]} against one of {players[j]} ({pairs} not judged)")


def _different(answers: Sequence[Sequence[str | None]]) -> Bool[np.ndarray, "N n n"]:
    """Whether two players have different responses to a prompt, both being there; a prompt without any is left out."""
    rows = []
    for row in zip(*answers, strict=True):
        if not any(text is not None for text in row):
            continue
        index = {text: k for k, text in enumerate(dict.fromkeys(row))}
        of_text = np.array([-1 if text is None else index[text] for text in row])
        there = of_text >= 0
        rows.append((of_text[:, None] != of_text) & there[:, None] & there)
    return np.array(rows, dtype=bool).reshape(-1, len(answers), len(answers))
