"""HttpPort on aiohttp, with the SSRF guard on every address that is really connected to.

Where a request stands is told by one flag, `_Progress.connected`, set when the connector hands out a connection, which is
the step before the first byte is written. aiohttp's exceptions alone do not tell: its total time-out is the same
`TimeoutError` in the queue for a connection, in DNS, in TLS and after the body. Before the flag: NotSent. After it:
AnswerLost, unless the answer's headers have come.

aiohttp resends by itself only methods of `IDEMPOTENT_METHODS` (client.py, `retry_persistent_connection`); POST is not one,
and this client switches the resend off for all. What remains is the keep-alive race: a connection that the server closed
while it was idle. `_Connector` looks at a reused socket before writing (anything to read there, end of file included,
means that it is no longer ours to use), and idle connections live shorter than servers keep them. A close that is still
on the wire cannot be seen from here, and whether the server had read the request neither: AnswerLost.
"""

from __future__ import annotations

import asyncio
import re
import select
import socket
import ssl
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any
from weakref import WeakSet

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_reqrep import ClientRequest
from aiohttp.connector import Connection
from aiohttp.tracing import Trace
from yarl import URL

from channels.base import AnswerLost, HttpReply, NotSent, TargetRefused
from infra.settings import Settings
from infra.ssrf import SsrfGuard

MAX_BODY_BYTES = 64 * 1024
KEEPALIVE_S = 3.0
"""Node.js closes idle connections after 5 s, gunicorn after 2; shorter than most, long enough for a busy lane."""
DNS_TTL_S = 10
_BLANK = re.compile(r"[\x00-\x20\x7f-\xa0]")
_WIRE_URL = re.compile(r"(?:[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+")


@dataclass(slots=True)
class _Progress:
    connected: bool = False


_progress: ContextVar[_Progress] = ContextVar("http_progress")


class HttpClient:
    """At most `connections` at once over all targets; callers beyond that wait inside their own `timeout_s`.

    Create and use it on one event loop; `close` at the end. No redirects, cookies, proxies, netrc or decompression.
    """

    def __init__(self, *, connections: int, allow_networks: Sequence[str] = (), tls: ssl.SSLContext | None = None) -> None:
        self._guard = SsrfGuard(allow_networks=allow_networks)
        self._connections = connections
        self._tls = tls
        self._session: aiohttp.ClientSession | None = None
        self._resolver: _GuardedResolver | None = None

    @classmethod
    def from_settings(cls, settings: Settings) -> HttpClient:
        return cls(connections=settings.webhook_concurrency, allow_networks=settings.webhook_allow_networks)

    async def request(
        self, method: str, url: str, *, headers: Mapping[str, str], body: bytes, timeout_s: float
    ) -> HttpReply:
        """See HttpPort. `timeout_s` bounds everything: queue, DNS, TLS, request, answer and its body.

        Once the answer's headers are here it is an answer: a body that breaks off, stalls or passes 64 KiB is returned as
        far as it came, and the connection is closed.
        """
        target = self._target(url)
        progress = _Progress()
        token = _progress.set(progress)
        deadline = asyncio.get_running_loop().time() + timeout_s
        try:
            async with asyncio.timeout_at(deadline):
                response = await self._open().request(
                    method, target, headers=headers, data=body or None, allow_redirects=False
                )
        except (aiohttp.ClientError, OSError) as error:  # TimeoutError is an OSError
            # never the text of it: it names hosts
            if isinstance(error, aiohttp.InvalidURL):
                raise TargetRefused("target_url") from None
            raise (AnswerLost if progress.connected else NotSent)(_code(error)) from None
        finally:
            _progress.reset(token)
        return HttpReply(response.status, _lower(response.headers), await _read(response, deadline=deadline))

    def _target(self, url: str) -> URL:
        """Parsed once: the guard and aiohttp see the same host, so no second parser can be talked into another.

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
        return target

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._resolver = _GuardedResolver(self._guard)
            connector = _Connector(
                guard=self._guard,
                resolver=self._resolver,
                ttl_dns_cache=DNS_TTL_S,
                limit=self._connections,
                keepalive_timeout=KEEPALIVE_S,
                ssl=self._tls if self._tls is not None else True,
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),  # `asyncio.timeout` above, to the millisecond
                trust_env=False,
                auto_decompress=False,
                skip_auto_headers=("Accept", "Accept-Encoding", "User-Agent", "Content-Type"),
            )
            self._session._retry_connection = False
        return self._session

    async def close(self) -> None:
        """Nothing is in flight any more."""
        if self._session is not None:
            await self._session.close()
            self._session = None
        if self._resolver is not None:
            await self._resolver.close()
            self._resolver = None


class _Connector(aiohttp.TCPConnector):
    """Notes the moment a connection is handed out, skips stale ones, and guards the address of every new socket."""

    def __init__(self, *, guard: SsrfGuard, **options: Any) -> None:
        super().__init__(socket_factory=self._guarded_socket, **options)
        self._guard = guard
        self._used: WeakSet[object] = WeakSet()

    def _guarded_socket(self, info: Any) -> socket.socket:
        """The last gate, for literals and resolved names alike: `info` is what `connect` gets in the next line."""
        family, kind, protocol, _, address = info
        if not self._guard.allows_text(address[0]):
            raise OSError("target refused")
        return socket.socket(family=family, type=kind, proto=protocol)

    async def connect(self, req: ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout) -> Connection:
        connection = await super().connect(req, traces, timeout)
        while (protocol := connection.protocol) in self._used and _readable(connection):
            connection.close()
            connection = await super().connect(req, traces, timeout)
        if protocol is not None:
            self._used.add(protocol)
        _progress.get().connected = True
        return connection


class _GuardedResolver(AbstractResolver):
    """getaddrinfo in threads of its own, so that slow name servers starve nobody else; keeps the allowed addresses."""

    def __init__(self, guard: SsrfGuard) -> None:
        self._guard = guard
        self._threads = ThreadPoolExecutor(max_workers=8, thread_name_prefix="dns")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Raises OSError if the name does not resolve, TargetRefused if it has no address that may be connected to."""
        infos = await asyncio.get_running_loop().run_in_executor(self._threads, _lookup_blocking, host, port, family)
        found = [
            ResolveResult(
                hostname=host,
                host=str(address[0]),
                port=port,
                family=kind,
                proto=protocol,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for kind, _, protocol, _, address in infos
            if self._guard.allows_text(str(address[0]))
        ]
        if not found:
            raise TargetRefused("target_address")
        return found

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


def _lookup_blocking(host: str, port: int, family: int) -> list[Any]:
    return socket.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)


def _readable(connection: Connection) -> bool:
    """True if something waits on an idle connection: the server's close, or bytes nobody asked for."""
    transport = connection.transport
    sock = transport.get_extra_info("socket") if transport is not None else None
    if sock is None or sock.fileno() < 0:
        return True
    poll = select.poll()
    poll.register(sock.fileno(), select.POLLIN)
    return bool(poll.poll(0))


async def _read(response: aiohttp.ClientResponse, *, deadline: float) -> bytes:
    """The body, at most 64 KiB, as far as it came until `deadline` (loop time)."""
    content = response.content
    chunks: list[bytes] = []
    try:
        if content.is_eof():  # most answers come in one piece: no timer for them
            await _collect(content, chunks)
        else:
            async with asyncio.timeout_at(deadline):
                await _collect(content, chunks)
    except (aiohttp.ClientError, OSError):
        pass
    finally:
        if content.at_eof():
            response.release()
        else:
            response.close()
    return b"".join(chunks)


async def _collect(content: aiohttp.StreamReader, chunks: list[bytes]) -> None:
    room = MAX_BODY_BYTES
    while room > 0 and (chunk := await content.read(room)):
        chunks.append(chunk)
        room -= len(chunk)


def _lower(headers: Mapping[str, str]) -> Mapping[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def _code(error: Exception) -> str:
    """Short, stable, without names."""
    cause = error.__cause__
    if isinstance(error, TimeoutError):
        return "http_timeout"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "http_dns_failed"
    if isinstance(error, (aiohttp.ClientSSLError, ssl.SSLError)):
        return "http_tls_failed"
    if isinstance(error, ConnectionRefusedError) or isinstance(cause, ConnectionRefusedError):
        return "http_connect_refused"
    if isinstance(error, aiohttp.ClientConnectorError):
        return "http_connect_failed"
    if isinstance(error, aiohttp.ClientResponseError):
        return "http_bad_reply"
    return "http_disconnected"
