"""HttpPort: a small, strict HTTP/1.1 client, with the SSRF guard on every address that is really connected to.

It is our own because it is the largest part of what a webhook costs (docs/decisions/0017-http-client.md). `http_connection`
speaks on one connection and knows what was sent, `http_pool` says who may use which, `http_opening` gets from a name to a
guarded, verified connection; here URLs are judged and requests are put together.

Nothing is ever sent twice from here. What remains is the keep-alive race: a connection that the server closes while it is
idle. It is looked at in the step that writes to it: a close (or anything else to read) that has reached this machine by
then means that another connection is taken, and nothing has been written to the first. A close that is still on the wire
cannot be seen from here, and whether the server had read the request neither: AnswerLost.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from yarl import URL

from channels.base import HttpReply, NotSent, TargetRefused
from infra.http_connection import MAX_BODY_BYTES, HttpConnection, Origin
from infra.http_opening import AddrInfo, GuardedNames, Opener
from infra.http_pool import HttpPool
from infra.settings import Settings
from infra.ssrf import SsrfGuard

__all__ = ["MAX_BODY_BYTES", "HttpClient"]

KNOWN_URLS = 4096
ACCOUNTS_SHARE = 4
"""Exchanges at once, in multiples of what the installation's own account may have: the others are for tenants' accounts."""
_BLANK = re.compile(r"[\x00-\x20\x7f-\xa0]")
_WIRE_URL = re.compile(r"(?:[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+")
_METHOD = re.compile(r"[A-Z]{1,20}")
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_FRAMING = frozenset({"host", "content-length", "transfer-encoding", "connection", "trailer", "te", "upgrade", "expect"})
"""Headers that say where a message ends or what becomes of the connection: nobody's but this client's."""
_WITH_LENGTH = frozenset({"POST", "PUT", "PATCH"})
"""Methods whose request says Content-Length: 0 where it has no body (RFC 9110, 8.6)."""


@dataclass(frozen=True, slots=True)
class _Target:
    origin: Origin
    line: str
    """The request line after the method, and the header Host."""


class HttpClient:
    """At most `connections` exchanges at once over all targets, and `per_origin` to one; callers beyond that wait inside
    their own `timeout_s`.

    Create and use it on one event loop; `close` at the end. No redirects, cookies, proxies, netrc or decompression.
    """

    def __init__(
        self,
        *,
        connections: int,
        per_origin: int | None = None,
        allow_networks: Sequence[str] = (),
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._guard = SsrfGuard(allow_networks=allow_networks)
        self._connections = connections
        self._per_origin = connections if per_origin is None else per_origin
        self._tls = tls if tls is not None else _default_tls()
        self._target = lru_cache(maxsize=KNOWN_URLS)(self._judged)
        self._pool: HttpPool | None = None
        self._names: GuardedNames | None = None

    @classmethod
    def from_settings(cls, settings: Settings) -> HttpClient:
        """Tenants' own webhook accounts use the same client. Slots are counted for each account (`domain.shares`); here a
        host that hangs is bounded over all of them."""
        most = settings.webhook_concurrency
        return cls(
            connections=most * ACCOUNTS_SHARE,
            per_origin=max(1, most * 3 // 4),
            allow_networks=settings.webhook_allow_networks,
        )

    async def request(
        self, method: str, url: str, *, headers: Mapping[str, str], body: bytes, timeout_s: float
    ) -> HttpReply:
        """See HttpPort. `timeout_s` bounds everything: queue, DNS, TLS, request, answer and its body.

        Once the answer's headers are here it is an answer: a body that breaks off, stalls or passes 64 KiB is returned as
        far as it came, and the connection is closed. Raises ValueError for a method or header that cannot be written.
        """
        target = self._target(url)
        request = _request(method, target, headers, body)
        deadline = asyncio.get_running_loop().time() + timeout_s
        pool = self._pool or self._opened()
        connection = pool.take_idle(target.origin)
        if connection is None:
            connection = await _taken(pool, target.origin, deadline=deadline)
        answer = connection.send(request, deadline=deadline, head_only=method == "HEAD")
        try:
            return await answer
        except asyncio.CancelledError:
            if not answer.cancelled():
                answer.exception()  # it came in the same moment, and nobody is left to take it
            connection.abort()
            raise
        finally:
            pool.give(connection)

    def _judged(self, url: str) -> _Target:
        """Parsed once: the guard and the request have the same host, so no second parser can be talked into another.

        A URL that is already in its wire form stays as it is to the byte, because some vendors sign it; any other is
        quoted. Spaces and control characters are refused: parsers drop them (RFC 3986 has none), each in its own way.
        """
        if _BLANK.search(url):
            raise TargetRefused("target_url")
        try:
            target = URL(url, encoded=_WIRE_URL.fullmatch(url) is not None)
            self._guard.check_url(target)
        except ValueError:
            raise TargetRefused("target_url") from None
        host, port, path = target.raw_host, target.port, target.raw_path_qs
        if not host or port is None or not path.isascii() or _BLANK.search(path):
            raise TargetRefused("target_url")
        return _Target(
            Origin(target.scheme == "https", host, port), f" {path} HTTP/1.1\r\nHost: {target.host_port_subcomponent}"
        )

    def _opened(self) -> HttpPool:
        self._names = GuardedNames(self._guard, lookup_blocking=_lookup_blocking)
        opener = Opener(self._guard, self._names, tls=self._tls)
        self._pool = HttpPool(opener, connections=self._connections, per_origin=self._per_origin)
        return self._pool

    async def close(self) -> None:
        """Nothing is in flight any more."""
        if self._pool is not None:
            await self._pool.close()
            self._pool = None
        if self._names is not None:
            await self._names.close()
            self._names = None


async def _taken(pool: HttpPool, origin: Origin, *, deadline: float) -> HttpConnection:
    """A connection that may be written to now. Raises NotSent or TargetRefused."""
    try:
        async with asyncio.timeout_at(deadline):
            return await pool.take(origin)
    except OSError as error:  # TimeoutError is an OSError; never the text of it: it names hosts
        raise NotSent(_code(error)) from None


def _request(method: str, target: _Target, headers: Mapping[str, str], body: bytes) -> bytes:
    """The request as it is written. Raises ValueError for what would not be one request, or another than was meant."""
    if _METHOD.fullmatch(method) is None or method == "CONNECT":
        raise ValueError("not a method of this client")
    lines = [method + target.line]
    for name, value in headers.items():
        if not value.isprintable() and _CONTROL.search(value):
            raise ValueError("not a header's value")
        lines.append(_field(name) + value)
    if body or method in _WITH_LENGTH:
        lines.append(f"Content-Length: {len(body)}")
    lines.append("\r\n")
    return "\r\n".join(lines).encode() + body


@lru_cache(maxsize=256)
def _field(name: str) -> str:
    if _TOKEN.fullmatch(name) is None or name.lower() in _FRAMING:
        raise ValueError("not a header that a caller may set")
    return f"{name}: "


def _lookup_blocking(host: str, port: int, family: int) -> list[AddrInfo]:
    found = socket.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    return [(int(kind), int(sort), protocol, name, address) for kind, sort, protocol, name, address in found]


@lru_cache(maxsize=1)
def _default_tls() -> ssl.SSLContext:
    """The system's authorities; reading them takes 20 ms."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


def _code(error: OSError) -> str:
    """Short, stable, without names."""
    if isinstance(error, TimeoutError):
        return "http_timeout"
    if isinstance(error, socket.gaierror):
        return "http_dns_failed"
    if isinstance(error, ssl.SSLError):
        return "http_tls_failed"
    if isinstance(error, ConnectionRefusedError):
        return "http_connect_refused"
    if isinstance(error, (ConnectionResetError, ConnectionAbortedError)):
        return "http_disconnected"
    return "http_connect_failed"
