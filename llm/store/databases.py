"""SQLite files that several processes open at once: how one is opened, and what its errors mean to a user."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from nashward.errors import NashwardError

WAIT = 60.0  # seconds that a process waits for another one's write
UNWRITABLE = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY)


def open_database(
    file: Path | str,
    kind: str,
    remedy: str,
    statements: Sequence[str],
    *,
    synchronous: Literal["NORMAL", "FULL"] = "NORMAL",
    threads: bool = False,
) -> sqlite3.Connection:
    """Open a file, created where it is missing, with a write-ahead log and without implicit transactions.

    Args:
        file: its path, or ":memory:".
        kind: what it is, for errors.
        remedy: what to do where it is something else, for errors.
        statements: executed first, such as those that create missing tables.
        synchronous: "FULL" flushes each write to the disk; with "NORMAL" a loss of power may cost the last ones.
        threads: whether several share the connection, one at a time.

    Raises:
        OSError: the disk is full or cannot be written.
        ValueError: the file cannot be opened, or is no such database.

    Example:
        >>> table = "CREATE TABLE IF NOT EXISTS logit (key BLOB PRIMARY KEY, value REAL)"
        >>> connection = open_database(":memory:", "table of logits", "name another file", [table])
        >>> connection.execute("SELECT COUNT(*) FROM logit").fetchone()
        (0,)
        >>> connection.close()
    """
    connection = None
    try:
        connection = sqlite3.connect(file, timeout=WAIT, isolation_level=None, check_same_thread=not threads)
        for statement in ("PRAGMA journal_mode = WAL", f"PRAGMA synchronous = {synchronous}", *statements):
            when_free(connection, statement)
    except sqlite3.DatabaseError as error:
        if connection is not None:
            connection.close()
        code = error.sqlite_errorcode & 0xFF
        if code in UNWRITABLE:
            raise _unwritable(file, kind, error) from None
        if code == sqlite3.SQLITE_CANTOPEN:
            raise NashwardError(f"{file} cannot be opened ({error}); {remedy}") from None
        raise NashwardError(f"{file} is no {kind} ({error}); {remedy}") from None
    return connection


@contextmanager
def database_errors(file: Path | str | None, kind: str) -> Iterator[None]:
    """Raise what SQLite reports of an open file, such as a full disk, with the file's name and what to do.

    Args:
        file: its path.
        kind: what it is.

    Raises:
        OSError: it cannot be read or written.
    """
    try:
        yield
    except (sqlite3.ProgrammingError, sqlite3.IntegrityError):
        raise  # defects of the caller
    except sqlite3.DatabaseError as error:
        raise _unwritable(file, kind, error) from error


def _unwritable(file: Path | str | None, kind: str, error: sqlite3.Error) -> OSError:
    return OSError(
        f"{file}, a {kind}, cannot be read or written ({error}); make room there or repair it, and the same command "
        "continues"
    )


def when_free(connection: sqlite3.Connection, statement: str) -> None:
    """Execute a statement when no other process opens the file: SQLite does not wait for that by itself.

    Raises:
        sqlite3.Error: another failure, or the file is not free in ``WAIT`` seconds.

    Example:
        >>> when_free(sqlite3.connect(":memory:"), "PRAGMA synchronous = NORMAL")
    """
    until = time.monotonic() + WAIT
    while True:
        try:
            connection.execute(statement)
        except sqlite3.OperationalError as error:
            busy = error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
            if not busy or time.monotonic() > until:
                raise
            time.sleep(0.01)
        else:
            return
