"""What a judge's answers are worth: log-odds from votes, or from the probabilities of the answers' tokens."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

PRIOR = 0.5  # of Beta(prior, prior): Jeffreys', as of a table of votes


@dataclass(frozen=True)
class Answer:
    """An answer that a judge may give about two responses.

    Attributes:
        text: how the judge writes it.
        wins, losses: how many games it counts for the response that is shown first, and for the second. A tie is half
            a game for each, a strong verdict three games.

    Example:
        >>> Answer("A>>B", wins=3.0, losses=0.0).wins
        3.0
    """

    text: str
    wins: float
    losses: float


def vote_log_odds(votes: Sequence[Answer | None], prior: float = PRIOR) -> float:
    """The log-odds that the first response wins, from the votes of one judge on one order of a pair.

    .. math::  P = \\frac{a + \\sum_v w_v}{2 a + \\sum_v (w_v + l_v)}

    the mean of the posterior under a Beta(a, a); w_v and l_v are a vote's wins and losses.

    Args:
        votes: the answers; None is one that could not be read, and is no vote.
        prior: a > 0.

    Returns:
        log P - log(1 - P); NaN without a vote.

    Source: Arena-Hard, arXiv 2406.11939 (a strong verdict counts three times); the Beta prior as in ``VoteTable``.

    Example:
        >>> first, tie = Answer("A", 1.0, 0.0), Answer("C", 0.5, 0.5)
        >>> round(vote_log_odds([first, None, tie]), 3), vote_log_odds([None])  # 2 of 3 with the prior's
        (0.693, nan)
    """
    cast = [vote for vote in votes if vote is not None]
    if not cast:
        return math.nan
    return math.log(prior + sum(vote.wins for vote in cast)) - math.log(prior + sum(vote.losses for vote in cast))


def token_log_odds(
    answers: Sequence[Answer], logprobs: Mapping[str, float], frame: str = "", unseen: float | None = None
) -> float:
    """The log-odds that the first response wins, from the probabilities of the tokens that begin an answer.

    .. math::  P = \\frac{\\sum_v p_v w_v}{\\sum_v p_v (w_v + l_v)}

    with p_v the probability of all tokens that begin answer v. Of two answers, one for each response, that is
    p(A's tokens) / (p(A's tokens) + p(B's tokens)).

    Args:
        answers: those that the judge may give; no two begin alike.
        logprobs: of the next token: log-probability by the token's text.
        frame: characters that may stand around an answer in a token, as "[" and "]".
        unseen: the log-probability of a side of which no token is in ``logprobs``. None: the most that it can be where
            ``logprobs`` are the likeliest tokens: that of the last of them, or what they all leave over.

    Returns:
        log P - log(1 - P); NaN where no token begins an answer.

    Source: AlpacaEval's weighted win rate (arXiv 2404.04475, appendix), with the tokens of ties as half a game.

    Example:
        >>> letters = [Answer("m", 1.0, 0.0), Answer("M", 0.0, 1.0)]
        >>> likeliest = {"m": math.log(0.6), " m": math.log(0.1), "M": math.log(0.2), "I": math.log(0.05)}
        >>> round(1 / (1 + math.exp(-token_log_odds(letters, likeliest))), 3)  # .7 / (.7 + .2)
        0.778
    """
    wins = losses = 0.0
    for token, logprob in logprobs.items():
        answer = begun_by(token, answers, frame)
        if answer is not None:
            wins += math.exp(logprob) * answer.wins
            losses += math.exp(logprob) * answer.losses
    if wins == losses == 0:
        return math.nan
    if unseen is None:
        left = max(0.0, 1.0 - sum(map(math.exp, logprobs.values())))
        bound = min(math.exp(min(logprobs.values())), left)
    else:
        bound = math.exp(unseen)
    return _log(wins or bound) - _log(losses or bound)


def begun_by(token: str, answers: Sequence[Answer], frame: str = "") -> Answer | None:
    """The one answer that a token begins; None where it begins none, or could begin several.

    A token may be a part of an answer, or the answer and what follows it.

    Args:
        token: its text.
        answers: the answers.
        frame: characters that may stand around an answer.

    Example:
        >>> letters = [Answer("A", 1.0, 0.0), Answer("B", 0.0, 1.0)]
        >>> [begun_by(token, letters, "[]") is not None for token in (" A", "A]]", "[[A", "Also", "[[", "C")]
        [True, True, True, False, False, False]
    """
    bare = token.strip().lstrip(frame).strip()
    if not bare:
        return None
    found = [answer for answer in answers if answer.text.startswith(bare) or _continues(bare, answer.text)]
    return found[0] if len(found) == 1 else None


def _continues(token: str, answer: str) -> bool:
    """Whether a token is an answer with something behind it that is no part of the same word."""
    return token.startswith(answer) and not token[len(answer)].isalnum() if len(token) > len(answer) else False


def _log(value: float) -> float:
    return math.log(value) if value > 0 else -math.inf
