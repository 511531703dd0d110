"""People's votes in the formats of other tools: JSONL, battles of an arena, Label Studio's tasks, Argilla's records."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nashward.errors import NashwardError
from nashward.shortened import quoted
from nashward.winners import MODELS, SKIP, is_skip, two_meanings, winner_of

from ..config.people import VoteFormat
from ..data.rows import is_missing, is_unicode, likely_field, numbered_rows, read_rows
from ..oracles.fitting.votes import compared_texts, fields_of_vote, models_of_row, vote_of_row, winner_of_row
from ..store.files import atomic_write, to_jsonl
from .records import CastVote

TYPES = (".json", ".jsonl")  # of a file that is written
NOBODY = "imported"  # the annotator of votes that name none
QUESTION = "preference"  # what the question is called in Argilla's records


def write_votes(file: Path, votes: Sequence[CastVote], kind: VoteFormat = "jsonl") -> None:
    """Write votes for another tool, atomically.

    - "jsonl": ``prompt, a, b, winner, annotator, seconds, shown_first`` and ``why, id``, a vote a line, with ``model_a,
      model_b`` where it is known whose a and b are; ``fit_oracle`` and ``read_cast_votes`` read it.
    - "battles": ``model_a, model_b, winner, judge, conversation_a, conversation_b``, as arenas publish them; without
      the models that are not known.
    - "label-studio": tasks with annotations of its ``Pairwise`` tag; a tie is a choice beside it.
    - "argilla": records with the fields ``prompt, response1, response2`` and a label question.

    Args:
        file: where to: ``.json``, a list, or ``.jsonl``, a row a line.
        votes: as ``VoteStore.votes`` gives them.
        kind: the format. In the last two a and b are what was shown first and second.

    Raises:
        ValueError: another type of file.
        OSError: it cannot be written.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> vote = CastVote("Name a river.", "The Rhine.", "No.", "a", "ann", 4.0, "b", id="7f")
        >>> with TemporaryDirectory() as home:
        ...     for kind in FORMATS:
        ...         write_votes(Path(home) / "votes.json", [vote], kind)
        ...         (back,) = read_cast_votes(Path(home) / "votes.json", kind)
        ...         print(kind, back.winner, back.annotator, back.seconds, back.shown_first)
        jsonl a ann 4.0 b
        battles a ann None a
        label-studio b ann 4.0 a
        argilla b ann None a
    """
    if file.suffix not in TYPES and (file.is_file() or not file.exists()):  # of a device the name says nothing
        raise NashwardError(f"{file} is of another type; expected .json, a list, or .jsonl, a row a line")
    rows = FORMATS[kind].rows(votes)
    with atomic_write(file) as unfinished:
        if file.suffix == ".json":
            unfinished.write_text(json.dumps(rows, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        else:
            unfinished.write_bytes(to_jsonl(rows))


def read_cast_votes(source: Path | Iterable[Any], kind: VoteFormat = "jsonl") -> list[CastVote]:
    """Read people's votes, of another tool or of ``write_votes``.

    A vote without an ``id`` gets one from its content and from how many equal ones came before, so that the same file
    read twice gives the same ids.

    Args:
        source: a file (.jsonl, .json, .csv, .parquet), or rows.
        kind: its format, see ``write_votes``.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a row that is wrong (it is numbered), or counts of several comparisons in one.

    Example:
        >>> (vote,) = read_cast_votes([{"prompt": "Name a river.", "chosen": "The Rhine.", "rejected": "No."}])
        >>> vote.winner, vote.annotator
        ('a', 'imported')
    """
    rows = _rows_of(source) if isinstance(source, Path) else source
    name = str(source) if isinstance(source, Path) else "the votes"
    votes: list[CastVote] = []
    seen: Counter[str] = Counter()
    by_id: dict[str, CastVote] = {}
    codec = FORMATS[kind]
    parsed = numbered_rows(rows, name, lambda row: codec.votes(_object(row)), codec.fields)
    for number, found in enumerate(parsed, 1):
        for vote in found:
            if vote.id and by_id.setdefault(vote.id, vote) != vote:
                raise NashwardError(
                    f"{name}: row {number} has the id {quoted(vote.id, 40)} of an earlier row, which is another vote; "
                    "leave the field out, or give each vote its own"
                )
            if not vote.id:
                content = json.dumps([vote.prompt, vote.a, vote.b, vote.winner, vote.annotator, vote.seconds])
                digest = hashlib.blake2b(content.encode(), digest_size=12).hexdigest()
                vote = replace(vote, id=f"{digest}-{seen[digest]}")
                seen[digest] += 1
            votes.append(vote)
    return votes


def _rows_of(file: Path) -> Iterable[Any]:
    if not file.is_file():
        raise FileNotFoundError(f"there is no file of votes {file}")
    return read_rows(file, "votes")


def _object(row: Any) -> Mapping[str, Any]:
    if not isinstance(row, Mapping):
        raise NashwardError(f"is {type(row).__name__}, expected an object")
    return row


def _text(row: Mapping[str, Any], *names: str) -> str:
    for name in names:
        if isinstance(row.get(name), str):
            return str(row[name])
    raise NashwardError(
        f"has no text as {' or '.join(names)}; it has {', '.join(map(str, row))}{likely_field(row, names)}"
    )


def _seconds(value: Any) -> float | None:
    if is_missing(value) or value == "":
        return None
    try:
        seconds = float(value)
    except (TypeError, ValueError, OverflowError):
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise NashwardError(f"has seconds {quoted(value, 40)}, expected a number >= 0")
    return seconds


def _name(value: Any) -> str:
    """A vote's id, or a model's name; "" where there is none."""
    name = "" if is_missing(value) else str(value)
    if not is_unicode(name):
        raise NashwardError(f"has the name {quoted(name, 40)}, which is not Unicode: half of a surrogate pair")
    return name


def _objects(value: Any, name: str) -> list[Mapping[str, Any]]:
    """A list of objects; empty where there is none."""
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(entry, Mapping) for entry in value):
        raise NashwardError(f"has {name} that are no list of objects: {quoted(value, 40)}")
    return value


def _first(value: Any) -> str:
    """Which response was shown first; "" where that is not known, as of chosen and rejected ones."""
    if is_missing(value) or value == "":
        return ""
    if value not in ("a", "b"):
        raise NashwardError(f"has shown_first {quoted(value, 40)}, expected a or b")
    return str(value)


# JSONL


def _to_jsonl(votes: Sequence[CastVote]) -> list[dict[str, Any]]:
    names = ("prompt", "a", "b", "winner", "annotator", "seconds", "shown_first", "why", "id")
    return [{name: getattr(vote, name) for name in names} | _models(vote) for vote in votes]


def _models(vote: CastVote) -> dict[str, str]:
    """Whose the responses are, where that is known."""
    return {name: source for name, source in zip(MODELS, vote.sources, strict=True) if source}


def _sources(row: Mapping[str, Any]) -> tuple[str, str]:
    first, second = (_name(row.get(name)) for name in MODELS)
    return first, second


def _from_jsonl(row: Mapping[str, Any]) -> list[CastVote]:
    winner = SKIP if is_skip(row.get("winner"), models_of_row(row)) else row.get("winner")
    vote = vote_of_row({**row, "winner": "tie"} if winner == SKIP else row)
    if vote.weight != 1:
        raise NashwardError(f"has the weight {vote.weight:g}; a person's vote counts once, leave rows out or the field")
    outcome = {0.0: "b", 0.5: "tie", 1.0: "a"}.get(vote.wins)
    if vote.n != 1 or outcome is None:
        raise NashwardError(f"has {vote.wins:g} wins of {vote.n:g}; expected one vote a row")
    if winner != SKIP:
        winner = outcome if is_missing(winner) else winner_of_row(row)
    first, seconds = _first(row.get("shown_first")), _seconds(row.get("seconds"))
    return [
        CastVote(
            vote.prompt, vote.a, vote.b, str(winner), vote.annotator or NOBODY, seconds, first,
            id=_name(row.get("id")), sources=(_name(vote.models[0]), _name(vote.models[1])),
        )
    ]  # fmt: skip


# battles

BATTLE = {"a": "model_a", "b": "model_b", "tie": "tie", "both_bad": "tie (bothbad)"}


def _to_battles(votes: Sequence[CastVote]) -> list[dict[str, Any]]:
    def turns(vote: CastVote, text: str) -> list[dict[str, str]]:
        return [{"role": "user", "content": vote.prompt}, {"role": "assistant", "content": text}]

    return [
        {
            "id": vote.id,
            **_models(vote),
            "winner": BATTLE[vote.winner],
            "judge": vote.annotator,
            "turn": 1,
            "conversation_a": turns(vote, vote.a),
            "conversation_b": turns(vote, vote.b),
        }
        for vote in votes
        if vote.winner != SKIP
    ]


def _from_battles(row: Mapping[str, Any]) -> list[CastVote]:
    sides = []
    for name in ("conversation_a", "conversation_b"):
        turns = row.get(name)
        if not isinstance(turns, list) or len(turns) < 2 or not all(isinstance(turn, Mapping) for turn in turns):
            raise NashwardError(f"has no {name}: expected the turns of a conversation, which end with the response")
        sides.append(turns)
    if sides[0][:-1] != sides[1][:-1]:
        raise NashwardError("has two different conversations before the responses; one prompt has both")
    winner = winner_of(row.get("winner"), _sources(row))
    if winner is None and (twice := two_meanings(row.get("winner"), _sources(row))):
        raise NashwardError(f"has winner {quoted(row['winner'], 40)}, which {twice}")
    if winner is None:
        raise NashwardError(f"has winner {quoted(row.get('winner'), 40)}, expected one of {', '.join(BATTLE.values())}")
    prompt, a, b = compared_texts(
        {"prompt": sides[0][:-1], "a": _text(sides[0][-1], "content"), "b": _text(sides[1][-1], "content")}
    )
    key = _name(row.get("id"))
    who = NOBODY if is_missing(row.get("judge")) else str(row["judge"])
    return [CastVote(prompt, a, b, winner, who, id=key, sources=_sources(row))]


# Label Studio: what its Pairwise tag compares are the values answer1 and answer2 of a task


def _to_label_studio(votes: Sequence[CastVote]) -> list[dict[str, Any]]:
    tasks: dict[tuple[str, str, str], dict[str, Any]] = {}
    for vote in votes:
        vote = vote if vote.shown_first != "b" else vote.swapped()
        task = tasks.setdefault(
            (vote.prompt, vote.a, vote.b),
            {"data": {"prompt": vote.prompt, "answer1": vote.a, "answer2": vote.b}, "annotations": []},
        )
        common = {"from_name": "comparison", "to_name": "answer1,answer2", "origin": "manual"}
        result = (
            {**common, "type": "pairwise", "value": {"selected": "left" if vote.winner == "a" else "right"}}
            if vote.winner in ("a", "b")
            else {**common, "type": "choices", "value": {"choices": [vote.winner]}}
        )
        task["annotations"].append(
            {
                "completed_by": {"email": vote.annotator},
                "lead_time": vote.seconds,
                "was_cancelled": vote.winner == SKIP,
                "unique_id": vote.id,
                "result": [] if vote.winner == SKIP else [result],
            }
        )
    return list(tasks.values())


def _from_label_studio(row: Mapping[str, Any]) -> list[CastVote]:
    data = _object(row.get("data"))
    prompt = _text(data, "prompt", "question", "instruction")
    first, second = _text(data, "answer1", "text1", "response1"), _text(data, "answer2", "text2", "response2")
    votes = []
    for annotation in _objects(row.get("annotations"), "annotations"):
        who = annotation.get("completed_by")
        who = who.get("email") or who.get("id") if isinstance(who, Mapping) else who
        winner = SKIP if annotation.get("was_cancelled") else _label_studio_winner(annotation)
        votes.append(
            CastVote(
                prompt, first, second, winner, NOBODY if who is None else str(who),
                _seconds(annotation.get("lead_time")), id=_name(annotation.get("unique_id")),
            )
        )  # fmt: skip
    return votes


def _label_studio_winner(annotation: Mapping[str, Any]) -> str:
    for result in _objects(annotation.get("result"), "results"):
        value = _object(result.get("value", {}))
        if result.get("type") == "pairwise" and value.get("selected") in ("left", "right"):
            return "a" if value["selected"] == "left" else "b"
        if result.get("type") == "choices" and value.get("choices"):
            choice = str(value["choices"][0]).casefold().replace(" ", "_")
            if choice in ("tie", "both_bad"):
                return choice
    raise NashwardError("has an annotation without a pairwise result (left or right) and without the choice tie")


# Argilla: of a record the responses to one label question, by question or in the older form by user

LABELS = {"a": "response1", "b": "response2", "tie": "tie", "both_bad": "both_bad"}


def _to_argilla(votes: Sequence[CastVote]) -> list[dict[str, Any]]:
    records: dict[tuple[str, str, str], dict[str, Any]] = {}
    for vote in votes:
        if vote.winner == SKIP:
            continue
        vote = vote if vote.shown_first != "b" else vote.swapped()
        record = records.setdefault(
            (vote.prompt, vote.a, vote.b),
            {
                "fields": {"prompt": vote.prompt, "response1": vote.a, "response2": vote.b},
                "metadata": {"votes": []},
                "responses": {QUESTION: []},
            },
        )
        record["responses"][QUESTION].append(
            {"value": LABELS[vote.winner], "user_id": vote.annotator, "status": "submitted"}
        )
        record["metadata"]["votes"].append(vote.id)
    return list(records.values())


def _from_argilla(row: Mapping[str, Any]) -> list[CastVote]:
    fields = _object(row.get("fields"))
    prompt = _text(fields, "prompt", "instruction", "question")
    first = _text(fields, "response1", "response_1", "response-1", "response_a")
    second = _text(fields, "response2", "response_2", "response-2", "response_b")
    given = row.get("responses")
    if isinstance(given, Mapping):
        answers = [answer for several in given.values() for answer in _objects(several, "responses")]
    else:  # one entry a user, with the values by question
        answers = [
            {"user_id": entry.get("user_id"), "status": entry.get("status"), "value": value.get("value")}
            for entry in _objects(given, "responses")
            for value in _objects([*_object(entry.get("values", {})).values()], "values")
        ]
    winner_of = {label: winner for winner, label in LABELS.items()}
    winner_of |= dict.fromkeys(("response_1", "response-1", "response_a"), "a")
    winner_of |= dict.fromkeys(("response_2", "response-2", "response_b"), "b")
    votes, ids = [], _object(row.get("metadata") or {}).get("votes")
    for place, answer in enumerate(answers):
        if answer.get("status") in ("discarded", "draft"):
            continue
        if not isinstance(answer.get("value"), str) or answer["value"] not in winner_of:
            raise NashwardError(
                f"has the answer {quoted(answer.get('value'), 40)}, expected one of {', '.join(winner_of)}"
            )
        who = NOBODY if answer.get("user_id") is None else str(answer["user_id"])
        key = _name(ids[place]) if isinstance(ids, list) and len(ids) == len(answers) else ""
        votes.append(CastVote(prompt, first, second, winner_of[answer["value"]], who, id=key))
    return votes


@dataclass(frozen=True)
class _Codec:
    rows: Callable[[Sequence[CastVote]], list[dict[str, Any]]]
    votes: Callable[[Mapping[str, Any]], list[CastVote]]
    fields: Callable[[Mapping[str, Any]], Collection[str]] = Mapping.keys  # that are read; any others are named


FORMATS: dict[VoteFormat, _Codec] = {
    "jsonl": _Codec(_to_jsonl, _from_jsonl, fields_of_vote),
    "battles": _Codec(_to_battles, _from_battles),
    "label-studio": _Codec(_to_label_studio, _from_label_studio),
    "argilla": _Codec(_to_argilla, _from_argilla),
}
