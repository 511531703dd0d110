"""Simulated people who vote in a thread, as many votes as a run waits for."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from simulated_people import Annotator

from nashward.llm.config import Asking
from nashward.llm.people.asking import Asker
from nashward.llm.people.store import VoteStore


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
                    votes, after = store.target() or (0, 0)
                    person = annotators[turn % len(annotators)]
                    question = asker.next(person.name) if store.count(after=after) < votes else None
                    if question is None:
                        stop.wait(0.02)
                    else:
                        store.vote(question.id, person.name, person.choice(question.first, question.second), 3.0)
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
