"""What a server was paid for: its outputs on disk, each written when it arrives, and a budget that counts them."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, replace
from pathlib import Path

from nashward.errors import BudgetError

from ..processes import processes
from ..store.databases import database_errors, open_database
from .chat import Completion, Token

KIND = "file of verdicts"
OVERHEAD = 64  # tokens of a chat's frame, at most, in the estimate of one call


@dataclass(frozen=True)
class Spent:
    """Calls, and the tokens that they read and wrote.

    Example:
        >>> (Spent(1, 100, 10) + Spent(1, 50, 5)).amounts((1e-6, 2e-6))["tokens"]
        165.0
    """

    calls: int = 0
    read: int = 0
    written: int = 0

    def __add__(self, other: Spent) -> Spent:
        return Spent(self.calls + other.calls, self.read + other.read, self.written + other.written)

    def amounts(self, prices: tuple[float, float] | None) -> dict[str, float]:
        """By unit: "calls", "tokens" and, where there are prices of a token, "usd"."""
        amounts = {"calls": float(self.calls), "tokens": float(self.read + self.written)}
        return amounts if prices is None else {**amounts, "usd": self.read * prices[0] + self.written * prices[1]}


@dataclass(frozen=True)
class _Account:
    """What a budget counts: what is paid, what calls on their way may cost, and the files whose sums are in it."""

    spent: Spent = Spent()
    reserved: Spent = Spent()
    counted: frozenset[str] = frozenset()


class Budget:
    """A limit that no call goes beyond: one for all processes of a command.

    Before a call the most that it can cost is reserved: a token for each byte that it sends, and the longest output.
    When it is answered the server's own count takes that place.

    Args:
        limits: the most by unit, see ``Spent.amounts``; what is not in it has no limit.
        prices: dollars for a token read and written.
        name: whose it is; budgets of one name are one in all processes.

    Example:
        >>> budget = Budget({"calls": 1.0})
        >>> budget.settle(budget.reserve(100, 10), Spent(1, 20, 3))
        >>> budget.spent
        Spent(calls=1, read=20, written=3)
    """

    def __init__(
        self, limits: dict[str, float], prices: tuple[float, float] | None = None, name: str = "budget"
    ) -> None:
        self.limits, self.prices = limits, prices
        self.in_memory = True  # what is paid, so that another command pays for it again
        self._account = processes.shared(name, _Account())

    @property
    def spent(self) -> Spent:
        """By all processes, and before."""
        return self._account.change(lambda account: account).spent

    def count(self, file: Path, spent: Spent) -> None:
        """Count what was paid before, by an earlier command: once, whichever processes open the file.

        Args:
            file: on this machine.
            spent: its sum, before this process has paid for anything that it holds.
        """
        name = f"{processes.machine}:{file.absolute()}"

        def counted(account: _Account) -> _Account:
            if name in account.counted:
                return account
            return replace(account, spent=account.spent + spent, counted=account.counted | {name})

        self._account.change(counted)

    def reserve(self, sent: int, written: int) -> Spent:
        """Take the most that a call can cost out of what is left.

        Args:
            sent: bytes of its texts.
            written: the longest output, in tokens.

        Raises:
            BudgetError: there is not so much left.
        """
        most = Spent(1, sent + OVERHEAD, written)

        def reserved(account: _Account) -> _Account:
            after = (account.spent + account.reserved + most).amounts(self.prices)
            for unit, limit in self.limits.items():
                if after[unit] > limit:
                    # of several processes all find it, at another sum each: their lines are one
                    spent = "" if processes.count > 1 else self._known(account, unit)
                    raise BudgetError(
                        f"the budget of {limit:g} {unit} is spent ({spent}the next call may exceed it): "
                        "raise it (--judge-budget)"
                        + (
                            " and name a file with --cache: what is paid is in memory alone, and gone now"
                            if self.in_memory
                            else ", and the same command continues with what is paid"
                        )
                    )
            return replace(account, reserved=account.reserved + most)

        self._account.change(reserved)
        return most

    def _known(self, account: _Account, unit: str) -> str:
        """What of a unit is spent, and what the calls take at most that are on their way."""
        spent, ahead = (amounts.amounts(self.prices)[unit] for amounts in (account.spent, account.reserved))
        if unit == "calls":
            return f"{spent + ahead:.6g} sent, {spent:.6g} answered so far; "
        return f"{spent:.6g} so far" + (f", at most {ahead:.6g} for the calls on their way" if ahead else "") + "; "

    def settle(self, reserved: Spent, spent: Spent | None) -> None:
        """Put what a call has cost in place of what was reserved; None: it was not answered."""
        back = Spent(-reserved.calls, -reserved.read, -reserved.written)
        self._account.change(
            lambda account: replace(account, spent=account.spent + (spent or Spent()), reserved=account.reserved + back)
        )


class PaidOutputs:
    """Outputs by a key, in an SQLite file: each is there for good when ``put`` returns.

    Args:
        path: the file, created where it is missing; None: they are kept in memory alone.

    Raises:
        NashwardError: the file is of another kind.
        OSError: it cannot be written.

    Example:
        >>> paid = PaidOutputs(None)
        >>> paid.put(b"key", "a judge", Completion("[[A]]", "small", 100, 4))
        >>> paid.get(b"key").text, paid.spent("a judge")
        ('[[A]]', Spent(calls=1, read=100, written=4))
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._file = open_database(
            path or ":memory:",
            KIND,
            "move it away",
            [
                "CREATE TABLE IF NOT EXISTS output (key BLOB PRIMARY KEY, judge TEXT NOT NULL, text TEXT NOT NULL, "
                "model TEXT NOT NULL, read INTEGER NOT NULL, written INTEGER NOT NULL, tokens TEXT, "
                "finished INTEGER NOT NULL)"
            ],
            threads=True,
        )

    def get(self, key: bytes) -> Completion | None:
        """The output of a key; None where there is none."""
        with self._lock, database_errors(self.path, KIND):
            row = self._file.execute(
                "SELECT text, model, read, written, tokens, finished FROM output WHERE key = ?", (key,)
            ).fetchone()
        if row is None:
            return None
        text, model, read, written, tokens, finished = row
        listed = None if tokens is None else tuple(Token(token, likeliest) for token, likeliest in json.loads(tokens))
        return Completion(text, model, read, written, listed, bool(finished))

    def put(self, key: bytes, judge: str, output: Completion) -> None:
        """Keep an output.

        Args:
            key: of its request.
            judge: whose it is, for ``spent``.
            output: what came.

        Raises:
            OSError: it cannot be written.
        """
        tokens = None if output.tokens is None else json.dumps([[t.text, t.likeliest] for t in output.tokens])
        row = (key, judge, output.text, output.model, output.read, output.written, tokens, output.finished)
        with self._lock, database_errors(self.path, KIND):
            self._file.execute("INSERT OR REPLACE INTO output VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)

    def items(self) -> list[tuple[bytes, str, Completion]]:
        """Every output with its key and whose it is."""
        with self._lock, database_errors(self.path, KIND):
            rows = self._file.execute("SELECT key, judge FROM output").fetchall()
        return [(key, judge, output) for key, judge in rows if (output := self.get(key)) is not None]

    def spent(self, judge: str) -> Spent:
        """What all outputs of a judge have cost."""
        with self._lock, database_errors(self.path, KIND):
            row = self._file.execute(
                "SELECT COUNT(*), SUM(read), SUM(written) FROM output WHERE judge = ?", (judge,)
            ).fetchone()
        return Spent(row[0], row[1] or 0, row[2] or 0)

    def close(self) -> None:
        self._file.close()

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            self._file.close()
