"""The server of the voting page: the standard library's, on loopback, with one static page."""

from __future__ import annotations

import importlib.resources
import io
import json
import logging
import secrets
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from nashward.errors import NashwardError
from nashward.pages import COLOURS
from nashward.text_rows import jsonl_rows

from ..clients.loopback import is_loopback
from .asking import Asker
from .formats import read_cast_votes
from .guard import HEADERS, Guard, Refused, check_port
from .markdown import safe_html
from .store import Question, VoteStore

logger = logging.getLogger(__name__)

FILES = {  # all that is served; there is no path into the disk
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
}
FORM_BYTES, VOTES_BYTES = 2**14, 2**24
IDLE = 60.0  # seconds after which a connection that says nothing is closed
PACE = 20  # votes that the pace is measured on


@dataclass
class VotingPage:
    """What the page is about.

    Attributes:
        store: of the questions and the votes.
        asker: chooses the questions.
        rubric: shown beside the responses; None: nothing.
    """

    store: VoteStore
    asker: Asker
    rubric: str | None = None
    _times: dict[str, list[float]] = field(default_factory=dict)

    def state(self, annotator: str | None) -> dict[str, Any]:
        """What the page shows of the progress; nothing before a person has given a name."""
        if annotator is None:
            return {"name": None}
        times = self._times.get(annotator, [])
        pace = 60 * (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 and times[-1] > times[0] else None
        return {
            "name": annotator,
            "code": self.store.code(annotator).decode(),
            "votes": self.store.count(annotator),
            **self.store.progress(),
            "pace": pace,
            "last": self.store.last_answered(annotator),
        }

    def question(self, annotator: str) -> dict[str, Any] | None:
        """The next question to a person, as HTML; without names of models."""
        question = self.asker.next(annotator)
        return None if question is None else self.shown(question)

    @staticmethod
    def shown(question: Question) -> dict[str, Any]:
        """A question as the page shows it."""
        return {
            "id": question.id,
            "attempt": question.attempt,
            "prompt": safe_html(question.prompt),
            "first": safe_html(question.first),
            "second": safe_html(question.second),
        }

    def voted(self, annotator: str) -> None:
        """Count a vote in the pace."""
        times = self._times.setdefault(annotator, [])
        times.append(time.monotonic())
        del times[:-PACE]


class Handler(BaseHTTPRequestHandler):
    """One connection. What it may do is decided by the guard before anything is done."""

    server: VotingServer
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "nashward", ""
    timeout = IDLE

    def do_GET(self) -> None:
        self._answer(self._get)

    def do_POST(self) -> None:
        self._answer(self._post)

    def _answer(self, act: Callable[[], None]) -> None:
        try:
            self.server.guard.check_host(self.headers)
            act()
        except Refused as error:
            self._send_json(error.status, {"error": str(error)})
        except (ValueError, OverflowError, RecursionError) as error:  # also numbers that JSON has and SQLite has not
            self._send_json(400, {"error": str(error) or "the request cannot be read"})
        except OSError as error:
            if isinstance(error, ConnectionError | TimeoutError):
                self.close_connection = True
            else:  # the disk: the vote is not written, and the page must not say that it is
                logger.warning("%s", error)
                self._send_json(503, {"error": error.strerror or str(error)})

    def _get(self) -> None:
        guard, address = self.server.guard, urlsplit(self.path)
        token = parse_qs(address.query).get("token", [""])[0]
        if address.path == "/" and token and guard.admits(token):
            # the token becomes a cookie that no script reads, and leaves the address
            self._send(303, b"", "text/plain", {"Location": "/", "Set-Cookie": guard.set_cookie("access", token)})
            return
        guard.check_access(self.headers)
        if address.path == "/api/session":
            self._session()
        elif address.path in FILES:
            name, kind = FILES[address.path]
            self._send(200, self.server.files[name], kind, self._new_session() if address.path == "/" else {})
        else:
            raise Refused(404, "there is no such page")

    def _new_session(self) -> dict[str, str]:
        """The header that makes a browser one that can vote, where it is none yet."""
        guard = self.server.guard
        if guard.cookie(self.headers, "session"):
            return {}
        return {"Set-Cookie": guard.set_cookie("session", secrets.token_urlsafe(24))}

    def _session(self) -> None:
        guard, page = self.server.guard, self.server.page
        session = guard.cookie(self.headers, "session")
        if not session:
            raise Refused(403, "load the page first, with cookies allowed")
        annotator = page.store.annotator(session)
        self._send_json(
            200,
            {
                **page.state(annotator),
                "form": guard.form_code(session),
                "rubric": None if page.rubric is None else safe_html(page.rubric),
            },
        )

    def _post(self) -> None:
        guard, page, path = self.server.guard, self.server.page, urlsplit(self.path).path
        if path == "/api/votes":
            guard.check_bearer(self.headers)
            rows = list(jsonl_rows(io.StringIO(self._body(VOTES_BYTES).decode()), Path("the request")))
            added = page.store.add_votes(read_cast_votes(rows))
            self._send_json(200, {"added": added, **page.store.progress()})
            return
        guard.check_access(self.headers)
        guard.check_origin(self.headers)
        session = guard.cookie(self.headers, "session")
        guard.check_form(self.headers, session)
        form = json.loads(self._body(FORM_BYTES))
        if not isinstance(form, dict):
            raise Refused(400, "expected an object")
        if path == "/api/join":
            if not page.store.join(session, _text(form, "name"), _text(form, "code", "")):
                raise Refused(409, "another browser votes under this name; enter the code that its page shows")
            self._send_json(200, page.state(page.store.annotator(session)))
            return
        annotator = page.store.annotator(session)
        if annotator is None:
            raise Refused(403, "enter a name first")
        if path == "/api/next":
            question = page.question(annotator)
            self._send_json(200, {**page.state(annotator), "question": question})
        elif path == "/api/vote":
            seconds, attempt = form.get("seconds"), form.get("attempt")
            if not isinstance(attempt, int) or not (seconds is None or isinstance(seconds, int | float)):
                raise Refused(400, "expected attempt, a whole number, and seconds, a number")
            new = page.store.vote(_text(form, "id"), annotator, _text(form, "choice"), seconds, attempt)
            if new:
                page.voted(annotator)
            # the vote is on the disk now
            self._send_json(200, {**page.state(annotator), "new": new})
        elif path == "/api/undo":
            undone = page.store.undo(_text(form, "id"), annotator)
            self._send_json(200, {**page.state(annotator), "undone": undone})
        else:
            raise Refused(404, "there is no such page")

    def _body(self, most: int) -> bytes:
        length = self.headers.get("Content-Length") or ""
        if self.headers.get("Transfer-Encoding") or not length.isdecimal():
            self.close_connection = True
            raise Refused(411, "expected a Content-Length")
        if int(length) > most:
            self.close_connection = True  # what is sent is not read
            raise Refused(413, f"the request has {length} bytes; at most {most} are read")
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            self.close_connection = True
            raise Refused(400, "the request was cut")
        return body

    def _send_json(self, status: int, value: dict[str, Any]) -> None:
        if status >= 400 and self.command == "POST":
            self.close_connection = True  # its body may not have been read
        self._send(status, json.dumps(value).encode(), "application/json", {})

    def _send(self, status: int, content: bytes, kind: str, headers: dict[str, str]) -> None:
        self.send_response(status)
        close = {"Connection": "close"} if self.close_connection else {}
        sent = {"Content-Type": kind, "Content-Length": str(len(content)), **close, **HEADERS, **headers}
        for name, value in sent.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Nothing: a log would tell who voted when, and the token."""


def check_address(host: str, port: int) -> None:
    """Raise where a page could not be served, before there is one.

    Args:
        host, port: as of ``serving``.

    Raises:
        ValueError: it cannot be listened on.
    """
    check_port(port)
    with _listening(host, port):
        socket.create_server((host.strip("[]"), port), family=_family(host)).close()


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


@contextmanager
def _listening(host: str, port: int) -> Iterator[None]:
    try:
        yield
    except (OSError, OverflowError) as error:
        raise NashwardError(
            f"{host}:{port} cannot be listened on ({error}); give another --port, or 0 for any"
        ) from None


class VotingServer(ThreadingHTTPServer):
    """The page on a host and a port; ``serve`` runs it.

    Attributes:
        page: what is asked.
        guard: what a request has to show.
    """

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, page: VotingPage, host: str, port: int) -> None:
        check_port(port)
        self.address_family = _family(host)
        with _listening(host, port):
            super().__init__((host.strip("[]"), port), Handler)
        self.page, self.guard = page, Guard.of(page.store, host, self.server_address[1])
        folder = importlib.resources.files("nashward.llm.people.page")
        self.files = {name: folder.joinpath(name).read_bytes() for name, _ in FILES.values()}
        self.files["page.css"] = COLOURS.encode() + self.files["page.css"]

    @property
    def address(self) -> str:
        """The address to open, with the token where there is one."""
        host = f"[{self.guard.host.strip('[]')}]" if ":" in self.guard.host else self.guard.host
        if not is_loopback(host) and host in ("0.0.0.0", "[::]"):
            host = socket.gethostbyname(socket.gethostname())
        token = "" if self.guard.token is None else f"?token={self.guard.token}"
        return f"http://{host}:{self.guard.port}/{token}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A request that broke off is not worth a word; anything else is a defect and is logged."""
        error = sys.exc_info()[1]
        if not isinstance(error, ConnectionError | TimeoutError):
            logger.warning("a request failed", exc_info=error)


@contextmanager
def serving(page: VotingPage, host: str = "127.0.0.1", port: int = 0) -> Iterator[VotingServer]:
    """Serve the page in a thread while the block runs.

    Args:
        page: what is asked.
        host: where; beyond loopback a token is needed.
        port: 0: any that is free.

    Raises:
        ValueError: it cannot be listened on.
    """
    with VotingServer(page, host, port) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def _text(form: dict[str, Any], name: str, default: str | None = None) -> str:
    value = form.get(name, default)
    if not isinstance(value, str):
        raise Refused(400, f"expected {name}, a text")
    return value
