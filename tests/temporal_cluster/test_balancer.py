"""One address for several frontends, over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cli.temporal_cluster.balancer import Balancer
from cli.up.ports import LOOPBACK, Ports


@asynccontextmanager
async def frontend(name: str) -> AsyncIterator[tuple[asyncio.Server, int]]:
    """Answers each line with its name and the line."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(name.encode() + b" " + line)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, LOOPBACK, 0)
    yield server, int(server.sockets[0].getsockname()[1])
    server.close()


async def ask(port: int) -> str:
    """What one connection is answered; empty if it was closed."""
    reader, writer = await asyncio.open_connection(LOOPBACK, port)
    writer.write(b"hello\n")
    said = (await reader.readline()).decode().strip()
    writer.close()
    return said


async def test_connections_take_turns_and_pass_by_who_is_gone() -> None:
    async with frontend("a") as (first, port_a), frontend("b") as (_, port_b):
        balancer = Balancer(Ports().any(), behind=[port_a, port_b])
        await balancer.start()
        try:
            assert {await ask(balancer.port) for _ in range(2)} == {"a hello", "b hello"}
            first.close()
            assert {await ask(balancer.port) for _ in range(3)} == {"b hello"}
        finally:
            await balancer.stop()


async def test_with_nobody_behind_it_connections_are_closed() -> None:
    ports = Ports()
    balancer = Balancer(ports.any(), behind=[ports.any(), ports.any()])
    await balancer.start()
    try:
        assert await asyncio.wait_for(ask(balancer.port), 10) == ""
    finally:
        await balancer.stop()
