"""Simulated people: they vote by the planted preferences of the pocket styles, each with a reliability of their own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from nashward.llm.config import Asking
from nashward.llm.people.asking import Asker
from nashward.llm.people.oracle import wanted
from nashward.llm.people.store import Question, VoteStore
from nashward.llm.pocket import styles


class Annotator:
    """Votes by the planted table with probability ``reliability``, else by a coin.

    Args:
        name: of the person.
        reliability: see above.
        seed: of the votes.
    """

    def __init__(self, name: str, reliability: float, seed: int) -> None:
        self.name, self.reliability = name, reliability
        self._random = np.random.default_rng(seed)

    def choice(self, question: Question) -> str:
        """What they say of a question: a pair of one style is a tie."""
        table = styles.judged_table()
        first, second = (4 if (s := styles.style_of(text)) is None else s for text in (question.first, question.second))
        if self._random.random() >= self.reliability:
            return ("first", "second")[int(self._random.integers(2))]
        if first == second:
            return "tie"
        return "first" if self._random.random() < table[first, second] else "second"


def people(count: int, seed: int = 0, least: float = 0.7) -> list[Annotator]:
    """So many people, whose reliabilities are drawn from ``least`` to 1."""
    drawn = np.random.default_rng(seed).uniform(least, 1.0, count)
    return [Annotator(f"person {k:02d}", float(r), 1000 * seed + k) for k, r in enumerate(drawn)]


@contextmanager
def voting(folder: Path, annotators: list[Annotator], settings: Asking) -> Iterator[list[BaseException]]:
    """People who vote in a thread while the block runs, in turn, as many votes as the run waits for.

    Yields:
        What went wrong in the thread.
    """
    stop, wrong = threading.Event(), list[BaseException]()

    def vote() -> None:
        try:
            with VoteStore(folder) as store:
                asker, turn = Asker(store, settings), 0
                while not stop.is_set():
                    votes, after = wanted(store) or (0, 0)
                    person = annotators[turn % len(annotators)]
                    question = asker.next(person.name) if store.count(after=after) < votes else None
                    if question is None:
                        stop.wait(0.02)
                    else:
                        store.vote(question.id, person.name, person.choice(question), 3.0)
                        turn += 1
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            wrong.append(error)

    thread = threading.Thread(target=vote)
    thread.start()
    try:
        yield wrong
    finally:
        stop.set()
        thread.join()
