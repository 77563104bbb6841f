"""One real Cassandra node on the loopback address: its folder, its command line, and whether it answers.

Small heap, no JMX, and a commit log that is on the disk before a write is answered.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cli.cassandra.jars import SERVER

LOOPBACK = "127.0.0.1"
DATACENTER = "datacenter1"
"""What SimpleSnitch calls the only one."""
READY_S = 180.0
STOP_S = 30.0
_TOKENS = 16
_OPTIONS_FRAME = bytes([4, 0, 0, 0, 5, 0, 0, 0, 0])
_SUPPORTED = 6
_ANSWER_S = 2.0


@dataclass(frozen=True, slots=True)
class Node:
    """One node. `password`: clients must log in; the first user is then Cassandra's own, cassandra/cassandra."""

    folder: Path
    port: int
    """Where clients connect."""
    storage_port: int
    password: bool = False
    heap_mb: int = 512

    def configure(self) -> None:
        """Write its configuration; the data of an earlier start stays."""
        for name in ("data", "commitlog", "hints", "saved_caches", "cdc_raw", "log", "tmp"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        values = {
            "DIR": str(self.folder),
            "CQL_PORT": str(self.port),
            "STORAGE_PORT": str(self.storage_port),
            "TOKENS": ",".join(str(-(2**63) + k * (2**64 // _TOKENS)) for k in range(_TOKENS)),
            "AUTHENTICATOR": "PasswordAuthenticator" if self.password else "AllowAllAuthenticator",
            "AUTHORIZER": "CassandraAuthorizer" if self.password else "AllowAllAuthorizer",
        }
        template = (SERVER / "cassandra.yaml.in").read_text(encoding="utf-8")
        text = re.sub(r"@([A-Z_]+)@", lambda match: values[match[1]], template)
        (self.folder / "cassandra.yaml").write_text(text, encoding="utf-8")

    def command(self, *, java: str, jars: Path) -> Sequence[str]:
        """The command line; run it in `folder`. `configure` comes first."""
        lines = (SERVER / "jvm17.options").read_text(encoding="utf-8").splitlines()
        agent = next(jars.glob("jamm-*.jar"))
        return [
            java, *(line for line in lines if line and not line.startswith("#")),
            "-Xms128m", f"-Xmx{self.heap_mb}m", "-XX:MaxDirectMemorySize=256m", "-XX:+UseG1GC",
            f"-XX:HeapDumpPath={self.folder}/log", f"-XX:ErrorFile={self.folder}/log/hs_err.log",
            f"-Djava.io.tmpdir={self.folder / 'tmp'}", f"-javaagent:{agent}",
            # Nobody else to wait for, and nobody else to hold a copy of the system's tables.
            "-Dcassandra.ring_delay_ms=100", "-Dcassandra.shutdown_announce_in_ms=0",
            "-Dcassandra.system_auth.default_rf=1",
            f"-Dcassandra.config=file://{self.folder}/cassandra.yaml", f"-Dcassandra.storagedir={self.folder}",
            f"-Dcassandra.logdir={self.folder}/log", f"-Dlogback.configurationFile={SERVER / 'logback.xml'}",
            "-Dcassandra-foreground=yes", "-cp", f"{jars}/*", "org.apache.cassandra.service.CassandraDaemon",
        ]  # fmt: skip

    async def answers(self) -> bool:
        """True if it answers clients: an OPTIONS frame of the native protocol is SUPPORTED."""
        try:
            async with asyncio.timeout(_ANSWER_S):
                reader, writer = await asyncio.open_connection(LOOPBACK, self.port)
                try:
                    writer.write(_OPTIONS_FRAME)
                    header = await reader.readexactly(9)
                finally:
                    writer.close()
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            return False
        return header[4] == _SUPPORTED
