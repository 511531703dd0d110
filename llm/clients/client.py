"""The client of a server: calls at once, repeated where they failed in a way that passes."""

from __future__ import annotations

import email.utils
import json
import logging
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from itertools import islice
from typing import Any, TypeVar
from urllib.parse import urlsplit

from nashward.console import SHOWN_BY_ANY
from nashward.errors import EndpointError

from ..config.endpoint import Endpoint
from .connection import Connection, Reply, Server, TransientError

Item = TypeVar("Item")
Result = TypeVar("Result")

FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0  # seconds before a call is repeated, where the server names none
LONGEST_RETRY_AFTER = 600.0  # seconds that a server may ask for
TRANSIENT = (408, 409, 425, 429, 500, 502, 503, 504, 507, 520, 521, 522, 523, 524, 529)
SHOWN = 300  # characters of a server's message

logger = logging.getLogger(__name__)


class Client:
    """Calls of one server, several at once.

    A call that fails in a way that passes is repeated: after the seconds of ``Retry-After`` where the server names
    them, for which all calls wait, else after min(30, 2^k / 2) seconds times a uniform number from 1/2 to 1.

    Args:
        url: the base of the calls, see ``Server``.
        settings: how it is called.
        most_bytes: of an answer.
        check: is called where a call has failed, before it is repeated; it raises where no repetition can help.
        lost: is called where calls are given up: what is lost with them and what to do; "" where the same command
            continues.

    Raises:
        NashwardError: a URL that cannot be one, or that has credentials.

    Example:
        >>> Client("http://127.0.0.1:8000/v1").server.is_local
        True
    """

    def __init__(
        self, url: str, settings: Endpoint | None = None, *, most_bytes: int = 64 << 20,
        check: Callable[[], object] = lambda: None, lost: Callable[[], str] = lambda: "",
    ) -> None:  # fmt: skip
        self.settings = settings or Endpoint()
        self._check, self._lost = check, lost
        self.server = Server(url, self.settings.key_variable, self.settings.timeout, most_bytes)
        self._kept: list[Connection] = []  # within ``as_completed``: those that no call uses now
        self._keeps = False
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._told = False  # that calls fail
        self._not_before = 0.0  # when the server will take calls again
        self._random = random.Random(0)

    def announce(self, what: str) -> None:
        """Say which text leaves the machine, and whether others can read it on its way; of several processes any."""
        logger.warning("%s: sent to %s", what, self.server.place, extra=SHOWN_BY_ANY)
        if self.server.in_the_clear:
            logger.warning(
                "%s is plain HTTP: the texts%s can be read on their way; take https, or a tunnel",
                self.server.place, "" if self.server.key() is None else " and the key", extra=SHOWN_BY_ANY,
            )  # fmt: skip

    def get(self, path: str) -> Any:
        """The JSON at a path. Raises as ``post``."""
        return self._call("GET", path, None)

    def post(self, path: str, body: Any, text: bool = False) -> Any:
        """The JSON that answers a body.

        Args:
            path: behind the base of the server's URL.
            body: what JSON can hold.
            text: whether the answer is a plain text, which is returned.

        Raises:
            EndpointError: an error that no repetition removes, or that was there after all repetitions.
        """
        return self._call("POST", path, body, text)

    def as_completed(self, call: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[tuple[int, Result]]:
        """The results of a call on each item, as they come, with the item's number.

        Where one raises, those that are not sent yet are not sent, and what is under way is waited for.
        """
        self._stopped.clear()
        self._keeps = True
        waiting: dict[Future[Result], int] = {}
        numbered, most = enumerate(items), 2 * self.settings.concurrency
        with ThreadPoolExecutor(self.settings.concurrency, "nashward-call") as pool:
            try:
                while True:
                    for number, item in islice(numbered, most - len(waiting)):
                        waiting[pool.submit(call, item)] = number
                    if not waiting:
                        return
                    done, _ = wait(waiting, return_when=FIRST_COMPLETED)
                    for future in done:
                        yield waiting.pop(future), future.result()
            finally:
                self._stopped.set()  # those that wait to be repeated give up
                for future in waiting:
                    future.cancel()
                pool.shutdown(wait=True)
                self._stopped.clear()
                self._close()

    def _close(self) -> None:
        with self._lock:
            self._keeps = False
            for connection in self._kept:
                connection.close()
            self._kept.clear()

    def _call(self, method: str, path: str, body: Any, text: bool = False) -> Any:
        place, retries = self.server.place, self.settings.retries
        for attempt in range(retries + 1):
            self._pause(self._not_before - time.monotonic())
            retry_after = None
            try:
                reply = self._exchange(method, path, body)
            except TransientError as error:
                failure, status = str(error), None
            else:
                if reply.status in (200, 201):
                    if text:
                        return reply.content.decode(errors="replace")
                    try:
                        return json.loads(reply.content)
                    except (ValueError, RecursionError):
                        failure, status = "an answer that is no JSON", reply.status
                else:
                    failure, status = self._failure(reply), reply.status
                    retry_after = _retry_after(reply)
            self._check()
            if attempt == retries:
                tries = "" if retries == 0 else f" ({retries + 1} times)"
                after = self._lost() or "the same command continues when it works again"
                raise EndpointError(f"{place} failed{tries}: {failure}; {after}", status)
            if attempt == 1 and not self._told:  # one failure may pass unseen
                self._told = True
                logger.warning("%s failed 2 times: %s; up to %d more tries", place, failure, retries - 1)
            self._wait(attempt, retry_after)
        raise AssertionError("unreachable")

    def _exchange(self, method: str, path: str, body: Any) -> Reply:
        with self._lock:
            connection = self._kept.pop() if self._kept else Connection(self.server)
        try:
            return connection.exchange(method, path, body)
        finally:
            with self._lock:
                if self._keeps:
                    self._kept.append(connection)
                else:
                    connection.close()

    def _failure(self, reply: Reply) -> str:
        """What a status other than success says, where it may pass; raises where it does not."""
        place, status = self.server.place, reply.status
        if 300 <= status < 400:
            target = ""
            with suppress(ValueError):  # no URL
                to = urlsplit(reply.headers.get("location", ""))
                target = f" to {to.scheme}://{to.hostname}" if to.hostname else ""
            raise EndpointError(f"{place} redirects{target} ({status}), which is not followed: give that URL", status)
        message = self.server.without_key(_message(reply.content))
        failure = f"{status}" + (f", {message}" if message else "")
        if status in TRANSIENT and "insufficient_quota" not in message:
            return failure
        advice = ""
        if status in (401, 403):
            have = "a wrong key" if self.server.key() else "no key"
            advice = f"; the variable {self.server.key_variable} holds {have}"
        elif status == 404:
            advice = "; the URL ends where /chat/completions follows, as in http://localhost:8000/v1"
        after = f"; {lost}" if (lost := self._lost()) else ""
        raise EndpointError(f"{place} refuses: {failure}{advice}{after}", status)

    def _wait(self, attempt: int, retry_after: float | None) -> None:
        if retry_after is not None and retry_after > LONGEST_RETRY_AFTER:
            after = self._lost() or "the same command continues then"
            raise EndpointError(f"{self.server.place} takes no call for {retry_after:.0f} seconds; {after}", 429)
        with self._lock:
            pause = min(LONGEST_WAIT, FIRST_WAIT * 2**attempt) * self._random.uniform(0.5, 1.0)
            if retry_after is not None:
                self._not_before = max(self._not_before, time.monotonic() + retry_after)
                pause = retry_after + self._random.uniform(0.0, 0.1 * FIRST_WAIT)
        self._pause(pause)

    def _pause(self, seconds: float) -> None:
        if seconds > 0:
            self._stopped.wait(seconds)
        if self._stopped.is_set():
            raise EndpointError(f"the call of {self.server.place} was given up because another one failed")


def _retry_after(reply: Reply) -> float | None:
    """The seconds of Retry-After, a number or a date; None where there is none."""
    text = reply.headers.get("retry-after")
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(text).timestamp() - time.time()
        except (ValueError, TypeError):
            return None
    return max(0.0, seconds) if seconds == seconds else None


def _message(content: bytes) -> str:
    """What an error's body says, in one line."""
    text = content[: 1 << 16].decode(errors="replace")
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        body = None
    if isinstance(body, dict):
        inner = body.get("error", body)
        if isinstance(inner, dict):
            parts = [inner.get("code") or inner.get("type"), inner.get("message") or inner.get("detail")]
            text = " ".join(str(part) for part in parts if part)
        elif isinstance(inner, str):
            text = inner
    return " ".join(text.split())[:SHOWN]
