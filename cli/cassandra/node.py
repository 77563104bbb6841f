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
_OPTIONS, _STARTUP, _AUTH_RESPONSE = 5, 1, 15
_SUPPORTED, _AUTH_SUCCESS = 6, 16
_VERSION = b"\x00\x01" + b"\x00\x0bCQL_VERSION" + b"\x00\x053.0.0"
_FIRST_USER = b"\x00cassandra\x00cassandra"
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
        """True if it answers clients, and at its first start with `password` knows its first user, made a moment later."""
        answered = 0
        try:
            async with asyncio.timeout(_ANSWER_S):
                reader, writer = await asyncio.open_connection(LOOPBACK, self.port)
                try:
                    for opcode, body in self._questions():
                        writer.write(_frame(opcode, body))
                        header = await reader.readexactly(9)
                        await reader.readexactly(int.from_bytes(header[5:9]))
                        answered = header[4]
                finally:
                    writer.close()
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            return False
        if answered == _AUTH_SUCCESS:
            self._first_user_known.touch()
        return answered in {_SUPPORTED, _AUTH_SUCCESS}

    def _questions(self) -> Sequence[tuple[int, bytes]]:
        if not self.password or self._first_user_known.exists():  # who may have another password by now
            return [(_OPTIONS, b"")]
        return [(_STARTUP, _VERSION), (_AUTH_RESPONSE, len(_FIRST_USER).to_bytes(4) + _FIRST_USER)]

    @property
    def _first_user_known(self) -> Path:
        return self.folder / "first-user-known"


def _frame(opcode: int, body: bytes) -> bytes:
    """A request of the native protocol, version 4."""
    return bytes([4, 0, 0, 0, opcode]) + len(body).to_bytes(4) + body
