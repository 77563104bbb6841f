"""A port to which a server can come back."""

from __future__ import annotations

import random
from pathlib import Path

from cli.up.ports import Ports

_OUTGOING = Path("/proc/sys/net/ipv4/ip_local_port_range")
_FIRST = 15_000


def lasting_port(ports: Ports) -> int:
    """One below those that the kernel gives to outgoing connections: while its server is away, any of the thousands that
    a test opens could otherwise get its number, and the server, when it comes back, would find its port taken."""
    first_outgoing = int(_OUTGOING.read_text().split()[0]) if _OUTGOING.exists() else 32_768
    return ports.take(random.randrange(_FIRST, max(_FIRST + 1_000, first_outgoing - 1_000)))
