"""A server that speaks OpenAI's protocol by a script: verdicts that are a function of the texts, and faults."""

from __future__ import annotations

import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Likeliest = Mapping[str, float]  # log-probabilities


@dataclass
class Script:
    """What the server does.

    Attributes:
        write: the output for a body of a chat completion, and the likeliest first tokens where it gives any.
        fault: what goes wrong with a request, by its body and how often it came before: "" for nothing.
        model: the name that it reports.
        delay: seconds before each answer.
        key: the only one that it takes; None: any, or none.
        refuses: fields of a body that it takes for an error.
    """

    write: Callable[[dict[str, Any]], tuple[str, Likeliest | None]]
    fault: Callable[[dict[str, Any], int], str] = lambda body, before: ""
    model: str = "scripted-2026-01-01"
    delay: float = 0.0
    key: str | None = None
    refuses: tuple[str, ...] = ()
    advice: str = ""  # in the error about those
    patience: str = "0"  # of Retry-After
    route: Callable[[str, dict[str, Any]], tuple[int, Any]] | None = None  # all else: status and answer, by the path
    bodies: list[dict[str, Any]] = field(default_factory=list)  # those that were answered
    headers: list[dict[str, str]] = field(default_factory=list)
    seen: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    at_once: int = 0
    most_at_once: int = 0
    url: str = ""
    lock: Any = field(default_factory=threading.Lock)
    over: threading.Event = field(default_factory=threading.Event)

    @property
    def verdicts(self) -> list[dict[str, Any]]:
        """The bodies that were answered, but for the first calls, which hold no texts."""
        return [body for body in self.bodies if len(body["messages"]) > 1]


def texts(body: dict[str, Any]) -> tuple[str, str, str]:
    """The prompt and the responses in a body."""
    user = body["messages"][-1]["content"]
    rule = user.split(" ", 1)[0]
    parts = {}
    for part in user.split(f"{rule} ")[1:]:
        title, _, text = part.partition(f" {rule}\n")
        parts[title] = text.removesuffix("\n")
    return parts["Prompt"], parts["Response A"], parts["Response B"]


def shorter(body: dict[str, Any]) -> tuple[str, None]:
    """The verdict for the shorter text; a tie for equal lengths."""
    if len(body["messages"]) == 1:
        return "A", None
    _, first, second = texts(body)
    letter = "A" if len(first) < len(second) else "B" if len(second) < len(first) else "C"
    return f"I quote: {first[:40]}. The shorter one wins.\n[[{letter}]]", None


def faults(share: float, kinds: tuple[str, ...], seed: int = 0) -> Callable[[dict[str, Any], int], str]:
    """A share of the calls goes wrong, each in one of these ways; which is a function of the body and of how often it
    came before."""

    def fault(body: dict[str, Any], before: int) -> str:
        draw = random.Random(f"{seed} {before} {json.dumps(body, sort_keys=True)}")
        return draw.choice(kinds) if draw.random() < share else ""

    return fault


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Any

    def log_message(self, *args: Any) -> None:
        pass

    def do_POST(self) -> None:
        script: Script = self.server.script
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = json.loads(content) if content else {}
        with script.lock:
            script.headers.append(dict(self.headers))
            script.at_once += 1
            script.most_at_once = max(script.most_at_once, script.at_once)
            name = sha256(content).hexdigest()
            before = script.seen[name]
            script.seen[name] += 1
        try:
            self._answer(script, body, script.fault(body, before))
        except OSError:
            self.close_connection = True
        finally:
            with script.lock:
                script.at_once -= 1

    do_GET = do_POST

    def _answer(self, script: Script, body: dict[str, Any], fault: str) -> None:
        if script.delay:
            time.sleep(script.delay)
        if fault:
            with script.lock:
                script.faults[fault] += 1
        if script.key is not None and self.headers.get("Authorization") != f"Bearer {script.key}":
            given = str(self.headers.get("Authorization")).removeprefix("Bearer ")
            return self._send(401, {"error": {"message": f"Incorrect API key provided: {given}."}})
        if refused := [name for name in script.refuses if name in body]:
            return self._send(400, {"error": {"message": f"Unsupported parameter: '{refused[0]}'. {script.advice}"}})
        if fault == "429":
            return self._send(429, {"error": {"message": "slow down"}}, {"Retry-After": script.patience})
        if fault == "quota":
            return self._send(429, {"error": {"code": "insufficient_quota", "message": "no money"}})
        if fault.isdigit():
            return self._send(int(fault), {"error": {"message": "it went wrong"}})
        if fault == "too long":
            return self._send(400, {"error": {"message": "This model's maximum context length is 8 tokens."}})
        if fault == "redirect":
            return self._send(307, {}, {"Location": "http://user:secret@127.0.0.1:1/v1?key=secret"})
        if fault == "hang":
            script.over.wait(20)
            self.close_connection = True
            return None
        if fault == "death":
            self.close_connection = True
            return None
        if script.route is not None and not self.path.endswith("/chat/completions"):
            status, answer = script.route(self.path.removeprefix("/v1"), body)
            return self._send(status, answer, cut=fault == "cut")
        with script.lock:
            script.bodies.append(body)
        text, likeliest = script.write(body)
        choice: dict[str, Any] = {"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        if likeliest is not None and body.get("logprobs"):
            listed = [{"token": token, "logprob": value} for token, value in likeliest.items()]
            choice["logprobs"] = {"content": [{"token": text, "logprob": -0.1, "top_logprobs": listed}]}
        answer = {
            "model": script.model,
            "choices": [choice],
            "usage": {"prompt_tokens": len(json.dumps(body)) // 4, "completion_tokens": len(text) // 4 + 1},
        }
        if fault == "nonsense":
            return self._send(200, b"<html>a proxy's page</html>")
        if fault == "other":
            return self._send(200, {"object": "list", "data": []})
        if fault == "drip":
            return self._drip(json.dumps(answer).encode())
        return self._send(200, answer, cut=fault == "cut")

    def _drip(self, content: bytes) -> None:
        self.wfile.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(content)}\r\n\r\n".encode())
        for byte in content:
            if self.server.script.over.wait(0.05):
                return
            self.wfile.write(bytes([byte]))

    def _send(self, status: int, content: Any, headers: Mapping[str, str] | None = None, cut: bool = False) -> None:
        payload = content if isinstance(content, bytes) else json.dumps(content).encode()
        lines = [f"HTTP/1.1 {status} -", f"Content-Length: {len(payload)}", "Content-Type: application/json"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        head = "\r\n".join(lines).encode() + b"\r\n\r\n"
        self.wfile.write(head + (payload[: len(payload) // 2] if cut else payload))  # in one packet
        if cut:
            self.close_connection = True


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64
    script: Script

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


@contextmanager
def serve(script: Script) -> Iterator[Script]:
    """The server while the block runs, on this machine; ``script.url`` is its base."""
    with Server(("127.0.0.1", 0), Handler) as server:
        server.script = script
        script.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield script
        finally:
            script.over.set()
            server.shutdown()
            thread.join()
