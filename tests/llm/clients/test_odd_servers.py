"""Servers and proxies that answer in ways that HTTP and JSON allow, and few tests think of."""

from __future__ import annotations

import http.client
import json
import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from nashward.errors import EndpointError
from nashward.llm.clients.chat import Chat, Completion
from nashward.llm.clients.client import Client
from nashward.llm.clients.paid_calls import PaidCalls, PaidRequest
from nashward.llm.config import Endpoint, JudgeSettings

MESSAGES = [{"role": "user", "content": "Say A."}]
ONCE = Endpoint(retries=0, timeout=5.0)


@contextmanager
def answering(content: bytes, status: int = 200, **headers: str) -> Iterator[str]:
    """The URL of a server that always answers so."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: object) -> None:
            pass

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            for name, value in {"Content-Length": str(len(content)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/v1"
        finally:
            server.shutdown()


def completion(text: str = "A", read: object = 3) -> bytes:
    usage = {"prompt_tokens": read, "completion_tokens": 2}
    return json.dumps({"model": "m", "choices": [{"message": {"content": text}}], "usage": usage}).encode()


def complete(url: str) -> Completion:
    return Chat(Client(url, ONCE), "m").complete(MESSAGES, 16)


def closing_with_the_last_byte(response: http.client.HTTPResponse, size: int = -1) -> bytes:
    """``read1`` as Python 3.11.8, 3.12.2 and 3.13 have it."""
    block = _read1(response, size)
    if response.length == 0 and not response.isclosed():
        response._close_conn()  # type: ignore[attr-defined]
    return block


_read1 = http.client.HTTPResponse.read1


@pytest.mark.parametrize("connection", ["close", "keep-alive"])
def test_a_server_that_says_how_long_its_answer_is_and_closes(connection: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http.client.HTTPResponse, "read1", closing_with_the_last_byte)
    with answering(completion("long " * 50_000), Connection=connection) as url:
        assert len(complete(url).text) == 250_000


BODY = completion()
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
SIZED = HEAD + f"Content-Length: {len(BODY)}\r\n".encode()


@contextmanager
def dripping(at_once: bytes, drop: bytes) -> Iterator[str]:
    """The URL of a server that begins its answer, and then sends a few bytes 20 times a second, for ever."""
    over = threading.Event()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.request.recv(1 << 16)
            with suppress(OSError):
                self.wfile.write(at_once)
                while not over.wait(0.05):
                    self.wfile.write(drop)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/v1"
        finally:
            over.set()
            server.shutdown()


@pytest.mark.parametrize(
    ("at_once", "drop"),
    [
        (b"", b" "),  # of the status line
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (HEAD, b"a"),  # of one header
        (SIZED + b"\r\n" + BODY[:2], b" "),  # of the body
        (CHUNKED, b"1"),  # of a chunk's size
        (CHUNKED + f"{len(BODY):x}\r\n".encode() + BODY + b"\r\n0\r\n", b"A: b\r\n"),  # of the trailers
    ],
    ids=["status", "continue", "header", "body", "chunk", "trailer"],
)
def test_an_answer_that_drips_is_given_up_after_the_time_of_one_call(at_once: bytes, drop: bytes) -> None:
    with dripping(at_once, drop) as url:
        began = time.monotonic()
        with pytest.raises(EndpointError, match="no answer in time"):
            Chat(Client(url, Endpoint(retries=0, timeout=0.6)), "m").complete(MESSAGES, 16)
        assert 0.5 < time.monotonic() - began < 2.0


def test_half_of_a_surrogate_pair_is_kept_as_a_replacement(tmp_path: Path) -> None:
    with answering(completion("A \ud83d")) as url:
        calls = PaidCalls("m", JudgeSettings(base_url=url), ONCE)
        calls.open(tmp_path / "verdicts.sqlite")
        found = calls.outputs([PaidRequest(b"0123456789abcdef", MESSAGES)], 16, "texts")
    assert found[b"0123456789abcdef"].text == "A \ufffd"
    assert calls.budget.spent.calls == 1


@pytest.mark.parametrize("read", [1e999, 1e30, -1, None, "many"])
def test_a_count_of_tokens_that_is_none(read: object, tmp_path: Path) -> None:
    with answering(completion(read=read)) as url:
        calls = PaidCalls("m", JudgeSettings(base_url=url), ONCE)
        calls.open(tmp_path / "verdicts.sqlite")
        calls.outputs([PaidRequest(b"0123456789abcdef", MESSAGES)], 16, "texts")
    assert calls.budget.spent.read == len("Say A.") // 4  # as estimated


@pytest.mark.parametrize("status", [200, 400])
def test_json_without_an_end_of_brackets(status: int) -> None:
    with answering(b"[" * 100_000, status) as url, pytest.raises(EndpointError):
        complete(url)


def test_a_redirect_to_what_is_no_url() -> None:
    with answering(b"", 302, Location="http://[nowhere") as url, pytest.raises(EndpointError, match="302"):
        complete(url)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_gets_its_credentials_and_its_refusal_is_shown(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    class Proxy(BaseHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

        def do_CONNECT(self) -> None:
            seen.append((self.path, self.headers["Proxy-Authorization"]))
            self.send_response(418)
            self.end_headers()

    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        monkeypatch.setenv(f"{scheme}_proxy", f"http://ann:p%40ss@127.0.0.1:{server.server_address[1]}")
        with pytest.raises(EndpointError, match="418") as error:
            complete(f"{scheme}://api.example.org/v1")
        server.shutdown()
    assert seen == [(f"api.example.org:{dict(http=80, https=443)[scheme]}", "Basic YW5uOnBAc3M=")]
    assert "p@ss" not in str(error.value)
