"""One exchange with a server over HTTP: no redirects, a limit on its time and its size, and a key that nothing shows.

The standard library's client is all that this takes. A vendor's client follows redirects, repeats calls without a
budget, has no limit on an answer's size and no calls of engines: all of that would have to be replaced around it.
"""

from __future__ import annotations

import base64
import http.client
import io
import json
import os
import socket
import ssl
import time
import urllib.request
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from nashward.errors import EndpointError

from ..config.endpoint import check_url
from .loopback import is_loopback

BLOCK = 1 << 16


class TransientError(OSError):
    """An exchange that failed in a way that may pass: no connection, no answer in time, an answer that was cut off."""


@dataclass(frozen=True)
class Reply:
    """What a server answered.

    Attributes:
        status: of HTTP.
        headers: in small letters.
        content: the body.
    """

    status: int
    headers: dict[str, str]
    content: bytes


@dataclass(frozen=True)
class Server:
    """The address of a server, and how long and how large an answer may be.

    Attributes:
        url: the base of its calls, without credentials.
        key_variable: the environment variable with its key.
        timeout: seconds of one exchange, from the connection to the last byte of the answer.
        most_bytes: of an answer.

    Raises:
        NashwardError: a URL that ``check_url`` refuses.

    Example:
        >>> Server("http://127.0.0.1:8000/v1/").place
        'http://127.0.0.1:8000'
    """

    url: str
    key_variable: str = "OPENAI_API_KEY"
    timeout: float = 300.0
    most_bytes: int = 64 << 20

    def __post_init__(self) -> None:
        object.__setattr__(self, "url", check_url(self.url))

    @cached_property
    def parts(self) -> Any:
        return urlsplit(self.url)

    @property
    def place(self) -> str:
        """Scheme, host and port, as a message shows them."""
        return f"{self.parts.scheme}://{self.parts.netloc}"

    @property
    def is_local(self) -> bool:
        """Whether it is this machine."""
        return is_loopback(self.parts.hostname)

    @property
    def in_the_clear(self) -> bool:
        """Whether others on the way can read what is sent: plain HTTP to another machine."""
        return self.parts.scheme == "http" and not self.is_local

    def key(self) -> str | None:
        """The key, as the environment has it now.

        Raises:
            EndpointError: it cannot be a header; the message does not show it.
        """
        key = os.environ.get(self.key_variable, "").strip()
        if not key.isascii() or not key.isprintable():
            raise EndpointError(f"the key in {self.key_variable} has characters that no key has")
        return key or None

    def without_key(self, text: str) -> str:
        """A text of the server with its key, where it repeats it, struck out."""
        key = os.environ.get(self.key_variable, "").strip()
        return text.replace(key, "***") if len(key) > 3 else text


class Connection:
    """A connection that is kept from call to call; one thread uses it.

    Args:
        server: where it leads.
    """

    def __init__(self, server: Server) -> None:
        self.server = server
        self._connection: http.client.HTTPConnection | None = None

    def exchange(self, method: str, path: str, body: Any = None) -> Reply:
        """Send one request and read its answer.

        Args:
            method: "GET" or "POST".
            path: behind the base of the server's URL.
            body: what JSON can hold; None: nothing.

        Raises:
            TransientError: no connection, no answer in time, an answer that was cut off or is too long.
        """
        kept = self._connection is not None
        try:
            return self._exchange(method, path, body)
        except EndpointError:
            raise
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.close()
            lost = (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError)
            if not (kept and isinstance(error, lost)):
                raise TransientError(_reason(error)) from None
        # a server may close a connection that was kept, just when it is used again: once more on a new one
        return self.exchange(method, path, body)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _exchange(self, method: str, path: str, body: Any) -> Reply:
        server, deadline = self.server, time.monotonic() + self.server.timeout
        content = None if body is None else json.dumps(body).encode()
        headers = {"Accept": "application/json", "User-Agent": "nashward"}
        if content is not None:
            headers["Content-Type"] = "application/json"
        if (key := server.key()) is not None:
            headers["Authorization"] = f"Bearer {key}"
        connection = self._connection or self._connect()
        self._connection = connection
        connection.response_class = partial(_Response, deadline)  # type: ignore[assignment]
        if connection.sock is not None:
            connection.sock.settimeout(_left(deadline))
        connection.request(method, server.parts.path + path, content, headers)
        response = connection.getresponse()
        if response.length is not None and response.length > server.most_bytes:
            raise TransientError(f"an answer of {response.length} bytes, more than {server.most_bytes}")
        parts, size = [], 0
        while block := _read(response):
            parts.append(block)
            size += len(block)
            if size > server.most_bytes:
                raise TransientError(f"an answer of more than {server.most_bytes} bytes")
        if response.length:
            raise TransientError("the answer was cut off")
        response.read()  # the nothing that is left: the connection is free for another request
        reply = Reply(response.status, {k.lower(): v for k, v in response.getheaders()}, b"".join(parts))
        if response.will_close:
            self.close()
        return reply

    def _connect(self) -> http.client.HTTPConnection:
        """A new connection, through the proxy that the environment names for other machines."""
        server, parts = self.server, self.server.parts
        secure = parts.scheme == "https"
        context = ssl.create_default_context() if secure else None
        port = parts.port or (443 if secure else 80)
        proxy = None if server.is_local else urllib.request.getproxies().get(parts.scheme)
        if proxy is None or urllib.request.proxy_bypass(str(parts.hostname)):
            return _http_connection(secure, parts.hostname, port, server.timeout, context)
        through = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        if through.scheme != "http" or through.hostname is None:
            raise EndpointError(f"the proxy for {parts.scheme} is no http://HOST:PORT; leave {server.place} out of it")
        connection = _http_connection(secure, through.hostname, through.port or 80, server.timeout, context)
        connection.set_tunnel(str(parts.hostname), port, _credentials(through))
        return connection


def _http_connection(
    secure: bool, host: str, port: int, timeout: float, context: ssl.SSLContext | None
) -> http.client.HTTPConnection:
    if secure:
        return http.client.HTTPSConnection(host, port, timeout=timeout, context=context)
    return http.client.HTTPConnection(host, port, timeout=timeout)


def _credentials(proxy: SplitResult) -> dict[str, str]:
    """The header with the name and the password that the URL of a proxy has."""
    if proxy.username is None:
        return {}
    given = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return {"Proxy-Authorization": f"Basic {base64.b64encode(given.encode()).decode()}"}


def _read(response: http.client.HTTPResponse) -> bytes:
    # newer Pythons close it, and a link that is not kept, with the last byte
    return b"" if response.isclosed() else response.read1(BLOCK)


class _Response(http.client.HTTPResponse):
    """An answer of which every byte has to come before the deadline: a socket's own timeout begins anew with each."""

    def __init__(self, deadline: float, link: socket.socket, *given: Any, **named: Any) -> None:
        super().__init__(link, *given, **named)
        self.fp.close()
        self.fp = io.BufferedReader(_UntilDeadline(link, deadline))


class _UntilDeadline(io.RawIOBase):
    """The bytes that a socket receives before a deadline."""

    def __init__(self, link: socket.socket, deadline: float) -> None:
        super().__init__()
        self._link, self._deadline = link, deadline
        self._raw = link.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._link.settimeout(_left(self._deadline))
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _reason(error: Exception) -> str:
    """What went wrong, without what was sent."""
    if isinstance(error, TransientError):
        return str(error)
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ssl.SSLError):
        return f"TLS: {error.reason or 'failed'}"
    if isinstance(error, http.client.IncompleteRead):
        return "the answer was cut off"
    if isinstance(error, OSError):
        return error.strerror or str(error) or type(error).__name__  # a proxy's refusal has no strerror
    return f"no HTTP ({type(error).__name__})"
