"""The SQLite file of the votes: its tables, its transactions, and the secret that it signs with."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from nashward.errors import NashwardError

from ..store.databases import database_errors, open_database
from ..store.files import disk_errors

FILE = "votes.sqlite"
FORMAT = "1"
KIND = "store of votes"
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
CREATE TABLE IF NOT EXISTS believed (pair INTEGER PRIMARY KEY REFERENCES pair, number INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS drawn (response INTEGER PRIMARY KEY REFERENCES response);
"""


class Execute(Protocol):
    """``execute`` of an SQLite connection, inside of a transaction."""

    def __call__(self, statement: str, values: Sequence[Any] = (), /) -> sqlite3.Cursor: ...


class VoteFile:
    """The file of a folder of votes, which threads and processes share.

    Every change is one transaction with a write-ahead log that is flushed to the disk before the call returns.

    Args:
        folder: holds ``votes.sqlite``.
        create: False: a folder without votes is an error.

    Raises:
        FileNotFoundError: there are no votes there, and none are to be created.
        ValueError: the file is no such store, or of another version.
        OSError: it cannot be written.
    """

    def __init__(self, folder: str | Path, create: bool = True) -> None:
        self.folder = Path(folder).expanduser()
        self.file = self.folder / FILE
        if not create and not self.file.is_file():
            raise FileNotFoundError(f"{self.folder} holds no votes; nashward vote --help shows how to begin")
        if self.folder.exists() and not self.folder.is_dir():
            raise NashwardError(f"{self.folder} is a file; name a folder for the votes")
        self._lock = threading.RLock()
        with disk_errors(self.file):
            self.folder.mkdir(parents=True, exist_ok=True)
        facts = {"format": FORMAT, "secret": secrets.token_hex(32), "id": secrets.token_hex(8), "numbered": "0"}
        rows = ", ".join(f"('{key}', '{value}')" for key, value in facts.items())
        self._connection = open_database(
            self.file,
            KIND,
            "name another folder",
            (
                "PRAGMA foreign_keys = ON",
                "PRAGMA secure_delete = ON",
                *filter(str.strip, SCHEMA.split(";")),
                f"INSERT OR IGNORE INTO fact VALUES {rows}",
            ),
            synchronous="FULL",
            threads=True,
        )
        found = self.fact("format")
        if found != FORMAT:
            self.close()
            raise NashwardError(
                f"{self.file} is of format {found}, this nashward reads {FORMAT}; use the one that wrote it"
            )

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    @contextmanager
    def _transaction(self) -> Iterator[Execute]:
        """A write that is on the disk when the block has ended, whole or not at all."""
        with self._lock, database_errors(self.file, KIND):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection.execute
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def _rows(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        with self._lock, database_errors(self.file, KIND):
            return self._connection.execute(query, values).fetchall()

    def fact(self, key: str) -> str:
        """What the store says of itself: its "format", its "id", and the "secret" that signs forms."""
        return str(self._rows("SELECT value FROM fact WHERE key = ?", (key,))[0][0])

    def signature(self, *parts: str) -> str:
        """A code of some texts that only this store can make."""
        return hmac.new(self.fact("secret").encode(), "\0".join(parts).encode(), hashlib.sha256).hexdigest()[:32]


def text_key(*parts: str) -> bytes:
    """A hash of texts, by which a row is found again.

    Args:
        parts: the first one says what the others are.

    Raises:
        ValueError: a text that is not Unicode.
    """
    try:
        return hashlib.blake2b("\0".join(parts).encode(), digest_size=16).digest()
    except UnicodeEncodeError:
        raise NashwardError(f"a {parts[0]} is not Unicode: it holds half of a surrogate pair") from None


def next_number(run: Execute) -> int:
    """The number of the next vote; none is given twice, also where the vote is taken back."""
    run("UPDATE fact SET value = CAST(value AS INTEGER) + 1 WHERE key = 'numbered'")
    return int(run("SELECT value FROM fact WHERE key = 'numbered'").fetchone()[0])


def add_pair(run: Execute, prompt: int, one: int, two: int) -> int:
    """Add a pair of responses where it is not there yet; of a pair the response that came first is a.

    Args:
        run: of a transaction.
        prompt, one, two: numbers of the prompt and of its responses.

    Returns:
        The number of the pair.
    """
    a, b = min(one, two), max(one, two)
    run("INSERT OR IGNORE INTO pair (prompt, a, b) VALUES (?, ?, ?)", (prompt, a, b))
    return int(run("SELECT id FROM pair WHERE a = ? AND b = ?", (a, b)).fetchone()[0])


def add_prompt(run: Execute, text: str) -> int:
    """Add a prompt where it is not there yet; returns its number."""
    key = text_key("prompt", text)
    run("INSERT OR IGNORE INTO prompt (key, text) VALUES (?, ?)", (key, text))
    return int(run("SELECT id FROM prompt WHERE key = ?", (key,)).fetchone()[0])


def add_response(run: Execute, prompt: int, text: str, source: str) -> int:
    """Add a response to a prompt where it is not there yet, or whose it is where that is not; returns its number.

    Args:
        run: of a transaction.
        prompt: its number.
        text: of the response.
        source: whose it is; "" where that is not known.
    """
    key = text_key("response", str(prompt), text)
    run(
        "INSERT INTO response (key, prompt, text, source) VALUES (?, ?, ?, ?) "
        "ON CONFLICT (key) DO UPDATE SET source = excluded.source WHERE source = ''",
        (key, prompt, text, source),
    )
    return int(run("SELECT id FROM response WHERE key = ?", (key,)).fetchone()[0])
