"""A server that is killed at random moments and begun again: ``python -m ... FOLDER PORT KILLS SEED``.

Each server is a fork of one process that has imported everything, so that a new one is there at once.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time

from nashward.llm.config import Asking
from nashward.llm.people.asking import Asker
from nashward.llm.people.server import VotingPage, VotingServer
from nashward.llm.people.store import VoteStore


def serve(folder: str, port: int) -> None:
    store = VoteStore(folder)
    page = VotingPage(store, Asker(store, Asking(random=True, repeats=0.0)))
    VotingServer(page, "127.0.0.1", port).serve_forever(poll_interval=0.05)


def main() -> None:
    folder, port, kills, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    moments = random.Random(seed)
    for number in range(kills + 1):
        child = os.fork()
        if child == 0:
            serve(folder, port)
            os._exit(0)
        if number == kills:
            print("last", flush=True)
            sys.stdin.read()  # until the test has seen enough
        else:
            time.sleep(moments.uniform(0.03, 0.4))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


if __name__ == "__main__":
    main()
