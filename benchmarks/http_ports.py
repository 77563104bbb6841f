"""Other HTTP clients behind the same port, for comparison: aiohttp and httpx.

aiohttp is set up as the sending path needs it: the guard on the URL, on what the resolver finds and on the socket, and no
redirects, cookies, proxies or decompression. httpx has no hook for a socket's address, so its figure is with the guard on
the URL alone, which is less than the port promises. Every failure is AnswerLost here: a round with one counts for nothing.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from typing import Any

import aiohttp
import httpx
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver
from yarl import URL

from channels.base import AnswerLost, HttpReply, TargetRefused
from infra.ssrf import SsrfGuard


class _GuardedResolver(AbstractResolver):
    def __init__(self, guard: SsrfGuard) -> None:
        self._guard = guard
        self._resolver = ThreadedResolver()

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET) -> list[ResolveResult]:
        found = [a for a in await self._resolver.resolve(host, port, family) if self._guard.allows_text(a["host"])]
        if not found:
            raise TargetRefused("target_address")
        return found

    async def close(self) -> None:
        await self._resolver.close()


class AiohttpPort:
    """Make and use it on one event loop."""

    def __init__(self, guard: SsrfGuard, *, connections: int) -> None:
        self._guard = guard
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                resolver=_GuardedResolver(guard), limit=connections, keepalive_timeout=3.0, socket_factory=self._socket
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
            trust_env=False,
            auto_decompress=False,
            skip_auto_headers=("Accept", "Accept-Encoding", "User-Agent", "Content-Type"),
        )

    def _socket(self, info: Any) -> socket.socket:
        family, kind, protocol, _, address = info
        if not self._guard.allows_text(address[0]):
            raise OSError("target refused")
        return socket.socket(family=family, type=kind, proto=protocol)

    async def request(
        self, method: str, url: str, *, headers: Mapping[str, str], body: bytes, timeout_s: float
    ) -> HttpReply:
        target = URL(url, encoded=True)
        self._guard.check_url(target)
        try:
            async with (
                asyncio.timeout(timeout_s),
                self._session.request(method, target, headers=headers, data=body, allow_redirects=False) as response,
            ):
                read = await response.read()
        except (aiohttp.ClientError, OSError):
            raise AnswerLost("http_disconnected") from None
        return HttpReply(response.status, {name.lower(): value for name, value in response.headers.items()}, read)

    async def close(self) -> None:
        await self._session.close()


class HttpxPort:
    """Make and use it on one event loop."""

    def __init__(self, guard: SsrfGuard, *, connections: int) -> None:
        self._guard = guard
        limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections, keepalive_expiry=3.0)
        self._client = httpx.AsyncClient(limits=limits, trust_env=False, follow_redirects=False)

    async def request(
        self, method: str, url: str, *, headers: Mapping[str, str], body: bytes, timeout_s: float
    ) -> HttpReply:
        self._guard.check_url(URL(url, encoded=True))
        try:
            response = await self._client.request(method, url, headers=dict(headers), content=body, timeout=timeout_s)
        except httpx.HTTPError:
            raise AnswerLost("http_disconnected") from None
        return HttpReply(response.status_code, dict(response.headers), response.content)

    async def close(self) -> None:
        await self._client.aclose()
