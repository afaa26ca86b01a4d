"""One HTTP POST to an address that somebody else chose: resolved once, checked, and only that address connected to.

No redirects, no proxies, no more than a few seconds in all, whatever the other side does.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from urllib.parse import SplitResult, urlsplit

from ifmdm_core.errors import BadInput, Forbidden, Unavailable

TIMEOUT_S = 10.0
"""For all of it: name, connection, answer."""
_UNICAST6 = ipaddress.ip_network("2000::/3")  # what is elsewhere leads back to this machine or its neighbours


def post(
    url: str, body: bytes, headers: Mapping[str, str], *, private: bool = False, timeout_s: float = TIMEOUT_S
) -> int:
    """The status of the answer; its body is not read.

    Args:
        private: whether addresses of this machine and of private networks will do.

    Raises:
        BadInput: no http(s) URL.
        Forbidden: its name resolves to no public address.
        Unavailable: no answer in time, or none that can be understood.
    """
    parts = urlsplit(url)
    host, port = parts.hostname, _port(parts)
    if parts.scheme not in ("http", "https") or not host:
        raise BadInput(f"{url[:200]!r} is no http(s) address")
    try:
        address = _resolve(host, port, private)
        connection = _Pinned(host, port, address, parts.scheme == "https", timeout_s)
        with contextlib.closing(connection), _deadline(connection, timeout_s):
            path = parts.path or "/"
            connection.request("POST", f"{path}?{parts.query}" if parts.query else path, body, dict(headers))
            return connection.getresponse().status
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise Unavailable(f"{host} did not answer: {type(error).__name__}: {error}") from None


def is_public(address: str) -> bool:
    """Whether an address is of the open internet: no loopback, private, link-local, multicast or translated one."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address) and (
        found not in _UNICAST6 or found.sixtofour or found.teredo
    ):
        return False
    return found.is_global and not found.is_multicast


def _port(parts: SplitResult) -> int:
    try:
        return parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        raise BadInput("the port of the address is no number from 0 to 65535") from None


def _resolve(host: str, port: int, private: bool) -> str:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = [str(entry[4][0]) for entry in found]
    usable = [address for address in addresses if private or is_public(address)]
    if not usable:
        raise Forbidden(
            f"{host} is {', '.join(sorted(set(addresses)))}, no public address",
            fix="allow it by its IP address in webhook_hosts, or start workers with --allow-private-webhooks",
        )
    return usable[0]


class _Pinned(http.client.HTTPConnection):
    """Connects to `address`, and speaks to `host` there."""

    def __init__(self, host: str, port: int, address: str, secure: bool, timeout_s: float) -> None:
        super().__init__(host, port, timeout=timeout_s)
        self.default_port = 443 if secure else 80  # which the header Host leaves out
        self._address, self._secure = address, secure

    def connect(self) -> None:
        sock = socket.create_connection((self._address, self.port), self.timeout)
        if self._secure:
            sock = ssl.create_default_context().wrap_socket(sock, server_hostname=self.host)
        self.sock = sock


@contextlib.contextmanager
def _deadline(connection: http.client.HTTPConnection, seconds: float) -> Iterator[None]:
    """Cuts the connection then: the timeout of a socket begins anew with every byte."""

    def cut() -> None:
        with contextlib.suppress(OSError, AttributeError):
            connection.sock.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
