"""A TCP connection to a host that a tenant has chosen: looked up once, and every address that is tried is judged."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import aiohappyeyeballs

from channels.base import TargetRefused
from infra.ssrf import SsrfGuard

SECOND_ADDRESS_AFTER_S = 0.25


async def connected(host: str, port: int, *, guard: SsrfGuard) -> socket.socket:
    """A socket that is connected. Raises OSError (DNS, TCP), or TargetRefused where no address may be connected to."""
    guard.check_mail_host(host, port=port)

    def guarded_socket(info: Any) -> socket.socket:
        """The last gate: `info` is what is connected to in the next line."""
        family, kind, protocol, _, address = info
        if not guard.allows_text(str(address[0])):
            raise OSError("target refused")
        return socket.socket(family=family, type=kind, proto=protocol)

    loop = asyncio.get_running_loop()
    infos = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    allowed = [info for info in infos if guard.allows_text(str(info[4][0]))]
    if not allowed:
        raise TargetRefused("target_address")
    try:
        return await aiohappyeyeballs.start_connection(
            addr_infos=allowed,
            happy_eyeballs_delay=SECOND_ADDRESS_AFTER_S,
            interleave=1,
            socket_factory=guarded_socket,
        )
    except RuntimeError:  # uvloop's word for some failures
        raise OSError("connect failed") from None
