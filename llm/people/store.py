"""The votes of people on disk: one SQLite file, in which a vote is written before anybody is told that it is."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

from nashward.errors import NashwardError

from ..oracles.fitting.votes import WINS, Vote
from ..store.files import disk_errors

FILE = "votes.sqlite"
FORMAT = "1"
WAIT = 60.0  # seconds that a process waits for another one's write
BATCH = 500  # pairs of one query
OPEN_FOR = 900.0  # seconds after which a question that nobody answered is free for others
NAME_LENGTH = 60  # characters of an annotator's name
WINNERS = ("a", "b", "tie", "both_bad")
SKIP = "skip"
OTHER = {"a": "b", "b": "a"}

Why = Literal["change", "random", "repeat", "import"]

SCHEMA = """
CREATE TABLE IF NOT EXISTS fact (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS prompt (id INTEGER PRIMARY KEY, key BLOB UNIQUE NOT NULL, text TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS response (
    id INTEGER PRIMARY KEY, key BLOB UNIQUE NOT NULL, prompt INTEGER NOT NULL REFERENCES prompt, text TEXT NOT NULL,
    source TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS pair (
    id INTEGER PRIMARY KEY, prompt INTEGER NOT NULL REFERENCES prompt, a INTEGER NOT NULL REFERENCES response,
    b INTEGER NOT NULL REFERENCES response, logit REAL, error REAL, UNIQUE (a, b));
CREATE TABLE IF NOT EXISTS annotator (name TEXT PRIMARY KEY, joined REAL NOT NULL);
CREATE TABLE IF NOT EXISTS session (key BLOB PRIMARY KEY, annotator TEXT NOT NULL REFERENCES annotator);
CREATE TABLE IF NOT EXISTS question (
    id TEXT PRIMARY KEY, pair INTEGER NOT NULL REFERENCES pair, annotator TEXT NOT NULL, shown_first TEXT NOT NULL,
    why TEXT NOT NULL, opened REAL NOT NULL, attempt INTEGER NOT NULL DEFAULT 0,
    winner TEXT, seconds REAL, number INTEGER UNIQUE);
CREATE INDEX IF NOT EXISTS question_of ON question (annotator, number);
CREATE INDEX IF NOT EXISTS question_on ON question (pair);
CREATE TABLE IF NOT EXISTS imported (id TEXT PRIMARY KEY);
"""


@dataclass(frozen=True)
class CastVote:
    """One person's vote on two responses to a prompt.

    Attributes:
        prompt, a, b: the texts.
        winner: "a", "b", "tie", "both_bad", or "skip" for a question that was left out.
        annotator: the name that was given.
        seconds: how long the question was looked at; None: not known.
        shown_first: "a" or "b", the one on the left or above.
        why: what the question was chosen for: "change" of the equilibrium, "random", a "repeat", or an "import".
        number: votes are numbered as they arrive, from 1.
        id: of the question.
        sources: of a and b, whose responses these are.

    Example:
        >>> CastVote("Name a river.", "The Rhine.", "No.", "both_bad", "ann", 4.0, "b").as_vote()
        Vote(prompt='Name a river.', a='The Rhine.', b='No.', wins=0.5, n=1.0, annotator='ann', weight=1.0)
    """

    prompt: str
    a: str
    b: str
    winner: str
    annotator: str
    seconds: float | None = None
    shown_first: str = "a"
    why: str = "import"
    number: int = 0
    id: str = ""
    sources: tuple[str, str] = ("", "")

    def as_vote(self) -> Vote:
        """The vote as ``fit_oracle`` takes it; a tie and "both_bad" are half a win each.

        Raises:
            ValueError: a question that was skipped.
        """
        if self.winner not in WINNERS:
            raise NashwardError(f"has winner {self.winner!r}, expected one of {', '.join(WINNERS)}")
        return Vote(self.prompt, self.a, self.b, WINS[self.winner], 1.0, self.annotator)


@dataclass(frozen=True)
class Question:
    """Two responses that one person is to compare.

    Attributes:
        id: of the question; a vote names it, so that one that arrives twice counts once.
        attempt: how often it was undone; a vote of an earlier attempt that arrives late does not count.
        pair: the number of the pair.
        prompt, first, second: the texts, as they are shown.
    """

    id: str
    attempt: int
    pair: int
    prompt: str
    first: str
    second: str


@dataclass(frozen=True)
class PairRow:
    """A pair of responses that may be compared, with what is believed of it.

    Attributes:
        id, prompt, a, b: numbers of the pair, of its prompt and of its two responses.
        logit, error: the log-odds that a beats b by an oracle, and their standard error; None: no oracle was asked.
        votes: the winners of the votes on it, as they arrived; without skips.
    """

    id: int
    prompt: int
    a: int
    b: int
    logit: float | None
    error: float | None
    votes: tuple[str, ...] = ()


class VoteStore:
    """The questions, votes and annotators of a folder.

    Every change is one transaction with a write-ahead log that is flushed to the disk before the call returns: a kill
    or a loss of power at any moment loses no vote that was acknowledged and doubles none. Threads and processes share
    it; the folder has to be on a local disk.

    Args:
        folder: holds ``votes.sqlite``.
        create: False: a folder without votes is an error.

    Raises:
        FileNotFoundError: there are no votes there, and none are to be created.
        ValueError: the file is no such store, or of another version.
        OSError: it cannot be written.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as home, VoteStore(home) as votes:
        ...     _ = votes.add_responses("Name a river.", ["The Rhine.", "No."])
        ...     (pair,) = votes.pairs()
        ...     question = votes.open_question("ann", pair.id, "random", shown_first="b")
        ...     print(question.first, votes.vote(question.id, "ann", "second", seconds=3.0))
        ...     print(votes.vote(question.id, "ann", "second"), [vote.winner for vote in votes.votes()])
        No. True
        False ['a']
    """

    def __init__(self, folder: str | Path, create: bool = True) -> None:
        self.folder = Path(folder).expanduser()
        file = self.folder / FILE
        if not create and not file.is_file():
            raise FileNotFoundError(f"{self.folder} holds no votes; nashward vote --help shows how to begin")
        if self.folder.exists() and not self.folder.is_dir():
            raise NashwardError(f"{self.folder} is a file; name a folder for the votes")
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection
        with disk_errors(file):
            self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self._connection = sqlite3.connect(file, timeout=WAIT, isolation_level=None, check_same_thread=False)
            for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON", "secure_delete = ON"):
                self._connection.execute(f"PRAGMA {pragma}")
            self._create()
            found = self.fact("format")
        except (sqlite3.Error, OSError, IndexError) as error:
            self._close_quietly()
            raise NashwardError(f"{file} is no store of votes ({error}); name another folder") from None
        if found != FORMAT:
            self._close_quietly()
            raise NashwardError(f"{file} is of format {found}, this nashward reads {FORMAT}; use the one that wrote it")

    def _create(self) -> None:
        with self._transaction() as run:
            for statement in filter(str.strip, SCHEMA.split(";")):
                run(statement)
            facts = {"format": FORMAT, "secret": secrets.token_hex(32), "id": secrets.token_hex(8), "numbered": "0"}
            for key, value in facts.items():
                run("INSERT OR IGNORE INTO fact VALUES (?, ?)", (key, value))

    def __enter__(self) -> VoteStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _close_quietly(self) -> None:
        if hasattr(self, "_connection"):
            self._connection.close()

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    @contextmanager
    def _transaction(self) -> Iterator[Any]:
        """A write that is on the disk when the block has ended, whole or not at all; yields ``execute``."""
        with self._lock:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                yield self._connection.execute
                self._connection.execute("COMMIT")
            except BaseException as error:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                if isinstance(error, sqlite3.Error):
                    raise OSError(
                        f"{self.folder / FILE} cannot be written ({error}); make room and try again"
                    ) from error
                raise

    def _rows(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        with self._lock:
            return self._connection.execute(query, values).fetchall()

    def fact(self, key: str) -> str:
        """What the store says of itself: its "format", its "id", and the "secret" that signs forms."""
        return str(self._rows("SELECT value FROM fact WHERE key = ?", (key,))[0][0])

    def signature(self, *parts: str) -> str:
        """A code of some texts that only this store can make."""
        return hmac.new(self.fact("secret").encode(), "\0".join(parts).encode(), hashlib.sha256).hexdigest()[:32]

    # what can be asked

    def add_responses(self, prompt: str, texts: Sequence[str], sources: Sequence[str] | None = None) -> int:
        """Add a prompt's responses, and all pairs of different ones among them; what is there already stays.

        Args:
            prompt: its text.
            texts: of the responses.
            sources: whose each is, for exports; people do not see it.

        Returns:
            How many pairs are new.

        Raises:
            ValueError: a text that is not Unicode.
        """
        names = [""] * len(texts) if sources is None else list(sources)
        with self._transaction() as run:
            added = 0
            number = self._prompt(run, prompt)
            ids = [self._response(run, number, text, name) for text, name in zip(texts, names, strict=True)]
            for a, b in combinations(dict.fromkeys(ids), 2):
                added += run(
                    "INSERT OR IGNORE INTO pair (prompt, a, b) VALUES (?, ?, ?)", (number, min(a, b), max(a, b))
                ).rowcount
            return added

    def _prompt(self, run: Any, text: str) -> int:
        key = _key("prompt", text)
        run("INSERT OR IGNORE INTO prompt (key, text) VALUES (?, ?)", (key, text))
        return int(run("SELECT id FROM prompt WHERE key = ?", (key,)).fetchone()[0])

    def _response(self, run: Any, prompt: int, text: str, source: str) -> int:
        key = _key("response", str(prompt), text)
        run(
            "INSERT OR IGNORE INTO response (key, prompt, text, source) VALUES (?, ?, ?, ?)",
            (key, prompt, text, source),
        )
        return int(run("SELECT id FROM response WHERE key = ?", (key,)).fetchone()[0])

    def pairs(self) -> list[PairRow]:
        """All pairs, with the votes on them."""
        votes: dict[int, list[str]] = {}
        with self._lock:
            for pair, winner in self._rows(
                "SELECT pair, winner FROM question WHERE winner IS NOT NULL AND winner != ? ORDER BY number", (SKIP,)
            ):
                votes.setdefault(pair, []).append(winner)
            rows = self._rows("SELECT id, prompt, a, b, logit, error FROM pair ORDER BY id")
        return [
            PairRow(pair, prompt, a, b, logit, error, tuple(votes.get(pair, ())))
            for pair, prompt, a, b, logit, error in rows
        ]

    def texts(self, pairs: Iterable[int]) -> dict[int, tuple[str, str, str]]:
        """The prompt and the two responses of pairs, by the pairs' numbers."""
        wanted, found = list(pairs), {}
        for first in range(0, len(wanted), BATCH):
            part = wanted[first : first + BATCH]
            for pair, *texts in self._rows(
                "SELECT pair.id, prompt.text, one.text, two.text FROM pair JOIN prompt ON prompt.id = pair.prompt "
                "JOIN response one ON one.id = pair.a JOIN response two ON two.id = pair.b "
                f"WHERE pair.id IN ({', '.join('?' * len(part))})",
                part,
            ):
                found[pair] = (texts[0], texts[1], texts[2])
        return found

    def believe(self, beliefs: Iterable[tuple[int, float, float]]) -> None:
        """Keep what an oracle says of pairs: (pair, log-odds that a beats b, their standard error)."""
        with self._transaction() as run:
            for pair, logit, error in beliefs:
                run("UPDATE pair SET logit = ?, error = ? WHERE id = ?", (logit, error, pair))

    # who votes

    def join(self, session: str, name: str, code: str | None = None) -> bool:
        """Let a browser vote under a name.

        Args:
            session: the browser's secret.
            name: of the annotator.
            code: see ``code``; needed where another browser has the name.

        Returns:
            False: the name is another browser's, and the code is missing or wrong.

        Raises:
            ValueError: an empty name, one that is too long or not printable.
        """
        name = checked_name(name)
        key = _key("session", session)
        with self._transaction() as run:
            taken = run("SELECT 1 FROM session WHERE annotator = ?", (name,)).fetchone()
            own = run("SELECT 1 FROM session WHERE key = ? AND annotator = ?", (key, name)).fetchone()
            if taken and not own and not hmac.compare_digest((code or "").strip().lower().encode(), self.code(name)):
                return False
            run("INSERT OR IGNORE INTO annotator VALUES (?, ?)", (name, time.time()))
            run("INSERT OR REPLACE INTO session VALUES (?, ?)", (key, name))
            return True

    def code(self, name: str) -> bytes:
        """What lets the same person go on under a name in another browser."""
        return self.signature("code", name)[:8].encode()

    def annotator(self, session: str) -> str | None:
        """The name under which a browser votes."""
        rows = self._rows("SELECT annotator FROM session WHERE key = ?", (_key("session", session),))
        return str(rows[0][0]) if rows else None

    # votes

    def open_question(self, annotator: str, pair: int, why: Why, shown_first: str) -> Question:
        """Open a question to a person; one that is open already is returned in its place.

        Args:
            annotator: the person.
            pair: the number of the pair.
            why: what it was chosen for.
            shown_first: "a" or "b".
        """
        with self._transaction() as run:
            waiting = run(
                "SELECT id FROM question WHERE annotator = ? AND winner IS NULL ORDER BY attempt DESC, opened DESC",
                (annotator,),
            ).fetchone()
            name = waiting[0] if waiting else secrets.token_hex(12)
            if not waiting:
                run("INSERT OR IGNORE INTO annotator VALUES (?, ?)", (annotator, time.time()))
                run(
                    "INSERT INTO question (id, pair, annotator, shown_first, why, opened) VALUES (?, ?, ?, ?, ?, ?)",
                    (name, pair, annotator, shown_first, why, time.time()),
                )
        return self._question(name)

    def waiting(self, annotator: str) -> Question | None:
        """The question that is open to a person: after a restart they go on where they were."""
        rows = self._rows(
            "SELECT id FROM question WHERE annotator = ? AND winner IS NULL ORDER BY attempt DESC, opened DESC LIMIT 1",
            (annotator,),
        )
        return self._question(rows[0][0]) if rows else None

    def _question(self, name: str) -> Question:
        ((attempt, pair, shown_first),) = self._rows(
            "SELECT attempt, pair, shown_first FROM question WHERE id = ?", (name,)
        )
        prompt, a, b = self.texts([pair])[pair]
        return Question(name, attempt, pair, prompt, *((a, b) if shown_first == "a" else (b, a)))

    def vote(
        self, question: str, annotator: str, choice: str, seconds: float | None = None, attempt: int | None = None
    ) -> bool:
        """Write a vote.

        Args:
            question: its id.
            annotator: who votes; the question has to be theirs.
            choice: "first", "second", "tie", "both_bad" or "skip".
            seconds: how long they looked.
            attempt: that of the question as it was shown; None: the current one.

        Returns:
            False where it is there already, or is of an attempt that was undone: nothing was changed.

        Raises:
            ValueError: another choice, or no such question of this person.
        """
        choices = ("first", "second", *WINNERS[2:], SKIP)
        if choice not in choices:
            raise NashwardError(f"the choice is {choice!r:.40}; expected one of {', '.join(choices)}")
        if seconds is not None:
            seconds = min(max(float(seconds), 0.0), 86400.0) if seconds == seconds else None
        with self._transaction() as run:
            row = run(
                "SELECT shown_first, attempt FROM question WHERE id = ? AND annotator = ?", (question, annotator)
            ).fetchone()
            if row is None:
                raise NashwardError("there is no such question of this annotator")
            shown_first, current = row
            winner = {"first": shown_first, "second": OTHER[shown_first]}.get(choice, choice)
            return bool(
                run(
                    "UPDATE question SET winner = ?, seconds = ?, number = ? "
                    "WHERE id = ? AND winner IS NULL AND attempt = ?",
                    (winner, seconds, _number(run), question, current if attempt is None else attempt),
                ).rowcount
            )

    def undo(self, question: str, annotator: str) -> bool:
        """Take a person's vote back; the question is open again.

        Returns:
            False where there is no such vote of this person.
        """
        with self._transaction() as run:
            return bool(
                run(
                    "UPDATE question SET winner = NULL, seconds = NULL, number = NULL, attempt = attempt + 1, "
                    "opened = ? WHERE id = ? AND annotator = ? AND winner IS NOT NULL AND why != 'import'",
                    (time.time(), question, annotator),
                ).rowcount
            )

    def last(self, annotator: str) -> str | None:
        """The question that a person answered last, which an undo is of."""
        rows = self._rows(
            "SELECT id FROM question WHERE annotator = ? AND winner IS NOT NULL AND why != 'import' "
            "ORDER BY number DESC LIMIT 1",
            (annotator,),
        )
        return str(rows[0][0]) if rows else None

    def answered(self, annotator: str) -> list[int]:
        """The pairs that a person has voted on or skipped, in that order; one that was asked twice is there twice."""
        rows = self._rows(
            "SELECT pair FROM question WHERE annotator = ? AND winner IS NOT NULL ORDER BY number", (annotator,)
        )
        return [pair for (pair,) in rows]

    def asked_now(self) -> set[int]:
        """The pairs that were opened to somebody within the last quarter of an hour."""
        since = time.time() - OPEN_FOR
        return {
            pair for (pair,) in self._rows("SELECT pair FROM question WHERE winner IS NULL AND opened > ?", (since,))
        }

    def voted(self) -> set[int]:
        """The pairs that somebody has voted on."""
        return {
            pair
            for (pair,) in self._rows(
                "SELECT DISTINCT pair FROM question WHERE winner IS NOT NULL AND winner != ?", (SKIP,)
            )
        }

    def votes(self, after: int = 0, skipped: bool = False) -> list[CastVote]:
        """The votes with a number above ``after``, in the order in which they arrived.

        Args:
            after: a vote's number.
            skipped: with the questions that were left out.
        """
        rows = self._rows(
            "SELECT prompt.text, one.text, two.text, winner, annotator, seconds, shown_first, why, number, question.id,"
            " one.source, two.source FROM question JOIN pair ON pair.id = question.pair "
            "JOIN prompt ON prompt.id = pair.prompt JOIN response one ON one.id = pair.a "
            "JOIN response two ON two.id = pair.b WHERE winner IS NOT NULL AND number > ? ORDER BY number",
            (after,),
        )
        return [
            CastVote(prompt, a, b, winner, who, seconds, first, why, number, name, (source_a, source_b))
            for prompt, a, b, winner, who, seconds, first, why, number, name, source_a, source_b in rows
            if skipped or winner != SKIP
        ]

    def count(self, annotator: str | None = None, after: int = 0) -> int:
        """How many votes there are, without skips: of all, or of one annotator; with a number above ``after``."""
        who = "" if annotator is None else " AND annotator = ?"
        values = (SKIP, after, *(() if annotator is None else (annotator,)))
        query = f"SELECT count(*) FROM question WHERE winner IS NOT NULL AND winner != ? AND number > ?{who}"
        return int(self._rows(query, values)[0][0])

    def newest(self) -> int:
        """The number of the newest vote, also of one that was taken back since; 0 where there was none."""
        return int(self.fact("numbered"))

    def add_votes(self, votes: Iterable[CastVote]) -> int:
        """Add votes from elsewhere; one whose id is here, or was here before it was deleted, is left out.

        Returns:
            How many were new.

        Raises:
            ValueError: a vote without an id, or with an unknown winner.
        """
        added = 0
        with self._transaction() as run:
            for vote in votes:
                if not vote.id or vote.winner not in (*WINNERS, SKIP):
                    raise NashwardError(f"a vote needs an id and a winner, got {vote.id!r:.40} and {vote.winner!r:.40}")
                name = checked_name(vote.annotator)
                known = run("SELECT 1 FROM question WHERE id = ?", (vote.id,)).fetchone()
                if known or not run("INSERT OR IGNORE INTO imported VALUES (?)", (vote.id,)).rowcount:
                    continue
                prompt = self._prompt(run, vote.prompt)
                a, b = (self._response(run, prompt, text, source) for text, source in
                        zip((vote.a, vote.b), vote.sources, strict=True))  # fmt: skip
                swapped = a > b  # of a pair the response that came first is a
                one, two = min(a, b), max(a, b)
                run("INSERT OR IGNORE INTO pair (prompt, a, b) VALUES (?, ?, ?)", (prompt, one, two))
                (pair,) = run("SELECT id FROM pair WHERE a = ? AND b = ?", (one, two)).fetchone()
                run("INSERT OR IGNORE INTO annotator VALUES (?, ?)", (name, time.time()))
                winner, first = (OTHER.get(side, side) if swapped else side for side in (vote.winner, vote.shown_first))
                run(
                    "INSERT INTO question (id, pair, annotator, shown_first, why, opened, winner, seconds, number) "
                    "VALUES (?, ?, ?, ?, 'import', ?, ?, ?, ?)",
                    (vote.id, pair, name, first, time.time(), winner, vote.seconds, _number(run)),
                )
                added += 1
        return added

    def forget(self, annotator: str) -> int:
        """Delete a person's name, votes and open questions; what they looked at stays, as others see it too.

        The deleted bytes are overwritten, and the log is emptied. Oracles that were fitted before keep what they
        learned.

        Returns:
            How many votes are gone.

        Raises:
            ValueError: nobody of that name has voted.
        """
        with self._transaction() as run:
            if not run("SELECT 1 FROM annotator WHERE name = ?", (annotator,)).fetchone():
                names = ", ".join(name for (name,) in run("SELECT name FROM annotator ORDER BY name")) or "nobody"
                raise NashwardError(f"there is no annotator {annotator!r}; there are: {names}")
            gone = run("SELECT count(*) FROM question WHERE annotator = ? AND winner IS NOT NULL", (annotator,))
            (count,) = gone.fetchone()
            # a vote that is sent again, or lies in a file that is read again, must not bring the name back
            run("INSERT OR IGNORE INTO imported SELECT id FROM question WHERE annotator = ?", (annotator,))
            for table, column in (("question", "annotator"), ("session", "annotator"), ("annotator", "name")):
                run(f"DELETE FROM {table} WHERE {column} = ?", (annotator,))
        with self._lock:
            self._connection.execute("VACUUM")
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return int(count)


def checked_name(name: str) -> str:
    """An annotator's name without blanks around it.

    Raises:
        ValueError: it is empty, too long, or has characters that do not print.
    """
    name = " ".join(name.split())
    if not name or len(name) > NAME_LENGTH or not name.isprintable():
        raise NashwardError(f"the name is {name!r:.80}; expected 1 to {NAME_LENGTH} printable characters")
    return name


def _number(run: Any) -> int:
    """The number of the next vote; none is given twice, also where the vote is taken back."""
    run("UPDATE fact SET value = CAST(value AS INTEGER) + 1 WHERE key = 'numbered'")
    return int(run("SELECT value FROM fact WHERE key = 'numbered'").fetchone()[0])


def _key(*parts: str) -> bytes:
    try:
        return hashlib.blake2b("\0".join(parts).encode(), digest_size=16).digest()
    except UnicodeEncodeError:
        raise NashwardError(f"a {parts[0]} is not Unicode: it holds half of a surrogate pair") from None
