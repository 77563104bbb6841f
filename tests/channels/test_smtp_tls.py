"""STARTTLS, TLS and AUTH against aiosmtpd, on both event loops that the service may run on."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvloop
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword

from channels.base import NotSent, SmtpReply
from infra.settings import SmtpSecurity
from infra.smtp import SmtpPool, SmtpServer
from infra.ssrf import SsrfGuard
from tests.channels.certificates import Certificate

LOOPBACK = SsrfGuard(allow_networks=("127.0.0.0/8", "::1/128"))
TEXT = b"Subject: x\r\n\r\n" + "你好\r\n.\r\n".encode("utf-7") * 2000


class Handler:
    def __init__(self) -> None:
        self.taken: list[Envelope] = []

    async def handle_DATA(self, server: SMTP, session: Any, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd's name
        del server, session
        self.taken.append(envelope)
        return "250 2.0.0 queued"


def authenticate(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
    del server, session, envelope, mechanism
    return AuthResult(
        success=isinstance(data, LoginPassword) and data == LoginPassword(b"tongda", b"secret"), handled=False
    )


@asynccontextmanager
async def aiosmtpd(
    security: SmtpSecurity, certificate: Certificate, *, auth: str = "none"
) -> AsyncIterator[tuple[int, Handler]]:
    """Wants what `security` says."""
    handler = Handler()
    context = certificate.server()
    starttls = context if security is SmtpSecurity.STARTTLS else None
    implicit = context if security is SmtpSecurity.TLS else None

    def make() -> SMTP:
        return SMTP(
            handler,
            hostname="localhost",
            tls_context=starttls,
            require_starttls=starttls is not None,
            authenticator=authenticate,
            auth_required=auth != "none",
            auth_require_tls=security is not SmtpSecurity.NONE,
        )

    server = await asyncio.get_running_loop().create_server(make, "127.0.0.1", 0, ssl=implicit)
    try:
        yield server.sockets[0].getsockname()[1], handler
    finally:
        server.close()
        await asyncio.sleep(0.05)


async def submit(pool: SmtpPool, *, timeout_s: float = 5.0) -> SmtpReply:
    return await pool.submit(sender="a@example.com", recipient="b@example.com", message=TEXT, timeout_s=timeout_s)


def pool_for(port: int, security: SmtpSecurity, tls: ssl.SSLContext | None, **more: Any) -> SmtpPool:
    return SmtpPool(SmtpServer(host="localhost", port=port, security=security, tls=tls, connections=2, **more))


async def check_secure(certificate: Certificate, security: SmtpSecurity, guard: SsrfGuard | None) -> None:
    async with aiosmtpd(security, certificate) as (port, handler):
        pool = pool_for(port, security, certificate.client(), guard=guard)
        for _ in range(3):
            assert await submit(pool) == SmtpReply(250, "2.0.0", "data")
        assert [e.content for e in handler.taken] == [TEXT] * 3
        await pool.close()


LOOPS: list[Callable[[Awaitable[None]], None]] = [asyncio.run, uvloop.run]  # type: ignore[list-item]


@pytest.mark.parametrize("run", LOOPS, ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("security", [SmtpSecurity.STARTTLS, SmtpSecurity.TLS])
@pytest.mark.parametrize("guard", [None, LOOPBACK], ids=["ours", "a tenant's"])
def test_messages_over_tls(
    certificate: Certificate,
    security: SmtpSecurity,
    guard: SsrfGuard | None,
    run: Callable[[Awaitable[None]], None],
) -> None:
    run(check_secure(certificate, security, guard))


@pytest.mark.parametrize("security", [SmtpSecurity.STARTTLS, SmtpSecurity.TLS])
async def test_an_unknown_authority_is_refused(certificate: Certificate, security: SmtpSecurity) -> None:
    async with aiosmtpd(security, certificate) as (port, handler):
        pool = pool_for(port, security, tls=None)
        with pytest.raises(NotSent, match="smtp_tls_failed"):
            await submit(pool)
        assert handler.taken == []
        await pool.close()


@pytest.mark.parametrize("security", [SmtpSecurity.STARTTLS, SmtpSecurity.TLS])
async def test_a_certificate_of_another_name_is_refused(certificate: Certificate, security: SmtpSecurity) -> None:
    async with aiosmtpd(security, certificate) as (port, handler):
        for guard in (None, LOOPBACK):
            tls = certificate.client()
            pool = SmtpPool(SmtpServer(host="127.0.0.1", port=port, security=security, tls=tls, guard=guard))
            with pytest.raises(NotSent, match="smtp_tls_failed"):
                await submit(pool)
            await pool.close()
        assert handler.taken == []


async def test_a_server_without_starttls_gets_nothing(certificate: Certificate) -> None:
    async with aiosmtpd(SmtpSecurity.NONE, certificate) as (port, handler):
        pool = pool_for(port, SmtpSecurity.STARTTLS, certificate.client())
        with pytest.raises(NotSent, match="smtp_session_failed"):
            await submit(pool)
        assert handler.taken == []
        await pool.close()


async def test_a_server_that_wants_starttls_says_so(certificate: Certificate) -> None:
    async with aiosmtpd(SmtpSecurity.STARTTLS, certificate) as (port, _):
        pool = pool_for(port, SmtpSecurity.NONE, None)
        assert await submit(pool) == SmtpReply(530, "", "mail")
        await pool.close()


@pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")
@pytest.mark.parametrize("security", [SmtpSecurity.NONE, SmtpSecurity.STARTTLS])
async def test_logging_in(certificate: Certificate, security: SmtpSecurity) -> None:
    async with aiosmtpd(security, certificate, auth="required") as (port, handler):
        pool = pool_for(port, security, certificate.client(), username="tongda", password="secret")
        assert (await submit(pool)).code == 250
        assert (await submit(pool)).code == 250
        await pool.close()
        wrong = pool_for(port, security, certificate.client(), username="tongda", password="wrong")
        assert await submit(wrong) == SmtpReply(535, "5.7.8", "auth")
        await wrong.close()
        nobody = pool_for(port, security, certificate.client())
        assert await submit(nobody) == SmtpReply(530, "5.7.0", "mail")
        await nobody.close()
        assert len(handler.taken) == 2


async def test_the_password_is_in_no_text() -> None:
    assert "secret" not in repr(SmtpServer(host="localhost", username="tongda", password="secret"))
