"""Calls of the HTTP client, for tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from channels.base import HttpReply
from infra.http import HttpClient
from tests.channels.lean_http import LeanHttp

LOOPBACK = ("127.0.0.0/8", "::1/128")
CLOSING = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"

EMPTY = "HTTP/1.1 204 No Content\r\n\r\n"


@asynccontextmanager
async def client(**options: Any) -> AsyncIterator[HttpClient]:
    http = HttpClient(**{"connections": 4, "allow_networks": LOOPBACK, **options})
    try:
        yield http
    finally:
        await http.close()


async def post(http: HttpClient, url: str, *, body: str = "x", timeout_s: float = 5.0) -> HttpReply:
    return await http.request("POST", url, headers={}, body=body.encode(), timeout_s=timeout_s)


def bodies(lean: LeanHttp) -> list[str]:
    return [body.decode() for _, body in lean.requests]


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not true():  # noqa: ASYNC110 - what is waited for happens in the other end's own code
            await asyncio.sleep(0.002)
