"""A server as a child of this process: started when it is needed, ended when it is not, and never outliving it."""

from __future__ import annotations

import logging
import os
import re
import secrets
import socket
import subprocess
import sys
import time
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

from nashward.errors import EndpointError

from ...clients.client import Client
from ...clients.connection import Connection, Server, TransientError
from ...config.endpoint import Endpoint
from . import watchdog
from .vllm import VLLM

KEY = "NASHWARD_ENGINE_KEY"  # the variable with the key of the servers of this process
LONGEST = 3600.0  # seconds that a start may take: large weights from a network's disk
PAUSE = 0.2  # seconds between two checks whether it answers
STOPS = 30.0  # seconds that the watchdog may take to end it
TAIL = 1 << 16  # bytes of the log in which an error is looked for
ERROR, HARMLESS = re.compile(r"\b[A-Z]\w*(Error|Exception): \S"), re.compile(r"\b(DEBUG|INFO|WARNING) ")
EXCERPT = 300  # characters of a line of the log in an error

logger = logging.getLogger(__name__)


class ChildServer:
    """A server that this process starts on a free port of this machine, with a key that only the two processes know.

    The key is drawn once and stands only in this process's environment, where a client finds it in the variable
    ``KEY``. What the server writes goes to a log, which begins anew with each start.

    Args:
        program: what is started.
        log: the file of its output.

    Raises:
        EndpointError: from ``start`` and ``client``: it ended, or did not answer in time; with the end of its log.

    Example:
        >>> ChildServer(VLLM("python", "llm/pocket/policy"), Path("vllm.log")).stop()  # it does not run
    """

    def __init__(self, program: VLLM, log: Path) -> None:
        self.program, self.log = program, log
        self.url = ""
        self._process: subprocess.Popen[bytes] | None = None

    def client(self, settings: Endpoint) -> Client:
        """A client of the server, which is started if it does not run; calls fail at once if it has ended."""
        self.start()
        return Client(self.url, replace(settings, key_variable=KEY), check=self.check)

    def start(self) -> None:
        """Start the server, and return when it answers; nothing if it runs already."""
        if self._process is not None:
            self.check()
            return
        key = os.environ.setdefault(KEY, secrets.token_urlsafe(32))
        port = _free_port()
        self.log.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-I", "-S", watchdog.__file__, *self.program.command(port)]
        with self.log.open("wb") as output:
            # a session of its own: Ctrl-C stops this process at the end of a shard, which the server has to draw
            self._process = subprocess.Popen(
                command, env=self.program.environment(key), stdin=subprocess.PIPE, stdout=output,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        try:
            self._wait(port)
        except BaseException:
            self.stop()
            raise
        self.url = f"http://127.0.0.1:{port}/v1"

    def stop(self) -> None:
        """End the server, and return when it and its memory are gone; nothing if it does not run."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        process.stdin.close()  # what the watchdog waits for
        try:
            process.wait(STOPS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def check(self) -> None:
        """Raise if the server has ended."""
        if self._process is None or (code := self._process.poll()) is None:
            return
        raise EndpointError(
            f"vLLM ended by itself (exit code {code}): {self._log_excerpt()}; all of it is in {self.log}"
        )

    def _wait(self, port: int) -> None:
        """Return when the server answers."""
        began = shown = time.monotonic()
        logger.info("vLLM is started, which may take minutes; its log is %s", self.log)
        with closing(Connection(Server(f"http://127.0.0.1:{port}", KEY, 5.0))) as connection:
            while not self._answers(connection):
                now = time.monotonic()
                if now - began > LONGEST:
                    raise EndpointError(
                        f"vLLM does not answer after {LONGEST:.0f} seconds: {self._log_excerpt()}; "
                        f"all of it is in {self.log}"
                    )
                if now - shown > 60:
                    shown = now
                    logger.info("vLLM: not ready after %.0f minutes", (now - began) / 60)
                time.sleep(PAUSE)
        logger.info("vLLM answers after %.0f seconds", time.monotonic() - began)

    def _answers(self, connection: Connection) -> bool:
        self.check()
        try:
            return connection.exchange("GET", "/health").status == 200
        except TransientError:
            return False

    def _log_excerpt(self) -> str:
        """What an error shows of the log: its first error, which is the cause of others, and its last line."""
        with suppress(OSError), self.log.open("rb") as log:
            log.seek(max(0, self.log.stat().st_size - TAIL))
            lines = [line.strip() for line in log.read().decode(errors="replace").splitlines() if line.strip()]
            wrong = [k for k, line in enumerate(lines) if ERROR.search(line) and not HARMLESS.search(line)]
            first = [line for k in wrong[:1] for line in lines[k : k + 2]]  # where it has two, the second says what
            shown = dict.fromkeys([*first, *lines[-1:]])
            return " ... ".join(f"{line:.{EXCERPT}}" for line in shown) or "it said nothing"
        return "its log cannot be read"


def _free_port() -> int:
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        return int(place.getsockname()[1])
