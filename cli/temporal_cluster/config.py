"""What Temporal's programs are told: pure, from ports and a database to the text of a file. JSON is YAML too."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from cli.up.ports import LOOPBACK, Ports

SHARDS: Final = 4
"""Of the history: fixed when a database is first used. As in docker-compose.temporal.yml (a test compares)."""
PLUGIN: Final = "postgres12_pgx"
"""Measured: 54 workflows a second against 39 of `postgres12`."""
STORES: Final[Mapping[str, str]] = {"default": "temporal", "visibility": "temporal_visibility"}
"""Store to its database."""
CONNECTIONS: Final = {"default": 20, "visibility": 10}
"""Of each of the four services in a process, at most."""
SERVICES: Final = ("frontend", "history", "matching", "worker")
_FIRST_MEMBERSHIP_PORT = 6933
_APART = 20
"""Between the ports of one server and the next."""


class BadDatabase(Exception):
    """A database URL that cannot be used; the text never holds it."""


@dataclass(frozen=True, slots=True)
class Database:
    """A PostgreSQL server, and who may make databases there."""

    host: str
    port: int
    user: str
    password: str

    @classmethod
    def of(cls, url: str) -> Database:
        """Raises BadDatabase."""
        try:
            parts = urlsplit(url)
            port = parts.port or 5432
        except ValueError:
            raise BadDatabase("the database URL cannot be read: postgresql://USER:PASSWORD@HOST:PORT/ is meant") from None
        if parts.scheme not in ("postgresql", "postgres") or not parts.hostname or not parts.username:
            raise BadDatabase("the database URL must be like postgresql://USER:PASSWORD@HOST:PORT/")
        if parts.query:
            raise BadDatabase("the database URL has parameters after `?`; this script knows none (no TLS either)")
        return cls(parts.hostname, port, unquote(parts.username), unquote(parts.password or ""))


@dataclass(frozen=True, slots=True)
class ServerPorts:
    """Where one server process listens: each of its four services for calls, and for the others of the cluster."""

    calls: Mapping[str, int]
    membership: Mapping[str, int]

    @property
    def all(self) -> tuple[int, ...]:
        return (*self.calls.values(), *self.membership.values())

    @property
    def address(self) -> str:
        """Of its frontend, where clients connect."""
        return f"{LOOPBACK}:{self.calls['frontend']}"


def choose_ports(ports: Ports, *, number: int, first: int, again: bool) -> ServerPorts:
    """For server `number` (from 1): the usual ones, the first frontend at `first`, or others nearby where taken."""
    shift = _APART * (number - 1)

    def take(base: int) -> dict[str, int]:
        return {service: ports.take(base + shift + place, again=again) for place, service in enumerate(SERVICES)}

    return ServerPorts(calls=take(first), membership=take(_FIRST_MEMBERSHIP_PORT))


def server(ports: ServerPorts, *, database: Database, dynamic_config: str, level: str = "warn") -> str:
    """The file of one server process with all four services; `dynamic_config` is the path of the dynamic settings."""
    return _text(
        {
            "log": {"stdout": True, "level": level},
            "persistence": {
                "defaultStore": "default",
                "visibilityStore": "visibility",
                "numHistoryShards": SHARDS,
                "datastores": {store: {"sql": _store(store, database=database)} for store in STORES},
            },
            "global": {"membership": {"maxJoinDuration": "30s", "broadcastAddress": LOOPBACK}},
            "services": {
                service: {
                    "rpc": {
                        "grpcPort": ports.calls[service],
                        "membershipPort": ports.membership[service],
                        "bindOnIP": LOOPBACK,
                    }
                }
                for service in SERVICES
            },
            "clusterMetadata": {
                "enableGlobalNamespace": False,
                "failoverVersionIncrement": 10,
                "masterClusterName": "active",
                "currentClusterName": "active",
                "clusterInformation": {
                    "active": {
                        "enabled": True,
                        "initialFailoverVersion": 1,
                        "rpcName": "frontend",
                        "rpcAddress": ports.address,
                    }
                },
            },
            "dcRedirectionPolicy": {"policy": "noop"},
            "dynamicConfigClient": {"filepath": dynamic_config, "pollInterval": "10s"},
        }
    )


def web_ui(*, port: int, temporal_address: str) -> str:
    """The file of the Web UI. It asks nobody but Temporal."""
    return _text(
        {
            "temporalGrpcAddress": temporal_address,
            "host": LOOPBACK,
            "port": port,
            "enableUi": True,
            "defaultNamespace": "default",
            "disableNewsFetch": True,
            "notifyOnNewVersion": False,
            "cors": {"allowOrigins": [f"http://{LOOPBACK}:{port}"]},
        }
    )


def _store(name: str, *, database: Database) -> dict[str, Any]:
    return {
        "pluginName": PLUGIN,
        "databaseName": STORES[name],
        "connectAddr": f"{database.host}:{database.port}",
        "connectProtocol": "tcp",
        "user": database.user,
        "password": database.password,
        "maxConns": CONNECTIONS[name],
        "maxIdleConns": CONNECTIONS[name],
        "maxConnLifetime": "1h",
    }


def _text(value: Mapping[str, Any]) -> str:
    return json.dumps(value, indent=2) + "\n"
