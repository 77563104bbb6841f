"""One address for several frontends: each connection goes to the next frontend that takes it.

What a TCP load balancer or a name with several addresses does where Temporal runs on several machines. A client whose
frontend dies connects anew, and comes to another one.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

from cli.up.ports import LOOPBACK

_CONNECT_S = 2.0
_CHUNK_BYTES = 256 * 1024


class Balancer:
    def __init__(self, port: int, *, behind: Sequence[int]) -> None:
        """`behind`: ports of the frontends on the loopback address."""
        self.port = port
        self._behind = list(behind)
        self._turn = 0
        self._server: asyncio.Server | None = None
        self._under_way: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Raises OSError if the port is taken."""
        self._server = await asyncio.start_server(self._accepted, LOOPBACK, self.port)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._under_way:
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._carry(reader, writer))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Both directions, until either side ends."""
        with contextlib.closing(writer):
            found = await self._next_frontend()
            if found is None:
                return
            answers, requests = found
            with contextlib.closing(requests):
                pumps = [asyncio.create_task(_pump(reader, requests)), asyncio.create_task(_pump(answers, writer))]
                try:
                    await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for pump in pumps:
                        pump.cancel()
                    await asyncio.gather(*pumps, return_exceptions=True)

    async def _next_frontend(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        for _ in self._behind:
            port = self._behind[self._turn % len(self._behind)]
            self._turn += 1
            with contextlib.suppress(OSError, TimeoutError):
                return await asyncio.wait_for(asyncio.open_connection(LOOPBACK, port), _CONNECT_S)
        return None


async def _pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await source.read(_CHUNK_BYTES):
            target.write(data)
            await target.drain()
