"""Who may talk to the voting page: the checks of a request before anything is done for it."""

from __future__ import annotations

import hmac
import ipaddress
import secrets
from dataclasses import dataclass, field
from email.message import Message

from nashward.errors import NashwardError

from ..clients.loopback import NAMES, is_loopback
from .store import VoteStore

HEADERS = {
    # no inline script or style, nothing from elsewhere, no frame around it
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Refused(Exception):
    """A request that is not answered.

    Attributes:
        status: of HTTP.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True)
class Guard:
    """What a request has to show.

    Attributes:
        store: signs the codes of forms.
        host: where the server listens.
        port: its port, also in the names of its cookies: browsers share those among ports.
        token: without it nobody beyond loopback gets in; None: the server is on loopback.
    """

    store: VoteStore
    host: str
    port: int
    token: str | None = field(default=None, repr=False)

    @classmethod
    def of(cls, store: VoteStore, host: str, port: int) -> Guard:
        """The guard of a server, with a token where more than this machine can reach it."""
        return cls(store, host, port, None if is_loopback(host) else secrets.token_urlsafe(18))

    @property
    def names(self) -> dict[str, str]:
        """The names of the cookies."""
        return {name: f"nashward_{name}_{self.port}" for name in ("session", "access")}

    def check_host(self, headers: Message) -> None:
        """Refuse a name that some other site may have pointed here (DNS rebinding); an address is no such name.

        Raises:
            Refused: a Host header that is missing or another name's.
        """
        given = headers.get("Host") or ""
        name, separator, port = given.rpartition(":")
        if not separator or "]" in port:
            name, port = given, "80"
        name = name.strip("[]").lower()
        known = name in (*NAMES, self.host.strip("[]").lower())
        if not known and self.token is not None:
            try:
                ipaddress.ip_address(name)
                known = True
            except ValueError:
                known = False
        if not known or port != str(self.port):
            raise Refused(421, "this server does not answer to that name")

    def check_origin(self, headers: Message) -> None:
        """Refuse what another site's page sends.

        Raises:
            Refused: an Origin that is missing or another one, or a request that a browser says is from elsewhere.
        """
        if headers.get("Origin") != f"http://{headers.get('Host')}":
            raise Refused(403, "the request is from another page")
        if headers.get("Sec-Fetch-Site", "same-origin") != "same-origin":
            raise Refused(403, "the request is from another page")

    def check_access(self, headers: Message) -> None:
        """Refuse who does not have the token, where there is one.

        Raises:
            Refused: no cookie with it.
        """
        if self.token is not None and not self.admits(self.cookie(headers, "access")):
            raise Refused(401, "open the address with the token that nashward vote printed")

    def check_form(self, headers: Message, session: str) -> None:
        """Refuse a write without the code that only a page of this server has (CSRF).

        Raises:
            Refused: it is missing or another session's.
        """
        given = headers.get("X-Nashward-Form") or ""
        if not session or not hmac.compare_digest(given.encode(), self.form_code(session).encode()):
            raise Refused(403, "the page is out of date; load it again")

    def check_bearer(self, headers: Message) -> None:
        """Refuse a program that does not have the key of the endpoint for votes.

        Raises:
            Refused: no such header.
        """
        expected = f"Bearer {self.key}"
        if not hmac.compare_digest((headers.get("Authorization") or "").encode(), expected.encode()):
            raise Refused(401, "the endpoint needs Authorization: Bearer and the key that nashward vote printed")

    @property
    def key(self) -> str:
        """Of the endpoint that programs send votes to."""
        return self.store.signature("endpoint")

    def form_code(self, session: str) -> str:
        """What a page of this server sends with each write."""
        return self.store.signature("form", session)

    def admits(self, token: str) -> bool:
        """Whether a token is the server's."""
        return self.token is not None and hmac.compare_digest(token.encode(), self.token.encode())

    def cookie(self, headers: Message, name: str) -> str:
        """The value of a cookie; empty where there is none.

        Other programs on this machine have their cookies beside it, as browsers share them among ports; http.cookies
        drops all of them for one that it cannot read.
        """
        given = (one.strip().partition("=") for one in (headers.get("Cookie") or "").split(";"))
        return next((value for key, _, value in given if key == self.names[name]), "")

    def set_cookie(self, name: str, value: str) -> str:
        """The header that keeps a cookie from scripts, and from what other sites send.

        Not Strict: a link in a chat would then arrive without the cookie, and the person as somebody new. Writes are
        checked by their Origin and their form code.
        """
        return f"{self.names[name]}={value}; Path=/; HttpOnly; SameSite=Lax; Max-Age=31536000"


def check_port(port: int) -> None:
    """Refuse what is no port.

    Raises:
        ValueError: not from 0 to 65535.
    """
    if not 0 <= port <= 65535:
        raise NashwardError(f"port is {port}; expected 0 (any that is free) to 65535")
