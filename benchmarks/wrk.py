"""wrk (Debian package `wrk`) as the closed-loop generator; where it is not installed, the one of `benchmarks.load`."""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.load import closed_loop

CONNECTIONS = 32
THREADS = 1
"""One: generator and service share the machine's cores."""
_TIMEOUT = "10s"

_SCRIPT = """
wrk.method = "POST"
wrk.path = %(path)s
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Authorization"] = %(authorization)s
local file = io.open(%(body)s, "rb")
wrk.body = file:read("*a")
file:close()
done = function(summary, latency, requests)
  io.write(string.format("FIGURES %%d %%d %%d %%d %%d %%d\\n", summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(99), summary.errors.status,
    summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout))
end
"""


@dataclass(frozen=True, slots=True)
class Target:
    """One kind of request to one server."""

    port: int
    path: str
    body: bytes
    key: str = "none"

    def request(self) -> bytes:
        """As bytes on the wire."""
        head = (
            f"POST {self.path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nContent-Type: application/json\r\n"
            f"Authorization: Bearer {self.key}\r\nContent-Length: {len(self.body)}\r\n\r\n"
        )
        return head.encode() + self.body


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one round."""

    per_second: float
    p50_ms: float
    p99_ms: float
    refused: int
    """Answers that were not 2xx, and connections that broke."""

    def json(self) -> dict[str, Any]:
        return asdict(self)


class Generator:
    """The closed-loop generator of this machine; the same for both sides."""

    def __init__(self) -> None:
        self._wrk = shutil.which("wrk")

    @property
    def description(self) -> str:
        if self._wrk is None:
            return f"benchmarks.load.closed_loop, {CONNECTIONS} connections (wrk is not installed)"
        return f"wrk -t{THREADS} -c{CONNECTIONS} --timeout {_TIMEOUT} -s <fixed POST body> (Debian package wrk)"

    async def run(self, target: Target, *, duration_s: float, connections: int = CONNECTIONS) -> Figures:
        if self._wrk is None:
            run = await closed_loop(
                target.port, requests=[target.request()], connections=connections, duration_s=duration_s
            )
            refused = sum(count for status, count in run.statuses.items() if not 200 <= status < 300)
            return Figures(round(run.per_second, 1), run.ms(0.5), run.ms(0.99), refused)
        return await self._run_wrk(self._wrk, target, duration_s=duration_s, connections=connections)

    async def _run_wrk(self, wrk: str, target: Target, *, duration_s: float, connections: int) -> Figures:
        with tempfile.TemporaryDirectory() as folder:
            script = _script(target, folder=folder)
            running = await asyncio.create_subprocess_exec(
                wrk, f"-t{THREADS}", f"-c{connections}", f"-d{max(1, round(duration_s))}s", "--timeout", _TIMEOUT,
                "-s", script, f"http://127.0.0.1:{target.port}",
                stdout=asyncio.subprocess.PIPE,
            )  # fmt: skip
            said, _ = await running.communicate()
        line = next(line for line in said.decode().splitlines() if line.startswith("FIGURES "))
        requests, took_us, p50_us, p99_us, status_errors, socket_errors = (int(part) for part in line.split()[1:])
        per_second = round(requests / took_us * 1e6, 1)
        return Figures(per_second, round(p50_us / 1000, 2), round(p99_us / 1000, 2), status_errors + socket_errors)


def _script(target: Target, *, folder: str) -> str:
    """Write wrk's script and the body it reads; the script's path."""
    script, body = Path(folder, "post.lua"), Path(folder, "body")
    body.write_bytes(target.body)
    values = {"path": target.path, "authorization": f"Bearer {target.key}", "body": str(body)}
    script.write_text(_SCRIPT % {name: json.dumps(value) for name, value in values.items()})
    return str(script)
