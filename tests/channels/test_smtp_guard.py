"""Mail servers that a tenant has chosen: every address that is connected to has been judged."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from channels.base import NotSent, SmtpReply, TargetRefused
from channels.email.smtp import SmtpSettings
from infra.smtp import SmtpPool
from infra.ssrf import SsrfGuard
from tests.channels.lean_smtp import lean_smtp

LOOPBACK = SsrfGuard(allow_networks=("127.0.0.0/8",))


def pool_to(host: str, port: int, *, guard: SsrfGuard) -> SmtpPool:
    return SmtpPool.of(SmtpSettings(host=host, port=port, security="none", sender="a@b.example"), guard=guard)


async def check(pool: SmtpPool) -> SmtpReply:
    try:
        return await pool.check(timeout_s=5)
    finally:
        await pool.close()


async def test_an_allowed_address_is_connected_to_by_name_and_by_number() -> None:
    async with lean_smtp() as lean:
        for host in ("127.0.0.1", "localhost"):
            pool = pool_to(host, lean.port, guard=LOOPBACK)
            reply = await pool.submit(sender="a@b.example", recipient="c@d.example", message=b"x", timeout_s=5)
            assert reply.code == 250
            assert (await check(pool)).code == 250
        assert lean.connections == 4


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1", "::1", "::ffff:127.0.0.1", "0.0.0.0"])
async def test_this_machine_is_not_connected_to(host: str) -> None:
    async with lean_smtp() as lean:
        with pytest.raises(TargetRefused):
            await check(pool_to(host, lean.port, guard=SsrfGuard()))
        assert lean.connections == 0


@pytest.mark.parametrize("port", [6379, 5432, 22, 3306])
async def test_ports_of_other_services_are_refused_also_where_the_network_is_allowed(port: int) -> None:
    with pytest.raises(TargetRefused, match="target_port"):
        await check(pool_to("127.0.0.1", port, guard=LOOPBACK))


async def test_a_name_that_leads_inside_is_refused_whatever_else_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """One public address and one of this machine: only the public one is tried, and there is no second look-up."""
    tried: list[str] = []
    loop = asyncio.get_running_loop()

    async def lookup(host: str, port: int, **_: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in ("127.0.0.1", "93.184.215.14")]

    async def connect(sock: socket.socket, address: Any) -> None:
        tried.append(address[0])
        raise ConnectionRefusedError

    monkeypatch.setattr(loop, "getaddrinfo", lookup)
    monkeypatch.setattr(loop, "sock_connect", connect)
    with pytest.raises(NotSent):
        await check(pool_to("mail.example.com", 587, guard=SsrfGuard()))
    assert tried == ["93.184.215.14"]


async def test_a_refused_log_in_is_told_as_the_server_says_it() -> None:
    async with lean_smtp() as lean:
        lean.then("greeting", "554 5.7.1 go away")
        reply = await check(pool_to("127.0.0.1", lean.port, guard=LOOPBACK))
        assert (reply.code, reply.enhanced, reply.stage) == (554, "5.7.1", "connect")
