"""A tournament: models that answered the same prompts, and the game that an oracle makes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..games import Battles, PreferenceGame
from ..games.shapes import Float, Int
from .oracles import Cache, PreferenceOracle, preference_matrices
from .prompts import Prompt, messages, rows

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
        raise ValueError(f"{len(players)} players; a tournament needs at least 2")
    for name in players:
        if len(answers[name]) != len(prompts):
            raise ValueError(f"{name} has {len(answers[name])} answers to {len(prompts)} prompts; expected one each")
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
        raise ValueError(f"{oracle.name} judged no answer of {players[i]} against one of {players[j]}")
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


def read_answers(folder: str | Path) -> dict[str, list[str | None]]:
    """The answers of each player: one file a player, its name the player's.

    A file is ``.json``, a list, or ``.jsonl``, both also gzipped; an entry is the answer or has it as ``output``,
    ``response`` or ``text``; null where there is none.

    Raises:
        FileNotFoundError: if it is no folder or holds no such file.
        ValueError: if a file cannot be read, an entry has no answer, or a player has two files.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as home:
        ...     _ = (Path(home) / "terse.json").write_text('["Hi.", null]')
        ...     read_answers(home)
        {'terse': ['Hi.', None]}
    """
    folder = Path(folder)
    files = sorted(file for file in folder.glob("*") if file.name.removesuffix(".gz").endswith((".json", ".jsonl")))
    if not files:
        raise FileNotFoundError(f"{folder} holds no answers; expected one .json or .jsonl file a player (or .gz)")
    answers: dict[str, list[str | None]] = {}
    for file in files:
        if _player(file) in answers:
            both = " and ".join(other.name for other in files if _player(other) == _player(file))
            raise ValueError(f"{folder} holds {both}: two files for {_player(file)}; expected one a player")
        answers[_player(file)] = [_numbered(row, file, k) for k, row in enumerate(rows(file), 1)]
    return answers


def answer(row: Any) -> str | None:
    """The answer of one row of a file, see ``read_answers``.

    Raises:
        ValueError: it has none; it says what the row lacks.

    Example:
        >>> answer({"instruction": "Name a river.", "output": "The Rhine."})
        'The Rhine.'
    """
    if isinstance(row, dict):
        row = next((row[key] for key in ("output", "response", "text") if key in row), row)
    if not isinstance(row, str | None):
        raise ValueError("has no answer; expected a text, or one as output, response or text")
    return row


def read_texts(source: str | Path) -> list[str]:
    """The texts of ``read_asked``, which says what is raised."""
    return [prompt.text for prompt in read_asked(source)]


def read_asked(source: str | Path) -> list[Prompt]:
    """The prompts of a file in their order; unlike those of a run none is dropped, as answers go with them.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file of another type, or a row without a prompt (it is numbered).
    """
    found = []
    for number, row in enumerate(rows(source), 1):
        try:
            found.append(Prompt(messages(row)))
        except ValueError as error:
            raise ValueError(f"{source}: row {number} {error}") from None
    return found


def _player(file: Path) -> str:
    return file.name.removesuffix(".gz").removesuffix(".jsonl").removesuffix(".json")


def _numbered(row: Any, file: Path, number: int) -> str | None:
    try:
        return answer(row)
    except ValueError as error:
        raise ValueError(f"{file}: row {number} {error}") from None
