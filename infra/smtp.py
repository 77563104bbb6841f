"""SmtpPort over a pool of connections to one server."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
import time
from collections import deque
from dataclasses import dataclass, field
from typing import cast

from aiosmtplib import (
    SMTP,
    SMTPAuthenticationError,
    SMTPConnectResponseError,
    SMTPException,
    SMTPHeloError,
    SMTPResponseException,
    SMTPTimeoutError,
)

from channels.base import AnswerLost, NotSent, SmtpReply
from channels.email.smtp import SmtpSettings
from infra.guarded_sockets import connected
from infra.settings import SmtpSecurity
from infra.smtp_session import Disconnected, Envelope, SmtpSession, envelope, parse_enhanced
from infra.ssrf import SsrfGuard

_HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?")


@dataclass(frozen=True, slots=True)
class SmtpServer:
    """Where mail is handed over, and how."""

    host: str
    port: int = 587
    security: SmtpSecurity = SmtpSecurity.STARTTLS
    username: str = ""
    password: str = field(default="", repr=False)
    tls: ssl.SSLContext | None = None
    """None: the system's authorities, certificate and host name verified."""
    connections: int = 16
    """Open at once, at most."""
    messages_per_connection: int = 100
    """Many servers close after so many; leaving first saves a refused message."""
    idle_s: float = 30.0
    """Shorter than any server's own limit (RFC 5321 asks for 300 s, some take 60)."""
    helo_name: str = ""
    """What EHLO says; "" = this machine's name."""
    guard: SsrfGuard | None = None
    """Looks at every address that is connected to, where a tenant has chosen the host."""


class _Refused(Exception):
    """The server refused us before any message; `reply` is its word."""

    def __init__(self, reply: SmtpReply) -> None:
        super().__init__(str(reply.code))
        self.reply = reply


class SmtpPool:
    """At most `connections` at once; callers beyond that wait in order. For one event loop."""

    def __init__(self, server: SmtpServer) -> None:
        self._server = server
        self._slots = asyncio.Semaphore(server.connections)  # FIFO
        self._idle: deque[SmtpSession] = deque()
        """Most recently used last, and taken first: surplus connections grow old and are closed."""
        self._reaper: asyncio.TimerHandle | None = None
        self._tls = server.tls
        self._closed = False

    @classmethod
    def of(cls, settings: SmtpSettings, *, guard: SsrfGuard | None = None) -> SmtpPool:
        return cls(
            SmtpServer(
                host=settings.host,
                port=settings.port,
                security=SmtpSecurity(settings.security),
                username=settings.username,
                password=settings.password,
                connections=settings.connections,
                guard=guard,
            )
        )

    async def submit(
        self, *, sender: str, recipient: str, message: bytes, timeout_s: float, within_s: float | None = None
    ) -> SmtpReply:
        """See SmtpPort. `timeout_s` bounds everything, the wait for a connection included."""
        letter = envelope(sender=sender, recipient=recipient, message=message)
        if within_s is not None:
            letter.by_s = time.monotonic() + within_s
        try:
            async with asyncio.timeout(timeout_s), self._slots:
                return await self._submit(letter)
        except TimeoutError:
            raise (AnswerLost if letter.written else NotSent)("smtp_timeout") from None

    async def check(self, *, timeout_s: float) -> SmtpReply:
        """See SmtpPort. The connection stays open for the next message."""
        try:
            async with asyncio.timeout(timeout_s), self._slots:
                self._give_back(await self._connect())
        except _Refused as refused:
            return refused.reply
        except TimeoutError:
            raise NotSent("smtp_timeout") from None
        return SmtpReply(250, stage="auth" if self._server.username else "connect")

    async def _submit(self, letter: Envelope) -> SmtpReply:
        """On an idle connection if there is one. If that turns out to be stale, once more on a new one, unnoticed."""
        session = self._take_idle()
        if session is not None:
            try:
                reply = await self._submit_on(session, letter)
                # 421 to MAIL on a connection that has been used: its time or its count was up; the message is not meant
                if not (reply.code == 421 and reply.stage == "mail"):
                    return reply
            except Disconnected:
                pass  # nothing was written that a server could keep
        try:
            return await self._submit_on(await self._connect(), letter)
        except Disconnected:
            raise NotSent("smtp_disconnected") from None
        except _Refused as refused:
            return refused.reply

    async def _submit_on(self, session: SmtpSession, letter: Envelope) -> SmtpReply:
        reply = await session.submit(letter)
        self._give_back(session)
        return reply

    def _take_idle(self) -> SmtpSession | None:
        while self._idle:
            session = self._idle.pop()
            if session.usable:
                return session
        return None

    def _give_back(self, session: SmtpSession) -> None:
        if not session.usable:
            return
        if self._closed or session.messages >= self._server.messages_per_connection:
            session.quit()
            return
        loop = asyncio.get_running_loop()
        session.idle_since = loop.time()
        self._idle.append(session)
        if self._reaper is None:
            self._reaper = loop.call_later(self._server.idle_s, self._reap)

    def _reap(self) -> None:
        loop = asyncio.get_running_loop()
        limit = loop.time() - self._server.idle_s
        while self._idle and (self._idle[0].idle_since <= limit or not self._idle[0].usable):
            self._idle.popleft().quit()
        self._reaper = None
        if self._idle:
            self._reaper = loop.call_at(self._idle[0].idle_since + self._server.idle_s, self._reap)

    async def _connect(self) -> SmtpSession:
        """Greeting, EHLO, TLS, AUTH. Raises _Refused with the server's reply, NotSent or TargetRefused."""
        if self._closed:
            raise NotSent("smtp_closed")
        if self._tls is None and self._server.security is not SmtpSecurity.NONE:
            self._tls = await asyncio.to_thread(ssl.create_default_context)  # reads the authorities from disk
        sock = await self._guarded_socket()
        client = self._client(sock)
        opened = False
        try:
            await client.connect()
            if client.is_ehlo_or_helo_needed:
                await client.ehlo()
            session = _take_over(client)
            opened = True
            return session
        except (SMTPConnectResponseError, SMTPHeloError) as error:
            raise _Refused(_reply(error, stage="connect")) from None
        except SMTPAuthenticationError as error:
            raise _Refused(_reply(error, stage="auth")) from None
        except SMTPResponseException as error:
            raise _Refused(_reply(error, stage="connect")) from None
        except ssl.SSLError:
            raise NotSent("smtp_tls_failed") from None
        except (SMTPException, OSError, ValueError) as error:
            # never the text of it: aiosmtplib quotes hosts, and servers quote addresses
            raise NotSent(_code(error)) from None
        finally:
            if not opened:
                if sock is not None and client.transport is None:
                    sock.close()
                client.close()

    async def _guarded_socket(self) -> socket.socket | None:
        """Connected to an address that the guard lets through; None where nobody guards. Raises NotSent, TargetRefused."""
        server = self._server
        if server.guard is None:
            return None
        try:
            return await connected(server.host, server.port, guard=server.guard)
        except OSError as error:
            raise NotSent(_code(error)) from None

    def _client(self, sock: socket.socket | None) -> SMTP:
        server = self._server
        return SMTP(
            hostname=server.host,
            port=server.port if sock is None else None,
            username=server.username or None,
            password=server.password or None,
            local_hostname=server.helo_name or _machine_name(),
            timeout=None,  # `submit` bounds the whole; a bound for each step would cost a task each
            sock=sock,
            use_tls=server.security is SmtpSecurity.TLS,
            start_tls=server.security is SmtpSecurity.STARTTLS,
            tls_context=self._tls,
        )

    async def close(self) -> None:
        """Nothing is in flight any more: say good-bye on every idle connection."""
        self._closed = True
        if self._reaper is not None:
            self._reaper.cancel()
            self._reaper = None
        while self._idle:
            self._idle.pop().quit()
        await asyncio.sleep(0)  # transports close in the next turn of the loop


def _take_over(client: SMTP) -> SmtpSession:
    """Our protocol in place of aiosmtplib's: between commands the server is silent, so no byte falls between them."""
    if client.transport is None or client.transport.is_closing():
        raise NotSent("smtp_disconnected")
    transport = cast(asyncio.Transport, client.transport)
    session = SmtpSession(
        transport, pipelining=client.supports_extension("pipelining"), size=client.supports_extension("size"),
        deliver_by_s=_deliver_by_s(client.esmtp_extensions.get("deliverby")),
    )  # fmt: skip
    transport.set_protocol(session)
    return session


def _deliver_by_s(said: str | None) -> int | None:
    """The least time that the server takes in `BY=` (RFC 2852, 3), 1 where it names none; None where it knows no such
    thing."""
    if said is None:
        return None
    least = said.strip()
    return max(1, int(least)) if least.isascii() and least.isdigit() and len(least) < 10 else 1


def _reply(error: SMTPResponseException, *, stage: str) -> SmtpReply:
    if not 400 <= error.code < 600:  # aiosmtplib's -1 for what is no reply
        raise NotSent("smtp_bad_reply") from None
    return SmtpReply(error.code, parse_enhanced(error.message.encode("utf-8", "replace")), stage=stage)


def _code(error: Exception) -> str:
    cause = error.__cause__ or error
    if isinstance(cause, ssl.SSLError):
        return "smtp_tls_failed"
    if isinstance(error, SMTPTimeoutError):
        return "smtp_timeout"
    if isinstance(cause, ConnectionRefusedError):
        return "smtp_connect_refused"
    if isinstance(cause, socket.gaierror):
        return "smtp_dns_failed"
    if isinstance(cause, OSError):
        return "smtp_connect_failed"
    return "smtp_session_failed"


def _machine_name() -> str:
    name = socket.gethostname()
    return name if _HOST_NAME.fullmatch(name) else "localhost"
