"""Which hosts are this machine."""

from __future__ import annotations

import ipaddress

NAMES = ("localhost", "127.0.0.1", "::1")


def is_loopback(host: str | None) -> bool:
    """Whether a host is this machine: what is sent to it does not leave, and only it reaches what listens there.

    Example:
        >>> [is_loopback(host) for host in ("localhost", "127.0.0.2", "[::1]", "0.0.0.0", "127.example.org")]
        [True, True, True, False, False]
    """
    try:
        return host == "localhost" or ipaddress.ip_address((host or "").strip("[]")).is_loopback
    except ValueError:
        return False
