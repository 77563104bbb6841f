"""From a name to an open connection.

Names are looked up in threads of their own, and what was found is kept for a moment. The guard looks at every address
twice: when it is found, and when its socket is made. There is one look-up for each connection, and it is used.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address
from typing import Any

import aiohappyeyeballs

from channels.base import TargetRefused
from infra.http_connection import HttpConnection, Origin, Owner
from infra.ssrf import SsrfGuard

DNS_TTL_S = 10.0
MAX_NAMES = 4096
THREADS = 8
"""Slow name servers starve nobody else in the process; look-ups beyond these wait inside their callers' time-outs."""

SECOND_ADDRESS_AFTER_S = 0.25
"""RFC 8305: how long one address is tried alone before the next one is tried beside it."""

AddrInfo = tuple[int, int, int, str, Any]
"""As getaddrinfo gives it."""
Lookup = Callable[[str, int, int], list[AddrInfo]]


class GuardedNames:
    """The addresses of a host that may be connected to, each time beginning with the next one."""

    def __init__(self, guard: SsrfGuard, *, lookup_blocking: Lookup) -> None:
        self._guard = guard
        self._lookup_blocking = lookup_blocking
        self._threads = ThreadPoolExecutor(max_workers=THREADS, thread_name_prefix="dns")
        self._known: dict[tuple[str, int], tuple[float, list[AddrInfo]]] = {}
        self._running: dict[tuple[str, int], asyncio.Task[list[AddrInfo]]] = {}

    async def addresses(self, host: str, port: int) -> list[AddrInfo]:
        """Raises OSError if the name does not resolve, TargetRefused if it has no address that may be connected to."""
        literal = _literal(host, port)
        if literal is not None:
            return [literal]
        key = (host, port)
        expires, found = self._known.get(key, (0.0, []))
        if expires <= asyncio.get_running_loop().time():
            found = await self._shared(key)
        turn = found[1:] + found[:1]
        if key in self._known:
            self._known[key] = (self._known[key][0], turn)
        return found

    def forget(self, host: str, port: int) -> None:
        """None of its addresses answers: the next caller looks it up anew."""
        self._known.pop((host, port), None)

    async def close(self) -> None:
        running = list(self._running.values())
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _shared(self, key: tuple[str, int]) -> list[AddrInfo]:
        """One look-up for all who ask at the same time; a caller that gives up does not stop it."""
        task = self._running.get(key)
        if task is None:
            task = self._running[key] = asyncio.create_task(self._look_up(key))
            task.add_done_callback(_retrieved)
        return await asyncio.shield(task)

    async def _look_up(self, key: tuple[str, int]) -> list[AddrInfo]:
        loop = asyncio.get_running_loop()
        try:
            infos = await loop.run_in_executor(self._threads, self._lookup_blocking, *key, socket.AF_UNSPEC)
        finally:
            del self._running[key]
        found = [info for info in infos if self._guard.allows_text(str(info[4][0]))]
        if not found:
            raise TargetRefused("target_address")
        while len(self._known) >= MAX_NAMES:  # the oldest
            del self._known[next(iter(self._known))]
        self._known.pop(key, None)
        self._known[key] = (loop.time() + DNS_TTL_S, found)
        return found


class Opener:
    """Opens connections: to addresses that the guard lets through, and over TLS only to who can prove the name."""

    def __init__(self, guard: SsrfGuard, names: GuardedNames, *, tls: ssl.SSLContext) -> None:
        self._guard = guard
        self._names = names
        self._tls = tls

    async def open(self, origin: Origin, *, owner: Owner) -> HttpConnection:
        """Raises OSError (DNS, TCP, TLS) or TargetRefused."""
        sock = await self._connected(origin)
        try:
            _, connection = await asyncio.get_running_loop().create_connection(
                lambda: HttpConnection(origin, owner=owner),
                sock=sock,
                ssl=self._tls if origin.tls else None,
                server_hostname=origin.host.rstrip(".") if origin.tls else None,
            )
        except BaseException:
            sock.close()
            raise
        return connection

    async def _connected(self, origin: Origin) -> socket.socket:
        addresses = await self._names.addresses(origin.host, origin.port)
        try:
            return await aiohappyeyeballs.start_connection(
                addr_infos=addresses,
                happy_eyeballs_delay=SECOND_ADDRESS_AFTER_S,
                interleave=1,
                socket_factory=self._guarded_socket,
            )
        except RuntimeError:  # uvloop's word for some failures
            raise OSError("connect failed") from None
        except OSError:
            self._names.forget(origin.host, origin.port)
            raise

    def _guarded_socket(self, info: Any) -> socket.socket:
        """The last gate, for literals and resolved names alike: `info` is what `connect` gets in the next line."""
        family, kind, protocol, _, address = info
        if not self._guard.allows_text(address[0]):
            raise OSError("target refused")
        return socket.socket(family=family, type=kind, proto=protocol)


def _literal(host: str, port: int) -> AddrInfo | None:
    """The address itself, where the host is one."""
    try:
        version = ip_address(host).version
    except ValueError:
        return None
    if version == 6:
        return (socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port, 0, 0))
    return (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port))


def _retrieved(task: asyncio.Task[list[AddrInfo]]) -> None:
    """Every waiter may have gone; its error then is nobody's."""
    if not task.cancelled():
        task.exception()
