"""The store of votes: what is acknowledged is there once, whoever asks how often."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nashward.errors import NashwardError
from nashward.llm.config.people import VoteFormat
from nashward.llm.oracles import read_votes
from nashward.llm.people.formats import FORMATS, read_cast_votes, write_votes
from nashward.llm.people.records import CastVote
from nashward.llm.people.store import VoteStore
from nashward.llm.people.vote_file import FILE

PROMPT, TEXTS = "Name a river.", ["The Rhine.", "No.", "A river is water."]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[VoteStore]:
    with VoteStore(tmp_path / "votes") as store:
        store.add_responses(PROMPT, TEXTS, ["start", "start", "one"])
        yield store


def cast(store: VoteStore, annotator: str, pair: int, choice: str, first: str = "a") -> str:
    question = store.open_question(annotator, pair, "random", first)
    assert store.vote(question.id, annotator, choice, 2.0)
    return question.id


def test_pairs_are_of_different_responses_once(store: VoteStore) -> None:
    assert [(row.a, row.b) for row in store.pairs()] == [(1, 2), (1, 3), (2, 3)]
    assert store.add_responses(PROMPT, ["No.", "No.", "The Rhine."]) == 0
    assert store.add_responses(PROMPT, ["No.", "Yes."]) == 1
    assert store.add_responses("Name a tree.", ["No.", "Yes."]) == 1


def test_whose_a_response_is_may_be_known_later(store: VoteStore) -> None:
    tree = "Name a tree."
    store.add_responses(tree, ["An oak.", "No."])
    cast(store, "ann", store.pairs()[-1].id, "first")
    assert store.votes()[0].sources == ("", "")
    for sources in (["", "m"], ["n", ""], ["other", "other"]):  # the first name stays
        store.add_responses(tree, ["An oak.", "No."], sources)
    assert store.votes()[0].sources == ("n", "m")


@pytest.mark.parametrize(
    ("choice", "first", "winner"),
    [("first", "a", "a"), ("second", "a", "b"), ("first", "b", "b"), ("second", "b", "a"), ("tie", "b", "tie"),
     ("both_bad", "a", "both_bad")],
)  # fmt: skip
def test_the_side_that_was_shown_first_is_undone(store: VoteStore, choice: str, first: str, winner: str) -> None:
    cast(store, "ann", 1, choice, first)
    (vote,) = store.votes()
    assert (vote.prompt, vote.a, vote.b) == (PROMPT, *TEXTS[:2])
    assert (vote.winner, vote.shown_first, vote.seconds, vote.sources) == (winner, first, 2.0, ("start", "start"))


def test_a_vote_that_arrives_twice_counts_once(store: VoteStore) -> None:
    question = cast(store, "ann", 1, "first")
    assert not store.vote(question, "ann", "first")
    assert not store.vote(question, "ann", "second")  # another tab
    assert [vote.winner for vote in store.votes()] == ["a"]


def test_two_tabs_have_the_same_open_question(store: VoteStore) -> None:
    one = store.open_question("ann", 1, "random", "a")
    two = store.open_question("ann", 2, "random", "b")
    assert one == two == store.waiting("ann")
    assert store.open_question("bob", 2, "random", "b") != one


def test_undo_opens_the_question_and_a_late_copy_does_not_count(store: VoteStore) -> None:
    first = cast(store, "ann", 1, "first")
    waiting = store.open_question("ann", 2, "random", "a")
    assert store.last_answered("ann") == first
    assert store.undo(first, "ann")
    assert not store.undo(first, "ann")
    opened = store.waiting("ann")
    assert opened is not None
    assert (opened.id, opened.attempt) == (first, 1)
    assert not store.vote(first, "ann", "first", attempt=0)  # sent before the undo, and delayed
    assert store.votes() == []
    assert store.vote(first, "ann", "tie", attempt=1)
    assert store.waiting("ann") == waiting
    assert [vote.winner for vote in store.votes()] == ["tie"]


def test_nobody_answers_or_undoes_for_others(store: VoteStore) -> None:
    question = cast(store, "ann", 1, "first")
    assert not store.undo(question, "bob")
    open_one = store.open_question("ann", 2, "random", "a")
    with pytest.raises(NashwardError, match="no such question"):
        store.vote(open_one.id, "bob", "first")
    assert [vote.annotator for vote in store.votes()] == ["ann"]


def test_a_number_is_given_once(store: VoteStore) -> None:
    """What a fit has used is told by numbers: a vote that replaces a used one is new."""
    question = cast(store, "ann", 1, "first")
    used = store.votes()[-1].number
    store.undo(question, "ann")
    assert store.count(after=used) == 0
    store.vote(question, "ann", "second")
    assert (store.count(after=used), store.votes()[-1].number) == (1, used + 1)


def test_skips_are_answers_and_no_votes(store: VoteStore) -> None:
    cast(store, "ann", 1, "skip")
    cast(store, "ann", 2, "first")
    assert store.answered_pairs("ann") == [1, 2]
    assert (store.count(), store.count("ann"), store.count("bob")) == (1, 1, 0)
    assert [vote.winner for vote in store.votes(skipped=True)] == ["skip", "a"]
    assert [row.votes for row in store.pairs()] == [(), ("a",), ()]
    with pytest.raises(NashwardError, match="skip"):
        store.votes(skipped=True)[0].as_vote()


def test_a_name_is_one_browsers_until_the_code_is_given(store: VoteStore) -> None:
    assert store.join("browser one", " ann  lee ", None)
    assert store.annotator("browser one") == "ann lee"
    assert not store.join("browser two", "ann lee")
    assert not store.join("browser two", "ann lee", "00000000")
    assert store.annotator("browser two") is None
    assert store.join("browser two", "ann lee", store.code("ann lee").decode().upper())
    assert store.annotator("browser two") == "ann lee"
    assert store.annotator("browser one") == "ann lee"


@pytest.mark.parametrize("name", ["", "  ", "x" * 61, "a\x07b", "a‮b"])
def test_names_that_mislead_are_refused(store: VoteStore, name: str) -> None:
    with pytest.raises(NashwardError, match="1 to 60 printable"):
        store.join("browser", name)


def test_everything_is_there_after_it_is_opened_again(store: VoteStore) -> None:
    cast(store, "ann", 1, "first")
    waiting = store.open_question("ann", 2, "random", "b")
    store.join("browser", "ann")
    store.set_beliefs([(3, 0.5, 1.5)])
    store.close()
    with VoteStore(store.folder, create=False) as again:
        assert again.waiting("ann") == waiting
        assert again.annotator("browser") == "ann"
        assert [(row.logit, row.error) for row in again.pairs()] == [(None, None), (None, None), (0.5, 1.5)]
        assert len(again.votes()) == 1


def test_threads_and_connections_write_at_once(store: VoteStore) -> None:
    others = [VoteStore(store.folder) for _ in range(2)]  # closed below
    wrong: list[BaseException] = []

    def work(name: str, own: VoteStore) -> None:
        try:
            for pair in (1, 2, 3):
                cast(own, name, pair, "first")
        except BaseException as error:  # noqa: BLE001 - shown by the assertion
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(f"n{k}", others[k % 2])) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for other in others:
        other.close()
    assert wrong == []
    votes = store.votes()
    assert len({(vote.annotator, vote.a, vote.b) for vote in votes}) == 24
    assert [vote.number for vote in votes] == list(range(1, 25))


def test_forgetting_leaves_no_byte_of_the_name(store: VoteStore) -> None:
    store.join("browser", "Ann Unmistakable")
    cast(store, "Ann Unmistakable", 1, "first")
    cast(store, "bob", 1, "first")
    store.open_question("Ann Unmistakable", 2, "random", "a")
    exported = store.votes()
    assert store.forget("Ann Unmistakable") == 1
    assert [vote.annotator for vote in store.votes()] == ["bob"]
    assert store.annotator("browser") is None
    assert all(b"Unmistakable" not in file.read_bytes() for file in store.folder.iterdir())
    assert store.add_votes(exported) == 0  # a file that still has the votes does not bring them back
    with pytest.raises(NashwardError, match="there are: bob"):
        store.forget("Ann Unmistakable")


class FullAt:
    """A connection whose disk is full at one statement."""

    def __init__(self, connection: sqlite3.Connection, statement: str) -> None:
        self._connection, self._statement = connection, statement

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
        if statement.startswith(self._statement):
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise error
        return self._connection.execute(statement, *values)


@pytest.mark.parametrize("statement", ["VACUUM", "PRAGMA wal_checkpoint"])
def test_on_a_full_disk_forgetting_says_so_and_is_ended_by_the_same_command(
    store: VoteStore, statement: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.join("browser", "Ann Unmistakable")
    for pair in (1, 2):
        cast(store, "Ann Unmistakable", pair, "first")
    with monkeypatch.context() as patch:
        patch.setattr(store, "_connection", FullAt(store._connection, statement))
        with pytest.raises(OSError, match=rf"{FILE}.*disk is full"):
            store.forget("Ann Unmistakable")
    assert store.count() == 0
    with pytest.raises(NashwardError, match="there are: nobody"):
        store.forget("Bob")
    assert store.forget("Ann Unmistakable") == 2
    assert all(b"Unmistakable" not in file.read_bytes() for file in store.folder.iterdir())
    with pytest.raises(NashwardError, match="no annotator 'Ann Unmistakable'"):
        store.forget("Ann Unmistakable")


def test_a_name_that_another_process_keeps_in_the_log_is_not_called_forgotten(store: VoteStore) -> None:
    cast(store, "Ann Unmistakable", 1, "first")
    reader = sqlite3.connect(store.folder / FILE, isolation_level=None)
    reader.execute("BEGIN")
    assert reader.execute("SELECT count(*) FROM question").fetchone() == (1,)
    store._connection.execute("PRAGMA busy_timeout = 50")
    with pytest.raises(OSError, match="still has the name"):
        store.forget("Ann Unmistakable")
    reader.close()
    assert store.forget("Ann Unmistakable") == 1
    assert all(b"Unmistakable" not in file.read_bytes() for file in store.folder.iterdir())


def test_what_is_no_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="holds no votes"):
        VoteStore(tmp_path, create=False)
    (tmp_path / FILE).write_text("not a database, but long enough to look like one" * 20)
    with pytest.raises(NashwardError, match="no store of votes"):
        VoteStore(tmp_path)
    VoteStore(tmp_path / "new").close()
    with sqlite3.connect(tmp_path / "new" / FILE) as connection:
        connection.execute("UPDATE fact SET value = '9' WHERE key = 'format'")
    connection.close()
    with pytest.raises(NashwardError, match="format 9"):
        VoteStore(tmp_path / "new")
    with VoteStore(tmp_path / "other") as store, pytest.raises(NashwardError, match="surrogate"):
        store.add_responses("p", ["\ud800", "b"])


@pytest.mark.parametrize("kind", FORMATS)
def test_exports_are_read_back_once(store: VoteStore, kind: VoteFormat, tmp_path: Path) -> None:
    for pair, choice, first in ((1, "first", "b"), (2, "second", "a"), (3, "tie", "a")):
        cast(store, "ann", pair, choice, first)
    cast(store, "bob", 1, "both_bad", "a")
    file = tmp_path / "votes.json"
    write_votes(file, store.votes(), kind)
    with VoteStore(tmp_path / "copy") as copy:
        assert copy.add_votes(read_cast_votes(file, kind)) == 4
        assert copy.add_votes(read_cast_votes(file, kind)) == 0
        assert store.add_votes(read_cast_votes(file, kind)) == 0

        def facts(votes: list[CastVote]) -> set[tuple[str, str, str, str]]:
            return {
                (min(v.a, v.b), v.annotator, max(v.a, v.b), {"a": v.a, "b": v.b}.get(v.winner, v.winner)) for v in votes
            }

        assert facts(copy.votes()) == facts(store.votes())


def test_exports_are_what_fit_oracle_reads(store: VoteStore, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cast(store, "ann", 1, "first")
    cast(store, "bob", 2, "both_bad")
    write_votes(tmp_path / "votes.jsonl", store.votes())
    votes = read_votes(tmp_path / "votes.jsonl")
    assert [(vote.annotator, vote.wins, vote.n) for vote in votes] == [("ann", 1.0, 1.0), ("bob", 0.5, 1.0)]
    assert caplog.text == ""  # every field is known


@pytest.mark.parametrize(
    ("kind", "row", "expected"),
    [
        ("jsonl", {"prompt": "p", "chosen": "x", "rejected": "y"}, ("p", "x", "y", "a", "imported")),
        ("jsonl", {"prompt": "p", "a": "x", "b": "y", "winner": "skip", "voter": 3}, ("p", "x", "y", "skip", "3")),
        ("battles", {"model_a": "m", "model_b": "n", "winner": "tie (bothbad)", "judge": "arena_user_1",
                     "conversation_a": [{"role": "user", "content": "p"}, {"role": "assistant", "content": "x"}],
                     "conversation_b": [{"role": "user", "content": "p"}, {"role": "assistant", "content": "y"}]},
         ("p", "x", "y", "both_bad", "arena_user_1")),
        ("label-studio", {"id": 1, "data": {"prompt": "p", "text1": "x", "text2": "y"}, "annotations": [
            {"completed_by": 7, "lead_time": 3.5, "result": [
                {"type": "pairwise", "from_name": "pw", "to_name": "text1,text2", "value": {"selected": "right"}}]}]},
         ("p", "x", "y", "b", "7")),
        ("argilla", {"fields": {"instruction": "p", "response-1": "x", "response-2": "y"}, "responses": [
            {"user_id": "u", "status": "submitted", "values": {"preference": {"value": "response-2"}}}]},
         ("p", "x", "y", "b", "u")),
        ("argilla", {"fields": {"prompt": "p", "response1": "x", "response2": "y"}, "responses": {"preference": [
            {"value": "response1", "user_id": "u"}]}}, ("p", "x", "y", "a", "u")),
    ],
)  # fmt: skip
def test_records_of_other_tools(kind: VoteFormat, row: dict[str, object], expected: tuple[str, ...]) -> None:
    (vote,) = read_cast_votes([row], kind)
    assert (vote.prompt, vote.a, vote.b, vote.winner, vote.annotator) == expected


def test_whose_responses_are_is_said_of_what_is_known() -> None:
    models, generators = ({f"model_{side}": name for side, name in zip("ab", ("m", "n"), strict=True)},
                          {"generator_1": "m", "generator_2": "n"})  # fmt: skip
    rows = [
        {"prompt": "p", "a": "x", "b": "y", "winner": "n", **models},
        {"instruction": "p", "output_1": "x", "output_2": "y", "preference": 2, **generators},
        {"prompt": "p", "chosen": "y", "rejected": "x", **models},  # the chosen one may be either's
    ]
    found = read_cast_votes(rows)
    assert [vote.sources for vote in found] == [("m", "n"), ("m", "n"), ("", "")]
    assert [vote.winner for vote in found] == ["b", "b", "a"]


def test_equal_responses_of_a_file_are_not_asked(store: VoteStore) -> None:
    before = store.pairs()
    assert store.add_votes([CastVote(PROMPT, "No.", "No.", "tie", "ann", id="7")]) == 1
    assert store.pairs() == before
    assert [vote.winner for vote in store.votes()] == ["tie"]


@pytest.mark.parametrize(
    ("kind", "row", "match"),
    [
        ("jsonl", {"prompt": "p", "a": "x", "b": "y", "wins": 3, "n": 4}, "row 2 has 3 wins of 4"),
        ("jsonl", {"prompt": "p", "a": "x", "b": "y", "winner": "c"}, "row 2 has winner 'c'"),
        ("jsonl", {"prompt": "p", "a": "x", "b": "y", "winner": "a", "weight": 0}, "row 2 has the weight 0"),
        ("jsonl", {"prompt": "p", "a": "x", "b": "y", "winner": "a", "shown_first": "left"}, "shown_first 'left'"),
        ("jsonl", {"prompt": "p", "a": "x", "b": "y", "winner": "b", "id": 1}, "has the id '1' of an earlier row"),
        ("jsonl", ["p"], "row 2 is list"),
        ("jsonl", {"prompt": "p", "a": "x", "b": "y", "winner": "a", "seconds": float("inf")}, "row 2 has seconds inf"),
        ("jsonl", {"prompt": "p", "a": "x", "b": "y", "winner": "a", "id": "\ud83d"}, "row 2 .* not Unicode"),
        ("battles", {"winner": "model_a"}, "conversation_a"),
        ("label-studio", {"data": {"prompt": "p", "answer1": "x", "answer2": "y"}, "annotations": [1]},
         "row 2 has annotations"),
        ("label-studio", {"data": {"prompt": "p", "answer1": "x", "answer2": "y"},
                          "annotations": [{"result": [{"type": "pairwise", "value": "left"}]}]}, "row 2 is str"),
        ("argilla", {"fields": {"prompt": "p", "response1": "x", "response2": "y"}, "responses": {"q": "up"}},
         "row 2 has responses"),
        ("argilla", {"fields": {"prompt": "p", "response1": "x", "response2": "y"},
                     "responses": {"q": [{"value": ["response1"]}]}}, r"\['response1'\]"),
        ("label-studio", {"data": {"prompt": "p", "answer1": "x"}}, "answer2"),
        ("argilla", {"fields": {"prompt": "p", "response1": "x", "response2": "y"},
                     "responses": {"q": [{"value": "up"}]}}, "'up'"),
    ],
)  # fmt: skip
def test_rows_that_are_wrong_are_named(kind: VoteFormat, row: object, match: str) -> None:
    good: dict[VoteFormat, object] = {
        "jsonl": {"prompt": "p", "a": "x", "b": "y", "winner": "a", "id": 1},
        "battles": read_back("battles"),
        "label-studio": read_back("label-studio"),
        "argilla": read_back("argilla"),
    }
    with pytest.raises(NashwardError, match=match):
        read_cast_votes([good[kind], row], kind)


def read_back(kind: VoteFormat) -> object:
    return FORMATS[kind].rows([CastVote("p", "x", "y", "a", "ann", id="1")])[0]
