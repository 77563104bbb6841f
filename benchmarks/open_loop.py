"""An open loop at a constant rate: keep-alive HTTP/1.1 over plain sockets, in a process of its own.

Each request counts from the moment it was meant to be sent, so one that waits for a free connection, or for a generator
that is late itself, counts with all of its wait (no coordinated omission). There is no event loop, as every microsecond
of the generator is taken from the service on the same cores: with asyncio it held a whole core at 10,000 a second.
"""

from __future__ import annotations

import asyncio
import json
import select
import socket
import sys
import time
from collections import Counter, deque
from dataclasses import asdict, dataclass, field

from benchmarks.load import quantile_ms

TICK_S = 0.0003
"""It looks this often for what is due and for answers; a latency is at most this much too long."""
DRAIN_S = 10.0
_READ = 65_536
_HEAD_END, _LENGTH = b"\r\n\r\n", b"\r\ncontent-length:"


@dataclass(slots=True)
class Steady:
    """What the generator saw."""

    took_s: float = 0.0
    seconds: list[float] = field(default_factory=list)
    """One for each answer, from the intended send."""
    statuses: dict[str, int] = field(default_factory=dict)
    """Answers by status code; "0" for a connection that broke."""
    own_late_s: list[float] = field(default_factory=list)
    """For each request: how late the generator itself noticed that it was due. No doing of the service."""
    sent_late: int = 0
    """Sends more than 1 ms after they were meant, which is the generator's or the pool's doing."""
    cpu_s: float = 0.0
    """CPU time of the generator itself."""

    @property
    def per_second(self) -> float:
        return len(self.seconds) / self.took_s if self.took_s else 0.0

    def ms(self, share: float) -> float:
        """The latency in ms that `share` of all requests stay below."""
        return quantile_ms(self.seconds, share)


async def open_loop(port: int, *, request: bytes, connections: int, per_second: float, duration_s: float) -> Steady:
    """`per_second` requests a second at even distances, whatever the answers do."""
    plan = {
        "port": port,
        "request": request.decode("latin-1"),
        "connections": connections,
        "per_second": per_second,
        "duration_s": duration_s,
    }
    generator = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.open_loop", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    answer, _ = await generator.communicate(json.dumps(plan).encode())
    if generator.returncode:
        raise RuntimeError("the generator of constant load failed; its own error is above")
    return Steady(**json.loads(answer))


class _Generator:
    """Not thread-safe; one `run`."""

    def __init__(self, port: int, *, request: bytes, connections: int) -> None:
        self._request = request
        self._seen = Steady()
        self._statuses: Counter[str] = Counter()
        self._began: dict[int, float] = {}
        self._partial: dict[int, bytes] = {}
        self._poll = select.epoll()
        self._sockets = dict(self._connected(port) for _ in range(connections))
        self._free = deque(self._sockets)

    def _connected(self, port: int) -> tuple[int, socket.socket]:
        opened = socket.create_connection(("127.0.0.1", port))
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        opened.setblocking(False)
        self._poll.register(opened.fileno(), select.EPOLLIN)
        return opened.fileno(), opened

    def run(self, *, per_second: float, duration_s: float) -> Steady:
        seen, cpu_s = self._seen, time.process_time()
        due: deque[float] = deque()
        meant_count, total = 0, int(per_second * duration_s)
        began = now = time.perf_counter()
        while (len(seen.seconds) < total or meant_count < total) and now < began + duration_s + DRAIN_S and self._sockets:
            while meant_count < total and (meant := began + meant_count / per_second) <= now:
                due.append(meant)
                seen.own_late_s.append(now - meant)
                meant_count += 1
            while due and self._free:
                self._send(due.popleft())
            time.sleep(TICK_S)
            for file, _ in self._poll.poll(0):
                self._read(file)
            now = time.perf_counter()
        seen.took_s, seen.cpu_s = time.perf_counter() - began, time.process_time() - cpu_s
        seen.statuses = dict(self._statuses)
        return seen

    def _send(self, meant: float) -> None:
        file = self._free.popleft()
        self._began[file] = meant
        self._seen.sent_late += time.perf_counter() - meant > 0.001
        self._sockets[file].sendall(self._request)

    def _read(self, file: int) -> None:
        try:
            data = self._sockets[file].recv(_READ)
        except ConnectionError:
            data = b""
        if not data:
            self._statuses["0"] += 1
            self._poll.unregister(file)
            self._sockets.pop(file).close()
            return
        data = self._partial.pop(file, b"") + data
        end = data.find(_HEAD_END)
        if end < 0 or len(data) < end + 4 + _length(data[: end + 2]):
            self._partial[file] = data
            return
        self._seen.seconds.append(time.perf_counter() - self._began[file])
        self._statuses[data[9:12].decode()] += 1
        self._free.append(file)


def _length(head: bytes) -> int:
    """Bytes of the body, by its head."""
    at = head.find(_LENGTH)
    if at < 0:
        head = head.lower()
        at = head.find(_LENGTH)
    return 0 if at < 0 else int(head[at + len(_LENGTH) : head.index(b"\r\n", at + 2)])


def _main(plan: dict[str, str | float]) -> Steady:
    request = str(plan["request"]).encode("latin-1")
    generator = _Generator(int(plan["port"]), request=request, connections=int(plan["connections"]))
    return generator.run(per_second=float(plan["per_second"]), duration_s=float(plan["duration_s"]))


if __name__ == "__main__":
    json.dump(asdict(_main(json.load(sys.stdin))), sys.stdout)
