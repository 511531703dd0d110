"""A browser of one person, as the server sees it: its cookies, its form code and its requests."""

from __future__ import annotations

import http.client
import json
from typing import Any


class Client:
    """Talks to the voting page on loopback.

    Args:
        port: of the server.
        token: of its address, where there is one.
    """

    def __init__(self, port: int, token: str | None = None) -> None:
        self.port, self.cookies, self.form = port, dict[str, str](), ""
        self.host = f"127.0.0.1:{port}"
        if token is not None:
            self.request("GET", f"/?token={token}")
        self.request("GET", "/")
        self.session()

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and content of one request, with the cookies and what a browser sends."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        sent = {"Host": self.host, "Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())}
        if method == "POST":
            sent |= {"Origin": f"http://{self.host}", "X-Nashward-Form": self.form, "Sec-Fetch-Site": "same-origin"}
        sent |= headers or {}
        try:
            connection.request(method, path, body, {name: value for name, value in sent.items() if value})
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        for name, value in answer.getheaders():
            if name.lower() == "set-cookie":
                cookie = value.partition(";")[0]
                self.cookies[cookie.partition("=")[0]] = cookie.partition("=")[2]
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, content

    def session(self) -> dict[str, Any]:
        """What the page receives when it is loaded."""
        state = self.call("GET", "/api/session")
        self.form = state.get("form", "")
        return state

    def call(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        """The answer to a request that is JSON."""
        content = None if method == "GET" else json.dumps({} if body is None else body).encode()
        status, _, answer = self.request(method, path, content)
        value: dict[str, Any] = json.loads(answer)
        return value if status == 200 else {**value, "status": status}

    def join(self, name: str, code: str = "") -> dict[str, Any]:
        return self.call("POST", "/api/join", {"name": name, "code": code})

    def next(self) -> dict[str, Any] | None:
        question: dict[str, Any] | None = self.call("POST", "/api/next")["question"]
        return question

    def vote(self, question: dict[str, Any], choice: str, seconds: float = 1.0) -> dict[str, Any]:
        form = {"id": question["id"], "attempt": question["attempt"], "choice": choice, "seconds": seconds}
        return self.call("POST", "/api/vote", form)
