"""The store of people's votes: a vote is on the disk before it is acknowledged."""

from __future__ import annotations

import hmac
import secrets
import time
from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import Literal

from nashward.errors import NashwardError
from nashward.shortened import quoted
from nashward.winners import SKIP

from ..store.databases import database_errors
from .records import OTHER, WINNERS, CastVote, PairRow, Question
from .vote_file import KIND, VoteFile, add_pair, add_prompt, add_response, next_number, text_key

BATCH = 500  # pairs of one query
OPEN_FOR = 900.0  # seconds after which a question that nobody answered is free for others
LONGEST = 86400.0  # seconds that a question is looked at, at most
NAME_LENGTH = 60  # characters of an annotator's name

Why = Literal["change", "random", "repeat", "import"]


class VoteStore(VoteFile):
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

    def __enter__(self) -> VoteStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

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
            number = add_prompt(run, prompt)
            ids = [add_response(run, number, text, name) for text, name in zip(texts, names, strict=True)]
            (before,) = run("SELECT count(*) FROM pair").fetchone()
            for one, two in combinations(dict.fromkeys(ids), 2):
                add_pair(run, number, one, two)
            (after,) = run("SELECT count(*) FROM pair").fetchone()
            return int(after - before)

    def pairs(self) -> list[PairRow]:
        """All pairs of different responses, with the votes on them that are not in what an oracle says of them; equal
        ones, as a file may have, are not asked."""
        votes: dict[int, list[str]] = {}
        with self._lock:
            for pair, winner in self._rows(
                "SELECT question.pair, winner FROM question LEFT JOIN believed ON believed.pair = question.pair "
                "WHERE winner IS NOT NULL AND winner != ? AND question.number > coalesce(believed.number, 0) "
                "ORDER BY question.number",
                (SKIP,),
            ):
                votes.setdefault(pair, []).append(winner)
            rows = self._rows("SELECT id, prompt, a, b, logit, error FROM pair WHERE a != b ORDER BY id")
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

    def set_beliefs(self, beliefs: Iterable[tuple[int, float, float]], fitted: int = 0) -> None:
        """Keep what an oracle says of pairs.

        Args:
            beliefs: (pair, log-odds that a beats b, their standard error).
            fitted: the number of the newest vote that the oracle was fitted to: those up to it count by the oracle.
        """
        with self._transaction() as run:
            for pair, logit, error in beliefs:
                run("UPDATE pair SET logit = ?, error = ? WHERE id = ?", (logit, error, pair))
                run("INSERT OR REPLACE INTO believed VALUES (?, ?)", (pair, fitted))

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
        key = text_key("session", session)
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
        rows = self._rows("SELECT annotator FROM session WHERE key = ?", (text_key("session", session),))
        return str(rows[0][0]) if rows else None

    # votes

    def set_target(self, votes: int, after: int, drawn: Iterable[tuple[str, str]] = ()) -> None:
        """Record what a run waits for, for the page.

        Args:
            votes: how many, with a number above ``after``.
            after: a vote's number.
            drawn: what the run has drawn: prompts and responses, of all its steps; see ``count``.
        """
        with self._transaction() as run:
            run("INSERT OR REPLACE INTO fact VALUES ('target', ?)", (f"{votes} {after}",))
            run("DELETE FROM drawn")
            for prompt, text in drawn:
                found = run("SELECT id FROM prompt WHERE key = ?", (text_key("prompt", prompt),)).fetchone()
                if found is not None:
                    key = text_key("response", str(found[0]), text)
                    run("INSERT OR IGNORE INTO drawn SELECT id FROM response WHERE key = ?", (key,))

    def target(self) -> tuple[int, int] | None:
        """How many votes a run waits for, and above which number; None: no run does."""
        rows = self._rows("SELECT value FROM fact WHERE key = 'target'")
        if not rows:
            return None
        votes, after = rows[0][0].split()
        return int(votes), int(after)

    def open_question(self, annotator: str, pair: int, why: Why, shown_first: str) -> Question:
        """Open a question to a person; one that is open already is returned in its place.

        Args:
            annotator: the person.
            pair: the number of the pair.
            why: what it was chosen for.
            shown_first: "a" or "b".
        """
        with self._transaction() as run:
            waiting = self.waiting(annotator)
            if waiting is not None:
                return waiting
            name = secrets.token_hex(12)
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
            raise NashwardError(f"the choice is {quoted(choice, 40)}; expected one of {', '.join(choices)}")
        if seconds is not None:
            seconds = float(min(max(seconds, 0), LONGEST)) if seconds == seconds else None
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
                    (winner, seconds, next_number(run), question, current if attempt is None else attempt),
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

    def last_answered(self, annotator: str) -> str | None:
        """The question that a person answered last, which an undo is of."""
        rows = self._rows(
            "SELECT id FROM question WHERE annotator = ? AND winner IS NOT NULL AND why != 'import' "
            "ORDER BY number DESC LIMIT 1",
            (annotator,),
        )
        return str(rows[0][0]) if rows else None

    def answered_pairs(self, annotator: str) -> list[int]:
        """The pairs that a person has voted on or skipped, in that order; one that was asked twice is there twice."""
        rows = self._rows(
            "SELECT pair FROM question WHERE annotator = ? AND winner IS NOT NULL ORDER BY number", (annotator,)
        )
        return [pair for (pair,) in rows]

    def open_pairs(self) -> set[int]:
        """The pairs that were opened to somebody within the last quarter of an hour."""
        since = time.time() - OPEN_FOR
        return {
            pair for (pair,) in self._rows("SELECT pair FROM question WHERE winner IS NULL AND opened > ?", (since,))
        }

    def voted_pairs(self) -> set[int]:
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

    def count(self, annotator: str | None = None, after: int = 0, drawn: bool = False) -> int:
        """How many votes there are, without skips.

        Args:
            annotator: of this one alone; None: of all.
            after: with a number above this one.
            drawn: between two responses that the run has drawn which waits, or waited last; see ``set_target``.
        """
        who = "" if annotator is None else " AND annotator = ?"
        values = (SKIP, after, *(() if annotator is None else (annotator,)))
        query = f"SELECT count(*) FROM question WHERE winner IS NOT NULL AND winner != ? AND number > ?{who}"
        if drawn:
            both = "a IN (SELECT response FROM drawn) AND b IN (SELECT response FROM drawn)"
            query += f" AND pair IN (SELECT id FROM pair WHERE {both})"
        return int(self._rows(query, values)[0][0])

    def progress(self) -> dict[str, int | None]:
        """How far a run's wait is: the new votes ("all"), those of them on its own responses ("on_run"), and how many
        it waits for ("wanted"); all votes and None where no run waits."""
        target = self.target()
        if target is None:
            return {"all": self.count(), "on_run": None, "wanted": None}
        votes, after = target
        return {"all": self.count(after=after), "on_run": self.count(after=after, drawn=True), "wanted": votes}

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
                    raise NashwardError(
                        f"a vote needs an id and a winner, got {quoted(vote.id, 40)} and {quoted(vote.winner, 40)}"
                    )
                name = checked_name(vote.annotator)
                known = run("SELECT 1 FROM question WHERE id = ?", (vote.id,)).fetchone()
                if known or not run("INSERT OR IGNORE INTO imported VALUES (?)", (vote.id,)).rowcount:
                    continue
                prompt = add_prompt(run, vote.prompt)
                a, b = (add_response(run, prompt, text, source) for text, source in
                        zip((vote.a, vote.b), vote.sources, strict=True))  # fmt: skip
                pair = add_pair(run, prompt, a, b)
                cast = vote if a <= b else vote.swapped()
                run("INSERT OR IGNORE INTO annotator VALUES (?, ?)", (name, time.time()))
                run(
                    "INSERT INTO question (id, pair, annotator, shown_first, why, opened, winner, seconds, number) "
                    "VALUES (?, ?, ?, ?, 'import', ?, ?, ?, ?)",
                    (vote.id, pair, name, cast.shown_first, time.time(), cast.winner, vote.seconds, next_number(run)),
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
            OSError: the file cannot be written, or another process reads it all the time. Where the rows are gone and
                only their overwriting failed, the same call does it again.
        """
        with self._transaction() as run:
            begun = run("SELECT value FROM fact WHERE key = ?", (key := self._forgetting(annotator),)).fetchone()
            known = run("SELECT 1 FROM annotator WHERE name = ?", (annotator,)).fetchone()
            if not (begun or known):
                names = ", ".join(name for (name,) in run("SELECT name FROM annotator ORDER BY name")) or "nobody"
                raise NashwardError(f"there is no annotator {annotator!r}; there are: {names}")
            gone = run("SELECT count(*) FROM question WHERE annotator = ? AND winner IS NOT NULL", (annotator,))
            count = gone.fetchone()[0] + (int(begun[0]) if begun else 0)
            # a vote that is sent again, or lies in a file that is read again, must not bring the name back
            run("INSERT OR IGNORE INTO imported SELECT id FROM question WHERE annotator = ?", (annotator,))
            for table, column in (("question", "annotator"), ("session", "annotator"), ("annotator", "name")):
                run(f"DELETE FROM {table} WHERE {column} = ?", (annotator,))
            run("INSERT OR REPLACE INTO fact VALUES (?, ?)", (key, str(count)))  # until no byte of the name is left
        with self._lock, database_errors(self.file, KIND):
            self._connection.execute("VACUUM")
            (busy, *_) = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            if busy:
                raise OSError(
                    f"{self.file}: the votes of {annotator} are deleted, but the log still has the name, as another "
                    "process reads it; give the same command again"
                )
        with self._transaction() as run:
            run("DELETE FROM fact WHERE key = ?", (key,))
        return int(count)

    def _forgetting(self, annotator: str) -> str:
        """The key of the fact that a person is being forgotten, which does not tell who."""
        return f"forgetting {self.signature('forgetting', annotator)}"


def checked_name(name: str) -> str:
    """An annotator's name without blanks around it.

    Raises:
        ValueError: it is empty, too long, or has characters that do not print.
    """
    name = " ".join(name.split())
    if not name or len(name) > NAME_LENGTH or not name.isprintable():
        raise NashwardError(f"the name is {quoted(name, 80)}; expected 1 to {NAME_LENGTH} printable characters")
    return name
