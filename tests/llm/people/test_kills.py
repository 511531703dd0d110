"""A server that dies at any moment loses no vote that it acknowledged, and writes none twice."""

from __future__ import annotations

import http.client
import os
import random
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from nashward.llm.people.store import VoteStore

from ...conftest import ROOT
from .client import Client

BROKEN = (ConnectionError, http.client.HTTPException, TimeoutError)


class Stubborn:
    """A person who sends everything again until it is answered, as the page does.

    Args:
        port: of the server.
        name: of the person.
    """

    def __init__(self, port: int, name: str) -> None:
        self.name, self.acknowledged = name, dict[str, str]()
        self.sent_again = 0
        self._choices = random.Random(name)
        self.client = self._insist(lambda: Client(port))
        self._insist(lambda: self.client.join(name))

    def _insist(self, act: Any) -> Any:
        until = time.monotonic() + 60
        while True:
            try:
                return act()
            except BROKEN:
                self.sent_again += 1
                assert time.monotonic() < until
                time.sleep(0.02)

    def vote(self, until: threading.Event) -> None:
        while not until.is_set():
            question = self._insist(self.client.next)
            choice = self._choices.choice(["first", "second", "tie", "both_bad"])
            answer = self._insist(lambda q=question, c=choice: self.client.vote(q, c))
            assert "new" in answer, answer
            self.acknowledged[question["id"]] = choice


@pytest.mark.parametrize("kills", [4, pytest.param(30, marks=pytest.mark.slow)])
def test_kills_lose_nothing_and_double_nothing(tmp_path: Path, kills: int) -> None:
    with VoteStore(tmp_path) as store:
        for k in range(200):
            store.add_responses(f"Prompt {k}", [f"{k} {j}" for j in range(8)])
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    arguments = [str(tmp_path), str(port), str(kills), "0"]
    with subprocess.Popen(
        [sys.executable, "-m", "tests.llm.people.killed_server", *arguments], cwd=ROOT, text=True,
        env={**os.environ, "PYTHONPATH": path}, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as servers:  # fmt: skip
        enough, people = threading.Event(), [Stubborn(port, f"person {k}") for k in range(3)]
        wrong: list[BaseException] = []

        def work(person: Stubborn) -> None:
            try:
                person.vote(enough)
            except BaseException as error:  # noqa: BLE001 - shown by the assertion
                wrong.append(error)

        threads = [threading.Thread(target=work, args=(person,)) for person in people]
        for thread in threads:
            thread.start()
        assert servers.stdout is not None
        assert servers.stdin is not None
        assert servers.stdout.readline() == "last\n"  # all kills are over
        until = time.monotonic() + 30
        while sum(len(person.acknowledged) for person in people) <= kills and time.monotonic() < until:
            time.sleep(0.02)
        enough.set()
        for thread in threads:
            thread.join(60)
        servers.stdin.close()
        assert servers.wait(20) == 0
    assert wrong == []
    assert sum(person.sent_again for person in people) >= kills  # requests did break off
    with VoteStore(tmp_path, create=False) as store:
        votes = store.votes()
    written = {vote.id: vote for vote in votes}
    assert len(written) == len(votes)
    acknowledged = {name: choice for person in people for name, choice in person.acknowledged.items()}
    assert len(acknowledged) > kills
    assert set(acknowledged) == set(written)  # 0 lost, and none that nobody was told of: it was sent again
    for name, choice in acknowledged.items():
        vote = written[name]
        assert vote.winner == {"first": vote.shown_first, "second": "ab"[vote.shown_first == "a"]}.get(choice, choice)
    of_pair = Counter((vote.annotator, vote.prompt, vote.a, vote.b) for vote in votes)
    assert max(of_pair.values()) == 1  # 0 doubled
