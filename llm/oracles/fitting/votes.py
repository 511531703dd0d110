"""Votes: which of two responses to a prompt was preferred, and how often; read from files and datasets."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nashward.counted import counted
from nashward.errors import NashwardError
from nashward.winners import (
    GENERATORS,
    MODELS,
    OUTPUTS,
    PREFERENCE,
    VOTERS,
    first_wins,
    is_skip,
    model_fields,
    response_fields,
    two_meanings,
    voter_of,
    winner_of,
)

from ...data.conversations import COMPARED_FIELDS, fields_of_prompt, response_text
from ...data.prompts import row_prompt
from ...data.rows import is_missing, likely_field, numbered_rows, read_rows

WINS = {"a": 1.0, "b": 0.0, "tie": 0.5, "both_bad": 0.5}
EXAMPLE = '{"prompt": "..", "a": "..", "b": "..", "winner": "a", "annotator": "ann"}'

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Vote:
    """On one prompt, response ``a`` won ``wins`` of ``n`` comparisons against response ``b``; a tie is half a win.

    Attributes:
        prompt, a, b: the texts. ``a`` and ``b`` may be equal.
        wins: in [0, n]; a fraction where the comparisons were ties or a judge's probabilities.
        n: how many comparisons, above 0.
        annotator: the person or model that compared, if it is known.
        weight: of these comparisons, at least 0.
        models: whose ``a`` and ``b`` are; "" where that is not known.

    Raises:
        ValueError: a text is no string, or a number is out of its range.

    Example:
        >>> Vote("Name a river.", "The Rhine.", "No.", wins=5, n=4)
        Traceback (most recent call last):
        nashward.errors.NashwardError: has wins 5, expected 0 to n = 4
    """

    prompt: str
    a: str
    b: str
    wins: float
    n: float
    annotator: str | None = None
    weight: float = 1.0
    models: tuple[str, str] = field(default=("", ""), repr=False)

    def __post_init__(self) -> None:
        for name in ("prompt", "a", "b"):
            if not isinstance(getattr(self, name), str):
                raise NashwardError(f"has {name} of type {type(getattr(self, name)).__name__}, expected text")
        if not (math.isfinite(self.n) and self.n > 0):
            raise NashwardError(f"has n {self.n!r}, expected a finite number of comparisons above 0")
        if not 0 <= self.wins <= self.n:
            raise NashwardError(f"has wins {self.wins!r}, expected 0 to n = {self.n!r}")
        if not (math.isfinite(self.weight) and self.weight >= 0):
            raise NashwardError(f"has weight {self.weight!r}, expected a finite number, at least 0")


def read_votes(source: str | Path | Iterable[Any]) -> list[Vote]:
    """Read votes, one a row.

    A row has the fields of one of these kinds; each may also have ``voter`` or ``annotator``, and ``weight``, and those
    with ``a`` and ``b`` ``model_a`` and ``model_b``, whose they are. ``a`` and ``b`` may be called as the other fields
    of ``nashward.winners.RESPONSES``, as ``response_a`` or ``left_response``:

    - ``prompt, a, b, wins, n``: a won ``wins`` of ``n`` comparisons;
    - ``prompt, a, b, p``: a judge's probability that a is better (wins = p, n = 1);
    - ``prompt, a, b, winner``: "a", "b", "tie" or "both_bad", also "left", "second", "model_a" and what else
      ``nashward.winners`` reads, the value of ``model_a`` or ``model_b`` too; "skip" or an empty one is no vote, and
      counted in a warning;
    - ``instruction, output_1, output_2, preference``: AlpacaEval's annotations, from 1 (the first is better) to 2, with
      ``generator_1`` and ``generator_2``;
    - ``prompt, chosen, rejected``: texts, or lists of chat messages that end with the response, with or without the
      turns before it.

    The text of a prompt is that of ``read_prompts`` on the same row, ``Prompt.text``. A row without one has the turns
    that ``chosen`` and ``rejected`` begin with. Fields that are not read are named in a warning of the logger.

    Args:
        source: a file (.jsonl, .json, .csv, .parquet; each also gzipped, but for Parquet), the id of a dataset on the
            hub (``ID`` or ``ID:SPLIT``), or an iterable of rows or a data frame; a ``Vote`` among them stays as it is.

    Raises:
        FileNotFoundError: no such file and no such dataset.
        ValueError: a file of another type, a row that is wrong (it is numbered), or no vote at all.

    Example:
        >>> read_votes([{"prompt": "Name a river.", "a": "The Rhine.", "b": "No.", "winner": "a"}])
        [Vote(prompt='Name a river.', a='The Rhine.', b='No.', wins=1.0, n=1.0, annotator=None, weight=1.0)]
    """
    name, rows = (str(source), read_rows(source, "votes")) if isinstance(source, str | Path) else ("the votes", source)
    parsed = list(numbered_rows(rows, name, _vote_unless_skipped, fields_of_vote))
    votes = [vote for vote in parsed if vote is not None]
    if not votes:
        raise NashwardError(f"{name} holds no votes" + f", but {counted(len(parsed), 'skip')}" * bool(parsed))
    if len(votes) < len(parsed):
        skipped = counted(len(parsed) - len(votes), "row")
        logger.warning("%s: %s of %d without a winner (skipped), which are no votes", name, skipped, len(parsed))
    return votes


def only_of_two_texts(votes: Iterable[Vote]) -> list[Vote]:
    """The votes, of which those between equal texts have no weight: any oracle says 1/2 of them.

    Example:
        >>> votes = [Vote("p", "x", "x", 1, 1), Vote("p", "x", "y", 1, 1)]
        >>> [vote.weight for vote in only_of_two_texts(votes)]
        [0.0, 1.0]
    """
    return [replace(vote, weight=0.0) if vote.a == vote.b else vote for vote in votes]


def _vote_unless_skipped(row: Any) -> Vote | None:
    """None where the row has a winner for its result, and names none."""
    if isinstance(row, Mapping) and ("winner" in row or {PREFERENCE, *OUTPUTS} <= row.keys()):
        results = [row[kind] for kind in _kinds(row) if not is_missing(row[kind])]
        if results in ([], [""]) or (results == [row.get("winner")] and is_skip(results[0], models_of_row(row))):
            return None
    return vote_of_row(row)


def _kinds(row: Mapping[str, Any]) -> list[str]:
    """The results that a row has, NaN where all are; a preference is one of AlpacaEval's outputs alone."""
    of_outputs = response_fields(row) == OUTPUTS
    given = [kind for kind in _KINDS if row.get(kind) is not None and (kind != PREFERENCE or of_outputs)]
    return [kind for kind in given if not is_missing(row[kind])] or given


def fields_of_vote(row: Mapping[str, Any]) -> set[str]:
    """The fields of a row of votes that are read, here or where people's votes are."""
    return fields_of_prompt(row) | _FIELDS | {*response_fields(row)}


def vote_of_row(row: Any) -> Vote:
    """The vote of one row, see ``read_votes``.

    Raises:
        ValueError: the row is wrong; the error reads like "has no result".

    Example:
        >>> vote_of_row({"prompt": "Name a river.", "chosen": "The Rhine.", "rejected": "No."}).wins
        1.0
    """
    if isinstance(row, Vote):
        return row
    if not isinstance(row, Mapping):
        raise NashwardError(f"is {type(row).__name__}, expected an object with a prompt and two responses")
    kinds = _kinds(row)
    if len(kinds) != 1:
        fields = ", ".join(str(key) for key, value in row.items() if value is not None) or "nothing"
        if not kinds and not is_missing(said := row.get(PREFERENCE)):  # of other responses than AlpacaEval's
            lacking = " and ".join(name for name in OUTPUTS if is_missing(row.get(name)))
            to_winner = f"rename {PREFERENCE} to winner where it is one of {', '.join(WINS)}"
            raise NashwardError(
                f"has a {PREFERENCE} and no {lacking}, which it is of in AlpacaEval's rows, as a number from 1 to 2; "
                f"it has {fields}; " + (f"rename the responses so, or {to_winner}" if _is_number(said) else to_winner)
            )
        results = " and ".join(kinds) or "no result"
        hint = "" if kinds else likely_field(row, [*_KINDS], fields_of_vote(row), text=False)
        hint = hint or "; rename the one that says who won to winner" * (not kinds)
        raise NashwardError(
            f"has {results}; expected one of {', '.join(_KINDS)}, for example {EXAMPLE}; it has {fields}{hint}"
        )
    prompt, a, b, wins, n = _KINDS[kinds[0]](row)
    weight = 1.0 if is_missing(row.get("weight")) or row["weight"] == "" else _number(row, "weight")
    models = ("", "") if kinds == ["chosen"] else models_of_row(row)  # which of them is model_a's is not known
    return Vote(prompt, a, b, wins, n, voter_of(row), weight, models)


Fields = tuple[str, str, str, float, float]  # prompt, a, b, wins, n


def compared_texts(row: Mapping[str, Any], fields: Sequence[str] | None = None) -> tuple[str, str, str]:
    """The prompt and the two responses of a row.

    Args:
        row: of a file.
        fields: that have the responses; None: see ``nashward.winners.response_fields``.

    Raises:
        ValueError: one of the texts is missing, or a response has turns before it.

    Example:
        >>> compared_texts({"prompt": "Name a river.", "a": "The Rhine.", "b": "No."})
        ('Name a river.', 'The Rhine.', 'No.')
    """
    texts = []
    for name in fields or response_fields(row):
        if is_missing(row.get(name)):
            hint = likely_field(row, [name], fields_of_vote(row))
            like = "" if name in COMPARED_FIELDS else f", expected as in {EXAMPLE}"
            raise NashwardError(f"has no {name}; it has {', '.join(map(str, row))}{like}{hint}")
        before, text = response_text(row[name], name)
        if before and name not in COMPARED_FIELDS:
            raise NashwardError(f"has turns before the response in {name}; give them as the prompt")
        texts.append(text)
    return row_prompt(row).text, texts[0], texts[1]


def _counts(row: Mapping[str, Any]) -> Fields:
    return *compared_texts(row), _number(row, "wins"), _number(row, "n")


def _probability(row: Mapping[str, Any]) -> Fields:
    p = _number(row, "p")
    if not 0 <= p <= 1:
        raise NashwardError(f"has p {p!r}, expected a probability, 0 to 1")
    return *compared_texts(row), p, 1.0


def winner_of_row(row: Mapping[str, Any]) -> str:
    """What the field ``winner`` of a row says: "a", "b", "tie" or "both_bad".

    Raises:
        ValueError: it has no meaning, or more than one.

    Example:
        >>> winner_of_row({"winner": "Left"}), winner_of_row({"winner": "opt", "model_a": "gpt", "model_b": "opt"})
        ('a', 'b')
    """
    winner = row["winner"]
    if isinstance(winner, str) and winner in WINS:  # as ``nashward vote`` writes it, whatever the models are called
        return winner
    models = models_of_row(row)
    side = winner_of(winner, models, swapped=row.get("shown_first") == "b")
    if side is None and (twice := two_meanings(winner, models)):
        raise NashwardError(f"has winner {winner!r}, expected one of {', '.join(WINS)}; it {twice}")
    if side is None:
        raise NashwardError(
            f"has winner {winner!r}, expected one of {', '.join(WINS)}; a and b are the two responses, and left, first "
            "or model_a is a too (numbers are not read: some count from 0, some from 1)"
        )
    return side


def models_of_row(row: Mapping[str, Any]) -> tuple[str, str]:
    """Whose the responses a and b of a row are; "" where it does not say.

    Example:
        >>> models_of_row({"a": "Hi.", "b": "Hello.", "model_a": "opt"})
        ('opt', '')
    """
    first, second = ("" if is_missing(row.get(name)) else str(row[name]) for name in model_fields(row))
    return first, second


def _preference(row: Mapping[str, Any]) -> Fields:
    return *compared_texts(row), first_wins(row[PREFERENCE]), 1.0


def _winner(row: Mapping[str, Any]) -> Fields:
    return *compared_texts(row), WINS[winner_of_row(row)], 1.0


def _chosen(row: Mapping[str, Any]) -> Fields:
    return *compared_texts(row, COMPARED_FIELDS), 1.0, 1.0


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def _number(row: Mapping[str, Any], field: str) -> float:
    value = row.get(field)
    if value is None:
        hint = likely_field(row, [field], fields_of_vote(row), text=False)
        raise NashwardError(f"has no {field}; it has {', '.join(map(str, row))}{hint}")
    try:
        return float(value)
    except (TypeError, ValueError):
        raise NashwardError(f"has {field} {value!r}, expected a number") from None


# each kind by the field that only it has
_KINDS: dict[str, Callable[[Mapping[str, Any]], Fields]] = {
    "wins": _counts,
    "p": _probability,
    "winner": _winner,
    "chosen": _chosen,
    PREFERENCE: _preference,
}
# from seconds on what ``nashward vote`` exports beside, which no fit reads
_FIELDS = {*_KINDS, "n", "rejected", *VOTERS, "weight", *MODELS, *GENERATORS, "seconds", "shown_first",
           "why", "id"}  # fmt: skip
