"""SQLite's files, which several processes open at once."""

from __future__ import annotations

import sqlite3
import time

WAIT = 60.0  # seconds that a process waits for another one's write


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
