"""Load in a closed loop over keep-alive HTTP/1.1 connections, on asyncio protocols, where `wrk` is not installed."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import cast


@dataclass(slots=True)
class Run:
    """What a generator saw."""

    took_s: float = 0.0
    seconds: list[float] = field(default_factory=list)
    """One for each answer, from its send."""
    statuses: Counter[int] = field(default_factory=Counter)

    @property
    def per_second(self) -> float:
        return len(self.seconds) / self.took_s if self.took_s else 0.0

    def ms(self, share: float) -> float:
        """The latency in ms that `share` of all requests stay below."""
        return quantile_ms(self.seconds, share)


def quantile_ms(seconds: Sequence[float], share: float) -> float:
    ordered = sorted(seconds)
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000, 2) if ordered else float("nan")


class Connection(asyncio.Protocol):
    """One request at a time; reads a status line, a length and that many bytes."""

    def __init__(self, answered: Callable[[Connection, int], None]) -> None:
        self._answered = answered
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self.began_s = 0.0
        self.open = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.open = True

    def connection_lost(self, _: Exception | None) -> None:
        self.open = False
        self._answered(self, 0)

    def send(self, request: bytes, *, began_s: float) -> None:
        assert self._transport is not None
        self.began_s = began_s
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer + data if self._buffer else data
        end = buffer.find(b"\r\n\r\n")
        if end < 0 or len(buffer) < end + 4 + _length(buffer, end):
            self._buffer = buffer
            return
        self._buffer = b""
        self._answered(self, int(buffer[9:12]))

    def close(self) -> None:
        self._answered = _nobody
        if self._transport is not None:
            self._transport.close()


def _nobody(_connection: Connection, _status: int) -> None:
    return


def _length(buffer: bytes, end: int) -> int:
    head = buffer[:end].lower() + b"\r\n"
    at = head.find(b"\r\ncontent-length:")
    return 0 if at < 0 else int(head[at + 17 : head.index(b"\r\n", at + 2)])


async def _connect(port: int, count: int, answered: Callable[[Connection, int], None]) -> list[Connection]:
    loop = asyncio.get_running_loop()
    made = [await loop.create_connection(lambda: Connection(answered), "127.0.0.1", port) for _ in range(count)]
    return [protocol for _, protocol in made]


async def closed_loop(port: int, *, requests: Sequence[bytes], connections: int, duration_s: float) -> Run:
    """Each connection sends its next request when its last was answered, for `duration_s`."""
    run, turn = Run(), 0
    over = asyncio.Event()

    def answered(connection: Connection, status: int) -> None:
        nonlocal turn
        now = time.perf_counter()
        run.statuses[status] += 1
        run.seconds.append(now - connection.began_s)
        if now < until and connection.open:
            turn += 1
            connection.send(requests[turn % len(requests)], began_s=now)
        else:
            over.set()

    until = time.perf_counter() + duration_s
    pool = await _connect(port, connections, answered)
    began = time.perf_counter()
    until = began + duration_s
    for place, connection in enumerate(pool):
        connection.send(requests[place % len(requests)], began_s=time.perf_counter())
    await over.wait()
    run.took_s = time.perf_counter() - began
    for connection in pool:
        connection.close()
    return run
